"""Each term alone pulls a body back that was shifted 10 cm or has a limb turned by 0.3 rad: Adam, 60 steps.

What the picture shows is made by the rasteriser from the true pose; the terms see that and the moved pose only.
"""

import pytest
import torch

from aign.losses.motion import motion
from aign.losses.points import robust_distance
from aign.losses.silhouette import distance_maps, two_sided
from tests.losses.scene import LENS, dancer, descend, flow_of, mask_of, pixels, visible_of

SHIFTED = {"by_m": (0.08, 0.06, 0.0)}


def turned(joint):
    return {"joint": joint, "turn_rad": 0.3}


def error_px(pose, true):
    """Mean distance of all vertices in the picture."""
    return (pixels(pose.vertices_cam_m()) - pixels(true.vertices_cam_m())).norm(dim=-1).mean().item()


# A silhouette says little of what moves in front of the body and nothing of what it hides, so limbs that stand out.
@pytest.mark.parametrize(
    ("frame", "wrong", "free"),
    [
        (0, SHIFTED, None),
        (30, SHIFTED, None),
        (30, turned("l_shoulder"), "l_shoulder"),
        (60, turned("r_hip"), "r_hip"),
    ],
)
def test_segmentation(frame, wrong, free):
    true = dancer(frame)
    mask = mask_of(true)
    distance_px = torch.from_numpy(distance_maps(mask.numpy()))

    def loss(pose):
        return two_sided(pixels(pose.vertices_cam_m()), visible_of(pose).float(), mask, distance_px, 512)

    def overlap(pose):
        drawn = mask_of(pose)
        return ((drawn & mask).sum() / (drawn | mask).sum()).item()

    start = true.moved(**wrong)
    end = descend(start, loss, joint=free)
    assert error_px(end, true) < error_px(start, true) / 2
    assert 1 - overlap(end) < (1 - overlap(start)) / 2


@pytest.mark.parametrize("wrong", [SHIFTED, turned("l_shoulder"), turned("r_hip")])
def test_motion(wrong):
    true, then = dancer(0), dancer(3)
    points_px, visible, flow_px = pixels(true.vertices_cam_m()), visible_of(true), flow_of(true, then)
    ok = torch.ones(1, LENS.height, LENS.width, dtype=torch.bool)

    def loss(pose):
        return motion(points_px, pixels(pose.vertices_cam_m()), visible, flow_px, ok)

    start = then.moved(**wrong)
    assert error_px(descend(start, loss), then) < error_px(start, then) / 2


@pytest.mark.parametrize("wrong", [SHIFTED, turned("l_shoulder"), turned("r_hip")])
def test_keypoints_of_which_one_is_far_off(wrong):
    true = dancer(0)
    target_px = pixels(true.skinned().joints_m[0])
    target_px[0, 20] += 60.0  # a wrist taken for somebody else's

    def loss(pose):
        return robust_distance(pixels(pose.skinned().joints_m[0]), target_px, torch.ones(1, 24), 10.0)

    start = true.moved(**wrong)
    assert error_px(descend(start, loss), true) < error_px(start, true) / 2
