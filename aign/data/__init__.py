"""Data: schema, store, loader, sources."""
