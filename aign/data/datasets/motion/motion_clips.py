"""Motions (embedded, BVH, AMASS, CMU, DeepMimic) posed on the default body, seen by a rig of Human3.6M's cameras."""

import hashlib
import zlib
from collections import Counter
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from aign.body.assets import load_body
from aign.body.motion import Motion, skin_translation
from aign.body.skinning import rest_joints, skin
from aign.data.datasets.job import (
    DETECTOR,
    PRODUCER,
    PROJECTED,
    Made,
    Recording,
    Stored,
    detector_stage,
    labelled_views,
    stage,
)
from aign.data.datasets.motion.amass import read_amass
from aign.data.datasets.motion.bvh import read_bvh
from aign.data.datasets.motion.cmu_index import NAMES as INDEX_NAMES
from aign.data.datasets.motion.cmu_index import TRIAL, read_index
from aign.data.datasets.motion.cmu_motion import read_amc, skeleton_file
from aign.data.datasets.motion.deepmimic import read_deepmimic
from aign.data.datasets.rig import ANYWHERE, placed_rig
from aign.data.motions import load_demo_motions
from aign.data.stages.detector_errors import measured_errors
from aign.data.store import Provenance
from aign.framework.errors import UserError
from aign.geometry.skeleton import H36M17

EMBEDDED = "demo-motions"
READERS = {".bvh": read_bvh, ".npz": read_amass, ".amc": read_amc, ".txt": read_deepmimic}
SUFFIXES = tuple(READERS)
NO_MOTIONS = ("shape.npz", "*_stagei.npz", "license*.txt", "readme*.txt", INDEX_NAMES)
"""What lies among the motions of AMASS and CMU and is none: the shape of a subject, and texts."""
CHUNK_FRAMES = 256


@dataclass(frozen=True, kw_only=True)
class MotionClip:
    """One motion.

    Attributes:
        path: its file; None: an embedded clip.
        name: of the motion.
        action: what is shown: CMU's description of its trial, else the name without numbers, else the name.
        subject: who moves, as far as the source says: CMU's number in the file's name, else the file's folder.
        licence: of the motion.
        sha256: of the file and, of an .amc, its skeleton; or of the embedded clip.
        seed: of the camera placement.
        detector: whether the projections get a detector's errors.
    """

    path: Path | None
    name: str
    action: str
    subject: str
    licence: str
    sha256: str
    seed: int = 0
    detector: bool = False

    @property
    def source(self) -> str:
        """The file, or the embedded clip."""
        return str(self.path) if self.path else f"{EMBEDDED}:{self.name}"

    @property
    def table_groups(self) -> tuple[tuple[str, ...], ...]:
        """Views of the cameras, and the memory."""
        return (("keypoints", "labels"), ("memory_pose",))

    def provenance(self, table: str) -> Provenance:
        """Hash of the motion, the body, the placement and, of the keypoints, what was made of their projections."""
        return Provenance(
            source_hashes=(self.sha256,),
            stages=(
                stage("pose-body", "1", body="default"),
                stage("place-cameras", "1", seed=self.seed, intrinsics="human3.6m", placement=asdict(ANYWHERE)),
                *((stage("name-action", "1", action=self.action),) if self.action != _bare(self.name) else ()),
                *((detector_stage(),) if self.detector and table == "keypoints" else ()),
            ),
            skeleton=H36M17.name,
            num_joints=len(H36M17),
            licence=self.licence,
            producer=PRODUCER,
        )

    def motion(self) -> Motion:
        """Read it."""
        if self.path is None:
            return next(motion for motion in load_demo_motions() if motion.name == self.name)
        return READERS[self.path.suffix.lower()](self.path)

    def clips(self, wanted: Collection[str], stored: Stored) -> Made:
        """Keypoints, labels and memory."""
        motion = self.motion()
        joints = joints_world_m(motion)
        root = joints[:, 0, :2]
        middle = 0.5 * (root.min(0) + root.max(0))
        reach = float(np.linalg.norm(root - middle, axis=1).max())
        seed = (self.seed, zlib.crc32(self.name.encode()))
        rig = placed_rig(seed, (float(middle[0]), float(middle[1])), reach, ANYWHERE)
        recording = Recording(
            sequence=f"{self.subject}/{self.name}",
            subject=self.subject,
            action=self.action,
            source=self.source,
            fps=motion.fps,
        )
        errors = measured_errors() if self.detector else None
        return Made(tables=labelled_views(recording, joints, rig, errors=errors))


