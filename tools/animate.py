"""A short video as an animated picture for a README.

python tools/animate.py capture/side_by_side.mp4 docs/images/capture.webp
"""

import argparse
from pathlib import Path

import cv2
from PIL import Image

from aign.data.stages.decode import probe, read_frames

WIDTH_PX = 760
SHOWN_FPS = 12.5
QUALITY = 55


def main() -> None:
    """Read, thin out, write; it never ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--slow", type=float, default=1.0, help="frames are shown this many times longer")
    args = parser.parse_args()
    fps = probe(args.video).fps / args.slow
    step = max(1, round(fps / SHOWN_FPS))
    frames = [frame for i, frame in enumerate(read_frames(args.video)) if i % step == 0]
    size = WIDTH_PX, round(WIDTH_PX * frames[0].shape[0] / frames[0].shape[1])
    pictures = [Image.fromarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA)) for frame in frames]
    pictures[0].save(
        args.out, save_all=True, append_images=pictures[1:], duration=round(1000 * step / fps), loop=0, quality=QUALITY
    )
    print(f"{args.out}: {len(pictures)} frames, {args.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
