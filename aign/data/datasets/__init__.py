"""Data sets: the layouts that are read, each as jobs."""
