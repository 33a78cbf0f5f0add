"""Networks in bfloat16."""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn


class InBfloat16(nn.Module):
    """A network whose convolutions and matrix products are computed in bfloat16; its answers are float32 again.

    Its parameters stay as they are, float32, and so do their gradients: nothing has to be scaled, because bfloat16 has
    float32's exponents.

    Args:
        net: gives a tensor, or a dataclass of tensors.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Any) -> Any:
        """As the network, with eight bits of mantissa in between."""
        device = next(self.net.parameters()).device
        with torch.autocast(device.type, torch.bfloat16):
            y = self.net(x)
        if isinstance(y, Tensor):
            return _widened(y)
        return dataclasses.replace(
            y, **{field.name: _widened(getattr(y, field.name)) for field in dataclasses.fields(y)}
        )


def _widened(value: Any) -> Any:
    return value.float() if isinstance(value, Tensor) and value.dtype == torch.bfloat16 else value
