"""Lifters on real detections: a real 4-camera recording lifted from each single camera, and rendered people.

    python benchmarks/lifting_real.py RUN... [--memory STORE] [--frames 2048] [--cache DIR] [--write]

RUN is a run's or a package's folder. `--memory` is the store that the first of them was trained on: mean pose, nearest
memory pose and Monocap remember what it remembered. The detections and their truth come from benchmarks/detections.py.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import machine
import numpy as np
import torch
from detections import CLIP_FRAMES, FPS, SIDE_PX, Detected, filmed, rendered
from torch import Tensor

from aign.data.store import Store
from aign.evaluation.baselines.exemplar import mean_pose, nearest_pose
from aign.evaluation.baselines.monocap import monocap
from aign.evaluation.lifting import Method, View, lifter_method, measure, metrics
from aign.evaluation.protocol import resolve
from aign.evaluation.report import Provenance, Report
from aign.evaluation.rows import Rows
from aign.geometry.camera import Pinhole
from aign.inference.agreement import PROTOCOL as FILMED
from aign.inference.package import load_package
from aign.inference.predictor import MIN_CONFIDENCE, MIN_SEEN, sees_person
from aign.recipes.lifting import VALIDATION_PROTOCOL as RENDERED
from aign.recipes.lifting import load_memory
from aign.tasks.lifting.frames import Frames

SEED = 11
"""Not that of benchmarks/detector_errors.py: other clips than those the simulated detector was measured on."""
COLUMNS = (("pa_mpjpe_mm", "PA-MPJPE"), ("n_mpjpe_mm", "N-MPJPE"), ("mpjpe_mm", "MPJPE"))
UNTRAINED: Mapping[str, Callable[[Tensor], Method]] = {
    "mean pose": mean_pose,
    "nearest memory pose": nearest_pose,
    "Monocap": monocap,
}
ROUGH = "all 4 views triangulated"

PAGE = """# Lifting from real detections (BlazePose heavy)

Errors in mm. Best of the methods that see one camera in bold.

