"""SURREAL, the part made from CMU's motions: videos with joints, parts, flow, depth, pose and shape (protocols 3.5 f).

Varol et al., "Learning from Synthetic Humans" (2017). Layout: .../{train,val,test}/run{0,1,2}/SEQ/SEQ_cNNNN.mp4 and
beside it _info.mat, and where downloaded _segm.mat, _gtflow.mat and _depth.mat. `val` repeats some clips of `test`.
"""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from aign.data.datasets.bodies.surreal_camera import SIZE_PX, flipped, pose_in_camera
from aign.data.datasets.bodies.surreal_flow import both_ways, flow_sign
from aign.data.datasets.bodies.surreal_info import (
    ClipInfo,
    body_files,
    is_monster,
    read_info,
    read_pictures,
    rest_pelvis_m,
    subject,
)
from aign.data.datasets.job import (
    PRODUCER,
    Made,
    Recording,
    Stored,
    calibration,
    cut,
    picture_columns,
    stage,
    whole_picture,
)
from aign.data.datasets.raw_files import sha256_of, some
from aign.data.datasets.rig import see
from aign.data.pixels import encode_depth, encode_flow, encode_jpeg, encode_mask, encode_parts
from aign.data.stages.decode import read_frames
from aign.data.store import Provenance, Stage
from aign.data.store.writer import Clip
from aign.framework.errors import UserError
from aign.geometry.skeleton import SMPL24

FPS = 30.0
LICENCE = "SURREAL licence (research only, see the data set's terms)"
SPLITS = ("train", "val", "test")
ENDINGS = {"frames": ".mp4", "parts": "_segm.mat", "flow": "_gtflow.mat", "depth": "_depth.mat"}
"""The file that a table needs beside _info.mat; masks are made from parts, flow_back from flow."""
_INFO = "*_c[0-9][0-9][0-9][0-9]_info.mat"
_WHERE = "the data set's download, https://www.di.ens.fr/willow/research/surreal/data/"


