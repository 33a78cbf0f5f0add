"""Geometry: rotations, cameras, rigid alignment, skeletons, triangulation. Pure functions on tensors."""
