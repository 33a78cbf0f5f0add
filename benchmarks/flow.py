"""Optical flow of OpenCV's methods at the stored resolutions: error, frames per second per core, and what is kept.

    python benchmarks/flow.py [--write]

Truth is known where real frames are warped: crops of the people in the sample videos (`aign assets pull`), warped at
1024 px and then shrunk as the store's pictures are, with sensor noise on both pictures. "smooth": everything moves;
"layers": the person (thick bones round the detected keypoints) moves over the static background of the same video, and
what that hides counts as occluded. "rendered": the synthetic factory's people and its exact flow. "real": how well
consecutive frames, and frames five apart, match after warping. All run on one thread of this process, in turns;
times are CPU time, so that a busy machine changes them little.
`--write` puts the figures into benchmarks/results/flow.md.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import machine
import numpy as np
import pyarrow as pa

from aign.body.assets import load_body
from aign.data.assets import path as asset_path
from aign.data.motions import load_demo_motions
from aign.data.pixels import decode_flow_int16, encode_flow
from aign.data.stages.blazepose import get_detector
from aign.data.stages.decode import read_frames
from aign.data.stages.flow import Dis, consistent, default_flow, flow_pair
from aign.data.synthetic.factory import render_clip
from aign.data.synthetic.scene import WIDE, ClipSize, draw_scene
from aign.geometry.skeleton import BLAZEPOSE33

SIZES_PX = (128, 256, 512)
AMPLITUDES_PX = (1, 3, 10)
GAPS = (1, 5)
CAMERAS = (1, 2, 3, 4)
STARTS = (20, 70)
WARPED_AT_PX = 1024
NOISE = 2.0
ROUNDS = 5
RENDERED_FPS = 30.0

Estimate = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Pictures round one person at WARPED_AT_PX."""

    frames: dict[int, np.ndarray]  # by how many frames later
    plate: np.ndarray  # the background alone
    person: np.ndarray  # float mask


@dataclass(frozen=True, kw_only=True)
class Case:
    """Two pictures and what is known of the flow from the first to the second."""

    first: np.ndarray
    second: np.ndarray
    flow_px: np.ndarray
    judged: np.ndarray  # where the error counts
    occluded: np.ndarray


def dis(finest: int, stride: int, search: int, refinement: int) -> Dis:
    return Dis(finest_scale=finest, patch_stride=stride, search_iterations=search, refinement_iterations=refinement)


