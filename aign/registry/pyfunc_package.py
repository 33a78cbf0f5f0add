"""A package as MLflow loads it: MLflow copies this file into the model and runs it; weights stay safetensors.

Inputs and outputs are the arrays of `aign.inference.serving.SERVICES` for the package's task, which the model's
signature repeats; metres and undistorted pixels, NaN in frames where too little of a person was seen. The frames are
those of one clip, in order, because a model may see several at once: ask once for each clip.
"""

from pathlib import Path

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from aign.inference.serving import serve


class _Package:
    """What the model does.

    Apart from `PackageModel`, because MLflow warns where a model's own `predict` has no type hints, and knows none for
    a dict of arrays; the signature is what validates.
    """

    def load_context(self, context):  # type: ignore[no-untyped-def]
        """Read the package that the model carries."""
        self.served = serve(Path(context.artifacts["package"]))

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Answer arrays of each frame of a clip."""
        return dict(self.served.answer(model_input))


class PackageModel(_Package, PythonModel):  # type: ignore[misc]
    """The package behind MLflow's pyfunc interface."""


set_model(PackageModel())
