"""BlazePose's errors against the truth: on a real 4-camera recording, and on rendered people.

    python benchmarks/detector_errors.py [--frames 3072] [--write]

Where both come from: benchmarks/detections.py. The real recording's truth has the detector's own skeleton: it tells
spread, correlation and confidence, and not the bias. Rendered people have those of the body's H36M-17 regressor as
exact truth; these tell the bias too.

`--write` puts the statistics into aign/data/stages/detector_errors.json, which `aign preprocess --keypoints detector`
draws from, and the tables into benchmarks/results/detector_errors.md.
"""

import argparse
import datetime
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import machine
import numpy as np
from detections import FPS, SIDE_PX, Detected, filmed, rendered
from jaxtyping import Bool, Float32, Int64

from aign.data.publish import published
from aign.data.stages.detector_errors import (
    LIMBS,
    MEASURED,
    DetectorErrors,
    apply_errors,
    body_axes,
    half_extent_px,
    to_json,
)
from aign.data.stages.detector_measure import compare, measure_errors
from aign.geometry.skeleton import H36M17

SEED = 7
JOINTS = [j for j, name in enumerate(H36M17.joints) if name != "head_top"]
GROUPS = {
    "pelvis": ("pelvis",), "hips": ("l_hip", "r_hip"), "knees": ("l_knee", "r_knee"),
    "ankles": ("l_ankle", "r_ankle"), "spine": ("spine",), "thorax": ("thorax",), "nose": ("nose",),
    "shoulders": ("l_shoulder", "r_shoulder"), "elbows": ("l_elbow", "r_elbow"), "wrists": ("l_wrist", "r_wrist"),
}  # fmt: skip


PAGE = """# Errors of the 2D detector (BlazePose heavy)

Distances in half extents: half the longer side of the box round the person's joints in that frame, about 0.9 m of
somebody who stands, 140 px in the development data's cameras. Lag 1 and 0.25 s: correlation of errors one frame
(1/60 s) and a quarter of a second apart.

{joints}
{rare}
- rendered: {rendered} frames of {clips} clips of the synthetic factory ({side} px; the default body; embedded motions,
  acrobatics and falls among them), exact truth. Bias taken off and swaps undone first.
- real: Pose2Sim's 4 cameras, {real} frames, each view against the triangulation of the other three. What these three
  got wrong is in it, so it is rather too much; what all four get wrong alike is not.
- pooled: both, the real frames repeated so that the sources weigh the same ({pooled} frames). **This is what
  `aign/data/stages/detector_errors.json` holds.** Neither source alone will do: the real one is one person who
  balances along a line, in full view (no swap, nobody lost, light tails); the rendered one has no cloth and much
  acrobatics.
- simulated: `apply_errors` on the truth of pooled, so "pooled" and "simulated" should agree. They differ where one
  AR(1), fitted over 0.1 s, has one memory and real errors have several.

## The statistics

{bias}
The bias is that of BlazePose and of its conversion to H36M-17, against the joints that the body's H36M-17 regressor
gives. Across: along the line from the right to the left side, in parts of its length; along: from the pelvis to the
thorax; both as the picture shows them in that frame, so the bias turns with the person. The table has the left joints;
across has the other sign for right ones. BlazePose's hips lie a sixth of the body's width nearer to the middle; its
pelvis, thorax and spine are midpoints (of the hips, of the shoulders, of these two); its nose is higher than H36M's; it
has no head top, which is therefore never there. (Image axes or the person's? On 26 rendered clips, fitted on every
other one and tried on the rest, the person's explained half of the square error of the hips, a constant in the picture
under a tenth; for the other joints neither explains much.) Left and right have the same statistics because
every frame also counts mirrored. Tail: degrees of freedom of the Student t; 100 is a Gaussian.

## Where it fails

{actions}
"""


@dataclass(frozen=True, kw_only=True)
class Tracks:
    """Detections and truth, clip after clip."""

    kp2d_px: Float32[np.ndarray, "n 17 2"]
    conf: Float32[np.ndarray, "n 17"]
    truth_px: Float32[np.ndarray, "n 17 2"]
    valid: Bool[np.ndarray, "n 17"]
    clip: Int64[np.ndarray, " n"]


