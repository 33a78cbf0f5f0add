"""Inference: packaged models on new input, and what a person looks at."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aign.inference.prediction import Bodies, Faces, Keypoints, Poses, Prediction, Predictor

__all__ = ["Bodies", "Faces", "Keypoints", "Poses", "Prediction", "Predictor"]


def __getattr__(name: str) -> Any:
    """The names of `prediction`, imported when they are asked for: trainings read packages without any detector."""
    if name in __all__:
        from aign.inference import prediction

        return vars(prediction)[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