{table}
- filmed: {filmed}, each camera lifted alone. Protocol {filmed_protocol}.
  **The truth is a pseudo-truth**: the same detector in the other three cameras, triangulated. So it has the detector's
  own skeleton (hips a sixth of the body's width nearer to the middle, nose higher, no head top: 16 joints count), which
  no method was trained to give: every row pays for that. "{rough}" is by how much the truth changes when
  the lifted camera is added: how sure the truth is, and no method. One person who balances along a line, arms out and
  leaning by up to 45 degrees, before cameras that are not level: hard, and one draw, not a mean.
- rendered: {rendered}.
  Protocol {rendered_protocol}. The truth is exact: the joints of the body's H36M-17
  regressor that are in the picture. The motions are the embedded ones, acrobatics and falls among them.
- The recordings' 60 frames per second go to lifters of several frames as they are; one camera's clip is one clip.
- The statistics of the simulated detector were measured on this recording and on other clips of the same factory
  (benchmarks/detector_errors.py), so its noise is known to a lifter trained on it, the poses and cameras are not.
- Frames in which fewer than {least} joints are found with confidence {sure:g} are left out for all methods alike.
- Untrained methods remember what {first} remembered: {memory}.

## Filmed, PA-MPJPE by camera

{cameras}
## Rendered, PA-MPJPE by motion

{motions}
"""


def view_of(clips: Sequence[Detected]) -> View:
    """Clips as a method and the judge see them; a frame in which nobody was found has no valid joint."""
    camera = [[getattr(clip.camera, part).expand(len(clip.conf), -1) for clip in clips] for part in
              ("focal_px", "centre_px", "distortion")]  # fmt: skip
    focal, centre, distortion = (torch.cat(part).float() for part in camera)
    lengths = [len(clip.conf) for clip in clips]
    kp2d, conf = (np.concatenate([getattr(clip, name) for clip in clips]) for name in ("kp2d_px", "conf"))
    number = np.repeat(np.arange(len(clips)), lengths)
    names = np.array([clip.name for clip in clips])[number]
    frames = Frames(
        kp2d_px=torch.from_numpy(kp2d),
        conf=torch.from_numpy(conf),
        camera=Pinhole(focal_px=focal, centre_px=centre, distortion=distortion),
        clip=torch.from_numpy(number),
    )
    valid = np.concatenate([clip.valid for clip in clips]) & sees_person(kp2d, conf)[:, None]
    rows = Rows(
        sequence=number.astype(str),
        subject=number.astype(str),
        action=names,
        camera=names,
        frame=np.concatenate([np.arange(length) for length in lengths]),
        fps=np.full(len(number), FPS),
    )
    joints = torch.from_numpy(np.concatenate([clip.joints_cam_m for clip in clips]))
    return View(frames=frames, joints_cam_m=joints, valid=torch.from_numpy(valid), rows=rows)


def lifters(folders: Sequence[Path]) -> tuple[dict[str, Method], list[Path]]:
    """Methods by name, and the folders of their packages."""
    packages = [folder / "package" if (folder / "package").is_dir() else folder for folder in folders]
    loaded = [load_package(package) for package in packages]
    methods = {card.recipe: lifter_method(lifter, torch.device("cpu")) for lifter, card in loaded}
    if len(methods) < len(loaded):
        raise SystemExit(f"two of these have one name: {', '.join(card.recipe for _, card in loaded)}")
    return methods, packages


def error_rows(sources: Sequence[Mapping[str, Report]]) -> list[str]:
    """One row a method; its errors and flips on each source."""
    heads = " | ".join(f"{source}: {' | '.join(n for _, n in COLUMNS)} | flips" for source in ("filmed", "rendered"))
    rows = [f"| | {heads} |", "|:--|" + "--:|" * 8]
    found = [{method: metrics(report) for method, report in source.items()} for source in sources]
    best = [{key: min(m[key] for name, m in got.items() if name != ROUGH) for key, _ in COLUMNS} for got in found]
    for method in found[0]:
        cells = []
        for got, least in zip(found, best, strict=True):
            if method not in got:
                cells += ["-"] * 4
                continue
            numbers = got[method]
            own = method != ROUGH
            cells += [_bold(numbers[key], own and numbers[key] == least[key]) for key, _ in COLUMNS]
            cells.append(f"{numbers['flip_rate']:.1%}")
        rows.append(f"| {method} | {' | '.join(cells)} |")
    return [*rows, ""]


def _bold(value: float, best: bool) -> str:
    return f"**{value:.1f}**" if best else f"{value:.1f}"


def part_rows(source: Mapping[str, Report]) -> list[str]:
    """One row a camera or motion, one column a method."""
    first = next(iter(source.values()))
    rows = [f"| | frames | {' | '.join(source)} |", "|:--|" + "--:|" * (len(source) + 1)]
    for name, frames in first.frames_per_action.items():
        errors = [report.scores["similarity"].per_action[name] for report in source.values()]
        least = min(error for error, method in zip(errors, source, strict=True) if method != ROUGH)
        rows.append(f"| {name} | {frames} | {' | '.join(_bold(e, e == least) for e in errors)} |")
    return [*rows, ""]


def counted(clips: Sequence[Detected], report: Report, what: str) -> str:
    frames = sum(len(clip.conf) for clip in clips)
    return f"{what}, {report.num_frames} of {frames} frames of {len(clips)} clips"


def measured(methods: Mapping[str, Method], clips: Sequence[Detected], protocol: str) -> dict[str, Report]:
    """A report a method; store_hash is empty because nothing here comes from a store."""
    view = view_of(clips)
    return {
        name: measure(method, view, protocol, Provenance(method=name, data=protocol, store_hash=""))
        for name, method in methods.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="*", type=Path, help="folders of runs or packages")
    parser.add_argument("--memory", help="store that the first of them was trained on")
    parser.add_argument("--frames", type=int, default=2048, help="rendered frames")
    parser.add_argument("--cache", type=Path, help="folder that keeps landmarks for the next run")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    if not arguments.runs:
        print("lifting_real.py measures trained lifters; name their run or package folders")
        return
    methods, packages = lifters(arguments.runs)
    first, memory = load_package(packages[0])[1], "none were measured"
    if arguments.memory:
        store = Store.open(arguments.memory)
        poses = load_memory(store, first.role("memory")).canonical_m
        methods = {name: make(poses) for name, make in UNTRAINED.items()} | methods
        memory = f"{len(poses)} poses of store {store.hash[:12]}"
    real, shown = filmed(arguments.cache), rendered(arguments.frames, SEED, arguments.cache)
    rough = torch.from_numpy(np.concatenate([clip.rough_m for clip in real]))
    on_film = measured({**methods, ROUGH: lambda _: rough}, real, FILMED)
    on_render = measured(methods, shown, RENDERED)
    people = f"the synthetic factory's people, {SIDE_PX} px, clips of at most {CLIP_FRAMES} frames, seed {SEED}"
    page = PAGE.format(
        table="\n".join(error_rows((on_film, on_render))),
        cameras="\n".join(part_rows(on_film)), motions="\n".join(part_rows(on_render)),
        filmed=counted(real, on_film[first.recipe], "the Pose2Sim single-person clips"),
        rendered=counted(shown, on_render[first.recipe], people),
        filmed_protocol=f"`{FILMED}` ({resolve(FILMED).hash})",
        rendered_protocol=f"`{RENDERED}` ({resolve(RENDERED).hash})",
        least=MIN_SEEN, sure=MIN_CONFIDENCE, first=first.recipe, memory=memory, rough=ROUGH,
    )  # fmt: skip
    names = " ".join(str(folder) for folder in arguments.runs)
    command = f"python benchmarks/lifting_real.py {names} --memory {arguments.memory} --frames {arguments.frames}"
    text = page + "\n".join(machine.lines(f"{command} --write", "numpy", "torch", "ai-edge-litert"))
    print(text)
    if arguments.write:
        machine.publish("lifting_real.md", text)


if __name__ == "__main__":
    main()
