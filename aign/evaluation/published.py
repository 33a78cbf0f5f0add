"""The two tables of the AIGN slides, as printed, with what is known to be wrong in them.

Source: "Adversarial Inverse Graphics Networks" slides (K. Fragkiadaki, CMU), tables 1 and 2, "3D reconstruction error
in H3.6M", millimetres, transcribed digit by digit. Trained on S1, S5, S6, S7, S8 and tested on S9, S11 according to the
papers that cite them; the alignment is not stated there and later papers file the numbers under PA-MPJPE. They are
printed for comparison only: no test or gate aims at a cell of a damaged row.

And the numbers of "Self-supervised Learning of Motion Capture" (NIPS 2017) that could be read somewhere; what is only
remembered of its tables is not here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from aign.data.actions import ACTIONS_13
from aign.data.store import Manifest, Selection, Stage
from aign.evaluation.pose import Alignment

PUBLISHED_DATA = "Human3.6M S9, S11"
CANDIDATES: tuple[Alignment, ...] = ("similarity", "limb329", "root")
"""Alignments that the slides may have used, the likeliest first; docs/evaluation.md argues them."""


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """One method's printed numbers in mm.

    Args:
        method: as printed.
        columns: the 13 printed columns in `ACTIONS_13` order.
        average: the printed average, which is not the mean of the 13 columns (see `PublishedTable`).
        damaged: columns that cannot be what was meant.
        note: why.
    """

    method: str
    columns: tuple[float, ...]
    average: float
    damaged: tuple[str, ...] = ()
    note: str = ""

    @property
    def per_action(self) -> Mapping[str, float]:
        """Printed value of each action."""
        return dict(zip(ACTIONS_13, self.columns, strict=True))


@dataclass(frozen=True, kw_only=True)
class PublishedTable:
    """One slide table.

    Every printed average is 0.6 to 2.7 mm below the mean of its 13 columns. All rows fit "mean of 15 actions, of which
    WalkDog and WalkTogether are not shown" with plausible values for the two (75 to 112 mm).
    """

    caption: str
    input: str
    rows: tuple[PublishedRow, ...]


GROUND_TRUTH_2D = PublishedTable(
    caption="Table 1: ground-truth 2D keypoints as input",
    input="ground-truth 2D",
    rows=(
        PublishedRow(
            method="Forward2Dto3D",
            columns=(75.2, 118.4, 165.7, 95.9, 149.1, 154.1, 77.7, 176.9, 186.5, 193.7, 142.7, 99.8, 74.7),
            average=128.9,
        ),
        PublishedRow(
            method="3Dinterpr [33]",
            columns=(56.3, 77.5, 96.2, 71.6, 96.3, 106.7, 59.1, 109.2, 111.9, 111.9, 124.2, 93.3, 58.0),
            average=88.6,
            damaged=("Sitting", "SittingDown"),
            note="111.9 is printed twice",
        ),
        PublishedRow(
            method="Monocap [39]",
            columns=(78.0, 78.9, 88.1, 93.9, 102.1, 115.7, 71.0, 90.6, 121.0, 118.2, 102.5, 82.6, 75.62),
            average=92.3,
            note="75.62 has a stray decimal",
        ),
        PublishedRow(
            method="AIGN",
            columns=(53.7, 71.5, 82.3, 58.6, 86.9, 98.4, 57.6, 104.2, 100.0, 112.5, 83.3, 68.9, 57.0),
            average=79.0,
        ),
    ),
)

DETECTED_2D = PublishedTable(
    caption="Table 2: detected 2D keypoints as input",
    input="detected 2D",
    rows=(
        PublishedRow(
            method="Forward2Dto3D",
            columns=(80.2, 92.4, 102.8, 92.5, 115.5, 79.9, 119.5, 136.7, 136.7, 144.4, 109.3, 94.2, 80.2),
            average=104.6,
            damaged=("Photo", "Posing", "Purchases", "Sitting"),
            note="columns look shifted from Photo on, and 136.7 is printed twice",
        ),
        PublishedRow(
            method="3Dinterpr [33]",
            columns=(78.6, 90.8, 92.5, 89.4, 108.9, 112.4, 77.1, 106.7, 127.4, 139.0, 103.4, 91.4, 79.1),
            average=98.4,
        ),
        PublishedRow(
            method="AIGN",
            columns=(77.6, 91.4, 89.9, 88.0, 107.3, 110.1, 75.9, 107.5, 124.2, 137.8, 102.2, 90.3, 78.6),
            average=97.2,
        ),
    ),
)


@dataclass(frozen=True, kw_only=True)
class PublishedMesh:
    """One method's printed numbers for bodies; each is the mean over a data set.

    Args:
        method: as printed.
        data: what they were measured on.
        source: where the number was read.
        per_joint_mm: "per-joint error"; neither centre nor alignment is stated.
        surface_mm: error over vertices; likewise.
    """

    method: str
    data: str
    source: str
    per_joint_mm: float | None = None
    surface_mm: float | None = None


_PER_JOINT = {"optimization": 562.4, "supervised pretrained": 125.6, "Supervised+self-supervised": 98.4}
NIPS17_MESH: tuple[PublishedMesh, ...] = (
    *(
        PublishedMesh(method=name, data="Human3.6M", source="the AIGN slides, 'Per-Joint Error (mm)'", per_joint_mm=mm)
        for name, mm in _PER_JOINT.items()
    ),
    PublishedMesh(
        method="Tung et al., self-supervised",
        data="SURREAL",
        source="BodyNet (ECCV 2018), table 2",
        surface_mm=74.5,
    ),
)
"""The slide names no data; sites that list 98.4 say Human3.6M. Its method had the true 2D keypoints and masks."""

Keypoints: TypeAlias = Literal["ground-truth", "detected"]
"""What a lifter is given: projections of the true joints, or what a detector (or a model of its errors) saw."""

SLIDE: Mapping[Keypoints, PublishedTable] = {"ground-truth": GROUND_TRUTH_2D, "detected": DETECTED_2D}
"""The slide's table of each."""

_PROJECTED = ("projection", "D2_Positions", "data_2d_h36m_gt.npz")
"""Values of a stage's parameter `keypoints`; any other is the name of a file with detections."""
_STAGES: Mapping[str, Keypoints] = {
    # Lists whose 2D is Human3.6M's own, which is projected; bodies and renders that are projected here.
    **dict.fromkeys(("h36m-mmpose", "h36m-fetch", "spin-npz", "pose-body", "project"), "ground-truth"),
    # Networks, files of their output, and the model of their errors.
    **dict.fromkeys(("blazepose", "people", "detections", "detector-errors"), "detected"),
}


def keypoints_of(manifest: Manifest, selection: Selection) -> Keypoints | None:
    """How the keypoints of the selected clips were made, by the stages that are written down; None if that is not told.

    A detector after a projection wins: it is what the lifter is given. None too where some clips have the one and some
    the other.
    """
    chains = {
        part.provenance.hash: part.provenance.stages
        for part in manifest.tables.get("keypoints", ())
        if any(selection.matches(group) for group in part.row_groups)
    }
    found = {_of_chain(chain) for chain in chains.values()}
    return found.pop() if len(found) == 1 else None


def _of_chain(chain: tuple[Stage, ...]) -> Keypoints | None:
    told: set[Keypoints] = {_STAGES[stage.name] for stage in chain if stage.name in _STAGES}
    for name in (str(stage.params["keypoints"]) for stage in chain if "keypoints" in stage.params):
        told.add("ground-truth" if name in _PROJECTED else "detected")
    return "detected" if "detected" in told else "ground-truth" if told else None
