"""Training: `fit`, its state, its checkpoints and the hooks that say where it runs."""

from aign.training.fit import FitConfig, FitResult, fit
from aign.training.hooks import Hooks, LocalHooks

__all__ = ["FitConfig", "FitResult", "Hooks", "LocalHooks", "fit"]
