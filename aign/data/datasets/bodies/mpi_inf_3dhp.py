"""MPI-INF-3DHP, training and test set (protocols 3.5 j).

Mehta et al., "Monocular 3D Human Pose Estimation In The Wild Using Improved CNN Supervision" (2017). Layout:
S{1-8}/Seq{1,2}/{annot.mat, camera.calibration, imageSequence/video_{camera}.avi} and
mpi_inf_3dhp_test_set/TS{1-6}/{annot_data.mat, imageSequence/img_000001.jpg}.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from aign.data.datasets.bodies.labelled_tracks import Track, check_seen, read_picture
from aign.data.datasets.bodies.mpi_inf_3dhp_files import (
    TEST_STANDS,
    TRAIN_OFF_PX,
    Labels,
    check_pixels,
    fitted_camera,
    read_calibration,
    read_test,
    read_train,
)
from aign.data.datasets.job import PRODUCER, Made, Recording, Stored, calibration, stage
from aign.data.datasets.raw_files import listing_sha256, sha256_of, some
from aign.data.stages.decode import probe, read_frames
from aign.data.store import Provenance
from aign.framework.errors import UserError
from aign.geometry.camera import CalibratedCamera
from aign.geometry.skeleton import H36M17

CAMERAS = (0, 1, 2, 4, 5, 6, 7, 8)
"""Of 14, those at the height of a person; the others look down from the ceiling and are left out by everyone."""
LICENCE = "MPI-INF-3DHP licence (research only, see the data set's terms)"
TEST_FPS = 25.0
FLIPPED = "S4/Seq2"
"""A sequence some frames of which are reported to have left and right exchanged."""
_WHERE = "get_dataset.sh of https://vcai.mpi-inf.mpg.de/3dhp-dataset"
_TEST_WHERE = "mpi_inf_3dhp_test_set.zip of https://vcai.mpi-inf.mpg.de/3dhp-dataset"


@dataclass(frozen=True, kw_only=True)
class Mpi3dhpView:
    """One camera of a training sequence, or a test sequence.

    Attributes:
        folder: S1/Seq1 or TS1.
        camera: of the training set; None in the test set.
        pictures: a video or a folder of pictures, None where there is none.
    """

    folder: Path
    camera: int | None
    pictures: Path | None

    @property
    def source(self) -> str:
        """Folder and camera."""
        return str(self.folder) if self.camera is None else f"{self.folder}:camera {self.camera}"

    @property
    def table_groups(self) -> tuple[tuple[str, ...], ...]:
        """All tables hold the same clips."""
        return (("keypoints", "labels", *(("frames",) if self.pictures else ())),)

    @property
    def sequence(self) -> str:
        """Id of the motion: "S1/Seq2", which its cameras share, or "TS1"."""
        return self.folder.name if self.camera is None else f"{self.folder.parent.name}/{self.folder.name}"

    def provenance(self, table: str) -> Provenance:
        """Hash of the labels and the calibration; how many pictures there are decides where clips end."""
        files = ["annot_data.mat"] if self.camera is None else ["annot.mat", "camera.calibration"]
        cuts = stage("labelled-clips", "1", by="travel" if self.pictures else "length")
        return Provenance(
            source_hashes=(*(sha256_of(self.folder / name) for name in files), self._pictures_hash(), self.name),
            stages=(stage("mpi-inf-3dhp", "1"), cuts, *((stage("square-crop", "1"),) if table == "frames" else ())),
            skeleton=H36M17.name,
            num_joints=len(H36M17),
            licence=LICENCE,
            producer=PRODUCER,
        )

    @property
    def name(self) -> str:
        """Sequence and camera."""
        return self.sequence if self.camera is None else f"{self.sequence}/camera {self.camera}"

    def clips(self, wanted: Collection[str], stored: Stored) -> Made:
        """The wanted tables.

        Raises:
            UserError: a file is damaged, or something in it cannot be.
        """
        labels, camera = self._labels()
        left_out = []
        if self.sequence == FLIPPED:
            left_out.append(
                f"{FLIPPED} is all here, but some of its frames are reported to have left and right exchanged"
            )
        if not labels.valid.all():
            left_out.append(
                f"{self.name}: {int((~labels.valid).sum())} of {len(labels.valid)} frames that are not valid"
            )
        pictured = self._count()
        valid = labels.valid.copy()
        if pictured is not None and valid[pictured:].any():
            left_out.append(f"{self.name}: {int(valid[pictured:].sum())} frames after the last of {pictured} pictures")
            valid[pictured:] = False
        track = self._track(labels, camera, valid)
        spans = track.spans(self.pictures is not None)
        unseen = int(valid.sum()) - sum(span.stop - span.start for span in spans)
        if unseen:
            left_out.append(f"{self.name}: {unseen} frames with nobody in the picture")
        if not spans:
            raise UserError(f"{self.source}: not one frame can be used ({'; '.join(left_out)})")
        tables = _tables(track, labels, camera, spans)
        if "frames" in wanted:
            lens = calibration(camera)["intrinsics_px"]
            tables["frames"] = track.frames_table(spans, self._read(), camera.image_size_px, lens)
        return Made(tables=tables, left_out=tuple(left_out))

    def _labels(self) -> tuple[Labels, CalibratedCamera]:
        if self.camera is None:
            path = self.folder / "annot_data.mat"
            labels = read_test(path)
            if not labels.valid.any():
                raise UserError(f"{path}: not one of {len(labels.valid)} frames is valid")
            check_seen(labels.joints_cam_m[labels.valid], H36M17, self.source)
            return labels, fitted_camera(labels, TEST_STANDS[self.folder.name], path)
        labels = read_train(self.folder / "annot.mat", self.camera)
        check_seen(labels.joints_cam_m, H36M17, self.source)
        cameras = read_calibration(self.folder / "camera.calibration")
        if self.camera not in cameras:
            raise UserError(f"{self.folder}/camera.calibration: no camera {self.camera}; it has {sorted(cameras)}")
        check_pixels(labels, cameras[self.camera], TRAIN_OFF_PX, self.folder / "annot.mat")
        return labels, cameras[self.camera]

    def _track(self, labels: Labels, camera: CalibratedCamera, valid: np.ndarray) -> Track:
        px, size = labels.joints_px, np.array(camera.image_size_px)
        inside = np.asarray(((px >= -0.5) & (px < size - 0.5)).all(axis=-1))
        return Track(
            recording=Recording(
                sequence=self.sequence,
                subject=self.folder.name if self.camera is None else self.folder.parent.name,
                action="test" if self.camera is None else "train",
                source=self.source,
                fps=TEST_FPS if self.camera is None else train_fps(self.sequence),
            ),
            camera=camera.name,
            kp2d_px=np.where(inside[..., None], px, 0).astype(np.float32),
            kp2d_conf=inside.astype(np.float32),
            valid=valid,
        )

    def _pictures_hash(self) -> str:
        if self.pictures is None:
            return ""
        return sha256_of(self.pictures) if self.pictures.is_file() else listing_sha256(self._files())

    def _files(self) -> list[Path]:
        assert self.pictures is not None, "asked only where there are pictures"
        return sorted(file for file in self.pictures.glob("*.jpg") if re.fullmatch(r"(?:img|frame)_\d{6}", file.stem))

    def _count(self) -> int | None:
        """Pictures there are, None where nothing says (a video without a count in its header)."""
        if self.pictures is None:
            return None
        return probe(self.pictures).num_frames_estimate if self.pictures.is_file() else len(self._files())

    def _read(self) -> Iterable[UInt8[np.ndarray, "h w 3"]]:
        assert self.pictures is not None, "frames are wanted only where there are pictures"
        if self.pictures.is_file():
            return read_frames(self.pictures)
        # Pictures are counted from 1; a gap would shift all that follow, so names are made, not listed.
        files = self._files()
        stem = files[0].stem[:-6] if files else "img_"
        return (read_picture(files[0].with_name(f"{stem}{number:06d}.jpg")) for number in range(1, len(files) + 1))


def _tables(
    track: Track, labels: Labels, camera: CalibratedCamera, spans: list[slice]
) -> dict[str, list[dict[str, Any]]]:
    lens, pose = calibration(camera), camera.world_to_cam
    extrinsics = {
        "rot_world_to_cam": pose.rot.float().numpy().reshape(9),
        "trans_world_to_cam_m": pose.trans_m.float().numpy(),
    }
    joints = labels.joints_cam_m.astype(np.float32)
    return {
        "keypoints": track.table(spans, {"kp2d_px": track.kp2d_px, "kp2d_conf": track.kp2d_conf}, lambda _: lens),
        "labels": track.table(
            spans, {"joints_cam_m": joints, "joints_valid": np.ones(joints.shape[:2], bool)}, lambda _: extrinsics
        ),
    }


def train_fps(sequence: str) -> float:
    """Frames per second of a training sequence: S3, S5 and S1/Seq2 were taken at 50, the others at 25."""
    return 50.0 if sequence == "S1/Seq2" or sequence.startswith(("S3/", "S5/")) else 25.0


def plan(path: Path) -> list[Mpi3dhpView]:
    """Jobs of all sequences below a folder: one a camera of the training set, one a test sequence.

    Raises:
        UserError: no sequence there.
    """
    train, test = _train(path), _test(path)
    if not train and not test:
        raise UserError(f"{path}: no MPI-INF-3DHP in it; S1/Seq1/annot.mat or TS1/annot_data.mat are needed")
    jobs = [
        Mpi3dhpView(folder=folder, camera=camera, pictures=_train_pictures(folder, camera))
        for folder in train
        for camera in CAMERAS
    ]
    for folder in test:
        images = folder / "imageSequence"
        there = images.is_dir() and next(images.glob("img_*.jpg"), None) is not None
        jobs.append(Mpi3dhpView(folder=folder, camera=None, pictures=images if there else None))
    return jobs


def looks_like(path: Path) -> bool:
    """Whether a folder holds sequences of MPI-INF-3DHP."""
    return bool(_train(path) or _test(path))


def found(path: Path) -> str:
    """One line: sequences of each part, and how many views have pictures."""
    jobs = plan(path)
    pictured = sum(job.pictures is not None for job in jobs)
    return (
        f"MPI-INF-3DHP: {len(_train(path))} training sequences in {len(CAMERAS)} cameras, {len(_test(path))} test "
        f"sequences; {pictured} of {len(jobs)} views with pictures"
        + (
            "; S4/Seq2 has some frames with left and right exchanged"
            if any(j.sequence == FLIPPED for j in jobs)
            else ""
        )
    )


def missing(path: Path) -> list[str]:
    """What is not there, a line each, and where it comes from."""
    train, test = _train(path), _test(path)
    have = {f"{folder.parent.name}/{folder.name}" for folder in train}
    lacking = [s for n in range(1, 9) for q in (1, 2) if (s := f"S{n}/Seq{q}") not in have]
    lines = [f"annot.mat of {some(lacking, 4)}: {len(lacking)} training sequences; {_WHERE}"] if lacking else []
    blind = [f for f in train if not (f / "camera.calibration").is_file()]
    lines += [f"{f.parent.name}/{f.name}/camera.calibration: none of its cameras can be used; {_WHERE}" for f in blind]
    for folder in train:
        without = [f"video_{camera}.avi" for camera in CAMERAS if _train_pictures(folder, camera) is None]
        if without:
            name = f"{folder.parent.name}/{folder.name}"
            lines.append(f"{name}/imageSequence/{some(without)}: no frames of these {len(without)} views; {_WHERE}")
    gone = [f"TS{n}" for n in range(1, 7) if not any(folder.name == f"TS{n}" for folder in test)]
    if gone:
        lines.append(f"annot_data.mat of {some(gone, 6)}: {len(gone)} test sequences; {_TEST_WHERE}")
    for job in plan(path) if test else []:
        if job.camera is None and job.pictures is None:
            lines.append(f"{job.sequence}/imageSequence/img_000001.jpg: no frames of it; {_TEST_WHERE}")
    return lines


def _train(path: Path) -> list[Path]:
    patterns = ("annot.mat", "Seq[12]/annot.mat", "S[1-8]/Seq[12]/annot.mat", "*/S[1-8]/Seq[12]/annot.mat")
    folders = {file.resolve().parent for pattern in patterns for file in path.glob(pattern)} if path.is_dir() else set()
    return sorted(f for f in folders if re.fullmatch(r"S[1-8]/Seq[12]", f"{f.parent.name}/{f.name}"))


def _test(path: Path) -> list[Path]:
    patterns = ("annot_data.mat", "TS[1-6]/annot_data.mat", "*/TS[1-6]/annot_data.mat", "*/*/TS[1-6]/annot_data.mat")
    folders = {file.resolve().parent for pattern in patterns for file in path.glob(pattern)} if path.is_dir() else set()
    return sorted(f for f in folders if f.name in TEST_STANDS)


def _train_pictures(folder: Path, camera: int) -> Path | None:
    """The camera's video, or the folder its pictures were extracted to (frame_000001.jpg)."""
    video, extracted = (folder / "imageSequence" / f"video_{camera}{ending}" for ending in (".avi", ""))
    if video.is_file():
        return video
    return extracted if extracted.is_dir() and next(extracted.glob("frame_*.jpg"), None) is not None else None
