"""`python -m aign.registry.predict_npz MODEL_URI IN.npz OUT.npz`: a registered model in a process of its own.

What a stranger does: MLflow's own loader and this installed package, nothing else. IN holds kp2d_px, kp2d_conf and
intrinsics_px; OUT receives joints_cam_m.
"""

import sys
from pathlib import Path

import numpy as np

from aign.registry.client import quieten


def predict_npz(uri: str, source: Path, target: Path) -> None:
    """Load the model with `mlflow.pyfunc` and predict a file."""
    quieten()
    import mlflow

    model = mlflow.pyfunc.load_model(uri)
    with np.load(source, allow_pickle=False) as content:
        inputs = {name: content[name] for name in ("kp2d_px", "kp2d_conf", "intrinsics_px")}
    np.savez_compressed(target, joints_cam_m=np.asarray(model.predict(inputs)["joints_cam_m"], dtype=np.float32))


if __name__ == "__main__":
    predict_npz(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