@dataclass(frozen=True, kw_only=True)
class SurrealClip:
    """One clip with the files it has.

    Attributes:
        stem: path of the clip's files up to their endings.
        split: "train", "val" or "test"; empty where the folders do not say.
        run: "run0" to "run2", or empty.
        tables: what can be made of it.
        bodies: SMPL files of the female and the male body, None where they are not there.
    """

    stem: Path
    split: str
    run: str
    tables: tuple[str, ...]
    bodies: tuple[Path | None, Path | None]

    @property
    def source(self) -> str:
        """The clip's path without endings."""
        return str(self.stem)

    @property
    def table_groups(self) -> tuple[tuple[str, ...], ...]:
        """All tables hold the same clips."""
        return (self.tables,)

    def file(self, ending: str) -> Path:
        """One of the clip's files."""
        return self.stem.with_name(self.stem.name + ending)

    def provenance(self, table: str) -> Provenance:
        """Hash of the files this table is made of; the bodies count only for the body."""
        base = {"masks": "parts", "flow_back": "flow"}.get(table, table)
        files = [self.file("_info.mat")] + ([self.file(ENDINGS[base])] if base in ENDINGS else [])
        files += [body for body in self.bodies if body is not None and table == "body"]
        return Provenance(
            source_hashes=(*(sha256_of(file) for file in files), f"{self.split}/{self.run}/{self.stem.name}"),
            stages=(stage("surreal", "1", pictures="flipped"), *_own_stage(table)),
            skeleton=SMPL24.name,
            num_joints=len(SMPL24),
            licence=LICENCE,
            producer=PRODUCER,
        )

    def clips(self, wanted: Collection[str], stored: Stored) -> Made:
        """The wanted tables.

        Raises:
            UserError: a file is damaged or does not fit the others.
        """
        info = read_info(self.file("_info.mat"))
        tables: dict[str, Sequence[Clip]] = {}
        left_out: list[str] = []
        if "frames" in wanted:
            tables["frames"] = self._frames(info)
        if "keypoints" in wanted or "labels" in wanted:
            tables |= self._joints(info)
        if "body" in wanted:
            tables["body"] = self._body(info)
        if "masks" in wanted or "parts" in wanted:
            tables |= self._parts(info)
        if "flow" in wanted or "flow_back" in wanted:
            tables |= self._flow(info, left_out)
        if "depth" in wanted:
            tables["depth"] = self._depth(info)
        return Made(tables=tables, left_out=tuple(left_out))

    def _cut(self, per_frame: dict[str, Any], per_clip: dict[str, Any]) -> list[dict[str, Any]]:
        recording = Recording(
            sequence="/".join(part for part in (self.split, self.run, self.stem.name) if part),
            subject=subject(self.stem.name),
            action=self.split or "motion",
            source=self.source,
            fps=FPS,
        )
        return cut(recording, "surreal", per_frame, per_clip)

    def _frames(self, info: ClipInfo) -> list[dict[str, Any]]:
        path, pictures = self.file(".mp4"), []
        for picture in read_frames(path, 0, info.frames):
            if picture.shape != (SIZE_PX[1], SIZE_PX[0], 3):
                raise UserError(f"{path}: pictures of {picture.shape[1]} x {picture.shape[0]}; 320 x 240 are needed")
            pictures.append(encode_jpeg(np.ascontiguousarray(picture[:, ::-1])))
        if len(pictures) < info.frames:
            raise UserError(f"{path}: {len(pictures)} pictures, but its _info.mat describes {info.frames}")
        lens = calibration(info.camera)["intrinsics_px"]
        times_s = (np.arange(info.frames) / FPS).astype(np.float32)
        columns = picture_columns(SIZE_PX, whole_picture(SIZE_PX), SIZE_PX, lens)
        return self._cut({"image_jpeg": pictures, "time_s": times_s}, columns)

    def _joints(self, info: ClipInfo) -> dict[str, Sequence[Clip]]:
        sight = see(info.camera, info.joints_world_m)
        pose = info.camera.world_to_cam
        return {
            "keypoints": self._cut(
                {"kp2d_px": sight.kp2d_px, "kp2d_conf": sight.inside.astype(np.float32)}, calibration(info.camera)
            ),
            "labels": self._cut(
                {"joints_cam_m": sight.joints_cam_m, "joints_valid": np.ones(sight.inside.shape, bool)},
                {
                    "rot_world_to_cam": pose.rot.float().numpy().reshape(9),
                    "trans_world_to_cam_m": pose.trans_m.float().numpy(),
                },
            ),
        }

    def _body(self, info: ClipInfo) -> list[dict[str, Any]]:
        pelvis_m = see(info.camera, info.joints_world_m[:, :1]).joints_cam_m[:, 0]
        rest_m = rest_pelvis_m(info.body_model, info.betas, self.bodies)
        return self._cut(
            {
                "body_pose_rad": pose_in_camera(info.pose_rad, info.turn_rad, info.camera).astype(np.float32),
                "betas": info.betas.astype(np.float32),
                "body_trans_cam_m": (pelvis_m - rest_m).astype(np.float32),
            },
            {"body_model": info.body_model},
        )

    def _parts(self, info: ClipInfo) -> dict[str, Sequence[Clip]]:
        path = self.file("_segm.mat")
        parts = flipped(read_pictures(path, "segm", info.frames, ()))
        if parts.dtype.kind not in "ui" or parts.min() < 0 or parts.max() > len(SMPL24):
            raise UserError(f"{path}: parts are {parts.dtype} from {parts.min()} to {parts.max()}; 0..24 are needed")
        small: UInt8[np.ndarray, "t h w"] = parts.astype(np.uint8)
        return {
            "parts": self._cut({"parts_png": [encode_parts(p) for p in small]}, {}),
            "masks": self._cut({"mask_png": [encode_mask(p > 0) for p in small]}, {}),
        }

    def _flow(self, info: ClipInfo, left_out: list[str]) -> dict[str, Sequence[Clip]]:
        raw = read_pictures(self.file("_gtflow.mat"), "gtflow", info.frames, (2,)).astype(np.float32)
        sign = flow_sign(raw, info.file_px - 0.5)
        if sign.note:
            direction = "since the frame before" if sign.since_last else "until the next frame"
            left_out.append(
                f"{self.stem.name}: {sign.note}; gtflow is taken as ({sign.sign_x:+d} u, {sign.sign_y:+d} v), the "
                f"motion {direction}, where the data set's usual meaning fills what is not told"
            )
        flow = both_ways(raw, sign)
        return {
            "flow": self._cut(
                {"flow_zst": [encode_flow(f, v) for f, v in zip(flow.forward_px, flow.forward_valid, strict=True)]}, {}
            ),
            "flow_back": self._cut(
                {"flow_back_zst": [encode_flow(f, v) for f, v in zip(flow.back_px, flow.back_valid, strict=True)]}, {}
            ),
        }

    def _depth(self, info: ClipInfo) -> list[dict[str, Any]]:
        depth_m = flipped(read_pictures(self.file("_depth.mat"), "depth", info.frames, ())).astype(np.float32)
        # The background lies at 1e10 m and becomes "nothing".
        return self._cut({"depth_zst": [encode_depth(d) for d in depth_m]}, {})


