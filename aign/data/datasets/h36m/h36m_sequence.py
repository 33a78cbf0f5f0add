"""One Human3.6M sequence from the published files: CDF joints, mp4 videos, silhouettes (protocols 3.1, 3.5 a).

`OFFICIAL` is where the archives put them; `EXTRACTED` has each archive's content in a folder of the archive's name.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from aign.data.actions import canonical_action
from aign.data.datasets.h36m.h36m_cameras import subject_rig
from aign.data.datasets.h36m.h36m_files import (
    CAMERAS,
    FPS,
    LICENCE,
    LOST_VIDEO,
    check_agreement,
    check_camera,
    check_world,
    read_joints_3d,
    read_pose,
    refuse_missing,
    select_17,
    to_world,
)
from aign.data.datasets.h36m.h36m_silhouettes import read_silhouettes
from aign.data.datasets.h36m.h36m_views import (
    Cut,
    Frames,
    View,
    crop_stage,
    cut_view,
    joint_clips,
    mask_clips,
    picture_clips,
)
from aign.data.datasets.job import PRODUCER, Made, Recording, Stored, cut, stage
from aign.data.datasets.raw_files import sha256_of
from aign.data.datasets.rig import see
from aign.data.stages.decode import read_range
from aign.data.stages.video_index import VideoIndex, index_video
from aign.data.store import Provenance
from aign.data.store.writer import Clip
from aign.framework.errors import UserError
from aign.geometry.camera import CalibratedCamera
from aign.geometry.skeleton import H36M17


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Folders of one subject.

    Attributes:
        name: of the layout.
        poses_2d, poses_3d, poses_mono, videos, masks: below the subject's folder.
    """

    name: str
    poses_2d: str
    poses_3d: str
    poses_mono: str
    videos: str = "Videos"
    masks: str


OFFICIAL = Layout(
    name="official",
    poses_2d="MyPoseFeatures/D2_Positions",
    poses_3d="MyPoseFeatures/D3_Positions",
    poses_mono="MyPoseFeatures/D3_Positions_mono",
    masks="MySegmentsMat/ground_truth_bs",
)
EXTRACTED = Layout(
    name="h36m-fetch extracted",
    poses_2d="Poses_D2_Positions",
    poses_3d="Poses_D3_Positions",
    poses_mono="Poses_D3_Positions_mono",
    masks="Segments_mat_gt_bs",
)


