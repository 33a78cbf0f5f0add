"""A lifter on a video: the 3D joints of one person in every frame.

    python examples/lifting.py VIDEO.mp4 --model models:/lifting@champion --mlflow demo/mlflow

The person is found with BlazePose (`aign assets pull pose`). `make demo` makes a model to try. Nothing is known of the
camera here, so a usual one is assumed: give `predict` fx, fy, cx, cy if you know them.
"""

import argparse
from pathlib import Path

import numpy as np

from aign.data.stages.decode import read_frames
from aign.geometry.skeleton import H36M17
from aign.inference import Predictor


def main() -> None:
    """Lift a video, save the joints, say how high the head is above the ankles."""
    parser = argparse.ArgumentParser(description="3D joints of the person in a video")
    parser.add_argument("video", type=Path)
    parser.add_argument("--model", default="models:/lifting@champion")
    parser.add_argument("--mlflow", default="mlflow", help="folder of the MLflow store that models:/ names")
    parser.add_argument("--out", type=Path, default=Path("joints.npz"))
    args = parser.parse_args()

    frames = np.stack(list(read_frames(args.video)))  # RGB uint8 [n, h, w, 3]
    poses = Predictor.load(args.model, args.mlflow).predict(frames)

    np.savez(args.out, joints_cam_m=poses.joints_cam_m, joint_names=np.array(H36M17.joints))
    joints = poses.joints_cam_m[poses.known]
    print(f"{len(joints)} of {len(frames)} frames lifted, written to {args.out}")
    if len(joints):
        head, ankles = (H36M17.joints.index("head_top"), [H36M17.joints.index(f"{side}_ankle") for side in "lr"])
        height_m = np.linalg.norm(joints[:, head] - joints[:, ankles].mean(1), axis=1)
        print(f"head to ankles: {np.median(height_m):.2f} m, the median")


if __name__ == "__main__":
    main()
