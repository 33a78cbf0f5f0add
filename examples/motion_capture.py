"""Motion capture on a video: a whole body in SMPL's format in every frame.

    python examples/motion_capture.py VIDEO.mp4 --model models:/motion_capture@champion

The person is found with BlazePose (`aign assets pull pose`); `aign reproduce mocap --only selfsup --seeds 1 --champion`
makes a model. For a page to look at, overlays and other formats there is `aign capture`.
"""

import argparse
from pathlib import Path

import numpy as np

from aign.data.stages.decode import read_frames
from aign.inference import Predictor


def main() -> None:
    """Capture a video, save the bodies, say where the person went."""
    parser = argparse.ArgumentParser(description="the body of the person in a video")
    parser.add_argument("video", type=Path)
    parser.add_argument("--model", default="models:/motion_capture@champion")
    parser.add_argument("--mlflow", default="mlflow", help="folder of the MLflow store that models:/ names")
    parser.add_argument("--out", type=Path, default=Path("bodies.npz"))
    args = parser.parse_args()

    frames = np.stack(list(read_frames(args.video)))  # RGB uint8 [n, h, w, 3]
    bodies = Predictor.load(args.model, args.mlflow).predict(frames)

    np.savez(
        args.out,
        rotmats=bodies.rotmats,  # [n, 24, 3, 3] local rotations; the first is the orientation in the camera
        betas=bodies.betas,  # [n, 10] shape
        pelvis_cam_m=bodies.pelvis_cam_m,  # [n, 3] +x right, +y down, +z away from the camera
        joints_cam_m=bodies.joints_cam_m,  # [n, 24, 3]
    )
    print(f"{int(bodies.known.sum())} of {len(frames)} frames captured, written to {args.out}")
    if bodies.known.any():
        near, far = np.nanmin(bodies.pelvis_cam_m[:, 2]), np.nanmax(bodies.pelvis_cam_m[:, 2])
        rough = ", roughly: the camera was assumed" if bodies.assumed_camera else ""
        print(f"between {near:.1f} and {far:.1f} m away{rough}")


if __name__ == "__main__":
    main()
