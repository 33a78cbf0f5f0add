"""Which loader reads a source: the one literal table of data sets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from aign.data.datasets import h36m_npz, motion_clips, video_files
from aign.data.datasets.job import Job
from aign.framework.errors import UserError

Dataset: TypeAlias = Literal["auto", "motion", "h36m", "video"]


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """What a loader may be told.

    Attributes:
        keypoints: h36m only: "gt", or NAME of data_2d_h36m_NAME.npz.
    """

    keypoints: str = "gt"


PLANS: Mapping[str, Callable[[Path, SourceOptions], Sequence[Job]]] = {
    "motion": lambda path, _: motion_clips.plan(path),
    "h36m": lambda path, options: h36m_npz.plan(path, options.keypoints),
    "video": lambda path, _: video_files.plan(path),
}


def plan(source: str, dataset: Dataset = "auto", options: SourceOptions | None = None) -> Sequence[Job]:
    """The jobs of a source.

    Args:
        source: a file or folder, "demo-motions" (the embedded clips) or "demo-videos" (the pulled sample video).
        dataset: how to read it; "auto" decides by what is there.
        options: for the loader.

    Raises:
        UserError: nothing usable there.
    """
    options = options or SourceOptions()
    path = Path(source).expanduser()
    kind = detect(path) if dataset == "auto" else dataset
    if options.keypoints != "gt" and kind != "h36m":
        raise UserError(f"--keypoints {options.keypoints} is for the h36m data set; {source} is read as {kind}")
    return PLANS[kind](path, options)


def detect(path: Path) -> str:
    """Name of the loader that reads a path."""
    if str(path) == motion_clips.EMBEDDED:
        return "motion"
    if str(path) == video_files.EMBEDDED:
        return "video"
    if not path.exists():
        raise UserError(f"no such file or folder: {path}; or give {motion_clips.EMBEDDED} or {video_files.EMBEDDED}")
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    if any(f.name == "data_3d_h36m.npz" for f in files):
        return "h36m"
    for kind, suffixes in (("video", video_files.SUFFIXES), ("motion", motion_clips.SUFFIXES)):
        if any(f.suffix.lower() in suffixes for f in files):
            return kind
    allowed = ", ".join((*video_files.SUFFIXES, *motion_clips.SUFFIXES, "data_3d_h36m.npz"))
    raise UserError(f"nothing to read in {path}; allowed: {allowed}")
