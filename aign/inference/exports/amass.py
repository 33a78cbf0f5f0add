"""motion.npz: the fields of AMASS's SMPL+H release, and what it has no field for.

Mahmood et al., "AMASS" (2019): trans [t, 3], poses [t, 156], betas [16], dmpls [t, 8], gender, mocap_framerate.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from aign.data.datasets.motion.amass import REST_PELVIS_M, TO_OURS
from aign.geometry.rotation import to_axis_angle
from aign.inference.captured import CapturedMotion

POSE = 156
"""Root, 21 body joints, 2 x 15 finger joints, 3 numbers each."""
BETAS, DMPLS = 16, 8


def write_amass(path: Path, captured: CapturedMotion, licences: Sequence[str]) -> None:
    """Write the clip as a clip of AMASS.

    SMPL's last two joints (the hands) are not among SMPL+H's: fingers are straight, and the hands' rotations stand in a
    field of their own. `trans` is what SMPL+H's mean shape needs for the pelvis to be where it was captured.
    """
    rotmats = captured.motion.rotmats.astype(np.float64)
    rotmats[:, 0] = TO_OURS.T @ rotmats[:, 0]
    axis_angle = to_axis_angle(torch.from_numpy(rotmats)).numpy().reshape(len(rotmats), 72)
    poses = np.zeros((len(rotmats), POSE))
    poses[:, :66] = axis_angle[:, :66]
    fps = np.float64(captured.motion.fps)
    np.savez_compressed(
        path,
        trans=captured.motion.trans_m.astype(np.float64) @ TO_OURS - REST_PELVIS_M[POSE],
        poses=poses,
        betas=_padded(captured.betas),
        dmpls=np.zeros((len(rotmats), DMPLS)),
        gender=np.array("neutral"),
        # The SMPL+H release has the first, the SMPL-X release the second; programs look for either.
        mocap_framerate=fps,
        mocap_frame_rate=fps,
        smpl_hand_poses=axis_angle[:, 66:],
        known=captured.known,
        contact=captured.contact,
        body=np.array(captured.body.name),
        units=np.array(
            "trans: metres; poses, smpl_hand_poses: axis-angle, radians; mocap_framerate: frames per second"
        ),
        axes=np.array(
            "z up, rest pose faces -y, the person's left is +x, the floor is z = 0; pelvis joint = trans + "
            f"({', '.join(f'{x:g}' for x in REST_PELVIS_M[POSE])}); betas are of the body named in `body`, and mean "
            "nothing to another"
        ),
        licences=np.array(list(licences)),
    )


def _padded(betas: Float[np.ndarray, " s"]) -> Float[np.ndarray, " 16"]:
    out = np.zeros(BETAS)
    out[: len(betas)] = betas
    return out
