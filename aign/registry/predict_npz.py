"""`python -m aign.registry.predict_npz MODEL_URI IN.npz OUT.npz`: a registered model in a process of its own.

What a stranger does: MLflow's own loader and this installed package, nothing else. IN holds kp2d_px, kp2d_conf and
intrinsics_px and, where the frames are not all of one clip, clip, the number of each frame's clip; OUT receives
joints_cam_m. The model takes the frames of a clip, so it is asked once a clip.
"""

import sys
from pathlib import Path

import numpy as np

from aign.inference.predictor import checked_clip
from aign.registry.client import quieten

INPUTS = ("kp2d_px", "kp2d_conf", "intrinsics_px")


def predict_npz(uri: str, source: Path, target: Path) -> None:
    """Load the model with `mlflow.pyfunc` and predict a file.

    Raises:
        UserError: clip is not a number for each frame, or the frames of a clip do not stand together.
    """
    quieten()
    import mlflow

    model = mlflow.pyfunc.load_model(uri)
    with np.load(source, allow_pickle=False) as content:
        inputs = [content[name] for name in INPUTS]
        clip = content["clip"] if "clip" in content else np.zeros(len(inputs[0]), dtype=np.int64)
    starts = np.flatnonzero(np.diff(checked_clip(clip, len(inputs[0])).numpy())) + 1
    clips = zip(*(np.split(array, starts) for array in inputs), strict=True)
    joints = [model.predict(dict(zip(INPUTS, part, strict=True)))["joints_cam_m"] for part in clips]
    np.savez_compressed(target, joints_cam_m=np.concatenate(joints).astype(np.float32))


if __name__ == "__main__":
    predict_npz(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
