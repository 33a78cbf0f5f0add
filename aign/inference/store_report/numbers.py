"""Statistics of a store's columns in words, with what is suspicious about them; and how tall its people are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from aign.data.schema import TABLES
from aign.data.store import Moments, Store
from aign.geometry.skeleton import SKELETONS, Skeleton
from aign.inference.store_report.clips import ClipReader

HEIGHT_M = (1.0, 2.3)
"""A small child to a very tall man; what is outside is in other units or no person."""
_PEOPLE = 12
_FAR_M = 50.0


@dataclass(frozen=True, kw_only=True)
class ColumnFacts:
    """One float column: what its numbers say, and what is odd about them, if anything."""

    table: str
    column: str
    words: str
    suspicion: str = ""


@dataclass(frozen=True, kw_only=True)
class Person:
    """A subject's height, ankle to crown along the bones, from one clip."""

    subject: str
    height_m: float

    @property
    def plausible(self) -> bool:
        """Whether people are that tall."""
        return HEIGHT_M[0] <= self.height_m <= HEIGHT_M[1]


Told = tuple[str, str]
"""Words and suspicion."""


def column_facts(store: Store) -> list[ColumnFacts]:
    """A sentence for every float column, from the manifest alone."""
    body = SKELETONS.get(store.manifest.skeleton)
    found = []
    for table, columns in store.manifest.statistics.items():
        for name, moments in columns.items():
            tell = _WORDS.get(name)
            words, suspicion = tell(moments, body) if tell else (_spread(moments), "")
            # Projected joints are all as sure as can be, and that is right.
            varies = TABLES[table].columns[name].per == "frame" and name != "kp2d_conf"
            odd = _odd(moments, varies)
            found.append(ColumnFacts(table=table, column=name, words=words, suspicion=odd or suspicion))
    return found


def _odd(moments: Moments, varies: bool) -> str:
    if not (np.isfinite(moments.mean).all() and np.isfinite(moments.std).all()):
        return "holds numbers that are not finite"
    if varies and moments.count > 1 and moments.mean.size and not moments.std.any():
        return "never changes"
    return ""


def _spread(moments: Moments) -> str:
    mean, std = moments.mean, moments.std
    if mean.size == 1:
        return f"{mean.item():.4g} on average, give or take {std.item():.3g}"
    return f"averages {mean.min():.4g} to {mean.max():.4g}, give or take {std.min():.3g} to {std.max():.3g}"


def _confidence(moments: Moments, body: Skeleton | None) -> Told:
    mean = moments.mean
    names = body.joints if body is not None and len(body) == len(mean) else [f"joint {j}" for j in range(len(mean))]
    low, high = int(mean.argmin()), int(mean.argmax())
    words = f"{mean.mean():.2f} on average; least sure {names[low]} ({mean[low]:.2f}), surest {names[high]}"
    words += f" ({mean[high]:.2f})"
    unseen = [name for name, value in zip(names, mean, strict=True) if value < 0.05]
    if mean.mean() < 0.3:
        return words, "hardly any joint is trusted"
    return words, f"almost never seen: {', '.join(unseen)}" if unseen else ""


def _keypoints(moments: Moments, _: Skeleton | None) -> Told:
    (x, y), (dx, dy) = moments.mean.mean(axis=0), moments.std.mean(axis=0)
    return f"joints lie round ({x:.0f}, {y:.0f}) px and move by {dx:.0f} and {dy:.0f} px; unseen ones count as 0", ""


def _in_camera(moments: Moments, body: Skeleton | None) -> Told:
    joints = np.atleast_2d(moments.mean)
    distance, spread = joints[:, 2].mean(), np.atleast_2d(moments.std)[:, 2].mean()
    words = f"{distance:.2f} m in front of the camera on average, give or take {spread:.2f}"
    if distance <= 0:
        return words, "lies behind the camera; +z points forward"
    if distance > _FAR_M:
        return words, "very far away; are these metres?"
    rise = _rise(joints, body, axis=1)
    return words, "heads are below feet; +y points down" if rise is not None and rise > 0 else ""


def _in_world(moments: Moments, body: Skeleton | None) -> Told:
    joints = moments.mean
    rise = _rise(joints, body, axis=2)
    words = f"joints are {joints[:, 2].min():.2f} to {joints[:, 2].max():.2f} m high on average"
    if rise is None:
        return words, ""
    return f"{words}, heads {rise:.2f} m above ankles", "heads are below feet; z points up" if rise <= 0 else ""


