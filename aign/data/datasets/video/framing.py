"""How people are cut out of videos: what may be chosen, and the stages each table is made by."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from aign.data import pixels
from aign.data.datasets.job import stage
from aign.data.datasets.video.video_files import VideoFile
from aign.data.stages import crops, people, shots
from aign.data.stages.flow import FlowMethod, default_flow
from aign.data.stages.quality import QualityLimits
from aign.data.store import Stage
from aign.framework.errors import UserError
from aign.geometry.skeleton import Skeleton

TABLES = ("keypoints", "frames", "masks", "flow", "flow_back", "quality")
DEFAULT_TABLES = ("keypoints", "frames", "masks", "flow", "quality")
RANGE_FRAMES = 512
"""Most frames of one job; a keyframe lies some 250 frames back at worst, so longer ranges decode less twice."""
BLOCK_FRAMES = 128
WORKING_SIDE_PX = 1280
"""Longer side of what nets and crops see; larger videos are made smaller while they are decoded."""
SIDE_PX = 256


@dataclass(frozen=True, kw_only=True)
class Framing:
    """How people are cut out.

    Attributes:
        side_px: of the stored square pictures.
        tables: which to make.
        limits: below which a clip is dropped.
        flow: another method than the default one for this size.
    """

    side_px: int = SIDE_PX
    tables: tuple[str, ...] = DEFAULT_TABLES
    limits: QualityLimits = field(default_factory=QualityLimits)
    flow: FlowMethod | None = None

    def __post_init__(self) -> None:
        unknown = [name for name in self.tables if name not in TABLES]
        if unknown or not self.tables:
            raise UserError(f"got stages {list(self.tables)}; allowed are {', '.join(TABLES)}")
        if "keypoints" not in self.tables:
            raise UserError(f"got stages {list(self.tables)}; keypoints say where the clips are and are always needed")
        if "quality" in self.tables and "masks" not in self.tables:
            raise UserError(f"got stages {list(self.tables)}; quality judges masks: add masks or leave quality out")
        if not 32 <= self.side_px <= pixels.MAX_SIDE_PX:
            raise UserError(f"got pictures of {self.side_px} px; allowed are 32 to {pixels.MAX_SIDE_PX}")

    @property
    def flow_method(self) -> FlowMethod:
        """The flow that is made."""
        return self.flow or default_flow(self.side_px)


@dataclass(frozen=True, kw_only=True)
class Given:
    """Detections that somebody else made of a video.

    Attributes:
        path: the file or folder.
        sha256: of its content.
        layout: joint set of the keypoints.
    """

    path: Path
    sha256: str
    layout: Skeleton


DEPENDS: Mapping[str, tuple[str, ...]] = {
    "keypoints": ("decode", "shots", "people", "clips", "camera"),
    "frames": ("decode", "shots", "people", "clips", "camera", "crop", "jpeg"),
    "masks": ("decode", "shots", "people", "clips", "crop", "mask"),
    "flow": ("decode", "shots", "people", "clips", "crop", "flow"),
    "flow_back": ("decode", "shots", "people", "clips", "crop", "flow"),
    "quality": ("decode", "shots", "people", "clips", "crop", "mask", "flow", "quality"),
}
"""The stages each table is made by; a changed one gives new parts to the tables that name it, and to no others."""


def chain(video: VideoFile, framing: Framing, given: Given | None) -> dict[str, Stage]:
    """The stages of a video, by the names in `DEPENDS`."""
    flow = framing.flow_method
    who = stage("people", "3", net=video.nets, detect_every=people.DETECT_EVERY)
    return {
        "decode": stage("decode", "2", longest_side_px=WORKING_SIDE_PX),
        "shots": stage("shots", "1", change=shots.MIN_CHANGE, ratio=shots.MIN_RATIO),
        "people": who if given is None else stage("detections", "1", file=given.path.name, masks=video.nets),
        "clips": stage("clips", "1", frames=BLOCK_FRAMES, travel=crops.MAX_TRAVEL),
        "camera": stage("camera", "1", calibration="assumed" if video.calibrated is None else video.calibrated.name),
        "crop": stage("crop", "1", side_px=framing.side_px, margin=crops.MARGIN),
        "jpeg": stage("jpeg", "1", quality=pixels.JPEG_QUALITY),
        "mask": stage("mask", "1"),
        "flow": stage(flow.name, flow.version, **flow.params),
        "quality": stage("quality", "1", **asdict(framing.limits)),
    }
