"""The store as a service: one process that owns a store's folder and serves it over Arrow Flight."""
