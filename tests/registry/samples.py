"""A small real package, its example frames and scores."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from aign.inference.package import ModelCard, save_package
from aign.registry.gates import Measured, Score, units_hash
from aign.registry.models import Candidate, Registered, register
from aign.registry.tracking import RunFacts, Tracking
from aign.tasks.lifting import LifterConfig, build_lifter

FACTS = RunFacts(recipe="lifting-demo", store_hash="s" * 64, licences=("Apache-2.0", "zlib"), commit="abc1234")
CONFIG = {"name": "lifting-demo", "fit": {"steps": 10, "lr": 3e-4}, "task": {"weights": {"pose": 0.02}}}
SCORE = Score(protocol="open/x", protocol_hash="p1", store_hash="s" * 64, metric="mpjpe_mm", value=80.0)
CARD = ModelCard(
    network=LifterConfig(components=5, width=32, blocks=1),
    recipe=FACTS.recipe,
    store_hash=FACTS.store_hash,
    sequences={"test": ("demo/walk",)},
    licences=FACTS.licences,
    protocol="open/x p1",
    metrics={"mpjpe_mm": 80.0},
)


def score(value: float, **changes) -> Score:
    return replace(SCORE, value=float(value), **changes)


def measured(value: float, spread: float = 0.01, units: int = 12, **changes) -> Measured:
    """Of test sequences that differ by much, and by the same in every model but for `spread`."""
    rng = np.random.default_rng(int(abs(1000 * value)) if np.isfinite(value) else 0)
    own = value + 3.0 * np.arange(units) + spread * rng.standard_normal(units)
    parts = {f"demo/{i}": [float(v - 1.5 * (units - 1)), 1 / units] for i, v in enumerate(own)}
    of = score(value, test=units_hash(parts), **changes)
    return Measured(score=of, numbers={of.metric: float(value), "flip_rate": 0.1}, units={of.metric: parts})


def add(tracking: Tracking, run_id: str, package: Path, name: str, found: Measured, example=None) -> Registered:
    given = frames() if example is None else example
    return register(tracking, Candidate(run_id=run_id, package=package, measured=found, example=given), name)


def make_package(folder: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    save_package(folder, build_lifter(CARD.network, 0.3 * torch.randn(50, 17, 3)), CARD)
    return folder


def frames(n: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "kp2d_px": (500 + 100 * rng.standard_normal((n, 17, 2))).astype(np.float32),
        "kp2d_conf": rng.uniform(0.5, 1, (n, 17)).astype(np.float32),
        "intrinsics_px": np.tile(np.float32((1145, 1144, 512, 515)), (n, 1)),
    }
