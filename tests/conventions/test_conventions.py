"""Conventions that no test of their own module pins, by hand-made numbers; and a check that none is left unpinned."""

import ast
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from aign.body.assets import load_body
from aign.body.retarget import smallest_rotation
from aign.body.skinning import forward_kinematics, rest_joints, skin
from aign.data.datasets.h36m.h36m_cameras import read_metadata
from aign.data.datasets.motion.bvh import bvh_world, parse_bvh
from aign.evaluation.pose import METRICS
from aign.geometry.camera import Pinhole, Rigid, distort, project
from aign.geometry.rotation import from_axis_angle, look_at
from aign.geometry.skeleton import BLAZEPOSE33, COCO17, H36M17, H36M32

ROOT = Path(__file__).parents[2]
DOUBLE = torch.float64


@cache
def pinned() -> dict[str, list[str]]:
    """Module -> the test_convention_* functions in test files that import it."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text())
        names = [n.name for n in tree.body if isinstance(n, ast.FunctionDef) and n.name.startswith("test_convention_")]
        for node in ast.walk(tree) if names else ():
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("aign"):
                for module in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                    found.setdefault(module, []).extend(names)
    return found


def modules_with_conventions() -> list[str]:
    paths = sorted((ROOT / "aign").rglob("*.py"))
    return [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in paths if "Convention:" in p.read_text()]


@pytest.mark.parametrize("module", modules_with_conventions())
def test_every_module_that_states_a_convention_has_it_pinned(module):
    assert pinned().get(module), f"{module} says Convention: but no test_convention_* imports it"


def test_the_check_knows_what_is_not_pinned():
    assert "aign.data.progress" not in pinned()
    assert len(modules_with_conventions()) > 15


def test_convention_rotations_are_active_and_right_handed():
    """Convention: y = R x with columns; a quarter turn about z takes x to y."""
    quarter = torch.pi / 2
    for axis, (start, end) in enumerate((((0, 1, 0), (0, 0, 1)), ((0, 0, 1), (1, 0, 0)), ((1, 0, 0), (0, 1, 0)))):
        turn = torch.zeros(3, dtype=DOUBLE)
        turn[axis] = quarter
        got = from_axis_angle(turn) @ torch.tensor(start, dtype=DOUBLE)
        torch.testing.assert_close(got, torch.tensor(end, dtype=DOUBLE))


def test_convention_look_at_brings_a_direction_onto_the_optical_axis():
    """Convention: R direction = (0, 0, |direction|); what lies to the right is brought in by turning right."""
    rot = look_at(torch.tensor([1.0, 0.0, 1.0], dtype=DOUBLE))
    torch.testing.assert_close(rot @ torch.tensor([1.0, 0, 1], dtype=DOUBLE), torch.tensor([0, 0, 2**0.5]).double())
    assert (rot @ torch.tensor([0, 0, 1.0], dtype=DOUBLE))[0] < 0, "what was ahead is now on the left"


def test_convention_world_to_camera():
    """Convention: x_cam = R x_world + t. A camera 2 m behind the origin of a y-down world sees the origin 2 m ahead."""
    rigid = Rigid(rot=torch.eye(3), trans_m=torch.tensor([0.0, 0, 2]))
    torch.testing.assert_close(rigid.apply(torch.zeros(1, 3)), torch.tensor([[0.0, 0, 2]]))
    torch.testing.assert_close(rigid.inverse().trans_m, torch.tensor([0.0, 0, -2]))


def test_convention_pixels_grow_right_and_down():
    """Convention: camera +x right, +y down, +z forward; u = fx x/z + cx, v = fy y/z + cy."""
    lens = Pinhole.of(torch.tensor([1000.0, 900, 500, 400]))
    px = project(torch.tensor([[0.1, 0.2, 2.0]]), lens)
    torch.testing.assert_close(px, torch.tensor([[550.0, 490.0]]))


def test_convention_distortion_is_k1_k2_k3_p1_p2_of_human36m():
    """Convention: radial first, p1 with y and p2 with x, cross terms once (OpenCV has them twice)."""
    ray = torch.tensor([[0.5, 0.25]], dtype=DOUBLE)
    r2 = 0.3125
    want = {
        0: (1 + r2, 1 + r2),
        1: (1 + r2**2, 1 + r2**2),
        2: (1 + r2**3, 1 + r2**3),
        3: (1 + 0.25, (0.25 * (1 + 0.25) + r2) / 0.25),  # p1
        4: ((0.5 * (1 + 0.5) + r2) / 0.5, 1 + 0.5),  # p2
    }
    for index, (x, y) in want.items():
        coefficients = torch.zeros(5, dtype=DOUBLE)
        coefficients[index] = 1.0
        got = distort(ray, coefficients)[0]
        assert got.tolist() == pytest.approx([0.5 * x, 0.25 * y], rel=1e-12), f"coefficient {index}"


def test_convention_w0_is_xyz_euler_angles_and_a_position_in_millimetres(tmp_path):
    """Convention: R = Rx(a) Ry(b) Rz(c), X_cam = R (X_world - T); cameras vary slowest, then subjects."""
    w0 = np.zeros(300)
    camera, subject = 2, 9
    w0[6 * (camera * 11 + subject - 1) :][:6] = [np.pi / 2, 0.0, np.pi / 2, 1000.0, 2000.0, 3000.0]
    w0[264 + 9 * camera :][:9] = np.arange(1, 10)
    (tmp_path / "metadata.xml").write_text(f"<w0>[{' '.join(map(str, w0))}]</w0>")
    found = read_metadata(tmp_path / "metadata.xml")["S9"][camera]
    # Rz(90) takes x to y, then Rx(90) takes y to z: the world's x is the camera's z.
    want = torch.tensor([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]], dtype=DOUBLE)
    torch.testing.assert_close(found.world_to_cam.rot, want)
    at_camera = found.world_to_cam.apply(torch.tensor([[1.0, 2, 3], [2.0, 2, 3]], dtype=DOUBLE))
    torch.testing.assert_close(at_camera, torch.tensor([[0.0, 0, 0], [0, 0, 1]], dtype=DOUBLE))
    assert found.pinhole.focal_px.tolist() == [1.0, 2.0]
    assert found.pinhole.centre_px.tolist() == [3.0, 4.0]
    assert found.pinhole.distortion.tolist() == [5.0, 6.0, 7.0, 8.0, 9.0]


def test_convention_local_rotations_multiply_down_the_chain_and_the_root_is_the_worlds():
    """Convention: world[j] = world[parent] @ local[j]; the root keeps its rest position."""
    rest = torch.tensor([[[0.0, 1, 0], [0, 2, 0], [0, 3, 0]]], dtype=DOUBLE)
    x, z = (from_axis_angle(torch.tensor(a, dtype=DOUBLE)) for a in ([torch.pi / 2, 0, 0], [0, 0, torch.pi / 2]))
    local = torch.stack((z, x, torch.eye(3, dtype=DOUBLE)))[None]
    world, joints = forward_kinematics(local, rest, (-1, 0, 1))
    torch.testing.assert_close(world[0, 1], z @ x)
    # Up turned about z points to -x; the second bone, turned about x first, points forward (+z).
    torch.testing.assert_close(joints[0], torch.tensor([[0.0, 1, 0], [-1, 1, 0], [-1, 1, 1]], dtype=DOUBLE))


def test_convention_transl_is_added_last():
    """Convention: the pelvis lies at its rest position plus `transl`, whatever the global rotation."""
    body = load_body()
    rot = torch.eye(3).repeat(1, 24, 1, 1)
    rot[0, 0] = from_axis_angle(torch.tensor([0.4, 1.0, -2.0]))
    moved = skin(body, rot, torch.zeros(1, 10), torch.tensor([[1.0, 2, 3]]))
    rest = rest_joints(body, torch.zeros(1, 10))
    torch.testing.assert_close(moved.joints_m[:, 0], rest[:, 0] + torch.tensor([[1.0, 2, 3]]))


def test_convention_smallest_rotation_takes_start_to_end_as_columns():
    """Convention: R @ start = end for unit vectors, about their common perpendicular."""
    rot = smallest_rotation(np.array([2.0, 0, 0]), np.array([0.0, 3, 0]))
    np.testing.assert_allclose(rot, [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-12)
    back = smallest_rotation(np.array([0.0, 1, 0]), np.array([0.0, -1, 0]))
    np.testing.assert_allclose(back @ [0, 1, 0], [0, -1, 0], atol=1e-12)
    assert np.linalg.det(back) == pytest.approx(1.0)


def test_convention_bvh_channels_multiply_left_to_right(tmp_path):
    """Convention: Zrotation Xrotation means R = Rz Rx: the last channel turns first."""
    path = tmp_path / "a.bvh"
    path.write_text(
        "HIERARCHY\nROOT Hips\n{\nOFFSET 0 0 0\nCHANNELS 5 Xposition Yposition Zposition Zrotation Xrotation\n"
        "JOINT Tip\n{\nOFFSET 0 1 0\nCHANNELS 0\nEnd Site\n{\nOFFSET 0 1 0\n}\n}\n}\n"
        "MOTION\nFrames: 1\nFrame Time: .1\n0 0 0 90 90\n"
    )
    bvh = parse_bvh(path)
    rotations, positions = bvh_world(bvh)
    np.testing.assert_allclose(rotations[0, 0], [[0, 0, 1], [1, 0, 0], [0, 1, 0]], atol=1e-12)
    np.testing.assert_allclose(positions[0, 1], [0, 0, 1], atol=1e-12)  # +y turned about x is +z, and stays


def test_convention_metrics_do_not_depend_on_the_frame():
    """Convention: prediction and target share a frame, and any common rotation of it gives the same numbers."""
    target = torch.randn(5, 17, 3, dtype=DOUBLE)
    pred = target + 0.1 * torch.randn(5, 17, 3, dtype=DOUBLE)
    rot = from_axis_angle(torch.tensor([0.3, -1.2, 2.0], dtype=DOUBLE))
    valid = torch.ones(5, 17, dtype=torch.bool)
    for _, metric in METRICS.values():
        torch.testing.assert_close(
            metric(pred @ rot.mT, target @ rot.mT, valid, (0,)), metric(pred, target, valid, (0,))
        )


def test_convention_left_is_the_persons_left_in_every_joint_set():
    """Convention: published joint orders, literally. Human3.6M-17 lists the right leg first, COCO the left side."""
    assert H36M17.joints[1:7] == ("r_hip", "r_knee", "r_ankle", "l_hip", "l_knee", "l_ankle")
    assert H36M17.joints[11:17] == ("l_shoulder", "l_elbow", "l_wrist", "r_shoulder", "r_elbow", "r_wrist")
    assert COCO17.joints[5:7] == ("l_shoulder", "r_shoulder")
    assert BLAZEPOSE33.joints[11:13] == ("l_shoulder", "r_shoulder")
    kept = (0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27)  # VideoPose3D's selection of 17 from 32
    assert tuple(H36M32.joints[i] for i in kept) == H36M17.joints
