"""Inference: packaged models on new input, and what a person looks at."""
