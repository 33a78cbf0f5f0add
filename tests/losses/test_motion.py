import math

import pytest
import torch
from torch.autograd import gradcheck

from aign.losses.motion import NOISE_PX, consistent, flow_at, motion

D = torch.float64
H, W = 12, 15


def pictures(n=2, dtype=D):
    return 2 * torch.randn(n, H, W, 2, dtype=dtype), torch.rand(n, H, W) < 0.9


def flow_reference(x, y, flow, ok):
    """One point, pixel by pixel."""
    if not (0 <= x <= W - 1 and 0 <= y <= H - 1):
        return None
    x0, y0 = min(int(x), W - 2), min(int(y), H - 2)
    total = torch.zeros(2, dtype=D)
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        if not ok[y0 + i, x0 + j]:
            return None
        total += (1 - abs(y - y0 - i)) * (1 - abs(x - x0 - j)) * flow[y0 + i, x0 + j]
    return total


def test_flow_at_equals_the_reference():
    flow, ok = pictures()
    points = torch.rand(2, 200, 2, dtype=D) * torch.tensor([W + 4, H + 4]) - 2
    points[:, :5] = torch.tensor([[0, 0], [W - 1, H - 1], [W - 1, 3], [3, H - 1], [4.0, 5.0]], dtype=D)
    got, weight = flow_at(points, flow, ok)
    for n in range(2):
        for v, (x, y) in enumerate(points[n].tolist()):
            expected = flow_reference(x, y, flow[n], ok[n])
            assert weight[n, v] == (expected is not None)
            torch.testing.assert_close(got[n, v], torch.zeros(2, dtype=D) if expected is None else expected)
    assert 0.2 < weight.mean() < 0.8


def test_convention_flow_is_x_right_and_y_down_from_the_top_left_pixel():
    flow = torch.zeros(1, H, W, 2)
    flow[0, 2, 7] = torch.tensor([3.0, -1.0])
    got, weight = flow_at(torch.tensor([[[7.0, 2.0], [2.0, 7.0]]]), flow, torch.ones(1, H, W, dtype=torch.bool))
    assert got[0].tolist() == [[3.0, -1.0], [0.0, 0.0]]
    assert weight.all()


def test_what_the_flow_holds_where_it_is_not_ok_does_not_matter():
    flow, ok = pictures()
    points = (torch.rand(2, 99, 2, dtype=D) * 11).requires_grad_()
    hidden = flow.masked_fill(~ok[..., None], torch.nan)
    for one, other in zip(flow_at(points, flow, ok), flow_at(points, hidden, ok), strict=True):
        assert torch.equal(one, other)
    visible = torch.ones(2, 99, dtype=torch.bool)
    (grad,) = torch.autograd.grad(motion(points, points + 1, visible, hidden, ok).sum(), points)
    assert grad.isfinite().all()


def test_motion_equals_the_reference():
    flow, ok = pictures()
    points, moved = (torch.rand(2, 50, 2, dtype=D) * 16 - 1 for _ in range(2))
    visible = torch.rand(2, 50) < 0.6
    got = motion(points, moved, visible, flow, ok)
    for n in range(2):
        total = 0.0
        for v in range(50):
            known = flow_reference(*points[n, v].tolist(), flow[n], ok[n])
            if visible[n, v] and known is not None:
                gap = (moved[n, v] - points[n, v] - known).norm().item()
                total += math.sqrt(gap**2 + NOISE_PX**2) - NOISE_PX
        assert abs(got[n].item() - total / visible[n].sum().item()) < 1e-9


def test_gradcheck_of_both_frames():
    flow, ok = pictures()
    points = (torch.rand(2, 20, 2, dtype=D) * 14 - 1).requires_grad_()
    moved = (torch.rand(2, 20, 2, dtype=D) * 14 - 1).requires_grad_()
    visible = torch.rand(2, 20) < 0.7
    assert gradcheck(lambda p, m: motion(p, m, visible, flow, ok), (points, moved), eps=1e-7)


