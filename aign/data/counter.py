"""Random numbers that belong to a sample, not to a process.

Augmentation drawn from a sample's own counter is the same whatever rank handles the sample, so that two ranks equal
one and a resumed run equals an unbroken one.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

_STEP = -7046029254386353131  # 0x9E3779B97F4A7C15, the golden ratio in 64 bits
_MIX = (-4658895280553007687, -7723592293110705685)  # splitmix64's multipliers (Steele et al., OOPSLA 2014)


def _shift_right(x: Int64[Tensor, "*b"], bits: int) -> Int64[Tensor, "*b"]:
    """Logical shift of a signed integer."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def uniform(seed: Int64[Tensor, " b"], count: int, purpose: int) -> Float[Tensor, "b n"]:
    """Count numbers in [0, 1) for each seed, by splitmix64; another `purpose` gives an independent row."""
    lane = torch.arange(1, count + 1, device=seed.device, dtype=torch.int64) + (purpose << 32)
    x = seed.unsqueeze(1) * _MIX[0] + lane * _STEP
    x = (x ^ _shift_right(x, 30)) * _MIX[0]
    x = (x ^ _shift_right(x, 27)) * _MIX[1]
    return (_shift_right(x ^ _shift_right(x, 31), 40)).float() / float(1 << 24)


def normal(seed: Int64[Tensor, " b"], count: int, purpose: int) -> Float[Tensor, "b n"]:
    """Count standard normal numbers for each seed (Box-Muller)."""
    u, v = uniform(seed, 2 * count, purpose).chunk(2, dim=1)
    return (-2 * torch.log1p(-u)).sqrt() * torch.cos(2 * math.pi * v)
