"""3DPW: people outdoors seen by a moving phone, with SMPL pose and shape (protocols 3.5 i).

von Marcard et al., "Recovering Accurate 3D Human Pose in The Wild Using IMUs and a Moving Camera" (2018). Layout:
sequenceFiles/{train,validation,test}/SEQ.pkl, imageFiles/SEQ/image_00000.jpg.

Its 2D detections (poses2d, 18 joints of COCO's) are not kept: they are of another joint set than the 24 SMPL joints a
store of this data holds, and are there only for some frames; the projected joints are exact and always there.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from aign.data.datasets.bodies.labelled_tracks import Track, check_seen, read_picture, way_up
from aign.data.datasets.bodies.threedpw_file import Actor, Lens, count_people, read_actor, read_lens, rest_pelvis_m
from aign.data.datasets.job import PRODUCER, Made, Recording, Stored, stage
from aign.data.datasets.raw_files import listing_sha256, sha256_of, some
from aign.data.store import Provenance
from aign.framework.errors import UserError
from aign.framework.safe_pickle import load_pickle
from aign.geometry.rotation import from_axis_angle, to_axis_angle
from aign.geometry.skeleton import SMPL24

FPS = 30.0
LICENCE = "3DPW licence (research only, see the data set's terms)"
SPLITS = ("train", "validation", "test")
NEAREST_M = 0.1
_WHERE = "https://virtualhumans.mpi-inf.mpg.de/3DPW"
_TO_Z_UP: Mapping[tuple[int, int], tuple[tuple[int, int, int], ...]] = {
    (2, 1): ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    (2, -1): ((1, 0, 0), (0, -1, 0), (0, 0, -1)),
    (1, 1): ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    (1, -1): ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    (0, 1): ((0, 0, -1), (0, 1, 0), (1, 0, 0)),
    (0, -1): ((0, 0, 1), (0, 1, 0), (-1, 0, 0)),
}
"""By (axis, sign) that is up: the rotation that makes it z."""


@dataclass(frozen=True, kw_only=True)
class ThreeDpwSequence:
    """One sequence file with its one or two people.

    Attributes:
        path: the .pkl.
        split: "train", "validation" or "test".
        images: folder of its pictures, or None.
    """

    path: Path
    split: str
    images: Path | None

    @property
    def source(self) -> str:
        """The file."""
        return str(self.path)

    @property
    def table_groups(self) -> tuple[tuple[str, ...], ...]:
        """All tables hold the same clips."""
        return (("keypoints", "labels", "body", *(("frames",) if self.images else ())),)

    def provenance(self, table: str) -> Provenance:
        """Hash of the file, and for pictures of their names and sizes."""
        cuts = stage("labelled-clips", "1", by="travel" if self.images else "length")
        pictures = (listing_sha256(list(self.images.glob("*.jpg"))),) if self.images and table == "frames" else ()
        return Provenance(
            source_hashes=(sha256_of(self.path), f"{self.split}/{self.path.stem}", *pictures),
            stages=(stage("3dpw", "1"), cuts, *((stage("square-crop", "1"),) if table == "frames" else ())),
            skeleton=SMPL24.name,
            num_joints=len(SMPL24),
            licence=LICENCE,
            producer=PRODUCER,
        )

    def clips(self, wanted: Collection[str], stored: Stored) -> Made:
        """The wanted tables, one recording a person.

        Raises:
            UserError: the file is damaged or hostile, or something in it cannot be.
        """
        content = load_pickle(self.path)
        if not isinstance(content, Mapping):
            raise UserError(f"{self.path}: holds a {type(content).__name__}; a dictionary is needed")
        lens = read_lens(content, self.path)
        actors = [read_actor(content, number, self.path) for number in range(count_people(content, self.path))]
        used = {number: actor for number, actor in enumerate(actors) if actor.valid.any()}
        ways_up = [way_up(actor.joints_world_m[actor.valid], SMPL24) for actor in used.values()]
        to_z_up = _to_z_up(np.sum(ways_up, axis=0)) if used else np.eye(3)
        tables: dict[str, list[dict[str, Any]]] = {table: [] for table in self.table_groups[0]}
        left_out = []
        for number, actor in enumerate(actors):
            name, bad = self._name(number), int((~actor.valid).sum())
            if bad:
                left_out.append(f"{name}: {bad} of {len(actor.valid)} frames without a camera pose")
            if number in used:
                check_seen(actor.joints_cam_m()[actor.valid], SMPL24, f"{self.path}, person {number}")
                track = self._track(actor, number, lens)
                spans = track.spans(self.images is not None)
                unseen = int(actor.valid.sum()) - sum(span.stop - span.start for span in spans)
                if unseen:
                    left_out.append(f"{name}: {unseen} frames with nobody in the picture")
                for table, rows in _labels(actor, track, spans, lens, to_z_up).items():
                    tables[table] += rows
                if "frames" in wanted:
                    tables["frames"] += self._frames(track, spans, lens)
        if not tables["labels"]:
            raise UserError(f"{self.path}: not one frame of it can be used ({'; '.join(left_out)})")
        return Made(tables=tables, left_out=tuple(left_out))

    def _name(self, number: int) -> str:
        return f"{self.split}/{self.path.stem}/{number}"

    def _track(self, actor: Actor, number: int, lens: Lens) -> Track:
        joints = actor.joints_cam_m()
        depth = np.where(joints[..., 2:] > NEAREST_M, joints[..., 2:], 1.0)
        px = joints[..., :2] / depth * lens.intrinsics_px[:2] + lens.intrinsics_px[2:]
        inside = ((px >= -0.5) & (px < np.array(lens.size_px) - 0.5)).all(axis=-1) & (joints[..., 2] > NEAREST_M)
        return Track(
            recording=Recording(
                sequence=self._name(number),
                subject=f"{self.path.stem}/{number}",
                action=self.split,
                source=self.source,
                fps=FPS,
            ),
            camera="phone",
            kp2d_px=np.where(inside[..., None], px, 0).astype(np.float32),
            kp2d_conf=inside.astype(np.float32),
            valid=actor.valid,
        )

    def _frames(self, track: Track, spans: list[slice], lens: Lens) -> list[dict[str, Any]]:
        assert self.images is not None, "frames are wanted only where there are pictures"
        files = (self.images / f"image_{frame:05d}.jpg" for frame in range(len(track.valid)))
        return track.frames_table(spans, map(read_picture, files), lens.size_px, lens.intrinsics_px.astype(np.float32))


def _labels(
    actor: Actor, track: Track, spans: list[slice], lens: Lens, to_z_up: Float[np.ndarray, "3 3"]
) -> dict[str, list[dict[str, Any]]]:
    """Keypoints, labels and body.

    Convention: body_trans_cam_m = pelvis_cam - J0 with J0 = jointPositions[0] - trans, so no body file is needed; the
    global orientation is R_cam R(pose[:3]). The camera moves: a clip's extrinsics are those of its first frame, and
    joints_cam_m are in the camera of their own frame.
    """
    joints = actor.joints_cam_m()
    pose = actor.pose_rad.copy()
    root = torch.from_numpy(actor.rot) @ from_axis_angle(torch.from_numpy(pose[:, 0]))
    pose[:, 0] = to_axis_angle(root).numpy()
    rot, shift_m = (actor.rot @ to_z_up.T).astype(np.float32), actor.shift_m.astype(np.float32)
    rest_m = rest_pelvis_m(actor, track.recording.source)
    return {
        "keypoints": track.table(
            spans,
            {"kp2d_px": track.kp2d_px, "kp2d_conf": track.kp2d_conf},
            lambda _: {
                "intrinsics_px": lens.intrinsics_px.astype(np.float32),
                "distortion": np.zeros(5, np.float32),
                "image_size_px": np.array(lens.size_px, np.int32),
                "intrinsics_source": "calibration",
            },
        ),
        "labels": track.table(
            spans,
            {"joints_cam_m": joints.astype(np.float32), "joints_valid": np.ones(joints.shape[:2], bool)},
            lambda span: {
                "rot_world_to_cam": rot[span.start].reshape(9),
                "trans_world_to_cam_m": shift_m[span.start],
            },
        ),
        "body": track.table(
            spans,
            {
                "body_pose_rad": pose.astype(np.float32),
                "betas": np.tile(actor.betas, (len(pose), 1)).astype(np.float32),
                "body_trans_cam_m": (joints[:, 0] - rest_m).astype(np.float32),
            },
            lambda _: {"body_model": actor.body_model},
        ),
    }


def _to_z_up(up: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """The world's turn to z up: 3DPW does not say which of its axes that is, but people mostly stand along it."""
    axis = int(np.abs(up).argmax())
    return np.array(_TO_Z_UP[axis, 1 if up[axis] > 0 else -1], np.float64)