def _own_stage(table: str) -> tuple[Stage, ...]:
    return {
        "frames": (stage("jpeg", "1"),),
        "masks": (stage("parts-above-0", "1"),),
        "flow": (stage("surreal-flow", "1"),),
        "flow_back": (stage("surreal-flow", "1"),),
        "depth": (stage("millimetres", "1"),),
        "body": (stage("pose-in-camera", "1"),),
    }.get(table, ())


def plan(path: Path) -> list[SurrealClip]:
    """Jobs of all clips below a folder, but for the broken ones (see `found`).

    The licensed bodies, if they lie in the folder `smpl` below it, place the body exactly; see `rest_pelvis_m`.

    Raises:
        UserError: no clip there.
    """
    stems = _stems(path)
    if not stems:
        raise UserError(f"{path}: no SURREAL clip in it; files named SEQ_cNNNN_info.mat are needed")
    bodies = body_files(path)
    jobs = []
    for stem in stems:
        if not is_monster(stem.name):
            split, run = _split_and_run(stem)
            jobs.append(SurrealClip(stem=stem, split=split, run=run, tables=_tables(stem), bodies=bodies))
    return jobs


def looks_like(path: Path) -> bool:
    """Whether a folder holds a SURREAL clip."""
    return path.is_dir() and next(path.rglob(_INFO), None) is not None


def found(path: Path) -> str:
    """One line: how many clips of which splits, with which tables, and which are left out as broken."""
    stems = _stems(path)
    good, bad = [s for s in stems if not is_monster(s.name)], [s.name for s in stems if is_monster(s.name)]
    splits = Counter("/".join(p for p in _split_and_run(stem) if p) or "no split" for stem in good)
    tables = Counter(table for stem in good for table in _tables(stem))
    line = (
        f"SURREAL (cmu): {len(good)} clips of {len({subject(s.name) for s in good})} subjects "
        f"({', '.join(f'{n} {name}' for name, n in sorted(splits.items()))}); "
        f"tables {', '.join(f'{t} {n}' if n < len(good) else t for t, n in tables.items())}"
    )
    if bad:
        line += f"; left out as broken (subjects 18, 19 and 143_21 of SURREAL's README): {len(bad)}: {some(bad, 5)}"
    return line


def missing(path: Path) -> list[str]:
    """Files that are not there, one line a kind, what they would add and where they come from."""
    stems = [s for s in _stems(path) if not is_monster(s.name)]
    if not stems:
        return [f"SEQ_cNNNN_info.mat in {path}: joints, pose and camera of every clip; from {_WHERE}"]
    adds = {"frames": "frames", "parts": "masks and parts", "flow": "flow and flow_back", "depth": "depth"}
    lines = []
    for table, ending in ENDINGS.items():
        lacking = [s.name + ending for s in stems if not s.with_name(s.name + ending).is_file()]
        if lacking:
            lines.append(f"{some(lacking)}: no {adds[table]} of these {len(lacking)} clips; from {_WHERE}")
    for gender, file in zip(("FEMALE", "MALE"), body_files(path), strict=True):
        if file is None:
            lines.append(
                f"smpl/SMPL_{gender}.pkl in {path}: without it body_trans_cam_m takes the pelvis of the mean shape "
                "(centimetres off); from https://smpl.is.tue.mpg.de"
            )
    return lines


def _stems(path: Path) -> list[Path]:
    files = path.rglob(_INFO) if path.is_dir() else ()
    return sorted(file.resolve().with_name(file.name.removesuffix("_info.mat")) for file in files)


def _tables(stem: Path) -> tuple[str, ...]:
    there = {table for table, ending in ENDINGS.items() if stem.with_name(stem.name + ending).is_file()}
    tables = ["frames"] if "frames" in there else []
    tables += ["keypoints", "labels", "body"]
    tables += ["masks", "parts"] if "parts" in there else []
    tables += ["flow", "flow_back"] if "flow" in there else []
    tables += ["depth"] if "depth" in there else []
    return tuple(tables)


def _split_and_run(stem: Path) -> tuple[str, str]:
    above = stem.parts[:-1]
    split = next((part for part in reversed(above) if part in SPLITS), "")
    run = next((part for part in reversed(above) if re.fullmatch(r"run\d", part)), "")
    return split, run