def together(tracks: Sequence[Tracks]) -> Tracks:
    """Several as one, clips renumbered."""
    columns = {f.name: np.concatenate([getattr(t, f.name) for t in tracks]) for f in fields(Tracks)}
    clip = np.concatenate([np.full(len(t.clip), 1000 * i) + t.clip for i, t in enumerate(tracks)])
    return Tracks(**{**columns, "clip": clip.astype(np.int64)})


def in_the_picture(clips: Sequence[Detected]) -> Tracks:
    """Clips in the picture, one after another."""
    return together(
        [
            Tracks(
                kp2d_px=clip.kp2d_px, conf=clip.conf, truth_px=clip.truth_px, valid=clip.valid,
                clip=np.zeros(len(clip.conf), np.int64),
            )
            for clip in clips
        ]
    )  # fmt: skip


def with_bias(tracks: Tracks, bias: np.ndarray) -> Tracks:
    """Against a truth of the detector's own skeleton, as against one of H36M's: the bias is taken off the truth."""
    truth = tracks.truth_px
    for _ in range(5):  # the bias is one in the axes of the truth that is looked for
        size, axes = half_extent_px(truth, tracks.valid), body_axes(truth, tracks.valid)
        truth = tracks.truth_px - size[:, None, None] * np.einsum("nab,jb->nja", axes, bias)
    return replace(tracks, truth_px=truth.astype(np.float32))


def statistics(tracks: Tracks) -> DetectorErrors:
    return measure_errors(tracks.kp2d_px, tracks.conf, tracks.truth_px, tracks.valid, tracks.clip, FPS)