def plan(path: Path) -> list[ThreeDpwSequence]:
    """Jobs of all sequences below a folder (3DPW's own, its sequenceFiles, or one of the splits).

    Raises:
        UserError: no sequence there.
    """
    files = _sequences(path)
    if not files:
        raise UserError(f"{path}: no 3DPW sequence in it; sequenceFiles/{{train,validation,test}}/SEQ.pkl are needed")
    jobs = []
    for file in files:
        images = file.parents[2] / "imageFiles" / file.stem
        jobs.append(
            ThreeDpwSequence(path=file, split=file.parent.name, images=images if _has_pictures(images) else None)
        )
    return jobs


def looks_like(path: Path) -> bool:
    """Whether a folder holds 3DPW sequences."""
    return bool(_sequences(path))


def found(path: Path) -> str:
    """One line: sequences of each split, and how many have pictures."""
    jobs = plan(path)
    counts = ", ".join(f"{n} {s}" for s in SPLITS if (n := sum(job.split == s for job in jobs)))
    return f"3DPW: {len(jobs)} sequences ({counts}), {sum(job.images is not None for job in jobs)} with pictures"


def missing(path: Path) -> list[str]:
    """What is not there, a line each, and where it comes from."""
    files = _sequences(path)
    if not files:
        return [f"sequenceFiles/{{train,validation,test}}/SEQ.pkl in {path}: all labels; sequenceFiles.zip of {_WHERE}"]
    lines = [
        f"sequenceFiles/{split}: its sequences; sequenceFiles.zip of {_WHERE}"
        for split in SPLITS
        if not any(file.parent.name == split for file in files)
    ]
    without = [file.stem for file in files if not _has_pictures(file.parents[2] / "imageFiles" / file.stem)]
    if without:
        lines.append(
            f"imageFiles/SEQ/image_00000.jpg of {some(without)}: no frames of these {len(without)} sequences; "
            f"imageFiles.zip of {_WHERE}"
        )
    return lines


def _sequences(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    patterns = ("*.pkl", "*/*.pkl", "sequenceFiles/*/*.pkl", "*/sequenceFiles/*/*.pkl")
    files = {file.resolve() for pattern in patterns for file in path.glob(pattern)}
    return sorted(f for f in files if f.parent.name in SPLITS and f.parents[1].name == "sequenceFiles")


def _has_pictures(folder: Path) -> bool:
    return folder.is_dir() and next(folder.glob("image_*.jpg"), None) is not None
