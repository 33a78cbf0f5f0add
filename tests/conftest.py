"""What every test needs: a fixed seed and one thread, so that a failure comes again."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _repeatable():
    torch.manual_seed(0)
    torch.set_num_threads(1)
