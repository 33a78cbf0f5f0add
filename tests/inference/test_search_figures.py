"""Pictures of a search: there, of one width, and drawn of what is there."""

import math

import cv2
import numpy as np
import pytest

from aign.evaluation.importance import importance
from aign.evaluation.trials import Goal, Metric, Search, Trial
from aign.inference.search_figures import conflict_figure, pareto_figure, search_figure

RANGES = {"fit.lr": (1e-4, 1e-2), "task.weights.pose": (0.01, 1.0), "task.weights.camera": (0.002, 0.2)}

GOAL = Goal(
    metric=Metric(name="val/mpjpe_mm"), traded=(Metric(name="val/reprojection_px"), Metric(name="val/flip_rate"))
)


def trials(count, seed=0):
    rng = np.random.default_rng(seed)
    for number in range(count):
        values = {n: float(np.exp(rng.uniform(math.log(a), math.log(b)))) for n, (a, b) in RANGES.items()}
        error = 60 + 40 * abs(math.log10(values["fit.lr"] / 2e-3)) + 4 * rng.uniform()
        stopped = error > 85 and number
        metrics = {"val/mpjpe_mm": error, "val/flip_rate": 6 / error + 0.02 * rng.uniform(),
                   "val/reprojection_px": 3 + 4 * rng.uniform()}  # fmt: skip
        yield Trial(
            number=number, values=values, state="stopped" if stopped else "complete", step=10 if stopped else 90,
            metrics=metrics, cosines={"pose|camera": 0.8, "pose|supervised": -0.7, "camera|supervised": 0.01},
        )  # fmt: skip


def made(count):
    return Search(
        recipe="lifting-demo", goal=GOAL, steps=90, held="task.weights.supervised", ranges=RANGES,
        trials=tuple(trials(count)),
    )  # fmt: skip


def drawn(path):
    image = cv2.imread(str(path))
    assert image is not None
    return image


@pytest.mark.parametrize("count", [1, 24])
def test_the_pictures_are_there(tmp_path, count):
    search = made(count)
    found = importance(search)
    search_figure(tmp_path / "figure.png", search, found)
    pareto_figure(tmp_path / "pareto.png", made(max(count, 2)))
    conflict_figure(tmp_path / "conflicts.png", search)
    for name in ("figure.png", "pareto.png"):
        assert drawn(tmp_path / name).shape[1] == 1200
    assert (drawn(tmp_path / "figure.png").shape[0] > 650) == (found is not None), "bars where something is known"
    reds = drawn(tmp_path / "conflicts.png").astype(int)
    assert ((reds[..., 2] - reds[..., 0]) > 80).sum() > 1000, "what pulls against each other is red"
    assert ((reds[..., 0] - reds[..., 2]) > 80).sum() > 1000, "what pulls together is blue"
