"""Inference: packaged models on new input, and what a person looks at."""

from aign.inference.prediction import Bodies, Faces, Keypoints, Poses, Prediction, Predictor

__all__ = ["Bodies", "Faces", "Keypoints", "Poses", "Prediction", "Predictor"]
