"""Stages: from a source to columns."""
