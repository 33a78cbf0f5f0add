"""`BASELINES` is the one table: name, and what makes a method of remembered poses."""

from collections.abc import Callable, Mapping

from torch import Tensor

from aign.evaluation.baselines.exemplar import mean_pose, nearest_pose
from aign.evaluation.baselines.monocap import monocap
from aign.evaluation.lifting import Method

BASELINES: Mapping[str, Callable[[Tensor], Method]] = {
    "mean-pose": mean_pose,
    "nearest-pose": nearest_pose,
    "monocap": monocap,
}
