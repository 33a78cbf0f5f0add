import numpy as np
import pytest

from aign.body.assets import load_body

from ...body.toy_body import smpl_shaped_arrays


@pytest.fixture(scope="session")
def smpl_like_body(tmp_path_factory):
    """What the default body is not: its origin in the chest, pose-dependent shapes, over four weights a vertex."""
    arrays = smpl_shaped_arrays()
    arrays["v_template"] = arrays["v_template"] + np.array([-0.0018, -0.2233, 0.0282], np.float32)
    weights = arrays["weights"] + 2e-3 * np.random.default_rng(0).random(arrays["weights"].shape)
    arrays["weights"] = weights / weights.sum(1, keepdims=True)
    path = tmp_path_factory.mktemp("body") / "waves.npz"
    np.savez(path, **arrays)
    return load_body(path)
