"""Human3.6M in the layouts it is published and prepared in (protocols 3.1, 3.5 a to d), with an invented person.

Written from the layouts' descriptions and not with the loaders' code: projection, cameras, joint orders and names are
spelt out here again. World millimetres with z up, four cameras of the published lenses, 50 Hz.
"""

import pickle
from dataclasses import dataclass
from pathlib import Path

import cdflib.cdfwrite
import cv2
import h5py
import numpy as np

from aign.data.datasets.rig import H36M_INTRINSICS, placed_rig
from aign.data.stages.decode import write_mp4

CAMERAS = ("54138969", "55011271", "58860488", "60457274")
SIZES = ((1000, 1002), (1000, 1000), (1000, 1000), (1000, 1002))
PICKED_17 = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)
SPIN_17 = (11, 6, 7, 8, 1, 2, 3, 12, 24, 14, 15, 17, 18, 19, 25, 26, 27)
SPIN_SLOTS = (14, 3, 4, 5, 2, 1, 0, 16, 12, 17, 18, 9, 10, 11, 8, 7, 6)
COPIES = ((11, 0), (16, 13), (20, 19), (23, 22), (24, 13), (28, 27), (31, 30))
LEFT_WRIST, RIGHT_WRIST = 19, 27
SUBJECTS = ("S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "S11")
ACTIONS = (
    *("Directions", "Discussion", "Eating", "Greeting", "Phoning", "Posing", "Purchases", "Sitting", "SittingDown"),
    *("Smoking", "Photo", "Waiting", "Walking", "WalkDog", "WalkTogether"),
)
"""Metadata ids 2 to 16."""
STEMS = {
    ("S1", "Eating"): ("Eating 2", "Eating"),
    ("S1", "Sitting"): ("Sitting 1", "Sitting 2"),
    ("S1", "Photo"): ("TakingPhoto 1", "TakingPhoto"),
    ("S1", "WalkDog"): ("WalkingDog 1", "WalkingDog"),
    ("S5", "Directions"): ("Directions 1", "Directions 2"),
    ("S5", "Discussion"): ("Discussion 2", "Discussion 3"),
    ("S5", "SittingDown"): ("SittingDown", "SittingDown 1"),
    ("S9", "SittingDown"): ("SittingDown", "SittingDown 1"),
    ("S11", "SittingDown"): ("SittingDown", "SittingDown 1"),
    ("S9", "Discussion"): ("Discussion 1", "Discussion 2"),
    ("S11", "Phoning"): ("Phoning 3", "Phoning 2"),
}
"""Where file names are not "Name 1" and "Name"."""

_SIDE = {1: (0.13, 0, 0.93), 2: (0.14, -0.03, 0.5), 3: (0.14, 0, 0.08), 4: (0.15, -0.15, 0.02), 5: (0.15, -0.2, 0.02)}
_ARM = {
    25: (0.16, 0, 1.42),
    26: (0.21, 0, 1.13),
    27: (0.24, -0.1, 0.88),
    29: (0.22, -0.18, 0.84),
    30: (0.25, -0.12, 0.78),
}
_MIDDLE = {0: (0, 0, 0.95), 12: (0, 0, 1.2), 13: (0, 0, 1.45), 14: (0, -0.08, 1.58), 15: (0, 0, 1.72)}


def rest_m() -> np.ndarray:
    """32 joints [32, 3] of a person who stands at the origin and faces -y, so that the left is +x."""
    rest = np.zeros((32, 3))
    for joint, place in _MIDDLE.items():
        rest[joint] = place
    for joint, (x, y, z) in (_SIDE | _ARM).items():
        left = joint + 5 if joint < 11 else joint - 8
        rest[joint], rest[left] = (-x, y, z), (x, y, z)
    for copy, original in COPIES:
        rest[copy] = rest[original]
    return rest


def motion_m(frames: int, seed: int = 0, reach: float = 0.2) -> np.ndarray:
    """[t, 32, 3] metres, z up: the person turns, sways and moves about a little."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames) / 50
    angle = rng.uniform(-3, 3) + 0.5 * time
    turn = np.zeros((frames, 3, 3))
    turn[:, 0, 0] = turn[:, 1, 1] = np.cos(angle)
    turn[:, 0, 1], turn[:, 1, 0] = -np.sin(angle), np.sin(angle)
    turn[:, 2, 2] = 1
    phase = rng.uniform(0, 6, (32, 3))
    for copy, original in COPIES:
        phase[copy] = phase[original]
    sway = 0.03 * np.sin(4 * time[:, None, None] + phase)
    path = reach * np.stack((np.sin(time), np.cos(time) - 1, 0 * time), axis=1)
    return np.einsum("tij,tkj->tki", turn, rest_m() + sway) + path[:, None]


@dataclass(frozen=True, kw_only=True)
class Camera:
    """x_cam = rot (x_world - place)."""

    name: str
    rot: np.ndarray
    place_m: np.ndarray
    lens: tuple[float, ...]  # fx fy cx cy k1 k2 k3 p1 p2

    def see(self, world_m: np.ndarray) -> np.ndarray:
        return (world_m - self.place_m) @ self.rot.T

    def project(self, world_m: np.ndarray) -> np.ndarray:
        """The published model: one factor of radial and p1 y + p2 x, then p2 r2 and p1 r2."""
        fx, fy, cx, cy, k1, k2, k3, p1, p2 = self.lens
        x, y, z = np.moveaxis(self.see(world_m), -1, 0)
        x, y = x / z, y / z
        r2 = x**2 + y**2
        factor = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + p1 * y + p2 * x
        return np.stack((fx * (x * factor + p2 * r2) + cx, fy * (y * factor + p1 * r2) + cy), axis=-1)


def cameras(subject: str = "S1") -> tuple[Camera, ...]:
    """Four cameras round the origin, other ones for every subject."""
    rig = placed_rig((SUBJECTS.index(subject),), (0.0, 0.0), 0.0)
    found = []
    for camera, lens in zip(rig, H36M_INTRINSICS, strict=True):
        rot = camera.world_to_cam.rot.numpy()
        place = -rot.T @ camera.world_to_cam.trans_m.numpy()
        numbers = (*lens.intrinsics_px, *lens.distortion)
        found.append(Camera(name=camera.name, rot=rot, place_m=place, lens=numbers))
    return tuple(found)


def euler(rot: np.ndarray) -> tuple[float, float, float]:
    """a, b, c of rot = Rx(a) Ry(b) Rz(c)."""
    return (
        float(np.arctan2(-rot[1, 2], rot[2, 2])),
        float(np.arcsin(rot[0, 2])),
        float(np.arctan2(-rot[0, 1], rot[0, 0])),
    )


def stems(subject: str, action: str) -> tuple[str, str]:
    return STEMS.get((subject, action), (f"{action} 1", action))


def write_metadata(path: Path) -> None:
    """metadata.xml: mapping (a row of subjects, 32 rows of stems, a row of actors), actionnames, camera ids, w0."""
    w0 = np.zeros(300)
    for s, subject in enumerate(SUBJECTS):
        for c, camera in enumerate(cameras(subject)):
            w0[6 * (c * 11 + s) :][:6] = [*euler(camera.rot), *(camera.place_m * 1000)]
            w0[264 + 9 * c :][:9] = camera.lens
    rows = [["action", "subaction", *SUBJECTS]]
    rows += [["1", str(n), *(["_ALL" if n == 1 else "_ALL 1"] * 11)] for n in (1, 2)]
    for number, action in enumerate(ACTIONS, 2):
        rows += [[str(number), str(trial + 1), *(stems(s, action)[trial] for s in SUBJECTS)] for trial in (0, 1)]
    rows.append(["", "", *(f"actor{n}" for n in range(11))])
    mapping = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    names = "".join(f"<td>{name}</td>" for name in ("_ALL", *ACTIONS))
    ids = "".join(f"<item>{name}</item>" for name in CAMERAS)
    numbers = " ".join(repr(float(v)) for v in w0)
    path.write_text(
        f"<metadata><mapping>{mapping}</mapping><actionnames>{names}</actionnames>"
        f"<dbcameras><index2id>{ids}</index2id></dbcameras><w0>[{numbers}]</w0></metadata>"
    )


def write_cdf(path: Path, pose: np.ndarray, variable: str = "Pose", dtype: int = 44) -> None:
    """One zVariable of one record; 44 is CDF_FLOAT, 45 CDF_DOUBLE."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    file = cdflib.cdfwrite.CDF(str(path))
    spec = {
        **{"Variable": variable, "Data_Type": dtype, "Num_Elements": 1, "Rec_Vary": True, "Var_Type": "zVariable"},
        **{"Dim_Sizes": list(pose.shape), "Dim_Vary": [True] * pose.ndim, "Compress": 0},
    }
    file.write_var(spec, var_data=pose[None].astype(np.float32 if dtype == 44 else np.float64))
    file.close()


def write_poses(root: Path, subject: str, stem: str, world_m: np.ndarray, fetch: bool = False) -> None:
    """D2_Positions of each camera and D3_Positions (h36m-fetch: flattened, and D3_Positions_mono instead)."""
    folder = root / subject / ("" if fetch else "MyPoseFeatures")
    prefix = "Poses_" if fetch else ""
    for camera in cameras(subject):
        px = camera.project(world_m).reshape(len(world_m), 64)
        write_cdf(folder / f"{prefix}D2_Positions" / f"{stem}.{camera.name}.cdf", px)
        if fetch:
            mono_mm = 1000 * camera.see(world_m).reshape(len(world_m), 96)
            write_cdf(folder / f"{prefix}D3_Positions_mono" / f"{stem}.{camera.name}.cdf", mono_mm)
    if not fetch:
        write_cdf(folder / "D3_Positions" / f"{stem}.cdf", 1000 * world_m.reshape(len(world_m), 96))


def picture(camera: Camera, joints_m: np.ndarray, number: int) -> np.ndarray:
    """Grey that says which frame it is, a red disc on the left wrist and a blue one on the right."""
    width, height = SIZES[CAMERAS.index(camera.name)]
    image = np.full((height, width, 3), grey(number), np.uint8)
    for joint, colour in ((LEFT_WRIST, (230, 20, 20)), (RIGHT_WRIST, (20, 20, 230))):
        x, y = camera.project(joints_m[joint])
        cv2.circle(image, (round(float(x)), round(float(y))), 9, colour, -1)
    return image


def grey(number: int) -> int:
    return 60 + 4 * (number % 30)


def write_videos(
    root: Path, subject: str, stem: str, world_m: np.ndarray, extra: tuple[int, ...] = (0, 3, 3, 0)
) -> None:
    """Cameras 2 and 3 have extra frames at the end."""
    folder = root / subject / "Videos"
    folder.mkdir(parents=True, exist_ok=True)
    for camera, more in zip(cameras(subject), extra, strict=True):
        longer = np.concatenate((world_m, np.repeat(world_m[-1:], max(more, 0), axis=0)))[: len(world_m) + more]
        frames = (picture(camera, joints, n) for n, joints in enumerate(longer))
        write_mp4(folder / f"{stem}.{camera.name}.mp4", frames, 50)


def silhouette(camera: Camera, joints_m: np.ndarray) -> np.ndarray:
    """A box about the 2D joints: not symmetric, so that a missing transpose shows."""
    width, height = SIZES[CAMERAS.index(camera.name)]
    px = camera.project(joints_m)
    mask = np.zeros((height, width), np.uint8)
    (x0, y0), (x1, y1) = px.min(0).round().astype(int), px.max(0).round().astype(int)
    mask[y0 : y1 + 1, x0 : x1 + 1] = 1
    return mask


def write_masks(root: Path, subject: str, stem: str, world_m: np.ndarray) -> None:
    """MATLAB v7.3: Masks (T, 1) of object references, each mask stored W x H."""
    folder = root / subject / "MySegmentsMat" / "ground_truth_bs"
    folder.mkdir(parents=True, exist_ok=True)
    for camera in cameras(subject):
        with h5py.File(folder / f"{stem}.{camera.name}.mat", "w") as file:
            group = file.create_group("#refs#")
            references = file.create_dataset("Masks", (len(world_m), 1), h5py.ref_dtype)
            for n, joints in enumerate(world_m):
                held = group.create_dataset(f"m{n}", data=silhouette(camera, joints).T, compression="lzf")
                references[n, 0] = held.ref


def picture_name(subject: str, stem: str, camera: str, number: int) -> str:
    return f"{subject}_{stem.replace(' ', '_')}.{camera}_{number:06d}.jpg"


def boxes(px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Middle [t, 2] and longer side [t] of the box about joints."""
    low, high = px.min(1), px.max(1)
    return (low + high) / 2, (high - low).max(1)


Motions = dict[tuple[str, str], tuple[np.ndarray, range]]
"""(subject, stem) -> world [t, 32, 3] and the frames (from 0) that are listed."""


def write_mmpose(root: Path, motions: Motions, name: str = "fps50/h36m_train.npz", images: bool = False) -> None:
    """cameras.pkl (R transposed, T in metres) and one list."""
    held: dict[str, list[np.ndarray]] = {key: [] for key in ("imgname", "center", "scale", "part", "S")}
    pickled = {}
    for (subject, stem), (world, frames) in motions.items():
        for index, camera in enumerate(cameras(subject)):
            fx, fy, cx, cy, *bend = camera.lens
            pickled[subject, camera.name] = {
                **{"R": camera.rot.T, "T": camera.place_m.reshape(3, 1), "c": np.array([[cx], [cy]])},
                **{"f": np.array([[fx], [fy]]), "k": np.array(bend[:3]).reshape(3, 1)},
                **{"p": np.array(bend[3:]).reshape(2, 1), "w": SIZES[index][0], "h": SIZES[index][1]},
                **{"name": camera.name, "id": index},
            }
            joints, px = camera.see(world)[:, PICKED_17], camera.project(world)[:, PICKED_17]
            centre, side = boxes(px)
            ones = np.ones((len(frames), 17, 1))
            folder = f"{subject}/{subject}_{stem.replace(' ', '_')}.{camera.name}"
            names = [f"{folder}/{picture_name(subject, stem, camera.name, f + 1)}" for f in frames]
            held["imgname"].append(np.array(names))
            held["center"].append(centre[frames])
            held["scale"].append(1.2 * side[frames] / 200)
            held["part"].append(np.concatenate((px[frames], ones), axis=-1))
            held["S"].append(np.concatenate((joints[frames], ones), axis=-1))
            if images:
                for f, at in zip(frames, names, strict=True):
                    write_jpeg(root / "images" / at, picture(camera, world[f], f))
    file = root / "annotation_body3d" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, **{key: np.concatenate(values) for key, values in held.items()})
    (root / "annotation_body3d" / "cameras.pkl").write_bytes(pickle.dumps(pickled))


def write_spin(
    root: Path, motions: Motions, name: str = "h36m_valid_protocol1.npz", images: bool = False, part: bool = False
) -> None:
    """A list as SPIN writes it. Its picture for frame i is the video's frame i + 1, under the name of frame i."""
    held: dict[str, list[np.ndarray]] = {key: [] for key in ("imgname", "center", "scale", "S", "part")}
    for (subject, stem), (world, frames) in motions.items():
        for camera in cameras(subject):
            joints, px = camera.see(world)[:, SPIN_17], camera.project(world)[:, SPIN_17]
            centre, side = boxes(px)
            spin = np.zeros((len(frames), 24, 4))
            spin[:, SPIN_SLOTS, :3] = (joints - joints[:, :1])[frames]
            spin[:, SPIN_SLOTS, 3] = 1
            seen = np.zeros((len(frames), 24, 3))
            seen[:, SPIN_SLOTS, :2] = px[frames]
            seen[:, SPIN_SLOTS, 2] = 1
            names = [f"images/{picture_name(subject, stem, camera.name, f + 1)}" for f in frames]
            held["imgname"].append(np.array(names))
            held["center"].append(centre[frames])
            held["scale"].append(1.1 * side[frames] / 200)
            held["S"].append(spin)
            held["part"].append(seen)
            if images:
                for f, at in zip(frames, names, strict=True):
                    write_jpeg(root / at, picture(camera, world[min(f + 1, len(world) - 1)], f + 1))
    kept = held if part else {key: values for key, values in held.items() if key != "part"}
    root.mkdir(parents=True, exist_ok=True)
    np.savez(root / name, **{key: np.concatenate(values) for key, values in kept.items()})


def write_processed(
    root: Path, subject: str, action_trial: str, world_m: np.ndarray, frames: range, images: bool = False
) -> None:
    """One folder of h36m-fetch's processed/: cameras one after another, frames from 1, lenses [fx, cx, fy, cy]."""
    folder = root / "processed" / subject / action_trial
    folder.mkdir(parents=True, exist_ok=True)
    rig, count = cameras(subject), len(frames)
    with h5py.File(folder / "annot.h5", "w") as file:
        see = np.concatenate([1000 * camera.see(world_m)[frames] for camera in rig])
        file["pose/2d"] = np.concatenate([camera.project(world_m)[frames] for camera in rig])
        file["pose/3d"], file["pose/3d-univ"] = see, 1.03 * see
        file["frame"] = np.tile(np.array(frames) + 1, 4)
        file["camera"] = np.repeat([int(camera.name) for camera in rig], count)
        for name, value in (("subject", int(subject[1:])), ("action", 2), ("subaction", int(action_trial[-1]))):
            file[name] = np.full(4 * count, value)
        for camera in rig:
            fx, fy, cx, cy = camera.lens[:4]
            file[f"intrinsics/{camera.name}"] = file[f"intrinsics-univ/{camera.name}"] = np.array([fx, cx, fy, cy])
    if images:
        for camera in rig:
            for f in frames:
                at = folder / "imageSequence" / camera.name / f"img_{f + 1:06d}.jpg"
                write_jpeg(at, picture(camera, world_m[f], f))


def write_jpeg(path: Path, rgb: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.ascontiguousarray(rgb[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 95])
