"""A packaged lifter as MLflow loads it: MLflow copies this file into the model and runs it; weights stay safetensors.

Inputs kp2d_px [n, 17, 2], kp2d_conf [n, 17], intrinsics_px [n, 4] (H36M-17, undistorted pixels) to joints_cam_m
[n, 17, 3] in metres, NaN in frames where too little of a person was seen (see `aign.inference.predictor`). The n frames
are those of one clip, in order, because a lifter may see several at once: ask once for each clip.
"""

from pathlib import Path

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from aign.inference.predictor import LiftingPredictor


class _Lifting:
    """What the model does.

    Apart from `LiftingModel`, because MLflow warns where a model's own `predict` has no type hints, and knows none for
    a dict of arrays; the signature is what validates.
    """

    def load_context(self, context):  # type: ignore[no-untyped-def]
        """Read the package that the model carries."""
        self.predictor = LiftingPredictor.of(Path(context.artifacts["package"]))

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Joints in the camera of each frame of a clip."""
        names = ("kp2d_px", "kp2d_conf", "intrinsics_px")
        return {"joints_cam_m": self.predictor.predict(*(model_input[name] for name in names))}


class LiftingModel(_Lifting, PythonModel):  # type: ignore[misc]
    """The lifter behind MLflow's pyfunc interface."""


set_model(LiftingModel())
