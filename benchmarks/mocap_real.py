"""Adaptation of motion capture to single clips without labels: does it help, and does it ever harm?

    python benchmarks/mocap_real.py MODEL... [--video STORE] [--write]
    python benchmarks/mocap_real.py MODEL... --clips STORE [--most 24] [--write]

MODEL is a package's folder; several are seeds of one row. Without --clips: the four synchronised cameras of a real
recording, each alone, judged by the other three (benchmarks/detections.py). --video is their store, made where there is
none. With --clips: rendered people with true bodies, clips that no training has seen. --write puts the page and the
picture into benchmarks/results.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import machine
import numpy as np
import torch
from filmed_people import KNOWN, PROTOCOLS, SIDE_PX, SURE_MM, clip_name, filmed, trust_table, video_store

from aign.body.assets import load_body
from aign.data.store import Selection, Store
from aign.evaluation.bodies import Bodies, joints_cam_m
from aign.evaluation.body_view import BodyMethod, BodyView, encoder_method, estimate, load_body_view, measure_view
from aign.evaluation.mocap import BodyEstimate, MocapReport
from aign.evaluation.protocol import resolve
from aign.evaluation.report import Provenance
from aign.geometry.skeleton import Skeleton
from aign.inference.body_predictor import FrameBodies, resized_lens
from aign.inference.body_video import draw_surface, surfaces
from aign.inference.package import load_as
from aign.recipes.mocap import PROTOCOL, Shares, parts
from aign.recipes.mocap_memory import embedded_bodies
from aign.recipes.mocap_task import MOTION_CAPTURE
from aign.tasks.motion_capture.clips import CapturedClip
from aign.tasks.motion_capture.factors import BodyFactors
from aign.tasks.motion_capture.feed import EVIDENCE_COLUMNS
from aign.tasks.motion_capture.memory import BodyMemory, remember
from aign.tasks.motion_capture.nets import Encoder
from aign.training.adaptation import AdaptConfig, adapt
from infra.storage import absolute

GOAL_GAIN, GOAL_WORSE, GOAL_MINUTES = 0.15, 0.03, 5.0
SHOWN_PX = 256
MET = {True: "**met**", False: "**not met**"}
PICTURE = "mocap_real.png"

Judge = Callable[[BodyEstimate], Mapping[str, MocapReport]]
"""Estimated bodies of a view to reports by protocol."""

FILM = """# Motion capture of real video: one camera, adapted to each clip without labels

PA-MPJPE / MPJPE about the root, mm. Models (seeds of one row; ± is their standard deviation): {models}.