@dataclass(frozen=True, kw_only=True)
class H36mSequence:
    """One sequence of one subject in all its cameras.

    Attributes:
        folder: of the subject.
        layout: where it has what.
        stem: start of the sequence's file names, e.g. "Directions 1".
        metadata: the file with the calibration.
        has_2d: whether keypoints are the published D2_Positions; else they are projections.
        has_videos, has_masks: whether the subject has them.
    """

    folder: Path
    layout: Layout
    stem: str
    metadata: Path
    has_2d: bool
    has_videos: bool
    has_masks: bool

    @property
    def subject(self) -> str:
        """For example S1."""
        return self.folder.name

    @property
    def source(self) -> str:
        """Folder and sequence."""
        return f"{self.folder}:{self.stem}"

    @property
    def table_groups(self) -> tuple[tuple[str, ...], ...]:
        """Views of the cameras, and the memory."""
        pictures = ("frames",) if self.has_videos else ()
        masks = ("masks",) if self.has_masks and self.has_videos else ()
        return ((*pictures, "keypoints", "labels", *masks), ("memory_pose",))

    def file(self, folder: str, ending: str) -> Path:
        """One of the sequence's files."""
        return self.folder / folder / f"{self.stem}{ending}"

    @property
    def joints_files(self) -> tuple[Path, ...]:
        """World joints; or those of each camera where only these are there."""
        world = self.file(self.layout.poses_3d, ".cdf")
        mono = tuple(self.file(self.layout.poses_mono, f".{camera}.cdf") for camera in CAMERAS)
        return (world,) if world.is_file() or not any(file.is_file() for file in mono) else mono

    def videos(self) -> list[Path]:
        """The sequence's videos that are there."""
        files = (self.file(self.layout.videos, f".{camera}.mp4") for camera in CAMERAS)
        return [file for file in files if file.is_file()] if self.has_videos else []

    def missing(self) -> list[str]:
        """Files that the subject's other sequences or cameras have and this one lacks, and their archives."""
        wanted = [(file, self._archive(file)) for file in self.joints_files]
        for wants, folder, ending in (
            (self.has_2d, self.layout.poses_2d, ".cdf"),
            (self.has_videos, self.layout.videos, ".mp4"),
            (self.has_masks, self.layout.masks, ".mat"),
        ):
            if wants:
                files = [self.file(folder, f".{camera}{ending}") for camera in CAMERAS if not self._lost(camera)]
                wanted += [(file, self._archive(file)) for file in files]
        return [
            f"{file.relative_to(self.folder.parent)} (from {archive})" for file, archive in wanted if not file.is_file()
        ]

    def _archive(self, file: Path) -> str:
        """The archive of the data set's site that holds a file."""
        kind = {
            self.layout.poses_2d: "Poses_D2_Positions",
            self.layout.poses_3d: "Poses_D3_Positions",
            self.layout.poses_mono: "Poses_D3_Positions_mono",
            self.layout.videos: "Videos",
            self.layout.masks: "Segments_mat_gt_bs",
        }[str(file.parent.relative_to(self.folder))]
        return f"{kind}_{self.subject}.tgz"

    def _lost(self, camera: str) -> bool:
        """The published archives have no good video of this view: without it the view is left out."""
        return (self.subject, self.stem, camera) == LOST_VIDEO and self.has_videos

    def provenance(self, table: str) -> Provenance:
        """Hash of the files; pictures and masks count where the table depends on them."""
        endings = [(self.layout.poses_2d, "cdf")] if self.has_2d and table != "memory_pose" else []
        endings += [(self.layout.masks, "mat")] if table == "masks" else []
        files = [*self.joints_files, self.metadata]
        files += [self.file(folder, f".{camera}.{ending}") for folder, ending in endings for camera in CAMERAS]
        # Where a clip ends depends on the videos' lengths, so the joints depend on the videos too.
        files += self.videos() if table != "memory_pose" else []
        pictures = (crop_stage(),) if self.has_videos and table != "memory_pose" else ()
        keypoints = "D2_Positions" if self.has_2d else "projection"
        return Provenance(
            source_hashes=(*(sha256_of(file) for file in files if file.is_file()), f"{self.subject}/{self.stem}"),
            stages=(stage("h36m-official", "1", layout=self.layout.name, keypoints=keypoints), *pictures),
            skeleton=H36M17.name,
            num_joints=len(H36M17),
            licence=LICENCE,
            producer=PRODUCER,
        )

    def clips(self, wanted: Collection[str], stored: Stored) -> Made:
        """The wanted tables, camera by camera; one whole picture is held at a time.

        Raises:
            UserError: a file is missing, damaged, or does not fit the others.
        """
        refuse_missing(self.missing(), self.folder.parent)
        rig = subject_rig(self.metadata, self.subject)
        world = self._joints_world_m(rig)
        recording = Recording(
            sequence=f"{self.subject}/{self.stem}",
            subject=self.subject,
            action=canonical_action(self.stem),
            source=self.source,
            fps=FPS,
        )
        tables: dict[str, list[Clip]] = {table: [] for group in self.table_groups for table in group}
        left_out: list[str] = []
        for camera in rig:
            made = self._view(camera, world, recording, wanted, left_out)
            for table, clips in made.items():
                tables[table] += clips
        rotations = np.stack([c.world_to_cam.rot.float().numpy().reshape(9) for c in rig])
        memory = {"joints_world_m": world.astype(np.float32)}
        tables["memory_pose"] = list(cut(recording, "", memory, {"rig_rot_world_to_cam": rotations}))
        return Made(tables=tables, left_out=tuple(left_out))

    def _joints_world_m(self, rig: Sequence[CalibratedCamera]) -> Float[np.ndarray, "t 17 3"]:
        files = self.joints_files
        joints = read_joints_3d(files[0])
        if len(files) > 1:
            check_camera(joints, str(files[0]))
            joints = to_world(joints, rig[0])
        check_world(joints, str(files[0]))
        return joints

    def _view(
        self,
        camera: CalibratedCamera,
        world: Float[np.ndarray, "t 17 3"],
        recording: Recording,
        wanted: Collection[str],
        left_out: list[str],
    ) -> dict[str, list[Clip]]:
        index = self._index(camera, left_out)
        if self.has_videos and index is None:
            return {}
        view = self._joints(camera, world, None if index is None else index.num_frames)
        boxes = (view.kp2d_px, view.kp2d_conf) if index is not None else (None, None)
        cuts = cut_view(Frames(numbers=range(len(view.kp2d_px)), boxes_px=boxes[0], boxes_conf=boxes[1]))
        empty = [c for c in cuts if index is not None and c.crop_xyxy_px is None]
        left_out += [
            f"{recording.sequence} camera {camera.name}: frames {c.rows.start} to {c.rows.stop}: nobody in the picture"
            for c in empty
        ]
        cuts = [c for c in cuts if c not in empty]
        made: dict[str, list[Clip]] = {
            table: list(clips) for table, clips in joint_clips(recording, view, cuts).items()
        }
        if index is not None and "frames" in wanted:
            made["frames"] = list(picture_clips(recording, camera, cuts, self._pictures(camera, index, cuts)))
        if index is not None and "masks" in wanted:
            file = self.file(self.layout.masks, f".{camera.name}.mat")
            masks = read_silhouettes(file, [c.rows for c in cuts], camera.image_size_px, left_out)
            made["masks"] = list(mask_clips(recording, camera, cuts, masks))
        return made

    def _index(self, camera: CalibratedCamera, left_out: list[str]) -> VideoIndex | None:
        """Where the video's frames lie; None without videos, and of the view that is known to be lost."""
        if not self.has_videos:
            return None
        try:
            index = index_video(self.file(self.layout.videos, f".{camera.name}.mp4"))
        except UserError:
            if not self._lost(camera.name):
                raise
            left_out.append(
                f"{self.subject}/{self.stem} camera {camera.name}: its published video is missing or corrupt"
            )
            return None
        if (index.width_px, index.height_px) != camera.image_size_px:
            raise UserError(
                f"{self.file(self.layout.videos, f'.{camera.name}.mp4')} has pictures of {index.width_px} x "
                f"{index.height_px}; camera {camera.name} takes {camera.image_size_px[0]} x {camera.image_size_px[1]}"
            )
        return index

    def _joints(self, camera: CalibratedCamera, world: Float[np.ndarray, "t 17 3"], pictures: int | None) -> View:
        """2D and 3D joints of the frames that all files have: mocap is shorter than video, cameras 2 and 3 run on."""
        file = self.file(self.layout.poses_2d, f".{camera.name}.cdf")
        published = select_17(read_pose(file, 64).reshape(-1, 32, 2)) if self.has_2d else None
        frames = min(len(world), len(world if published is None else published), pictures or len(world))
        sight = see(camera, world[:frames])
        kp2d, conf = sight.kp2d_px, sight.inside.astype(np.float32)
        if published is not None:
            check_agreement(published[:frames], kp2d, sight.inside, str(file))
            kp2d = published[:frames]
        check_camera(sight.joints_cam_m, f"{self.source} camera {camera.name}")
        valid = np.ones(conf.shape, bool)
        return View(camera=camera, kp2d_px=kp2d, kp2d_conf=conf, joints_cam_m=sight.joints_cam_m, joints_valid=valid)

    def _pictures(self, camera: CalibratedCamera, index: VideoIndex, cuts: Sequence[Cut]) -> Iterator[np.ndarray]:
        """The cuts' frames, decoded in one pass and no further than needed."""
        if not cuts:
            return
        path = self.file(self.layout.videos, f".{camera.name}.mp4")
        first, last = cuts[0].rows.start, cuts[-1].rows.stop
        kept = _numbers(cuts)
        for number, picture in enumerate(read_range(path, index, first, last, max(camera.image_size_px)), first):
            if number in kept:
                yield picture


def _numbers(cuts: Sequence[Cut]) -> set[int]:
    return {n for c in cuts for n in range(c.rows.start, c.rows.stop)}
