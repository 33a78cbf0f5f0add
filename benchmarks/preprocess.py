"""Preprocessing of real video: frames per second per core, against the bare kernels in a plain loop.

    python benchmarks/preprocess.py [--write]

The kernels are what nobody can do without: decode, detect and landmarks, mask, flow in both directions. "Whole" is the
job as `aign preprocess` runs it, from file to published Parquet parts of keypoints, frames, masks, flow and quality.
Both run in this process on one thread, in turns, on Pose2Sim's real videos, and are measured in processor time: what
else the machine does counts less. Then all videos are preprocessed by a local Ray cluster of one and of two CPUs, in
time on the wall.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import cv2
import machine
import numpy as np

os.environ["OMP_NUM_THREADS"] = "1"

from aign.data import assets
from aign.data.datasets.job import run
from aign.data.datasets.video.framing import DEFAULT_TABLES, SIDE_PX, WORKING_SIDE_PX, Framing
from aign.data.datasets.video.video_ranges import plan
from aign.data.stages.blazepose import get_detector
from aign.data.stages.crops import crop_image, square_crop, warp_mask
from aign.data.stages.decode import read_range
from aign.data.stages.flow import default_flow, flow_pair
from aign.data.stages.video_index import index_video
from aign.data.store import Quarantined
from pipelines.preprocess import preprocess

ROUNDS = 3
TARGET = 0.9
VIDEOS = ("pose2sim_cam02", "pose2sim_cam03")
EIGHT = tuple(f"pose2sim_{trial}cam{n:02d}" for trial in ("", "trial2_") for n in (1, 2, 3, 4))


def kernels(path: Path) -> dict[str, float]:
    """Seconds spent in each kernel, in a plain loop over one video of one person."""
    nets, flow, spent = (
        get_detector().nets(),
        default_flow(SIDE_PX),
        dict.fromkeys(("decode", "nets", "mask", "flow"), 0.0),
    )
    index = index_video(path)
    frames = read_range(path, index, 0, index.num_frames, WORKING_SIDE_PX)
    region, crop, before = None, None, None
    for _ in range(index.num_frames):
        times = [time.process_time()]
        frame = next(frames)
        times.append(time.process_time())
        region = region or nets.detect(frame)[0]
        seen = nets.landmarks(frame, region)
        times.append(time.process_time())
        if crop is None:
            crop = square_crop(
                seen.points_px[None, :33].astype(np.float32), seen.conf[None, :33].astype(np.float32), 0.5
            )
        picture = crop_image(frame, crop, SIDE_PX)
        warp_mask(seen.mask, region.crop_to_image, crop, SIDE_PX)
        times.append(time.process_time())
        if before is not None:
            flow_pair(before, picture, flow)
        times.append(time.process_time())
        region, before = seen.next_region, picture
        for name, (start, end) in zip(spent, pairwise(times), strict=True):
            spent[name] += end - start
    return spent


def whole(path: Path, folder: Path) -> tuple[float, dict[str, int]]:
    """Seconds of the job, and the bytes of each of its tables."""
    shutil.rmtree(folder, ignore_errors=True)
    (job,) = plan(path, Framing())
    began = time.process_time()
    records = run(job, str(folder), 0)
    seconds = time.process_time() - began
    assert not isinstance(records, Quarantined), records
    return seconds, {record.table: record.bytes for record in records}


def on_ray(folder: Path, cpus: int) -> float:
    """Frames per second of a local cluster of so many CPUs, from the command's first task to its last commit."""
    import ray

    links = folder / "videos"
    links.mkdir(exist_ok=True)
    for name in EIGHT:
        if not (links / f"{name}.mp4").exists():
            (links / f"{name}.mp4").symlink_to(assets.path(name))
    ray.init(address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False, object_store_memory=2**28)
    try:
        jobs = plan(links, Framing())
        warm = [ray.remote(num_cpus=1)(get_detector).remote() for _ in range(cpus)]
        ray.get(warm)
        began = time.perf_counter()
        done = preprocess(jobs, str(folder / f"ray{cpus}"))
        seconds = time.perf_counter() - began
    finally:
        ray.shutdown()
    frames = sum(job.stop - job.start for job in jobs)
    assert not done.quarantined, done.quarantined
    return frames / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/preprocess.md")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    assets.pull(["pose", "pose2sim", "pose2sim_two_people"])
    paths = [assets.path(name) for name in VIDEOS]
    frames = sum(index_video(path).num_frames for path in paths)
    bare: list[dict[str, float]] = []
    made: list[float] = []
    size: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        whole(paths[0], folder / "warm")
        for _ in range(ROUNDS):
            rounds = [kernels(path) for path in paths]
            bare.append({name: sum(r[name] for r in rounds) for name in rounds[0]})
            jobs = [whole(path, folder / "store") for path in paths]
            made.append(sum(seconds for seconds, _ in jobs))
            size = {name: sum(tables[name] for _, tables in jobs) for name in DEFAULT_TABLES}
        rays = {cpus: on_ray(folder, cpus) for cpus in (1, 2)}
    text = as_markdown(bare, made, size, rays, frames)
    print(text)
    if arguments.write:
        machine.publish("preprocess.md", text)


WHY = {
    "keypoints": "33 joints as float32, x, y and confidence",
    "frames": f"JPEG of {SIDE_PX} px, quality 90, 4:4:4",
    "masks": "one bit a pixel, PNG",
    "flow": "two int16 planes at 1/64 px, rows minus the row above, zstd",
    "quality": "four figures and a verdict a clip; the file's own footer is most of it",
}


def as_markdown(
    bare: list[dict[str, float]], made: list[float], size: dict[str, int], rays: dict[int, float], frames: int
) -> str:
    sums = [sum(b.values()) for b in bare]
    ratios = [b / m for b, m in zip(sums, made, strict=True)]
    per_frame = {
        "bare kernels together": statistics.median(sums) / frames,
        "whole, file to store": statistics.median(made) / frames,
    }
    ms = {name: 1000 * statistics.median(b[name] for b in bare) / frames for name in bare[0]}
    return "\n".join(
        [
            "# Preprocessing real video",
            "",
            "| one core | ms/frame | frames/s |",
            "|:--|--:|--:|",
            *(f"| {name} | {value:.1f} | {1000 / value:,.0f} |" for name, value in ms.items()),
            *(f"| {name} | {1000 * seconds:.1f} | {1 / seconds:.1f} |" for name, seconds in per_frame.items()),
            "",
            f"Whole against bare kernels: **{statistics.median(ratios):.3f}** ({min(ratios):.3f} to {max(ratios):.3f} "
            f"in {ROUNDS} rounds; target {TARGET}). {frames} frames of 1080 x 1920 px, one person.",
            "",
            "| Ray, all 8 videos (4 with two people) | frames/s |",
            "|:--|--:|",
            *(f"| {cpus} CPU | {fps:.1f} |" for cpus, fps in rays.items()),
            "",
            f"Two CPUs against one: **{rays[2] / rays[1]:.2f}** (target 1.8 where cores allow).",
            "",
            "| table | bytes/frame | what they are |",
            "|:--|--:|:--|",
            *(f"| {name} | {size[name] / frames:,.0f} | {WHY[name]} |" for name in size),
            "",
            *machine.lines(
                "python benchmarks/preprocess.py --write", "numpy", "opencv-python-headless", "ai-edge-litert", "ray"
            ),
        ]
    )


if __name__ == "__main__":
    main()