def simulated(truth: Tracks, errors: DetectorErrors) -> Tracks:
    """The same people as the simulated detector sees them."""
    kp2d, conf = np.zeros_like(truth.truth_px), np.zeros_like(truth.conf)
    exact = truth.valid.astype(np.float32)
    for clip in np.unique(truth.clip):
        here = truth.clip == clip
        points = np.where(truth.valid[here][..., None], truth.truth_px[here], 0).astype(np.float32)
        kp2d[here], conf[here] = apply_errors(points, exact[here], (SEED, int(clip)), errors, FPS)
    return replace(truth, kp2d_px=kp2d, conf=conf)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What is compared of measured and simulated errors, by joint [17] unless said."""

    median: np.ndarray
    most: np.ndarray
    lag: np.ndarray
    late: np.ndarray
    lost: float
    swapped: np.ndarray


def summary(tracks: Tracks) -> Summary:
    got = compare(tracks.kp2d_px, tracks.conf, tracks.truth_px, tracks.valid)
    length = np.hypot(*np.moveaxis(got.residual, -1, 0))
    median = np.array([np.nanmedian(v) if np.isfinite(v).any() else np.nan for v in length.T])
    most = np.array([np.nanquantile(v, 0.9) if np.isfinite(v).any() else np.nan for v in length.T])
    # Cut at 4 medians: a few wild errors would decide the correlation alone.
    with np.errstate(invalid="ignore"):
        cut = got.residual * np.minimum(1.0, 4 * median / length)[..., None]
    lags = []
    for lag in (1, round(0.25 * FPS)):
        before, after = cut[:-lag], cut[lag:]
        pairs = (tracks.clip[lag:] == tracks.clip[:-lag])[:, None, None] & np.isfinite(before) & np.isfinite(after)
        before, after = np.where(pairs, before, 0), np.where(pairs, after, 0)
        power = np.sqrt((before**2).sum((0, 2)) * (after**2).sum((0, 2)))
        lags.append((before * after).sum((0, 2)) / np.maximum(power, 1e-12))
    return Summary(
        median=median, most=most, lag=lags[0], late=lags[1], lost=float(1 - got.found.mean()),
        swapped=got.swapped.sum(0) / np.maximum(got.testable.sum(0), 1),
    )  # fmt: skip


def joint_table(sources: dict[str, Summary]) -> list[str]:
    """One row a joint (left and right averaged), for each source its four numbers."""
    heads = " | ".join(f"{name}: median | 90 % | lag 1 | 0.25 s" for name in sources)
    rows = [f"| joint | {heads} |", "|:--|" + "--:|" * 4 * len(sources)]
    for name, joints in GROUPS.items():
        which = H36M17.index(*joints)
        cells = [
            f"{s.median[which].mean():.3f} | {s.most[which].mean():.3f} | {s.lag[which].mean():.2f} | "
            f"{s.late[which].mean():.2f}"
            for s in sources.values()
        ]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    means = [f"{x[JOINTS].mean():.{d}f}" for s in sources.values() for x, d in
             ((s.median, 3), (s.most, 3), (s.lag, 2), (s.late, 2))]  # fmt: skip
    return [*rows, f"| **mean** | {' | '.join(means)} |", ""]


def rare_table(sources: dict[str, Summary]) -> list[str]:
    rows = [f"| | person lost | {' | '.join(f'{limb} swapped' for limb in LIMBS)} |", "|:--|" + "--:|" * 4]
    for name, s in sources.items():
        rows.append(f"| {name} | {s.lost:.2%} | {' | '.join(f'{x:.2%}' for x in s.swapped)} |")
    return [*rows, ""]


def bias_table(errors: DetectorErrors) -> list[str]:
    rows = ["| joint | across | along | scale (rms of x, y) | tail | rho per frame |", "|:--|--:|--:|--:|--:|--:|"]
    for name, joints in GROUPS.items():
        j = H36M17.index(*joints)[0]
        across, along = errors.bias[j]
        spread = np.sqrt(np.trace(errors.scale[j]) / 2)
        rows.append(
            f"| {name} | {across:+.3f} | {along:+.3f} | {spread:.3f} | {errors.tail[j]:.1f} | {errors.rho[j]:.3f} |"
        )
    return [*rows, ""]


def action_table(tracks: Tracks, actions: list[str]) -> list[str]:
    """Where the detector fails: median and 90 % by what is shown."""
    got = compare(tracks.kp2d_px, tracks.conf, tracks.truth_px, tracks.valid)
    length = np.hypot(*np.moveaxis(got.residual, -1, 0))[:, JOINTS]
    shown = np.array(actions)[tracks.clip // 1000]
    rows = ["| motion | frames | median | 90 % | lost |", "|:--|--:|--:|--:|--:|"]
    for name in sorted(set(actions)):
        here = shown == name
        low, high = np.nanquantile(length[here], (0.5, 0.9))
        rows.append(f"| {name} | {here.sum()} | {low:.3f} | {high:.3f} | {1 - got.found[here].mean():.1%} |")
    return [*rows, ""]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=3072, help="rendered frames")
    parser.add_argument("--cache", type=Path, help="folder that keeps landmarks for the next run")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    people_shown = rendered(arguments.frames, SEED, arguments.cache)
    actions, shown = [clip.name for clip in people_shown], in_the_picture(people_shown)
    real = with_bias(in_the_picture(filmed(arguments.cache)), statistics(shown).bias)
    repeats = max(round(len(shown.clip) / len(real.clip)), 1)
    pooled = together([shown] + [real] * repeats)
    errors = statistics(pooled)
    people = {"rendered": shown, "real": real, "pooled": pooled, "simulated": simulated(pooled, errors)}
    command = f"python benchmarks/detector_errors.py --frames {arguments.frames} --write"
    summaries = {name: summary(tracks) for name, tracks in people.items()}
    tables = {
        "joints": joint_table(summaries), "rare": rare_table(summaries), "bias": bias_table(errors),
        "actions": action_table(shown, actions),
    }  # fmt: skip
    counts = {name: len(tracks.clip) for name, tracks in people.items()}
    page = PAGE.format(
        **{name: "\n".join(rows) for name, rows in tables.items()}, **counts, clips=len(actions), side=SIDE_PX
    )
    text = page + "\n".join(machine.lines(command, "numpy", "torch", "ai-edge-litert"))
    print(text)
    if arguments.write:
        provenance = {
            "detector": "BlazePose heavy, converted to H36M-17",
            "real": f"Pose2Sim single person, 4 cameras, {len(real.clip)} frames, leave-one-out triangulation",
            "rendered": f"synthetic factory, seed {SEED}, {SIDE_PX} px, {len(shown.clip)} frames, {len(actions)} clips",
            "pooled": f"real frames {repeats} times; bias from the rendered frames",
            "date": f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
            "commit": machine.commit(),
            "command": command,
        }
        with published(MEASURED) as unfinished:
            unfinished.write_text(to_json(errors, provenance), encoding="utf-8")
        machine.publish("detector_errors.md", text)


if __name__ == "__main__":
    main()