def joints_world_m(motion: Motion) -> Float[np.ndarray, "t 17 3"]:
    """H36M-17 joints of a motion on the default body, metres.

    Convention: motions are y up; the world of the store's rigs is z up, (x, y, z) -> (x, -z, y).
    """
    body = load_body()
    assert body.h36m17_regressor is not None, "the default body has one"
    regressor, joints = body.h36m17_regressor, []
    for start in range(0, len(motion.rotmats), CHUNK_FRAMES):
        part = slice(start, start + CHUNK_FRAMES)
        rotmats = torch.as_tensor(motion.rotmats[part])
        betas = rotmats.new_zeros(len(rotmats), body.shape_dirs.shape[-1])
        pelvis = rest_joints(body, betas)[:, 0]
        trans_m = skin_translation(torch.as_tensor(motion.trans_m[part]), pelvis)
        joints.append(regressor @ skin(body, rotmats, betas, trans_m).vertices_m)
    x, y, z = torch.cat(joints).unbind(-1)
    return torch.stack((x, -z, y), dim=-1).numpy()


def plan(path: Path, keypoints: str = "gt") -> list[MotionClip]:
    """Jobs of a motion file, a folder of them, or the embedded clips.

    Args:
        path: where they are.
        keypoints: "gt" for exact projections, "detector" for projections with the measured errors of a detector.

    Raises:
        UserError: nothing there, other keypoints, or an index of CMU's that has none.
    """
    if keypoints not in PROJECTED:
        raise UserError(f"--keypoints {keypoints}: motions have no detections; allowed: {', '.join(PROJECTED)}")
    detector = keypoints == DETECTOR
    if str(path) == EMBEDDED:
        return [
            MotionClip(
                path=None,
                name=m.name,
                action=_bare(m.name),
                subject="demo",
                licence=m.licence,
                sha256=_digest(m),
                detector=detector,
            )
            for m in load_demo_motions()
        ]
    files = _files(path)
    if not files:
        raise UserError(f"no motion in {path}; allowed endings: {', '.join(SUFFIXES)}")
    shown = {trial: action for index in _indices(path) for trial, action in read_index(index).items()}
    return [
        MotionClip(
            path=file,
            name=file.stem,
            action=shown.get(file.stem) or _bare(file.stem) or file.stem,
            subject=_subject(file),
            licence="licence of the motion's owner",
            sha256=_file_digest(file),
            detector=detector,
        )
        for file in files
    ]


def _bare(name: str) -> str:
    """A name without its numbers."""
    return name.strip("0123456789_")


def _subject(file: Path) -> str:
    """CMU's trials say whose they are, so that they may lie in any folder."""
    trial = TRIAL.fullmatch(file.stem)
    return trial[1] if trial else file.parent.name


def _indices(path: Path) -> list[Path]:
    """CMU's descriptions in a folder, or beside a file."""
    return sorted((path.parent if path.is_file() else path).glob(f"**/{INDEX_NAMES}"))


def looks_like(path: Path) -> bool:
    """Whether there is a file that may be a motion."""
    return str(path) == EMBEDDED or any(_may_be_motion(p) for p in ([path] if path.is_file() else path.rglob("*")))


def found(path: Path) -> str:
    """One line: how many motions of which kind."""
    if str(path) == EMBEDDED:
        return f"motion: {len(load_demo_motions())} embedded"
    kinds = Counter(file.suffix.lower() for file in _files(path))
    return f"motion: {', '.join(f'{count} {kind}' for kind, count in sorted(kinds.items()))}"


def missing(path: Path) -> list[str]:
    """Skeletons of .amc files that are not there."""
    gone = []
    for file in _files(path):
        if file.suffix.lower() == ".amc":
            try:
                skeleton_file(file)
            except UserError as error:
                gone.append(str(error))
    return gone


def _files(path: Path) -> list[Path]:
    return sorted(p for p in ([path] if path.is_file() else path.rglob("*")) if _may_be_motion(p))


def _may_be_motion(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not any(fnmatch(path.name.lower(), name) for name in NO_MOTIONS)


def _file_digest(path: Path) -> str:
    """Of the file and, where a motion is written apart from its skeleton, of that too.

    An .amc whose skeleton is missing is told of when it is read.
    """
    digest = hashlib.sha256(path.read_bytes())
    if path.suffix.lower() == ".amc":
        with suppress(UserError):
            digest.update(skeleton_file(path).read_bytes())
    return digest.hexdigest()


def _digest(motion: Motion) -> str:
    return hashlib.sha256(np.asarray(motion.rotmats).tobytes() + np.asarray(motion.trans_m).tobytes()).hexdigest()
