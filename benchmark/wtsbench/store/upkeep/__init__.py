"""Maintenance of a store: verify, back up, export, merge."""
