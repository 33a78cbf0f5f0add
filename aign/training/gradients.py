"""Which terms of a training do anything: the gradient that each one gives to the generator's outputs.

A loss can be computed, logged, and do nothing: a weight of 1e-19 (the released code of Tung et al., NIPS 2017, weighs
its silhouettes so), a graph cut by mistake. What counts is how hard it pulls at the factors, beside the others.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor

from aign.framework.aign import Aign

DEAD = 1e-3
"""A term is dead that never reaches this share of the largest term's gradient, on any of the generator's outputs."""
FAINT = 1e-6
"""An output on which nothing reaches this share of the largest gradient anywhere is pulled at by nobody."""


def _outputs(z: Any) -> list[Tensor]:
    """The tensors of the factors that the generator's parameters are reached through."""
    values = [vars(z)[f.name] for f in fields(z)] if is_dataclass(z) else [z]
    return [value for value in values if isinstance(value, Tensor) and value.requires_grad]


def term_products(aign: Aign[Any, Any, Any], losses: Mapping[str, Tensor], z: Any) -> dict[str, Float64[Tensor, "n f"]]:
    """Inner products of the terms' and critics' gradients at each tensor of z: mean over samples of g_i . g_j.

    With g_i = weight_i d(loss_i) / d(output) of a sample. Means of products, so that the mean over the ranks is that of
    the whole batch. The networks are not passed through and no `.grad` is touched; the graph is kept for the step's
    own backward pass.

    Args:
        aign: the problem, for its weights.
        losses: its `generator_losses` at z.
        z: the factors, a tensor or a dataclass with tensors; the first axis counts the samples.

    Returns:
        By name, its products with all n terms in their order, itself among them, for each of the f tensors of z that
        need a gradient; in float64: 1e-19 squared is no float32.
    """
    outputs = _outputs(z)
    pulls: list[list[Tensor]] = []
    for name, loss in losses.items():
        reached: tuple[Tensor | None, ...] = (None,) * len(outputs)
        if loss.requires_grad and outputs:
            reached = torch.autograd.grad(loss.mean(), outputs, retain_graph=True, allow_unused=True)
        found = [torch.zeros_like(out) if g is None else g for g, out in zip(reached, outputs, strict=True)]
        pulls.append([aign.weights[name] * g.double().flatten() for g in found])
    if not outputs:
        return {name: loss.new_zeros(len(losses), 0, dtype=torch.float64) for name, loss in losses.items()}
    # A batch mean holds each sample's gradient divided by their number: times its square, and averaged.
    products = [
        len(out) * (g := torch.stack(flat)) @ g.T for flat, out in zip(zip(*pulls, strict=True), outputs, strict=True)
    ]
    return dict(zip(losses, torch.stack(products, dim=-1), strict=True))


def squares(products: Mapping[str, Float64[Tensor, "n f"]]) -> dict[str, Float64[Tensor, " f"]]:
    """How hard each term pulls at each tensor of z: mean over samples of |g|^2."""
    return {name: row[i] for i, (name, row) in enumerate(products.items())}


def cosines(products: Mapping[str, Float64[Tensor, "n f"]]) -> dict[str, float]:
    """Whether two terms pull the same way (1), apart (-1), or at different things (0), by "one|other".

    Outputs have units of their own, so each counts in that of its largest gradient. A term without any gradient has
    no direction and no cosine. The weights of the two change nothing.
    """
    table = torch.stack(list(products.values()))  # terms by terms by outputs
    if not table.numel():
        return {}
    largest = torch.einsum("iif->if", table).amax(0).clamp_min(torch.finfo(torch.float64).tiny)
    scaled = (table / largest).sum(-1)
    norms = scaled.diagonal().sqrt()
    return {
        f"{one}|{other}": float(scaled[i, j] / (norms[i] * norms[j]))
        for (i, one), (j, other) in combinations(enumerate(products), 2)
        if norms[i] > 0 and norms[j] > 0
    }


def shares(squares: Mapping[str, Float64[Tensor, " f"]]) -> dict[str, float]:
    """Each term's gradient beside the largest one on the same output, on the output where it counts most: 0 to 1.

    Outputs have units of their own (radians, metres) and terms that only they feel, so each is a field of its own.
    """
    table = torch.stack(list(squares.values())).sqrt()  # terms by outputs
    if not table.numel() or not table.any():
        return dict.fromkeys(squares, 0.0)
    largest = table.amax(0).clamp_min(FAINT * float(table.max()))
    return dict(zip(squares, (table / largest).amax(1).tolist(), strict=True))


def louder(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """The largest share of each term so far."""
    return {name: max(share, before.get(name, 0.0)) for name, share in now.items()}


def dead_terms(loudest: Mapping[str, float]) -> tuple[str, ...]:
    """The terms that never counted, given the largest share of each over a run."""
    return tuple(name for name, share in loudest.items() if share < DEAD)


def dead_warning(dead: tuple[str, ...]) -> str:
    """What to tell the user, in one line; "" where every term counts."""
    if not dead:
        return ""
    return (
        f"warning: {', '.join(dead)} had no effect in this run: the gradient stayed under {DEAD:g} of the largest "
        "term's at every logged step; raise the weight, or set it to 0"
    )