{tables}{goals}
{minutes}
- {clips} clips of one recording (Pose2Sim's single person, {frames} frames a camera at 60 per second), crops of
  {side} px, each camera alone: the model sees one video with its BlazePose keypoints, masks and optical flow. It is one
  person in less than two seconds: a test of harm and of direction, not a mean over the world. The noise of the
  simulated detector was measured on this recording (benchmarks/detector_errors.py), and results on it were seen
  while adaptation was built; no setting was chosen by them.
- **The truth is a pseudo-truth**: the same detector in the other three cameras, triangulated, with the detector's own
  skeleton (hips nearer to the middle, no head top). What is measured in a camera is never made of that camera.
- A camera's truth is trusted if the keypoints of its three cameras are on median at most {sure:g} mm from the
  triangulated points (picture distance at the person's depth) and at least {known:.0%} of the joints that are counted
  can be triangulated:

{trust}
- "trained": the model as it is. "adapted": `aign adapt` with its defaults on that clip alone. The fits remember the
  embedded motions; "direct" starts at the mean pose, "staged" is the strong one.
- Picture: the middle frame of each camera, a column each; rows: what the model sees, the body before, the body after
  adaptation ({first}).

![Bodies before and after adaptation]({picture})

"""
CLIPS = """# Motion capture of rendered people: adapted to each clip without labels

PA-MPJPE / MPJPE about the pelvis, mm. Models (seeds of one row; ± is their standard deviation): {models}.

{tables}{goals}
- {clips} clips, {frames} frames together: rendered people of store {store}, evenly out of the part that no
  training sees, with the errors of a detector, masks and flow. The truth is exact.
- "trained": the model as it is. "adapted": `aign adapt` with its defaults on that clip alone.

"""


@dataclass(frozen=True, kw_only=True)
class Told:
    """Of an adaptation: step that was kept (0: as it was), minutes on the wall and of the processor."""

    kept: int
    minutes: float
    busy: float


@dataclass(frozen=True, kw_only=True)
class Run:
    """A method's bodies, and what they are worth by protocol."""

    bodies: BodyEstimate
    reports: Mapping[str, MocapReport]


@dataclass(frozen=True, kw_only=True)
class Seed:
    """One model before and after adaptation to every clip."""

    before: Run
    after: Run
    told: tuple[Told, ...]

    def gains(self, protocol: str) -> dict[str, float]:
        """Share by which PA-MPJPE falls, by clip."""
        before, after = (one.reports[protocol].per_clip for one in (self.before, self.after))
        return {clip: 1 - after[clip]["pa_mpjpe_mm"] / before[clip]["pa_mpjpe_mm"] for clip in before}


def unseen(store: Store, most: int) -> Selection:
    """Sequences of the test part, evenly out of it."""
    names = parts(store, Shares()).test.sequences or ()
    return Selection(
        sequences=tuple(names[i] for i in np.linspace(0, len(names) - 1, min(most, len(names))).astype(int))
    )


def adapting(encoder: Encoder, told: list[Told]) -> BodyMethod:
    """Adaptation with its defaults, as `aign adapt` does it."""
    body, config = load_body(), AdaptConfig()
    frames = encoder.config.frames if encoder.config.frames > 1 else config.frames

    @cache
    def memory(fps: float) -> BodyMemory:
        return remember(embedded_bodies(fps), frames)

    def method(clip: CapturedClip, source: Skeleton) -> BodyFactors:
        remembered = memory(clip.key.fps)
        begun, busy = time.perf_counter(), time.process_time()
        done = adapt(encoder, clip, source, body, remembered, config)
        minutes = (time.perf_counter() - begun) / 60
        told.append(Told(kept=done.kept, minutes=minutes, busy=(time.process_time() - busy) / 60))
        print(f"{clip_name(clip)}: step {done.kept} kept in {minutes:.1f} min", *done.notes, sep="; ", flush=True)
        return done.bodies

    return method


def run(method: BodyMethod, view: BodyView, judge: Judge) -> Run:
    bodies = estimate(method, view)
    return Run(bodies=bodies, reports=judge(bodies))


def adapted(model: Path, view: BodyView, judge: Judge) -> Seed:
    encoder, _ = load_as(Encoder, model)
    told: list[Told] = []
    before = run(encoder_method(encoder, torch.device("cpu")), view, judge)
    after = run(adapting(encoder, told), view, judge)
    return Seed(before=before, after=after, told=tuple(told))


def spread(values: Sequence[float], form: str) -> str:
    """Mean, and the standard deviation over seeds if there are several."""
    mean = format(statistics.fmean(values), form)
    return mean if len(values) < 2 else f"{mean} ± {format(statistics.stdev(values), form.removeprefix('+'))}"


def _error(runs: Sequence[Run], protocol: str, clip: str | None) -> str:
    """PA-MPJPE and root MPJPE of a clip, or of all."""
    reports = [one.reports[protocol] for one in runs]
    numbers = [report.numbers if clip is None else report.per_clip[clip] for report in reports]
    root = next(name for name in ("mpjpe_root_mm", "mpjpe_pelvis_mm") if name in numbers[0])
    return " / ".join(spread([n[name] for n in numbers], ".1f") for name in ("pa_mpjpe_mm", root))


def table(protocol: str, seeds: Sequence[Seed], fits: Mapping[str, Run]) -> str:
    """A row a clip; one column a method, and what adaptation did."""
    columns = {name: [fit] for name, fit in fits.items()}
    columns |= {"trained": [seed.before for seed in seeds], "adapted": [seed.after for seed in seeds]}
    gains = [seed.gains(protocol) for seed in seeds]
    heads = [*columns, "gain (PA)", "least of a seed", "kept steps", "minutes"]
    rows = [f"`{protocol}` ({resolve(protocol).hash})", "", f"| | {' | '.join(heads)} |", "|:--|" + "--:|" * len(heads)]
    for index, clip in enumerate(gains[0]):
        told = [seed.told[index] for seed in seeds]
        cells = [_error(runs, protocol, clip) for runs in columns.values()]
        cells += [spread([g[clip] for g in gains], "+.1%"), f"{min(g[clip] for g in gains):+.1%}"]
        cells += [", ".join(str(one.kept) for one in told), f"{max(one.minutes for one in told):.1f}"]
        rows.append(f"| {clip} | {' | '.join(cells)} |")
    cells = [_error(runs, protocol, None) for runs in columns.values()]
    cells += [spread([statistics.fmean(g.values()) for g in gains], "+.1%"), "", "", ""]
    return "\n".join([*rows, f"| mean | {' | '.join(cells)} |", "", ""])


def goals(seeds: Sequence[Seed], protocols: Sequence[str], counted: Sequence[str]) -> str:
    """What was asked for, and whether it was reached."""
    lines = []
    for protocol in protocols:
        gains = [{clip: seed.gains(protocol)[clip] for clip in counted} for seed in seeds]
        means = [statistics.fmean(one.values()) for one in gains]
        clip, least = min((pair for one in gains for pair in one.items()), key=lambda pair: pair[1])
        lines += [
            f"- `{protocol}`: mean gain over {len(counted)} clips {spread(means, '+.1%')}; goal: at least "
            f"{GOAL_GAIN:.0%}: {MET[statistics.fmean(means) >= GOAL_GAIN]}",
            f"- `{protocol}`: least gain of a clip and seed {least:+.1%} ({clip}); goal: none worse by more than "
            f"{GOAL_WORSE:.0%}: {MET[least >= -GOAL_WORSE]}",
        ]
    return "\n".join(lines)


def minutes(seeds: Sequence[Seed]) -> str:
    """How long the slowest clip took."""
    slowest, busiest = (
        max(values) for values in zip(*((t.minutes, t.busy) for s in seeds for t in s.told), strict=True)
    )
    return (
        f"- slowest adaptation of a clip: {slowest:.1f} minutes on the wall, {busiest:.1f} of the processor (threads: "
        f"{torch.get_num_threads()}; whatever else ran is in the load average below); goal: at "
        f"most {GOAL_MINUTES:g} on 2 cores: {MET[slowest <= GOAL_MINUTES]}"
    )


def picture(view: BodyView, seed: Seed) -> np.ndarray:
    """Middle frame of each clip, a column each: the picture, the body before, the body after adaptation."""
    columns, first = [], 0
    for clip in view.clips:
        middle = clip.key.num_frames // 2
        image = clip.columns["image_rgb"][middle, 0].numpy()
        by = np.full(2, SHOWN_PX / image.shape[0])
        large = cv2.resize(image, (SHOWN_PX, SHOWN_PX), interpolation=cv2.INTER_CUBIC)
        lens = resized_lens(clip.columns["frame_intrinsics_px"][middle : middle + 1].numpy(), by)[0]
        at = slice(first + middle, first + middle + 1)
        shown = [_drawn(large, one.bodies.part(at), lens) for one in (seed.before, seed.after)]
        columns.append(np.vstack([large, *shown]))
        first += clip.key.num_frames
    return np.hstack(columns)


def _drawn(large: np.ndarray, bodies: Bodies, lens: np.ndarray) -> np.ndarray:
    body, plain = load_body(), bodies.plain()
    numbers = {name: value.numpy() for name, value in vars(plain).items()}
    frame = FrameBodies(**numbers, joints_cam_m=joints_cam_m(body, plain).numpy())
    return draw_surface(large, next(iter(surfaces(frame, body))), body.faces.numpy().astype(np.int32), lens)


def on_film(models: Sequence[Path], store: Store, write: bool) -> str:
    """The page of the real recording, and its picture."""
    film = filmed(store)
    view, trusted = film.view, [clip for clip, one in film.trust.items() if one.enough]
    if not trusted:
        raise SystemExit(f"no camera's triangulation is trusted:\n{trust_table(film.trust)}")
    fits = {name: run(make(store, None), view, film.judge) for name, make in MOTION_CAPTURE.baselines.items()}
    seeds = [adapted(model, view, film.judge) for model in models]
    if write:
        machine.RESULTS.mkdir(exist_ok=True)
        cv2.imwrite(str(machine.RESULTS / PICTURE), cv2.cvtColor(picture(view, seeds[0]), cv2.COLOR_RGB2BGR))
    return FILM.format(
        models=", ".join(map(str, models)), tables="".join(table(name, seeds, fits) for name in PROTOCOLS),
        goals=goals(seeds, PROTOCOLS, trusted), minutes=minutes(seeds), clips=len(view.clips),
        frames=view.clips[0].key.num_frames, side=SIDE_PX, sure=SURE_MM, known=KNOWN, trust=trust_table(film.trust),
        first=models[0], picture=PICTURE,
    )  # fmt: skip


def on_clips(models: Sequence[Path], store: Store, most: int) -> str:
    """The page of rendered people."""
    view = load_body_view(store, unseen(store, most), more=EVIDENCE_COLUMNS)

    def judge(bodies: BodyEstimate) -> Mapping[str, MocapReport]:
        who = Provenance(method="", data="", store_hash=store.hash)
        return {PROTOCOL: measure_view(bodies, view, PROTOCOL, who)}

    seeds = [adapted(model, view, judge) for model in models]
    return CLIPS.format(
        models=", ".join(map(str, models)), tables=table(PROTOCOL, seeds, {}),
        goals=goals(seeds, (PROTOCOL,), list(seeds[0].gains(PROTOCOL))), clips=len(view.clips),
        frames=len(view.rows.frame), store=store.hash[:12],
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", type=Path, help="folders of packages; several are seeds of one row")
    parser.add_argument("--video", help="store of the four cameras; made where there is none; nothing: a temporary one")
    parser.add_argument("--clips", help="store of rendered people to adapt to instead")
    parser.add_argument("--most", type=int, default=24, help="clips of it")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    if not arguments.models:
        print("mocap_real.py adapts trained models of motion capture; name their packages' folders")
        return
    command = f"python benchmarks/mocap_real.py {' '.join(map(str, arguments.models))}"
    if arguments.clips:
        page = on_clips(arguments.models, Store.open(absolute(arguments.clips)), arguments.most)
        command += f" --clips {arguments.clips} --most {arguments.most}"
    else:
        with tempfile.TemporaryDirectory() as folder:
            store = video_store(arguments.video or f"{folder}/store")
            page = on_film(arguments.models, store, arguments.write)
        command += f" --video {arguments.video}" if arguments.video else ""
    text = page + "\n".join(machine.lines(f"{command} --write", "numpy", "torch", "ai-edge-litert"))
    print(text)
    if arguments.write:
        machine.publish("mocap_real_clips.md" if arguments.clips else "mocap_real.md", text)


if __name__ == "__main__":
    main()
