"""Baselines without training."""
