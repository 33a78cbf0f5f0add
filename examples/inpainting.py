"""Inpainting of a face: the part that the model is for (lips, nose, eyes) is taken out and imagined again.

    python examples/inpainting.py PHOTO.jpg --model models:/inpainting@champion

The face is found with MediaPipe's nets (`aign assets pull face`). To make a model:
`aign train inpainting --store stores/faces --name lips`.
Every picture that leaves is marked as synthetic.
"""

import argparse
from pathlib import Path

import cv2

from aign.inference import Predictor
from aign.inference.face_translate import read_photo


def main() -> None:
    """Imagine a part of the face of a photograph again; save the photograph and what the model saw."""
    parser = argparse.ArgumentParser(description="a part of the face of a photograph, imagined again")
    parser.add_argument("photo", type=Path)
    parser.add_argument("--model", default="models:/inpainting@champion")
    parser.add_argument("--mlflow", default="mlflow", help="folder of the MLflow store that models:/ names")
    parser.add_argument("--out", type=Path, default=Path("filled.png"))
    args = parser.parse_args()

    photo = read_photo(args.photo)  # RGB uint8 [h, w, 3]
    faces = Predictor.load(args.model, args.mlflow).predict(photo[None])

    seen = args.out.with_stem(f"{args.out.stem}-seen")
    cv2.imwrite(str(args.out), faces.photo_rgb[0, ..., ::-1])
    cv2.imwrite(str(seen), faces.seen_rgb[0, ..., ::-1])
    print(f"{args.out}: faithful to {seen} by {faces.faithful_db[0]:.1f} dB")


if __name__ == "__main__":
    main()
