import numpy as np
import pandas as pd
import pytest
from scipy.spatial.transform import Rotation

from aign.geometry.skeleton import SMPL24
from aign.inference.exports.angles import angles_deg, write_angles

from .clips import captured, posed

CLINICAL = {
    "hip_flexion", "hip_abduction", "hip_internal_rotation", "knee_flexion", "ankle_dorsiflexion",
    "shoulder_elevation", "elbow_flexion",
}  # fmt: skip


def bent(joint, axis, degrees):
    """Angles of one frame with one joint turned about one axis of its parent."""
    rotmats = np.tile(np.eye(3), (1, 24, 1, 1))
    rotmats[0, SMPL24.joints.index(joint)] = Rotation.from_euler(axis, [degrees], degrees=True).as_matrix().squeeze()
    return {name: float(value[0]) for name, value in angles_deg(posed(rotmats)).items()}


def test_a_spreadsheet_reads_one_row_a_frame(tmp_path):
    clip = captured()
    write_angles(tmp_path / "joint_angles.csv", clip)
    table = pd.read_csv(tmp_path / "joint_angles.csv")
    clinical = [f"{side}_{name}_deg" for side in "lr" for name in CLINICAL]
    euler = [f"{joint}_{axis}_deg" for joint in SMPL24.joints for axis in "xzy"]
    assert set(table.columns) == {"time_s", "known", "l_contact", "r_contact", *clinical, *euler}
    assert list(table.columns[-72:]) == euler
    np.testing.assert_allclose(table["time_s"], np.arange(len(clip.known)) / clip.motion.fps, atol=1e-6)
    np.testing.assert_array_equal(table["known"], clip.known.astype(int))
    assert 0 < table["known"].sum() < len(table)
    np.testing.assert_array_equal(table[["l_contact", "r_contact"]], clip.contact.astype(int))
    assert table.notna().all().all()


def test_the_euler_angles_are_the_rotations(tmp_path):
    clip = captured()
    write_angles(tmp_path / "joint_angles.csv", clip)
    table = pd.read_csv(tmp_path / "joint_angles.csv")
    for joint, name in enumerate(SMPL24.joints):
        angles = table[[f"{name}_{axis}_deg" for axis in "xzy"]].to_numpy()
        again = Rotation.from_euler("XZY", angles, degrees=True).as_matrix()
        np.testing.assert_allclose(again, clip.motion.rotmats[:, joint], atol=1e-4)


@pytest.mark.parametrize("side", ["l", "r"])
def test_convention_clinical_signs_are_alike_on_both_sides(side):
    """Legs hang along -y, toes point to +z, the left is +x: the right side mirrors turns about y and z."""
    out = 1.0 if side == "l" else -1.0
    cases = (
        ("hip", "x", -40, "hip_flexion", 40),
        ("hip", "z", out * 30, "hip_abduction", 30),
        ("hip", "y", -out * 20, "hip_internal_rotation", 20),
        ("knee", "x", 110, "knee_flexion", 110),
        ("ankle", "x", -15, "ankle_dorsiflexion", 15),
        ("shoulder", "z", -out * 60, "shoulder_elevation", 30),
        ("elbow", "y", -out * 70, "elbow_flexion", 70),
    )
    rest = bent("pelvis", "y", 0)
    for joint, axis, degrees, name, wanted in cases:
        got = bent(f"{side}_{joint}", axis, degrees)
        # Bones of the rest pose are straight to within a degree or so; rotations are exact.
        assert got[f"{side}_{name}_deg"] == pytest.approx(wanted, abs=2 if joint in ("shoulder", "elbow") else 1e-4)
        others = [n for part in CLINICAL - {name} for n in (f"l_{part}_deg", f"r_{part}_deg")]
        assert [got[n] for n in others] == pytest.approx([rest[n] for n in others], abs=1e-3)
    assert rest[f"{side}_shoulder_elevation_deg"] == pytest.approx(90, abs=2)
    assert rest[f"{side}_elbow_flexion_deg"] == pytest.approx(0, abs=2)


def test_turning_and_lying_down_change_no_clinical_angle():
    for turn in (("y", 135.0), ("x", -90.0), ("z", 60.0)):
        got, rest = bent("pelvis", *turn), bent("pelvis", "y", 0)
        for part in CLINICAL:
            assert got[f"l_{part}_deg"] == pytest.approx(rest[f"l_{part}_deg"], abs=1e-3)


def test_the_shoulder_is_measured_against_the_trunk_beside_it():
    rest = bent("pelvis", "y", 0)["l_shoulder_elevation_deg"]
    for joint in ("spine1", "spine3"):
        assert bent(joint, "z", 40.0)["l_shoulder_elevation_deg"] == pytest.approx(rest, abs=1e-3)


@pytest.mark.parametrize("degrees", [89.9999, 90.0, 90.0001, 150.0])
def test_elbow_at_and_past_a_right_angle(degrees):
    got = bent("l_elbow", "y", -degrees)
    assert got["l_elbow_flexion_deg"] == pytest.approx(degrees, abs=2)
    assert got["l_elbow_y_deg"] == pytest.approx(-degrees, abs=1e-3)


@pytest.mark.parametrize("degrees", [90.0, -90.0])
def test_gimbal_lock_gives_numbers_that_make_the_same_rotation(degrees):
    got = bent("l_elbow", "XZY", [35.0, degrees, 50.0])
    wanted = Rotation.from_euler("XZY", [35.0, degrees, 50.0], degrees=True).as_matrix()
    again = Rotation.from_euler("XZY", [got[f"l_elbow_{a}_deg"] for a in "xzy"], degrees=True).as_matrix()
    np.testing.assert_allclose(again, wanted, atol=1e-5)


def test_one_frame(tmp_path):
    write_angles(tmp_path / "joint_angles.csv", captured(step=1000))
    assert len(pd.read_csv(tmp_path / "joint_angles.csv")) == 1
