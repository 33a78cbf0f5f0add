"""Human3.6M as it is published, with metadata.xml of its code archive (protocols 3.1, 3.5 a).

Ionescu et al., "Human3.6M" (PAMI 2014).
S1/MyPoseFeatures/D3_Positions/Directions 1.cdf has a sequence's joints; beside it
D2_Positions has a file per camera; S1/Videos and S1/MySegmentsMat are optional.
"""

import re
from pathlib import Path

from aign.data.datasets.h36m.h36m_files import CAMERAS, SEQUENCES_PER_SUBJECT, find_metadata, subject_folders
from aign.data.datasets.h36m.h36m_sequence import OFFICIAL, H36mSequence, Layout
from aign.data.datasets.h36m.h36m_takes import DAMAGED
from aign.framework.errors import UserError


def jobs(root: Path, layout: Layout) -> list[H36mSequence]:
    """One job for each sequence of each subject below a root, whatever its joints' files.

    Raises:
        UserError: no metadata.xml, or no sequences.
    """
    metadata = find_metadata(root)
    if metadata is None:
        raise UserError(f"{root} lacks metadata.xml (from code-v1.2.zip): it has the cameras")
    found = [
        H36mSequence(
            folder=folder,
            layout=layout,
            stem=stem,
            metadata=metadata,
            has_2d=_any(folder / layout.poses_2d, "*.cdf"),
            has_videos=_any(folder / layout.videos, "*.mp4"),
            has_masks=_any(folder / layout.masks, "*.mat"),
        )
        for folder in subject_folders(root)
        for stem in _stems(folder, layout)
    ]
    if not found:
        raise UserError(f"{root} has no joints; S1/{layout.poses_3d}/*.cdf (from Poses_D3_Positions_S1.tgz) are needed")
    return found


def _any(folder: Path, pattern: str) -> bool:
    return any(not file.name.startswith("_ALL") for file in folder.glob(pattern))


def _stems(folder: Path, layout: Layout) -> list[str]:
    """Sequences that have any file of joints; `_ALL` files hold several actions and are skipped."""
    endings = "|".join(CAMERAS)
    found = set()
    for where in (layout.poses_3d, layout.poses_2d, layout.poses_mono):
        for file in (folder / where).glob("*.cdf"):
            found.add(re.sub(rf"\.({endings})$", "", file.stem))
    return sorted(stem for stem in found if not stem.startswith("_ALL"))


def looks_like(path: Path) -> bool:
    """Whether a folder has the published layout."""
    return any(
        (folder / where).is_dir()
        for folder in subject_folders(path)
        for where in (OFFICIAL.poses_3d, OFFICIAL.poses_mono)
    )


def missing(path: Path) -> list[str]:
    """Files that are not there although their neighbours are, with their archives."""
    return missing_of(path, OFFICIAL)


def missing_of(path: Path, layout: Layout) -> list[str]:
    """As `missing`, of a layout."""
    if find_metadata(path) is None:
        return ["metadata.xml (from code-v1.2.zip)"]
    return [line for job in jobs(path, layout) for line in job.missing()]


def found(path: Path) -> str:
    """What is there, in one line."""
    return found_of(path, OFFICIAL)


def found_of(path: Path, layout: Layout) -> str:
    """As `found`, of a layout."""
    there = jobs(path, layout)
    subjects = list(dict.fromkeys(job.subject for job in there))
    parts = [
        f"Human3.6M ({layout.name}): {', '.join(subjects)}",
        f"{len(there)} of {SEQUENCES_PER_SUBJECT * len(subjects)} sequences",
        f"{sum(len(job.videos()) for job in there)} videos",
    ]
    damaged = [name for name in DAMAGED if name in {f"{job.subject}/{job.stem}" for job in there}]
    if damaged:
        parts.append(f"{', '.join(damaged)} have shifted 3D joints as published")
    return "; ".join(parts)


def plan(path: Path) -> list[H36mSequence]:
    """Jobs of a folder with the published layout.

    Raises:
        UserError: no metadata.xml, or no sequences.
    """
    return jobs(path, OFFICIAL)
