"""Which side a person shows: the cheapest way through the frames, and frames taken apart."""

import itertools

import pytest
import torch

from aign.evaluation.baselines.body_start import apart, cheapest, nearest_known
from aign.geometry.skeleton import SMPL24
from aign.tasks.motion_capture.adaptation import Windows, evidence_of
from tests.tasks.captured import BODY, clips_of, cut


@pytest.mark.parametrize("weight", [0.0, 0.3, 10.0])
def test_the_way_is_the_cheapest_of_all(weight):
    cost, jump = torch.rand(5, 3), weight * torch.rand(4, 3, 3)

    def price(way):
        steps = sum(jump[i, a, b] for i, (a, b) in enumerate(itertools.pairwise(way)))
        return float(steps + sum(cost[i, side] for i, side in enumerate(way)))

    best = min(itertools.product(range(3), repeat=5), key=price)
    assert cheapest(cost, jump).tolist() == list(best)


def test_dear_jumps_keep_one_side():
    cost, jump = torch.rand(6, 4), 100 * (1 - torch.eye(4)).expand(5, 4, 4)
    assert cheapest(cost, jump).tolist() == [int(cost.sum(0).argmin())] * 6


def test_one_frame_takes_its_best_side():
    assert cheapest(torch.tensor([[0.3, 0.1, 0.2]]), torch.zeros(0, 3, 3)).tolist() == [1]


def test_a_frame_without_keypoints_is_as_the_nearest_with_some():
    known = torch.tensor([False, False, True, False, False, False, True])
    assert nearest_known(known).tolist() == [2, 2, 2, 2, 2, 6, 6]


def test_frames_apart_keep_their_keypoints_and_the_crop_of_all(people_store):
    clip = cut(clips_of(people_store)[0], 4)
    zero = torch.zeros(1, dtype=torch.int64)
    evidence = evidence_of(clip, SMPL24, {"keypoints": 1.0})
    seen = evidence.observe(Windows(starts=zero, length=4, seed=zero), 8, BODY)
    each = apart(seen)
    assert each.evidence is None
    assert torch.equal(each.target_px, seen.target_px.transpose(0, 1))
    assert torch.equal(each.crop_xyxy_px, seen.crop_xyxy_px.expand(4, 4))
    assert torch.equal(each.intrinsics_px, seen.intrinsics_px.expand(4, 4))
    assert not each.labels.weight.any()
