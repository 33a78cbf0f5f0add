"""Capture of a video as a user runs it: 30 s of 720p, from the file to everything that is written, on the wall.

    python benchmarks/capture.py MODEL [--write]

MODEL is a package or run folder of motion capture. The video is one of Pose2Sim's, scaled to 720 px, shown to and fro
until it lasts 30 s. Once on all processors of this machine; Ray's start is counted.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

import cv2
import machine

from aign.data import assets
from aign.data.stages.decode import read_frames, write_mp4

SECONDS, FPS, SHORT_PX = 30, 30, 720
TARGET_S = 180.0
COMMAND = (sys.executable, "-c", "import sys; from pipelines.cli import main; sys.exit(main())", "capture")
STAGE = re.compile(r"^(.+?): [\d?]+ \w+ in ([\d.]+) s$")


def write_video(path: Path) -> None:
    """Half a minute of a person who moves, without a cut."""
    assets.pull(["pose2sim"])
    frames = list(read_frames(assets.path("pose2sim_cam01")))
    scale = SHORT_PX / min(frames[0].shape[:2])
    frames = [cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for frame in frames]
    write_mp4(path, islice(cycle([*frames, *frames[-2:0:-1]]), SECONDS * FPS), FPS)


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        video, out = Path(folder) / "half-a-minute.mp4", Path(folder) / "out"
        write_video(video)
        began = time.monotonic()
        command = [*COMMAND, str(video), "--model", args.model, "--out", str(out)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        whole = time.monotonic() - began
        written = sum(
            p.stat().st_size for p in out.rglob("*") if p.is_file() and "store" not in p.relative_to(out).parts
        )
    stages = [match.groups() for line in done.stderr.splitlines() if (match := STAGE.match(line))]
    rows = [f"| {name.replace(folder, '...')} | {seconds} |" for name, seconds in stages]
    text = "\n".join(
        [
            f"# Capture of {SECONDS} s of {SHORT_PX}p",
            "",
            "| stage | s |",
            "|:--|--:|",
            *rows,
            f"| **whole** | **{whole:.0f}** |",
            "",
            f"Target: at most {TARGET_S:.0f} s on 2 cores without adaptation. {SECONDS * FPS} frames, "
            f"{SECONDS * FPS / whole:.1f} a second; {written / 1e6:.1f} MB written.",
            "",
            *machine.lines("python benchmarks/capture.py MODEL --write", "torch", "opencv-python-headless", "ray"),
        ]
    )
    print(text)
    if args.write:
        machine.publish("capture.md", text)


if __name__ == "__main__":
    main()
