"""Pictures of faces with attributes."""
