"""A toy SMPL file: SMPL's keys and dtypes, 24 joints, few vertices, pose directions that are not zero."""

import numpy as np

PARENTS = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21]


def toy_arrays(vertices=120, seed=0):
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
