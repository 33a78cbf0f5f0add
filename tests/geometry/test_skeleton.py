import re

import pytest
import torch

from aign.framework.errors import UserError
from aign.geometry.skeleton import (
    BLAZEPOSE33,
    COCO17,
    H36M17,
    H36M32,
    LSP14,
    MPII16,
    SKELETONS,
    SMPL24,
    convert,
    convert_confidence,
    skeleton,
)


@pytest.mark.parametrize("name", SKELETONS)
def test_every_skeleton_is_one_tree(name):
    s = SKELETONS[name]
    assert len(set(s.joints)) == len(s.joints) == len(s.parents) == int(re.search(r"\d+$", name)[0])
    assert sum(p < 0 for p in s.parents) == 1
    for joint in range(len(s)):
        ancestor, steps = joint, 0
        while s.parents[ancestor] >= 0:
            ancestor, steps = s.parents[ancestor], steps + 1
            assert steps < len(s)


@pytest.mark.parametrize("name", SKELETONS)
def test_mirroring_twice_changes_nothing_and_once_swaps_sides(name):
    s = SKELETONS[name]
    order = list(s.mirrored)
    assert [order[i] for i in order] == list(range(len(s)))
    for j, m in enumerate(order):
        if s.joints[j].startswith("l_"):
            assert s.joints[m] == "r_" + s.joints[j][2:]


def test_h36m17_is_the_published_selection_of_the_raw_32():
    picked = [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]
    joints = torch.randn(5, 32, 3)
    got, valid = convert(joints, H36M32, H36M17)
    assert valid.all()
    assert torch.equal(got, joints[:, picked])


def test_lsp14_is_the_published_selection_of_h36m17():
    joints = torch.randn(17, 3)
    want = joints[[3, 2, 1, 4, 5, 6, 16, 15, 14, 11, 12, 13, 8, 10]]
    got, valid = convert(joints, H36M17, LSP14)
    assert valid.all()
    assert torch.equal(got, want)


def test_coco_from_blazepose_is_the_published_selection():
    joints = torch.randn(33, 2)
    got, valid = convert(joints, BLAZEPOSE33, COCO17)
    assert valid.all()
    assert torch.equal(got, joints[[0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28]])


def test_what_the_source_lacks_is_invalid_and_zero_not_invented():
    got, valid = convert(torch.ones(1, 33, 2), BLAZEPOSE33, H36M17)
    (head,) = H36M17.index("head_top")
    assert valid.tolist() == [j != head for j in range(17)]
    assert (got[0, head] == 0).all()


def test_pelvis_and_spine_are_midpoints():
    joints = torch.zeros(17, 3)
    joints[COCO17.index("l_hip", "r_hip")] = torch.tensor([[2.0, 0, 0], [0.0, 0, 0]])
    joints[COCO17.index("l_shoulder", "r_shoulder")] = torch.tensor([[1.0, 4, 0], [1.0, 4, 0]])
    got, _ = convert(joints, COCO17, H36M17)
    pelvis, spine, thorax = got[H36M17.index("pelvis", "spine", "thorax")]
    torch.testing.assert_close(pelvis, torch.tensor([1.0, 0, 0]))
    torch.testing.assert_close(thorax, torch.tensor([1.0, 4, 0]))
    torch.testing.assert_close(spine, torch.tensor([1.0, 2, 0]))


def test_mpii16_is_the_published_order_and_lacks_the_nose():
    joints = torch.randn(16, 2)
    got, valid = convert(joints, MPII16, H36M17)
    want = joints[[6, 2, 1, 0, 3, 4, 5, 7, 8, 9, 13, 14, 15, 12, 11, 10]]
    (nose,) = H36M17.index("nose")
    others = [j for j in range(17) if j != nose]
    assert valid.tolist() == [j != nose for j in range(17)]
    assert torch.equal(got[others], want)
    # Left and right as VideoPose3D's files list them.
    assert {j for j, name in enumerate(MPII16.joints) if name.startswith("l_")} == {3, 4, 5, 13, 14, 15}


def test_confidence_is_that_of_the_weakest_part():
    conf = torch.rand(3, 17)
    got = convert_confidence(conf, COCO17, H36M17)
    hips = conf[:, COCO17.index("l_hip", "r_hip")]
    assert torch.equal(got[:, 0], hips.amin(-1))
    assert (got[:, H36M17.index("head_top")[0]] == 0).all()


def test_smpl_gives_every_limb_of_h36m17():
    _, valid = convert(torch.randn(24, 3), SMPL24, H36M17)
    assert not valid[H36M17.index("nose", "head_top")].any()
    assert valid.sum() == 15


def test_unknown_names_say_what_is_known():
    with pytest.raises(UserError, match="known: h36m17"):
        skeleton("h36m18")
    with pytest.raises(UserError, match="no joint"):
        H36M17.index("l_toe")
