"""Ordinary videos."""
