"""A packaged body model on arrays: as on clips of a store, whatever the size of the pictures; and what it refuses."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch

from aign.evaluation.body_view import encoder_method, load_body_view
from aign.framework.errors import UserError
from aign.inference.body_predictor import BodyPredictor, clip_arrays, resized_lens, resized_px, shrink_factor
from aign.inference.package import ModelCard, save_package
from aign.inference.serving import SERVICES, serve
from aign.tasks.motion_capture.nets import Encoder, EncoderConfig, upright

CARD = ModelCard(
    network=EncoderConfig(side_px=32, channels=8, width=32), recipe="r", store_hash="s", sequences={},
    licences=("MIT",), protocol="p", metrics={}, body="default_body",
)  # fmt: skip


def package(folder, **changes):
    """An untrained model whose answers depend on all that it sees."""
    config = dataclasses.replace(CARD.network, **changes)
    torch.manual_seed(0)
    encoder = Encoder(config, upright(torch.tensor((1.0, 0, 0, 0, 1, 0)).repeat(24, 1)))
    with torch.no_grad():
        encoder.head.last.weight.normal_(std=0.05)
    save_package(folder, encoder, dataclasses.replace(CARD, network=config))
    return folder


@pytest.fixture(scope="module")
def view(people_store):
    return load_body_view(people_store, None)


@pytest.fixture(scope="module", params=[1, 3], ids=["single", "three"])
def predictor(request, tmp_path_factory):
    return BodyPredictor.of(package(tmp_path_factory.mktemp("body"), frames=request.param))


@pytest.fixture
def arrays(view):
    return dict(clip_arrays(view.clips[0], view.source))


def test_arrays_of_a_clip_give_what_the_clip_gives(predictor, view):
    method = encoder_method(predictor.encoder, torch.device("cpu"))
    for clip in view.clips[:5]:
        got, want = predictor.predict(**clip_arrays(clip, view.source)), method(clip, view.source)
        assert got.known.all()
        for name in ("rotmats", "pelvis_cam_m"):
            np.testing.assert_array_equal(vars(got)[name], vars(want)[name][:, 0].numpy())
        np.testing.assert_array_equal(got.betas, want.betas.numpy())
        np.testing.assert_allclose(got.joints_cam_m[:, 0], got.pelvis_cam_m, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_it_is_the_same(tmp_path, arrays):
    folder = package(tmp_path)
    got, want = (BodyPredictor.of(folder, torch.device(name)).predict(**arrays) for name in ("cuda", "cpu"))
    for name, value in vars(got).items():
        np.testing.assert_allclose(value, vars(want)[name], atol=1e-3)


def seen_by(predictor, arrays):
    """What the encoder is shown."""
    seen = []
    hook = predictor.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    predictor.predict(**arrays)
    hook.remove()
    return seen[0]


def enlarged(arrays, times: int):
    """The same clip filmed with so many more pixels."""
    by = np.array((times, times), float)
    images = [cv2.resize(x, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC) for x in arrays["image_rgb"]]
    return {
        "image_rgb": np.stack(images),
        "kp2d_px": resized_px(arrays["kp2d_px"], by),
        "kp2d_conf": arrays["kp2d_conf"],
        "intrinsics_px": resized_lens(arrays["intrinsics_px"], by),
    }


def test_convention_a_larger_picture_of_the_same_is_seen_alike(predictor, arrays):
    """Pixels are scaled about the corner at -0.5, and what is far larger than the crop is shrunk by area before."""
    large = enlarged(arrays, 8)
    assert shrink_factor(large["kp2d_px"], large["kp2d_conf"], 32) < 0.5
    here, there = seen_by(predictor, arrays), seen_by(predictor, large)
    for name in ("kp2d", "conf", "centre_ray", "half_extent"):
        torch.testing.assert_close(getattr(there, name), getattr(here, name), atol=2e-3, rtol=2e-3)
    moved = seen_by(predictor, {**large, "image_rgb": np.roll(large["image_rgb"], 16, axis=2)})
    gap, wrong = (float((other.image - here.image).abs().mean()) for other in (there, moved))
    assert gap < 0.02
    assert gap < wrong / 3


def test_a_frame_that_shows_nobody_is_nan_and_the_others_are_not(predictor, arrays):
    before = predictor.predict(**arrays)
    hidden = {**arrays, "kp2d_conf": arrays["kp2d_conf"].copy()}
    hidden["kp2d_conf"][5, 5:] = 0
    got = predictor.predict(**hidden)
    assert not got.known[5]
    assert all(np.isnan(value[5]).all() for value in vars(got).values())
    np.testing.assert_allclose(got.rotmats[:3], before.rotmats[:3], atol=1e-6)
    nobody = predictor.predict(**{**arrays, "kp2d_conf": np.zeros_like(arrays["kp2d_conf"])})
    assert not nobody.known.any()
    empty = predictor.predict(**{name: value[:0] for name, value in arrays.items()})
    assert (empty.rotmats.shape, empty.joints_cam_m.shape) == ((0, 24, 3, 3), (0, 24, 3))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image_rgb": np.zeros((8, 64, 64), np.uint8)}, r"uint8 \[n, h, w, 3\]; got uint8 \[8, 64, 64\]"),
        ({"image_rgb": np.zeros((8, 64, 64, 3), np.float32)}, "got float32"),
        ({"image_rgb": np.zeros((8, 0, 64, 3), np.uint8)}, r"got uint8 \[8, 0, 64, 3\]"),
        ({"kp2d_px": np.zeros((8, 17, 2), np.float32)}, r"kp2d_px must be floats \[n, 24, 2\] with n = 8"),
        ({"kp2d_px": np.full((8, 24, 2), np.nan, np.float32)}, "must be finite"),
        ({"kp2d_conf": np.full((8, 24), 1.5, np.float32)}, "0..1; got 1.5 to 1.5"),
        ({"kp2d_conf": np.full((8, 24), -0.5, np.float32)}, "0..1; got -0.5"),
        ({"intrinsics_px": np.zeros((8, 4), np.float32)}, "focal lengths must be positive; got 0"),
        ({"intrinsics_px": np.zeros((7, 4), np.float32)}, "n = 8"),
    ],
)
def test_bad_input_is_one_line(predictor, arrays, changes, said):
    with pytest.raises(UserError, match=said) as refused:
        predictor.predict(**{**arrays, **changes})
    assert "\n" not in str(refused.value)


def test_a_model_of_another_body_is_refused(tmp_path):
    card = dataclasses.replace(CARD, body="SMPL_NEUTRAL")
    save_package(tmp_path, Encoder(CARD.network, torch.zeros(24, 6)), card)
    with pytest.raises(UserError, match="model of the body 'SMPL_NEUTRAL'; the one that is here is 'default_body'"):
        BodyPredictor.of(tmp_path)


def test_what_is_served_is_what_the_service_says(tmp_path, arrays):
    served, service = serve(package(tmp_path)), SERVICES["motion_capture"]
    assert served.card.task == "motion_capture"
    for given, specs in ((arrays, service.inputs), (served.answer(arrays), service.outputs)):
        assert list(given) == list(specs)
        for name, (kind, shape) in specs.items():
            assert given[name].dtype == kind
            assert len(given[name].shape) == len(shape)
            assert all(want in (-1, got) for got, want in zip(given[name].shape, shape, strict=True))
