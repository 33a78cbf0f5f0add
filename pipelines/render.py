"""`aign data render`: synthetic people as files in the layouts of published data sets."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from aign.body.motion import Motion
from aign.data.actions import ACTIONS_15
from aign.data.datasets.synthetic import DOMAINS
from aign.data.motions import load_demo_motions
from aign.data.progress import track
from aign.data.synthetic.backgrounds import check_pulled
from aign.data.synthetic.layouts import surreal_scene, write_h36m, write_surreal
from aign.framework.errors import UserError

MOST_TAKES = 2 * len(ACTIONS_15)


def render(
    out: tyro.conf.Positional[Path],
    layout: Literal["surreal", "h36m"] = "surreal",
    clips: int = 4,
    frames: int = 50,
    domain: Literal["wide", "source", "target"] = "wide",
    seed: int = 0,
) -> None:
    """Write synthetic people as SURREAL's or Human3.6M's own files, for tools that read those.

    Args:
        out: folder to write; what is in it under the same names is replaced.
        layout: surreal (mp4 and four .mat files a clip) or h36m (metadata.xml, CDFs and four videos a take).
        clips: how many clips, or takes of Human3.6M's subject S1 (at most 30).
        frames: most frames of each (SURREAL allows 100); a shorter motion gives fewer.
        domain: what may come up; source and target differ in every knob.
        seed: of everything random.
    """
    if clips < 1 or (layout == "h36m" and clips > MOST_TAKES):
        raise UserError(f"got {clips} clips; allowed are at least 1, and at most {MOST_TAKES} of Human3.6M's subject")
    check_pulled()
    motions = load_demo_motions()
    chosen = [motions[number % len(motions)] for number in range(clips)]
    if layout == "surreal":
        _surreal(out, chosen, frames, domain, seed)
    else:
        stems = [f"{action} {trial}" for trial, action in product((1, 2), ACTIONS_15)]
        write_h36m(out, dict(zip(stems, chosen, strict=False)), DOMAINS[domain], seed, frames)
    Console(stderr=True).print(f"{out}: {clips} clips; read them with: aign preprocess {out} --store ...", markup=False)


def _surreal(out: Path, chosen: Sequence[Motion], frames: int, domain: str, seed: int) -> None:
    for number, motion in enumerate(track(chosen, f"render into {out}", "clips")):
        name = f"{number + 1:02d}_01"
        shot = surreal_scene(DOMAINS[domain], motion, (seed, number), frames)
        write_surreal(out / "SURREAL" / "data" / "cmu" / "train" / "run0" / name, f"{name}_c0001", shot)
