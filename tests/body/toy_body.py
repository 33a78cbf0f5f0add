"""Bodies in the layout of an SMPL file: a toy of few vertices, and one with all the numbers of SMPL's shape."""

import numpy as np

from aign.body.assets import DEFAULT_BODY

PARENTS = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21]


def smpl_shaped_arrays(seed=0):
    """The free default body with pose directions: waves over the T-pose, a few millimetres for a right angle."""
    rng = np.random.default_rng(seed)
    with np.load(DEFAULT_BODY) as file:
        arrays = {key: file[key] for key in file.files}
    template = arrays["v_template"]
    waves = np.sin(template @ rng.normal(0, 6, (3, 12)) + rng.uniform(0, 6, 12))
    arrays["posedirs"] = (waves @ rng.normal(0, 1e-3, (12, 3 * 207))).reshape(len(template), 3, 207).astype(np.float32)
    return arrays


def toy_arrays(vertices=120, seed=0):
    """SMPL's keys and dtypes, 24 joints, pose directions that are not zero."""
    rng = np.random.default_rng(seed)
    weights = rng.random((vertices, 24)) ** 8
    regressor = rng.random((24, vertices)) ** 4
    return {
        "v_template": rng.uniform(-0.9, 0.9, (vertices, 3)),
        "shapedirs": 0.02 * rng.standard_normal((vertices, 3, 10)),
        "posedirs": 0.01 * rng.standard_normal((vertices, 3, 207)),
        "J_regressor": regressor / regressor.sum(1, keepdims=True),
        "weights": weights / weights.sum(1, keepdims=True),
        "kintree_table": np.array([np.array(PARENTS).astype(np.uint32), np.arange(24)], dtype=np.uint32),
        "f": rng.integers(0, vertices, (80, 3)).astype(np.uint32),
    }