def _rise(joints: Float[np.ndarray, "j 3"], body: Skeleton | None, axis: int) -> float | None:
    """From the ankles to the head along an axis; None for skeletons without these."""
    if body is None or len(body) != len(joints):
        return None
    head = _head(body)
    ankles = [body.joints.index(name) for name in ("l_ankle", "r_ankle") if name in body.joints]
    if head is None or len(ankles) < 2:
        return None
    return float(joints[head, axis] - joints[ankles, axis].mean())


def _lens(moments: Moments, _: Skeleton | None) -> Told:
    fx, fy, cx, cy = moments.mean
    words = f"focal length {fx:.0f} x {fy:.0f} px, centre ({cx:.0f}, {cy:.0f}) on average"
    return words, "pixels are far from square" if abs(fx / fy - 1) > 0.1 else ""


def _distortion(moments: Moments, _: Skeleton | None) -> Told:
    k1 = float(moments.mean[0])
    return f"k1 {k1:.3g} on average; {_spread(moments)}", "a very strong lens distortion" if abs(k1) > 1 else ""


def _shape(moments: Moments, _: Skeleton | None) -> Told:
    return _spread(moments), "far outside the shapes people have" if np.abs(moments.mean).max() > 5 else ""


_WORDS: Mapping[str, Callable[[Moments, Skeleton | None], Told]] = {
    "kp2d_conf": _confidence,
    "kp2d_px": _keypoints,
    "joints_cam_m": _in_camera,
    "body_trans_cam_m": _in_camera,
    "joints_world_m": _in_world,
    "intrinsics_px": _lens,
    "frame_intrinsics_px": _lens,
    "distortion": _distortion,
    "betas": _shape,
}


def people(reader: ClipReader) -> list[Person]:
    """Heights of up to a dozen subjects, each from the first row group of theirs that can be read."""
    body = SKELETONS.get(reader.store.manifest.skeleton)
    found: dict[str, Person] = {}
    if body is None:
        return []
    for table, column in (("labels", "joints_cam_m"), ("memory_pose", "joints_world_m")):
        columns = (column, "joints_valid") if table == "labels" else (column,)
        for record in reader.store.manifest.tables.get(table, ()):
            for index, group in enumerate(record.row_groups):
                if group.subject in found or len(found) >= _PEOPLE or (table, record.part) in reader.broken:
                    continue
                block = reader.group(table, columns, record.part, index)
                if block is not None:
                    height_m = body_height_m(block.arrays[column], block.arrays.get("joints_valid"), body)
                    if height_m is not None:
                        found[group.subject] = Person(subject=group.subject, height_m=height_m)
    return list(found.values())


def body_height_m(
    joints_m: Float[np.ndarray, "t j 3"], valid: Bool[np.ndarray, "t j"] | None, body: Skeleton
) -> float | None:
    """Median length of shin, thigh and the bones from pelvis to head: a height that does not change with the pose.

    Args:
        joints_m: a motion.
        valid: which joints count; None for all.
        body: the joints' skeleton.

    Returns:
        Metres; None where the skeleton or every frame lacks one of these joints.
    """
    head = _head(body)
    legs = [("l_ankle", "l_knee", "l_hip"), ("r_ankle", "r_knee", "r_hip")]
    if head is None or any(name not in body.joints for leg in legs for name in leg):
        return None
    trunk = [head]
    while body.parents[trunk[-1]] >= 0:
        trunk.append(body.parents[trunk[-1]])
    if body.joints[trunk[-1]] != "pelvis":
        return None
    chains = [body.index(*leg) for leg in legs]
    used = sorted({*trunk, *chains[0], *chains[1]})
    seen = np.ones(len(joints_m), bool) if valid is None else valid[:, used].all(axis=1)
    if not seen.any():
        return None
    left, right, back = (_length_m(joints_m[seen][:, chain]) for chain in (*chains, trunk))
    return float(np.median((left + right) / 2 + back))


def _head(body: Skeleton) -> int | None:
    return next((body.joints.index(name) for name in ("head_top", "head") if name in body.joints), None)


def _length_m(chain_m: Float[np.ndarray, "t c 3"]) -> Float[np.ndarray, " t"]:
    return np.asarray(np.linalg.norm(np.diff(chain_m, axis=1), axis=-1).sum(axis=1))
