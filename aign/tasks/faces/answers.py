"""Trained generators on pictures as files hold them: 8 bits a channel in, 8 bits a channel out."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from aign.tasks.faces.inpainting import Inpainter
from aign.tasks.faces.superresolution import resolver_of

CHUNK = 64


def enlarged(
    net: nn.Module, low: UInt8[np.ndarray, "n l l 3"], device: torch.device | None = None
) -> UInt8[np.ndarray, "n s s 3"]:
    """Pictures of four times the side, imagined by a generator of super-resolution."""
    resolver = resolver_of(net)
    return _answered(resolver, (_planes(low),), resolver.enlarge, device)


def filled(
    net: nn.Module,
    pictures: UInt8[np.ndarray, "n s s 3"],
    hole: Bool[np.ndarray, "n s s"],
    device: torch.device | None = None,
) -> UInt8[np.ndarray, "n s s 3"]:
    """Pictures whose hole is imagined by a generator of inpainting; outside of it nothing changes."""
    assert isinstance(net, Inpainter), "a generator of this task"
    keep = torch.from_numpy(~hole).unsqueeze(1).to(torch.get_default_dtype())
    return _answered(net, (_planes(pictures) * keep, keep), net.fill, device)


def _planes(pictures: UInt8[np.ndarray, "n h w 3"]) -> Float[Tensor, "n 3 h w"]:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).to(torch.get_default_dtype()) / 255


@torch.no_grad()
def _answered(
    net: nn.Module, given: tuple[Tensor, ...], answer: Callable[..., Tensor], device: torch.device | None
) -> UInt8[np.ndarray, "n s s 3"]:
    """Some pictures at a time, on the device of the network unless another is named."""
    where = device or next(net.parameters()).device
    was_training = net.training
    net.eval()
    made = []
    for start in range(0, len(given[0]), CHUNK):
        part = answer(*(values[start : start + CHUNK].to(where) for values in given))
        made.append((part.clamp(0, 1) * 255).round().to(torch.uint8).cpu())
    net.train(was_training)
    whole = torch.cat(made) if made else torch.zeros(0, 3, *given[0].shape[2:], dtype=torch.uint8)
    return np.ascontiguousarray(whole.permute(0, 2, 3, 1).numpy())
