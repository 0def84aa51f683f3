"""The database of a store: one transaction at a time."""
