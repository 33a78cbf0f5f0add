import torch

from aign.data.counter import normal, uniform


def test_known_value_of_splitmix64():
    """The finaliser is splitmix64's: checked against the definition in plain integers."""
    mask, seed, lane = (1 << 64) - 1, 12345, 1 + (2 << 32)
    x = (seed * 0xBF58476D1CE4E5B9 + lane * 0x9E3779B97F4A7C15) & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    want = ((x ^ (x >> 31)) >> 40) / (1 << 24)
    assert uniform(torch.tensor([seed]), 1, purpose=2).item() == want


def test_a_sample_has_its_own_numbers_whatever_the_batch():
    seeds = torch.arange(100)
    whole = uniform(seeds, 5, purpose=0)
    assert torch.equal(whole[40:60], uniform(seeds[40:60], 5, purpose=0))
    assert not torch.equal(whole, uniform(seeds, 5, purpose=1))


def test_distributions():
    seeds = torch.arange(20000)
    u, n = uniform(seeds, 4, 0), normal(seeds, 4, 0)
    assert u.min() >= 0
    assert u.max() < 1
    torch.testing.assert_close(u.mean(0), torch.full((4,), 0.5), atol=0.01, rtol=0)
    torch.testing.assert_close(u.T.corrcoef(), torch.eye(4), atol=0.03, rtol=0)
    torch.testing.assert_close(n.mean(0), torch.zeros(4), atol=0.03, rtol=0)
    torch.testing.assert_close(n.std(0), torch.ones(4), atol=0.03, rtol=0)
    assert abs(torch.stack((u[1:, 0], u[:-1, 0])).corrcoef()[0, 1]) < 0.03
