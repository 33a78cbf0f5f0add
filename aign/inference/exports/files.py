"""All files of a captured motion, in one folder, with a README that says what they hold."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

from aign.data.publish import published
from aign.framework.errors import StorageError
from aign.geometry.skeleton import SMPL24
from aign.inference.captured import CapturedMotion
from aign.inference.exports import angles, bvh, trc
from aign.inference.exports.amass import write_amass
from aign.inference.exports.angles import write_angles
from aign.inference.exports.bvh import write_bvh
from aign.inference.exports.glb import SkinError, error_mm, write_glb
from aign.inference.exports.rig import BONE_NAMES, check, one_line
from aign.inference.exports.trc import marker_names, write_trc

README = "README.txt"
_Writer: TypeAlias = Callable[[Path, CapturedMotion], None]


def write_exports(folder: Path, captured: CapturedMotion, licences: Sequence[str]) -> tuple[Path, ...]:
    """Write motion.npz, motion.bvh, motion.glb, motion.trc, joint_angles.csv and README.txt.

    Each appears under its name when it is whole; files of these names that were there are replaced.

    Args:
        folder: where; made if it is not there.
        captured: the motion.
        licences: terms of all that the motion was made with (video, weights, data); the motion's own and the body's
            are added.

    Returns:
        The files.

    Raises:
        UserError: a number that the formats cannot hold.
        StorageError: the folder cannot be written.
    """
    check(captured)
    given = (*licences, captured.motion.licence, captured.body.licence)
    lineage = tuple(dict.fromkeys(line for licence in given if (line := one_line(licence))))
    writers: dict[str, _Writer] = {
        "motion.npz": partial(write_amass, licences=lineage),
        "motion.bvh": write_bvh,
        "motion.glb": partial(write_glb, licences=lineage),
        trc.FILE: write_trc,
        "joint_angles.csv": write_angles,
        README: partial(_write_readme, licences=lineage),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write to {folder}: {error.strerror or error}") from error
    for name, write in writers.items():
        with published(folder / name) as unfinished:
            write(unfinished, captured)
    return tuple(folder / name for name in writers)


def _write_readme(path: Path, captured: CapturedMotion, licences: Sequence[str]) -> None:
    frames, fps = len(captured.known), captured.motion.fps
    parts = [
        f"Motion: {one_line(captured.motion.name)[:200]}",
        f"{frames} frames at {fps:g} frames per second; the first is at 0 s, the last at {(frames - 1) / fps:.3f} s.",
        f"The person was seen in {int(captured.known.sum())} of them; the others are filled between their neighbours "
        "(known = 0 in joint_angles.csv and motion.npz).",
        f"Body: {captured.body.name}, shape {' '.join(f'{b:.3f}' for b in captured.betas)}",
        "Left and right are the person's. Rest pose: T-pose. The floor is at height 0.",
        "",
        *_descriptions(captured, error_mm(captured)),
        "",
        f"Joints, in order: {', '.join(SMPL24.joints)}",
        f"Their names in motion.bvh and motion.glb: {', '.join(BONE_NAMES)}",
        f"Markers of {trc.FILE}: {', '.join(marker_names(captured))}",
        "",
        "Licences of what these files were made with; they hold for every file here:",
        *(f"- {licence}" for licence in licences),
    ]
    path.write_text("\n".join(parts) + "\n", encoding="utf-8", newline="\n")


def _descriptions(captured: CapturedMotion, skin: SkinError) -> list[str]:
    fps = f"{captured.motion.fps:g}"
    return [
        f"motion.npz        AMASS (SMPL+H), metres and radians, z up, rest pose faces -y, {fps} fps. Its betas belong "
        "to the body named above.",
        f"motion.bvh        BVH, CENTIMETRES and degrees, y up, rest pose faces +z, {fps} fps, rotations "
        f"{bvh.ORDER} (R = Rz Rx Ry). Blender: import with scale 0.01.",
        f"motion.glb        glTF 2.0, metres, y up, rest pose faces +z, {fps} fps. Its skin lies {skin.mean_mm:.2f} mm "
        f"from the body's on average, {skin.most_mm:.2f} mm at most.",
        f"{trc.FILE}        OpenSim markers, metres, y up, {fps} fps.",
        f"joint_angles.csv  degrees, {fps} fps; clinical angles, then Euler angles of every joint, intrinsic "
        f"{angles.ORDER} (R = Rx Rz Ry) in its parent's frame.",
    ]
