"""Which loader reads a source: the one literal table of data sets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from aign.data.datasets import synthetic
from aign.data.datasets.bodies import mpi_inf_3dhp, surreal, threedpw
from aign.data.datasets.faces import celeba, image_folder, portraits, rendered_faces
from aign.data.datasets.faces.image_folder import LookFor
from aign.data.datasets.faces.rendered_faces import FaceOptions
from aign.data.datasets.h36m import h36m_fetch, h36m_mmpose, h36m_npz, h36m_official, spin_npz
from aign.data.datasets.job import Job
from aign.data.datasets.motion import motion_clips
from aign.data.datasets.synthetic import SyntheticOptions
from aign.data.datasets.video import video_files, video_ranges
from aign.data.datasets.video.framing import DEFAULT_TABLES, SIDE_PX, Framing
from aign.data.synthetic.scene import Background, Lighting
from aign.data.synthetic.wardrobe import Texture
from aign.framework.errors import UserError

Dataset: TypeAlias = Literal[
    "auto",
    "h36m",
    "h36m-fetch",
    "h36m-videopose3d",
    "h36m-mmpose",
    "h36m-spin",
    "surreal",
    "3dpw",
    "mpi-inf-3dhp",
    "celeba",
    "portraits",
    "images",
    "rendered-faces",
    "video",
    "motion",
    "synthetic",
]


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """What a loader may be told. An option that the data set does not have is refused.

    Attributes:
        keypoints: h36m-videopose3d, motion and synthetic: "gt" for exact projections, "detector" for projections with
            the errors of a real detector; h36m-videopose3d: or NAME of data_2d_h36m_NAME.npz.
        framing: video: "person" for square clips of everybody, "whole" for whole pictures of the main person.
        stages: video: tables to make of keypoints, frames, masks, flow, flow_back and quality; images and portraits:
            "landmarks" to look for landmarks, mouth, nose and eyes, "aligned" to also cut the faces out.
        side_px: video, synthetic and faces: side of the stored pictures; None: 256, of aligned photographs 128, of
            rendered faces 64.
        detections: video: a folder (or file) of 2D detections to take instead of detecting: COCO json, OpenPose json or
            VideoPose3D's custom npz, found by the video's name.
        frames: synthetic and rendered-faces: how many pictures.
        clip_frames: synthetic: most frames of a clip.
        seed: synthetic and rendered-faces: of everything random.
        domain: synthetic: what may come up; "source" and "target" differ in every knob, "wide" is all of it.
        lighting: synthetic: in place of the domain's.
        texture: synthetic: of the clothes, in place of the domain's.
        background: synthetic: in place of the domain's.
        camera_height_m: synthetic: least and most, in place of the domain's.
        body_range: synthetic: least and most of each shape coefficient, in place of the domain's.
    """

    keypoints: str = "gt"
    framing: Literal["person", "whole"] = "person"
    stages: tuple[str, ...] = DEFAULT_TABLES
    side_px: int | None = None
    detections: str | None = None
    frames: int = 20_000
    clip_frames: int = 64
    seed: int = 0
    domain: Literal["wide", "source", "target"] = "wide"
    lighting: Lighting | None = None
    texture: Texture | None = None
    background: Background | None = None
    camera_height_m: tuple[float, float] | None = None
    body_range: tuple[float, float] | None = None


@runtime_checkable
class Layout(Protocol):
    """What a module of `aign.data.datasets` offers so that its data set is told from others."""

    def looks_like(self, path: Path) -> bool:
        """Whether a file or folder has this layout; cheap."""
        ...

    def found(self, path: Path) -> str:
        """What is there, in one line."""
        ...

    def missing(self, path: Path) -> list[str]:
        """What is not there, a line each, and where it comes from."""
        ...


@dataclass(frozen=True, kw_only=True)
class Loader:
    """How one data set is read.

    Attributes:
        layout: the module that knows it by its files.
        plan: its jobs.
        options: names in `SourceOptions` that mean something to it.
    """

    layout: Layout
    plan: Callable[[Path, SourceOptions], Sequence[Job]]
    options: tuple[str, ...] = ()


def _videos(path: Path, options: SourceOptions) -> Sequence[Job]:
    if options.framing == "whole":
        return video_files.plan(path)
    detections = None if options.detections is None else Path(options.detections).expanduser()
    side_px = SIDE_PX if options.side_px is None else options.side_px
    return video_ranges.plan(path, Framing(side_px=side_px, tables=options.stages), detections)


_KNOBS = (
    *("keypoints", "side_px", "frames", "clip_frames", "seed", "domain"),
    *("lighting", "texture", "background", "camera_height_m", "body_range"),
)


def _synthetic(path: Path, options: SourceOptions) -> Sequence[Job]:
    knobs = {name: getattr(options, name) for name in _KNOBS if name != "side_px" or options.side_px is not None}
    return synthetic.plan(SyntheticOptions(motions=str(path), **knobs))


def _look_for(options: SourceOptions) -> LookFor:
    chosen = options.stages != DEFAULT_TABLES
    return LookFor(stages=options.stages if chosen else (), side_px=options.side_px)


def _faces(_: Path, options: SourceOptions) -> Sequence[Job]:
    side = {} if options.side_px is None else {"side_px": options.side_px}
    return rendered_faces.plan(FaceOptions(frames=options.frames, seed=options.seed, **side))


LOADERS: Mapping[str, Loader] = {
    "h36m": Loader(layout=h36m_official, plan=lambda path, _: h36m_official.plan(path)),
    "h36m-fetch": Loader(layout=h36m_fetch, plan=lambda path, _: h36m_fetch.plan(path)),
    "h36m-videopose3d": Loader(
        layout=h36m_npz, plan=lambda path, o: h36m_npz.plan(path, o.keypoints), options=("keypoints",)
    ),
    "h36m-mmpose": Loader(layout=h36m_mmpose, plan=lambda path, _: h36m_mmpose.plan(path)),
    "h36m-spin": Loader(layout=spin_npz, plan=lambda path, _: spin_npz.plan(path)),
    "surreal": Loader(layout=surreal, plan=lambda path, _: surreal.plan(path)),
    "3dpw": Loader(layout=threedpw, plan=lambda path, _: threedpw.plan(path)),
    "mpi-inf-3dhp": Loader(layout=mpi_inf_3dhp, plan=lambda path, _: mpi_inf_3dhp.plan(path)),
    "celeba": Loader(layout=celeba, plan=lambda path, _: celeba.plan(path)),
    "portraits": Loader(
        layout=portraits, plan=lambda path, o: portraits.plan(path, _look_for(o)), options=("stages", "side_px")
    ),
    "images": Loader(
        layout=image_folder, plan=lambda path, o: image_folder.plan(path, _look_for(o)), options=("stages", "side_px")
    ),
    "rendered-faces": Loader(layout=rendered_faces, plan=_faces, options=("side_px", "frames", "seed")),
    "video": Loader(layout=video_files, plan=_videos, options=("framing", "stages", "side_px", "detections")),
    "motion": Loader(
        layout=motion_clips, plan=lambda path, o: motion_clips.plan(path, o.keypoints), options=("keypoints",)
    ),
    "synthetic": Loader(layout=synthetic, plan=_synthetic, options=_KNOBS),
}
"""In the order in which they are tried: what has a layout of its own before what only has an ending."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source that was recognised.

    Attributes:
        path: where it is.
        kind: name of its loader.
        jobs: what is to be done.
    """

    path: Path
    kind: str
    jobs: Sequence[Job]

    @property
    def found(self) -> str:
        """What is there, in one line."""
        return LOADERS[self.kind].layout.found(self.path)

    @property
    def missing(self) -> list[str]:
        """What is not there, a line each."""
        return LOADERS[self.kind].layout.missing(self.path)


def recognise(source: str, dataset: Dataset = "auto", options: SourceOptions | None = None) -> Source:
    """A source, and what is to be done with it.

    Args:
        source: a file or folder, "demo-motions" (the embedded clips), "demo-videos" (the pulled sample video) or
            "demo-faces" (rendered here).
        dataset: how to read it; "auto" decides by what is there.
        options: for the loader.

    Raises:
        UserError: nothing usable there, or an option that this data set does not have.
    """
    options = options or SourceOptions()
    path = Path(source).expanduser()
    kind = detect(path) if dataset == "auto" else dataset
    loader = LOADERS[kind]
    for field in fields(SourceOptions):
        if getattr(options, field.name) != field.default and field.name not in loader.options:
            users = ", ".join(name for name, other in LOADERS.items() if field.name in other.options)
            raise UserError(f"--{field.name.replace('_', '-')} is for {users}; {source} is read as {kind}")
    return Source(path=path, kind=kind, jobs=loader.plan(path, options))


def plan(source: str, dataset: Dataset = "auto", options: SourceOptions | None = None) -> Sequence[Job]:
    """The jobs of a source; see `recognise`."""
    return recognise(source, dataset, options).jobs


def detect(path: Path) -> str:
    """Name of the loader that reads a path.

    Raises:
        UserError: nothing there that any loader knows.
    """
    embedded = (motion_clips.EMBEDDED, video_files.EMBEDDED, rendered_faces.EMBEDDED)
    if str(path) not in embedded and not path.exists():
        raise UserError(f"no such file or folder: {path}; or give {', '.join(embedded[:-1])} or {embedded[-1]}")
    for kind, loader in LOADERS.items():
        if loader.layout.looks_like(path):
            return kind
    endings = ", ".join((*video_files.SUFFIXES, *motion_clips.SUFFIXES))
    layouts = ", ".join(name for name in LOADERS if name not in ("video", "motion", "synthetic", "rendered-faces"))
    raise UserError(f"nothing to read in {path}; allowed: {endings}, or the layout of one of {layouts}")
