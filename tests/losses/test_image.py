import pytest
import torch

from aign.losses.image import masked_mean_square, mean_square


def test_a_value_per_picture():
    a, b = torch.rand(4, 3, 8, 8), torch.rand(4, 3, 8, 8)
    assert mean_square(a, b).tolist() == pytest.approx(
        [float(((x - y) ** 2).mean()) for x, y in zip(a, b, strict=True)]
    )


def test_pixels_that_do_not_count_do_not_matter():
    a, b = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    weight = torch.zeros(2, 1, 8, 8)
    weight[:, :, :4] = 1
    want = mean_square(a[:, :, :4], b[:, :, :4])
    assert masked_mean_square(a, b, weight) == pytest.approx(want)
    b[:, :, 4:] = 1e6
    assert masked_mean_square(a, b, weight) == pytest.approx(want)


def test_an_empty_mask_gives_0_with_a_gradient():
    a = torch.rand(2, 3, 8, 8, requires_grad=True)
    loss = masked_mean_square(a, torch.rand(2, 3, 8, 8), torch.zeros(2, 1, 8, 8))
    loss.sum().backward()
    assert loss.tolist() == [0, 0]
    assert (a.grad == 0).all()