def enlarged(method: Estimate) -> Estimate:
    def estimate(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        size = first.shape[1], first.shape[0]
        double = [cv2.resize(x, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC) for x in (first, second)]
        return cv2.resize(method(*double), size, interpolation=cv2.INTER_AREA) / 2

    return estimate


def farneback(levels: int, window: int, iterations: int, gaussian: bool) -> Estimate:
    flags = cv2.OPTFLOW_FARNEBACK_GAUSSIAN if gaussian else 0

    def estimate(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        grey = [cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) for x in (first, second)]
        return cv2.calcOpticalFlowFarneback(*grey, None, 0.5, levels, window, iterations, 5, 1.2, flags)

    return estimate


METHODS: Mapping[str, Estimate] = {
    "DIS 2, 4, 12, 0 (ultrafast)": dis(2, 4, 12, 0),
    "DIS 2, 4, 16, 5 (fast)": dis(2, 4, 16, 5),
    "DIS 1, 3, 25, 5 (medium)": dis(1, 3, 25, 5),
    "DIS 1, 4, 12, 5": dis(1, 4, 12, 5),
    "DIS 0, 4, 12, 0": dis(0, 4, 12, 0),
    "DIS 0, 4, 12, 2": dis(0, 4, 12, 2),
    "DIS 0, 4, 12, 5": dis(0, 4, 12, 5),
    "DIS 0, 3, 25, 5": dis(0, 3, 25, 5),
    "DIS 0, 2, 40, 20": dis(0, 2, 40, 20),
    "DIS fast on pictures enlarged x2": enlarged(dis(2, 4, 16, 5)),
    "DIS medium on pictures enlarged x2": enlarged(dis(1, 3, 25, 5)),
    "Farneback, 3 levels, box 15": farneback(3, 15, 3, False),
    "Farneback, 5 levels, Gauss 15": farneback(5, 15, 3, True),
}


def person_mask(keypoints_px: np.ndarray, side: int) -> np.ndarray:
    mask = np.zeros((side, side), np.uint8)
    points = np.rint(keypoints_px).astype(int)
    for child, parent in BLAZEPOSE33.bones:
        cv2.line(mask, points[child].tolist(), points[parent].tolist(), 1, side // 14)
    torso = points[BLAZEPOSE33.index("l_shoulder", "r_shoulder", "r_hip", "l_hip")]
    cv2.fillConvexPoly(mask, cv2.convexHull(torso), 1)
    return cv2.GaussianBlur(mask.astype(np.float32), None, side / 500)


def scenes() -> list[Scene]:
    made = []
    for camera in CAMERAS:
        video = list(read_frames(asset_path(f"pose2sim_cam{camera:02d}")))
        plate = np.median(np.stack(video[::5]), axis=0).astype(np.uint8)
        for start in STARTS:
            found = get_detector().track([video[start]])
            low, high = found.kp2d_px[0].min(axis=0), found.kp2d_px[0].max(axis=0)
            scale = WARPED_AT_PX / (1.3 * (high - low).max())
            shift = WARPED_AT_PX / 2 - scale * (low + high) / 2
            affine = np.column_stack((scale * np.eye(2), shift))

            def crop(image: np.ndarray, affine: np.ndarray = affine) -> np.ndarray:
                side = (WARPED_AT_PX, WARPED_AT_PX)
                return cv2.warpAffine(image, affine, side, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)

            made.append(
                Scene(
                    frames={gap: crop(video[start + gap]) for gap in (0, *GAPS)},
                    plate=crop(plate),
                    person=person_mask(found.kp2d_px[0] * scale + shift, WARPED_AT_PX),
                )
            )
    return made


def shrunk(image: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)


def noisy(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.clip(np.rint(image + rng.normal(scale=NOISE, size=image.shape)), 0, 255).astype(np.uint8)


def warped_case(scene: Scene, kind: str, side: int, amplitude_px: float, seed: int) -> Case:
    """The first picture is made by looking up a real one at x + flow(x); so that flow leads from it to the real one."""
    rng = np.random.default_rng(seed)
    zoom = WARPED_AT_PX / side
    bend = cv2.resize(rng.normal(size=(5, 5, 2)), (WARPED_AT_PX, WARPED_AT_PX), interpolation=cv2.INTER_CUBIC)
    angle = rng.uniform(0, 2 * np.pi)
    flow = 0.4 * bend / np.linalg.norm(bend, axis=-1).max() + 0.6 * np.array((np.cos(angle), np.sin(angle)))
    flow = (amplitude_px * zoom * flow).astype(np.float32)
    grid = np.stack(np.meshgrid(np.arange(WARPED_AT_PX), np.arange(WARPED_AT_PX)), axis=-1).astype(np.float32)

    def look_up(image: np.ndarray) -> np.ndarray:
        return cv2.remap(image, grid + flow, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)

    real = scene.frames[0].astype(np.float32)
    moved, hidden = look_up(real), np.zeros((side, side), bool)
    flow_px = shrunk(flow, side) / zoom
    inside = ((shrunk(grid + flow, side) >= 0) & (shrunk(grid + flow, side) < WARPED_AT_PX)).all(axis=-1)
    judged = inside
    if kind == "layers":
        here, there = look_up(scene.person)[..., None], scene.person[..., None]
        moved = here * moved + (1 - here) * scene.plate
        real = there * real + (1 - there) * scene.plate
        on_person = shrunk(here[..., 0], side) > 0.5
        hidden = ~on_person & (shrunk(scene.person, side) > 0.5)
        flow_px = flow_px * on_person[..., None]
        judged = on_person & inside
    first, second = noisy(shrunk(moved, side), rng), noisy(shrunk(real, side), rng)
    return Case(first=first, second=second, flow_px=flow_px, judged=judged, occluded=hidden)


def rendered_cases(side: int) -> list[Case]:
    cases = []
    for number, motion in enumerate(load_demo_motions()):
        size = ClipSize(fps=RENDERED_FPS, frames=4, size_px=(side, side))
        clip = render_clip(draw_scene(WIDE, motion, load_body(), (7, number), size))
        flow, back = clip.flow_px[1], clip.flow_back_px[2]
        seen = clip.mask[1] & consistent(flow, back)
        if seen.any():
            cases.append(Case(first=clip.rgb[1], second=clip.rgb[2], flow_px=flow, judged=seen, occluded=~seen))
    return cases


def photometric(method: Estimate, first: np.ndarray, second: np.ndarray, person: np.ndarray) -> float:
    """Mean absolute difference on the person, in grey levels."""
    side = first.shape[0]
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).astype(np.float32)
    there = cv2.remap(second, grid + method(first, second), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return float(np.abs(first.astype(np.float32) - there)[person].mean())


def errors(method: Estimate, made: list[Scene], rendered: list[Case], side: int) -> dict[str, float]:
    figures: dict[str, float] = {}
    for kind in ("smooth", "layers"):
        for amplitude in AMPLITUDES_PX:
            rows = []
            for seed, scene in enumerate(made):
                case = warped_case(scene, kind, side, amplitude, seed)
                flow = method(case.first, case.second)
                kept = consistent(flow, method(case.second, case.first))
                error = np.linalg.norm(flow - case.flow_px, axis=-1)[case.judged].mean()
                hidden = kept[case.occluded].mean() if kind == "layers" else np.nan
                rows.append((error, kept[case.judged].mean(), hidden))
            error, right, hidden = np.mean(rows, axis=0).tolist()
            figures |= {f"{kind} {amplitude}": error, f"{kind} {amplitude} kept": right}
            figures[f"{kind} {amplitude} occluded kept"] = hidden
    figures["rendered"] = statistics.fmean(
        float(np.linalg.norm(method(c.first, c.second) - c.flow_px, axis=-1)[c.judged].mean()) for c in rendered
    )
    for gap in GAPS:
        figures[f"real {gap}"] = statistics.fmean(
            photometric(method, shrunk(s.frames[0], side), shrunk(s.frames[gap], side), shrunk(s.person, side) > 0.5)
            for s in made
        )
    return figures


def frames_per_second(made: list[Scene], side: int) -> dict[str, float]:
    cases = [warped_case(scene, "layers", side, 3, seed) for seed, scene in enumerate(made[::2])]
    rates: dict[str, list[float]] = {name: [] for name in METHODS}
    for _ in range(ROUNDS):
        for name, method in METHODS.items():
            start = time.thread_time()
            for case in cases:
                method(case.first, case.second)
            rates[name].append(len(cases) / (time.thread_time() - start))
    return {name: statistics.median(values) for name, values in rates.items()}


def milliseconds(run: Callable[[], object]) -> float:
    def once() -> float:
        start = time.thread_time()
        run()
        return 1000 * (time.thread_time() - start)

    return statistics.median(once() for _ in range(9))


def stored(made: list[Scene], side: int) -> str:
    """Bytes and times of the chosen method's real flow, as aign.data.pixels stores it and as plain planes."""
    zstd, rows = pa.Codec("zstd", compression_level=3), []
    for scene in made:
        pair = flow_pair(shrunk(scene.frames[0], side), shrunk(scene.frames[1], side), default_flow(side))
        data = encode_flow(pair.forward_px, pair.forward_valid)
        planes = decode_flow_int16(data)
        plain = zstd.compress(planes.tobytes(), asbytes=True)
        rows.append(
            (
                len(data),
                milliseconds(lambda p=pair: encode_flow(p.forward_px, p.forward_valid)),
                milliseconds(lambda d=data: decode_flow_int16(d)),
                len(plain),
                milliseconds(lambda d=plain, n=planes.nbytes: zstd.decompress(d, n)),
            )
        )
    size, write, read, plain_size, plain_read = np.mean(rows, axis=0).tolist()
    return f"| {side} | {size:,.0f} | {write:.2f} | {read:.2f} | {plain_size:,.0f} | {plain_read:.2f} |"


def table(side: int, made: list[Scene]) -> list[str]:
    rendered, rates = rendered_cases(side), frames_per_second(made, side)
    figures = {name: errors(method, made, rendered, side) for name, method in METHODS.items()}
    lines = [
        f"## {side} px",
        "",
        "| method | frames/s | smooth 1, 3, 10 px | layers 1, 3, 10 px | rendered | real 1, 5 | kept right, occluded |",
        "|:--|--:|--:|--:|--:|--:|--:|",
    ]
    for name, f in figures.items():
        beaten = any(rates[o] >= rates[name] and g["layers 3"] < f["layers 3"] for o, g in figures.items())
        shown = name if beaten else f"{name} *"
        if METHODS[name] == default_flow(side):
            shown = f"**{shown}**"
        cells = [
            f"{rates[name]:,.0f}",
            *(", ".join(f"{f[f'{kind} {a}']:.2f}" for a in AMPLITUDES_PX) for kind in ("smooth", "layers")),
            f"{f['rendered']:.2f}",
            ", ".join(f"{f[f'real {gap}']:.1f}" for gap in GAPS),
            f"{f['layers 3 kept']:.1%}, {f['layers 3 occluded kept']:.0%}",
        ]
        lines.append(f"| {shown} | {' | '.join(cells)} |")
    return [*lines, ""]


def as_markdown(made: list[Scene]) -> str:
    lines = [line for side in SIZES_PX for line in table(side, made)]
    return "\n".join(
        [
            "# Optical flow at the stored resolutions",
            "",
            "DIS settings: finest scale, patch stride, search iterations, refinement iterations. **Bold**: what "
            "`aign.data.stages.flow.default_flow` takes. *: nothing else is both as fast and better on layers, 3 px.",
            "",
            "Mean endpoint error in px: on everything (smooth), on the person (layers, rendered at "
            f"{RENDERED_FPS:.0f} frames/s). Real: mean difference in grey levels on the person after warping back "
            "frames 1 and 5 apart (60 frames/s). Kept: share of the person, and of what it hides, that the "
            "forward-backward check leaves valid (layers, 3 px). Frames/s: one direction, per second of one core.",
            "",
            *lines,
            "## As stored",
            "",
            "Real flow of the chosen method: rows minus the row above (`aign.data.pixels`) against plain planes, both "
            "int16 in 1/64 px, zstd level 3.",
            "",
            "| px | bytes | write, ms | read, ms | plain bytes | plain read, ms |",
            "|--:|--:|--:|--:|--:|--:|",
            *(stored(made, side) for side in SIZES_PX),
            "",
            *machine.lines("python benchmarks/flow.py --write", "opencv-python-headless", "numpy"),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/flow.md")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    text = as_markdown(scenes())
    print(text)
    if arguments.write:
        machine.publish("flow.md", text)


if __name__ == "__main__":
    main()
