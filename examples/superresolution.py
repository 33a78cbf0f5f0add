"""Super-resolution of a face: the photograph's face is made small and imagined again, with the model's bias.

    python examples/superresolution.py PHOTO.jpg --model models:/superresolution@champion

The face is found with MediaPipe's nets (`aign assets pull face`). To make a model:
`aign train superresolution --store stores/faces --bias sex=female --name female`.
Every picture that leaves is marked as synthetic.
"""

import argparse
from pathlib import Path

import cv2

from aign.inference import Predictor
from aign.inference.face_translate import read_photo


def main() -> None:
    """Imagine the face of a photograph again from a small one; save the photograph and what the model saw."""
    parser = argparse.ArgumentParser(description="the face of a photograph, reduced and imagined again")
    parser.add_argument("photo", type=Path)
    parser.add_argument("--model", default="models:/superresolution@champion")
    parser.add_argument("--mlflow", default="mlflow", help="folder of the MLflow store that models:/ names")
    parser.add_argument("--out", type=Path, default=Path("imagined.png"))
    args = parser.parse_args()

    photo = read_photo(args.photo)  # RGB uint8 [h, w, 3]
    faces = Predictor.load(args.model, args.mlflow).predict(photo[None])

    seen = args.out.with_stem(f"{args.out.stem}-seen")
    cv2.imwrite(str(args.out), faces.photo_rgb[0, ..., ::-1])
    cv2.imwrite(str(seen), faces.seen_rgb[0, ..., ::-1])
    print(f"{args.out}: faithful to {seen} by {faces.faithful_db[0]:.1f} dB")


if __name__ == "__main__":
    main()
