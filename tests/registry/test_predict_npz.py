"""A file of keypoints through a model that takes one clip at a time."""

import numpy as np
import pytest

from aign.framework.errors import UserError
from aign.registry.client import quieten
from aign.registry.predict_npz import predict_npz
from tests.registry.samples import frames


class Mean:
    """Answers with the number and the mean of the frames that it was given together."""

    def predict(self, inputs):
        n = len(inputs["kp2d_px"])
        assert {name: len(value) for name, value in inputs.items()} == dict.fromkeys(inputs, n)
        assert sorted(inputs) == ["intrinsics_px", "kp2d_conf", "kp2d_px"], "the registered signature"
        mean = inputs["kp2d_px"].mean() if n else 0.0
        return {"joints_cam_m": np.full((n, 17, 3), mean + n)}


@pytest.fixture
def predicted(tmp_path, monkeypatch):
    quieten()
    import mlflow.pyfunc  # after the package has set its environment

    monkeypatch.setattr(mlflow.pyfunc, "load_model", lambda uri: {"models:/m/1": Mean()}[uri])

    def run(**content):
        np.savez(tmp_path / "in.npz", **content)
        predict_npz("models:/m/1", tmp_path / "in.npz", tmp_path / "out.npz")
        with np.load(tmp_path / "out.npz", allow_pickle=False) as out:
            return out["joints_cam_m"]

    return run


def test_the_model_is_asked_once_a_clip(predicted):
    given = frames(5)
    whole = predicted(**given)
    assert (whole.shape, whole.dtype) == ((5, 17, 3), np.float32)
    assert len(np.unique(whole)) == 1
    apart = predicted(**given, clip=np.array([4, 4, 1, 1, 1]))
    for part in (slice(0, 2), slice(2, 5)):
        np.testing.assert_array_equal(apart[part], predicted(**{k: v[part] for k, v in given.items()}))
    assert not np.allclose(apart, whole)
    assert predicted(**{k: v[:0] for k, v in given.items()}).shape == (0, 17, 3)


def test_clips_that_are_none_are_refused(predicted):
    with pytest.raises(UserError, match="got clip 1 again in frame 2"):
        predicted(**frames(3), clip=np.array([1, 2, 1]))