@pytest.mark.parametrize("place", [(0.0, 0.0), (4.0, 5.0), (W - 1.0, 2.0), (W - 1.0, H - 1.0), (W - 0.5, 2.0)])
def test_ugly_places_have_finite_gradients_and_the_true_motion_none(place):
    flow = torch.ones(1, H, W, 2, dtype=D)
    points = torch.tensor([[place]], dtype=D, requires_grad=True)
    moved = (points.detach() + 1).requires_grad_()
    ok, visible = torch.ones(1, H, W, dtype=torch.bool), torch.ones(1, 1, dtype=torch.bool)
    loss = motion(points, moved, visible, flow, ok)
    assert loss.item() == 0
    for grad in torch.autograd.grad(loss.sum(), (points, moved)):
        assert torch.equal(grad, torch.zeros_like(grad))


def test_nothing_visible_or_nothing_known_is_zero_with_a_gradient_of_zero():
    flow, ok = pictures(dtype=torch.float32)
    points = (torch.rand(2, 9, 2) * 12).requires_grad_()
    seen, unseen = torch.ones(2, 9, dtype=torch.bool), torch.zeros(2, 9, dtype=torch.bool)
    for visible, valid in ((unseen, ok), (seen, torch.zeros_like(ok))):
        loss = motion(points, 2 * points, visible, flow, valid)
        assert torch.equal(loss, torch.zeros(2))
        (grad,) = torch.autograd.grad(loss.sum(), points)
        assert torch.equal(grad, torch.zeros_like(grad))


@pytest.mark.parametrize("bad", [1e25, torch.inf, torch.nan])
def test_a_vertex_that_has_run_away_gives_no_nan(bad):
    flow, ok = pictures(n=1, dtype=torch.float32)
    points = torch.rand(1, 6, 2) * 9
    points[0, 2] = bad
    points.requires_grad_()
    loss = motion(points, points.detach() + 1, torch.ones(1, 6, dtype=torch.bool), flow, ok)
    (grad,) = torch.autograd.grad(loss.sum(), points)
    assert loss.isfinite().all()
    assert grad.isfinite().all()


def test_order_does_not_matter_and_less_evidence_says_less():
    flow = torch.zeros(1, H, W, 2)
    ok = torch.ones(1, H, W, dtype=torch.bool)
    points = torch.rand(1, 40, 2) * 10
    moved, visible = points + torch.rand(1, 40, 2), torch.rand(1, 40) < 0.5
    order = torch.randperm(40)
    whole = motion(points, moved, visible, flow, ok)
    torch.testing.assert_close(motion(points[:, order], moved[:, order], visible[:, order], flow, ok), whole)
    ok[:, :6] = False
    assert motion(points, moved, visible, flow, ok) < whole


def shifted(by):
    """A flow that moves everything by whole pixels, and its inverse."""
    flow = torch.zeros(1, H, W, 2)
    flow[...] = torch.tensor(by)
    return flow, torch.ones(1, H, W, dtype=torch.bool)


def test_consistent_where_there_and_back_meet_inside_of_the_picture():
    flow, valid = shifted((2.0, -1.0))
    assert consistent(flow, valid, -flow, valid)[0].tolist() == [
        [y >= 1 and x + 2 <= W - 1 for x in range(W)] for y in range(H)
    ]
    assert not consistent(flow, valid, flow, valid).any()
    assert consistent(flow, valid, -flow + 0.2, valid).any()
    assert not consistent(flow, valid, -flow + 0.5, valid).any()


def test_consistent_needs_both_flows_to_be_valid_and_finite():
    flow, valid = shifted((1.0, 0.0))
    forth, back = valid.clone(), valid.clone()
    forth[0, 3, 4] = back[0, 7, 8] = False
    whole = consistent(flow, valid, -flow, valid)
    lost = {tuple(x) for x in (whole & ~consistent(flow, forth, -flow, back))[0].nonzero().tolist()}
    # A target on a pixel's centre is still between four pixels, so that a hole reaches one further left and up.
    assert lost == {(3, 4), (7, 7), (7, 6), (6, 7), (6, 6)}
    flow[0, 5, 5] = torch.nan
    assert not consistent(flow, valid, -flow.nan_to_num(), valid)[0, 5, 5]
