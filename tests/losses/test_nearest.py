"""The grid finds what trying every point finds."""

import pytest
import torch

from aign.losses.nearest import nearest, nearest_plain


def squares(queries, points, index):
    return (points.gather(1, index[..., None].expand(-1, -1, 2)) - queries).square().sum(-1)


def check(queries, points, allowed):
    found, plain = nearest(queries, points, allowed), nearest_plain(queries, points, allowed)
    assert torch.equal(squares(queries, points, found), squares(queries, points, plain))
    assert allowed.gather(1, found)[allowed.any(1)].all()


@pytest.mark.parametrize("shift", [0.0, 30.0, 200.0, -1e4])
def test_distances_are_exactly_those_of_trying_every_point_with_many_ties(shift):
    # Halves of a pixel: float32 makes no error in any of these distances, and many of them are equal.
    queries = torch.randint(0, 128, (3, 200, 2)).float()
    points = torch.randint(0, 160, (3, 700, 2)) / 2 + shift
    check(queries, points, torch.rand(3, 700) < 0.7)


@pytest.mark.parametrize("spread", [1e-3, 1.0, 40.0, 1e5])
def test_finds_the_nearest_of_irregular_points(spread):
    queries, points = 128 * torch.rand(4, 300, 2), 64 + spread * torch.randn(4, 2000, 2)
    allowed = torch.rand(4, 2000) < 0.5
    found, plain = nearest(queries, points, allowed), nearest_plain(queries, points, allowed)
    torch.testing.assert_close(
        squares(queries, points, found), squares(queries, points, plain), rtol=2e-6, atol=1e-7 * spread
    )


@pytest.mark.parametrize("far", [1e6, 1e30, torch.inf, -torch.inf, torch.nan])
def test_outliers_neither_win_nor_break_anything(far):
    queries, points = torch.randint(0, 99, (2, 50, 2)).float(), torch.randint(0, 99, (2, 400, 2)).float()
    expected = squares(queries, points, nearest(queries, points, torch.ones(2, 400, dtype=torch.bool)))
    with_far = torch.cat((points, torch.full((2, 3, 2), far)), 1)
    for find in (nearest, nearest_plain):
        found = find(queries, with_far, torch.ones(2, 403, dtype=torch.bool))
        assert torch.equal(squares(queries, points, found), expected)


def test_few_queries_one_point_one_place_and_none():
    points = torch.randint(0, 99, (1, 50, 2)).float()
    everyone = torch.ones(1, 50, dtype=torch.bool)
    check(torch.tensor([[[400.0, -3.0]]]), points, everyone)
    check(torch.randint(0, 99, (1, 9, 2)).float(), points[:, :1], everyone[:, :1])
    check(torch.zeros(1, 5, 2), torch.zeros(1, 50, 2), everyone)
    check(torch.full((1, 3, 2), 7.0), points, everyone)
    for find in (nearest, nearest_plain):
        assert torch.equal(find(torch.rand(1, 3, 2), points, ~everyone), torch.zeros(1, 3, dtype=torch.int64))
        assert find(torch.zeros(1, 0, 2), points, everyone).shape == (1, 0)
        assert find(torch.zeros(0, 4, 2), points[:0], everyone[:0]).shape == (0, 4)


def test_queries_that_are_not_numbers_do_no_harm():
    queries = torch.tensor([[[torch.nan, 1.0], [3.0, 4.0], [torch.inf, 2.0]]])
    points = torch.rand(1, 300, 2) * 9
    found = nearest(queries, points, torch.ones(1, 300, dtype=torch.bool))
    assert found[0, 1] == (points[0] - queries[0, 1]).norm(dim=-1).argmin()


def test_samples_do_not_touch_and_the_order_of_points_does_not_matter():
    queries, points = 99 * torch.rand(3, 40, 2), 99 * torch.rand(3, 500, 2)
    allowed = torch.rand(3, 500) < 0.5
    whole = nearest(queries, points, allowed)
    assert torch.equal(whole[1:2], nearest(queries[1:2], points[1:2], allowed[1:2]))
    order = torch.randperm(500)
    assert torch.equal(order[nearest(queries, points[:, order], allowed[:, order])], whole)


def test_the_plain_one_in_pieces_equals_it_whole(monkeypatch):
    queries, points = 99 * torch.rand(2, 40, 2), 99 * torch.rand(2, 500, 2)
    allowed = torch.ones(2, 500, dtype=torch.bool)
    whole = nearest_plain(queries, points, allowed)
    monkeypatch.setattr("aign.losses.nearest.DISTANCES", 7000)
    assert torch.equal(nearest_plain(queries, points, allowed), whole)
