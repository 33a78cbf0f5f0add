"""The door for programs: models of every task, arrays in, typed results out, one line where it fails."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from aign.data.stages.blazepose import PoseTrack
from aign.framework.errors import UserError
from aign.geometry.skeleton import BLAZEPOSE33, H36M17, SMPL24
from aign.inference import Bodies, Faces, Keypoints, Poses, Predictor, prediction
from aign.inference.face_translate import FaceTranslator
from aign.inference.package import save_package
from aign.tasks.faces.inpainting import InpainterConfig, new_inpainter
from tests.inference.test_body_predictor import package as body_package
from tests.inference.test_face_translate import card, photo, resolver, somebody
from tests.inference.test_predictor import packaged

N, HEIGHT, WIDTH = 5, 120, 160


@pytest.fixture
def frames():
    return np.random.default_rng(1).integers(0, 256, (N, HEIGHT, WIDTH, 3)).astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class Detector:
    """Finds a person in every frame but the last."""

    def track(self, frames) -> PoseTrack:
        n = len(frames)
        rng = np.random.default_rng(0)
        conf = np.full((n, 33), 0.9, np.float32)
        conf[-1] = 0
        return PoseTrack(
            kp2d_px=(80 + 20 * rng.standard_normal((n, 33, 2))).astype(np.float32),
            kp2d_conf=conf,
            flag=np.ones(n, np.float32),
            kp3d_world_m=np.zeros((n, 33, 3), np.float32),
        )


@pytest.fixture(autouse=True)
def _detector(monkeypatch):
    monkeypatch.setattr(prediction, "get_detector", Detector)


@pytest.fixture(scope="module")
def lifter(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lifter") / "package"
    return packaged(folder, 1), folder


@pytest.fixture(scope="module")
def body(tmp_path_factory):
    return body_package(tmp_path_factory.mktemp("body") / "package")


def test_a_lifter_on_pictures(lifter, frames):
    poses = Predictor.load(lifter[1].parent).predict(frames)  # a run's folder, which holds a package
    assert isinstance(poses, Poses)
    assert poses.known.tolist() == [True] * (N - 1) + [False]
    assert np.isnan(poses.joints_cam_m[-1]).all()
    assert poses.assumed_camera
    np.testing.assert_allclose(poses.intrinsics_px, np.tile((1.1 * WIDTH, 1.1 * WIDTH, 79.5, 59.5), (N, 1)), rtol=1e-6)
    track, at = Detector().track(frames), BLAZEPOSE33.index
    hips = track.kp2d_px[:, list(at("l_hip", "r_hip"))].mean(1)
    np.testing.assert_allclose(poses.kp2d_px[:-1, H36M17.joints.index("pelvis")], hips[:-1], rtol=1e-5)
    np.testing.assert_array_equal(
        poses.joints_cam_m, lifter[0].predict(poses.kp2d_px, poses.kp2d_conf, poses.intrinsics_px)
    )


def test_convention_pixels_count_from_the_middle_of_the_first_and_depth_from_the_camera(lifter, body, frames):
    """Convention: an assumed camera looks through the middle of the picture, (w - 1) / 2; +z is away from it."""
    for folder in (lifter[1], body):
        found = Predictor.load(folder).predict(frames)
        np.testing.assert_allclose(found.intrinsics_px[:, 2:], np.tile(((WIDTH - 1) / 2, (HEIGHT - 1) / 2), (N, 1)))
        assert (found.joints_cam_m[found.known][..., 2] > 0).all()


def test_a_lifter_on_keypoints_with_a_camera(lifter):
    rng = np.random.default_rng(2)
    given = Keypoints(
        kp2d_px=(500 + 100 * rng.standard_normal((N, 17, 2))).astype(np.float32),
        kp2d_conf=np.ones((N, 17), np.float32),
        size_px=(1000, 1000),
    )
    lens = np.array((1145.0, 1144, 512, 515))
    poses = Predictor.load(lifter[1]).predict(given, lens)
    assert not poses.assumed_camera
    want = lifter[0].predict(given.kp2d_px, given.kp2d_conf, np.tile(np.float32(lens), (N, 1)))
    np.testing.assert_array_equal(poses.joints_cam_m, want)
    again = Predictor.load(lifter[1]).predict(given, np.tile(lens, (N, 1)))
    np.testing.assert_array_equal(again.joints_cam_m, want)


def test_motion_capture_on_pictures(body, frames):
    bodies = Predictor.load(str(body)).predict(frames)
    assert isinstance(bodies, Bodies)
    assert bodies.rotmats.shape == (N, 24, 3, 3)
    assert bodies.kp2d_px.shape == (N, len(SMPL24), 2)
    assert bodies.known.tolist() == [True] * (N - 1) + [False]
    assert bodies.assumed_camera
    moved = Predictor.load(body).predict(frames, np.array((400.0, 400, 80, 60)))
    near, far = (np.nanmean(b.pelvis_cam_m[:, 2]) for b in (bodies, moved))
    assert far > 1.5 * near, "a longer lens sees the same person farther away"


def test_faces_are_marked_and_the_others_stay(tmp_path, monkeypatch):
    real = FaceTranslator.translate
    monkeypatch.setattr(FaceTranslator, "translate", lambda self, image: real(self, image, somebody))
    translator = resolver(exact=True)
    save_package(tmp_path / "sr", translator.net, translator.card)
    config = InpainterConfig(side_px=64, channels=8, blocks=0, part="lips")
    save_package(tmp_path / "lips", new_inpainter(config, 0), card(config))
    photos = np.stack([photo(), photo()])
    faces = Predictor.load(tmp_path / "sr").predict(photos)
    assert isinstance(faces, Faces)
    assert (faces.seen_rgb.shape, faces.imagined_rgb.shape) == ((2, 8, 8, 3), (2, 32, 32, 3))
    assert (faces.faithful_db > 30).all()
    corner = faces.photo_rgb[:, -8:, -40:]
    assert (corner != photos[:, -8:, -40:]).any(), "the mark"
    assert (faces.photo_rgb[:, :40] == photos[:, :40]).all(), "above the face"
    assert Predictor.load(tmp_path / "lips").predict(photos).imagined_rgb.shape == (2, 64, 64, 3)
    with pytest.raises(UserError, match="superresolution; it takes no camera"):
        Predictor.load(tmp_path / "sr").predict(photos, np.ones(4))

    def blind(image):
        raise UserError("no face found")

    monkeypatch.setattr(FaceTranslator, "translate", lambda self, image: real(self, image, blind))
    with pytest.raises(UserError, match="picture 0: no face found"):
        Predictor.load(tmp_path / "sr").predict(photos)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f[0], r"got uint8 \[120, 160, 3\]"),
        (lambda f: f[:0], r"at least one picture; got uint8 \[0, "),
        (lambda f: f.astype(np.float32), r"got float32 \[5, 120, 160, 3\]"),
        (lambda f: f[..., :1], r"got uint8 \[5, 120, 160, 1\]"),
    ],
)
def test_pictures_that_are_none_are_refused(lifter, frames, change, said):
    with pytest.raises(UserError, match=said):
        Predictor.load(lifter[1]).predict(change(frames))


@pytest.mark.parametrize(
    ("lens", "said"),
    [
        (np.ones(3), r"floats \[4\] or \[5, 4\]; got \[3\]"),
        (np.ones((2, 4)), r"got \[2, 4\]"),
        (np.array((0.0, 1, 1, 1)), "focal lengths must be positive"),
        (np.array((np.nan, 1, 1, 1)), "intrinsics_px must be finite"),
        (np.ones(4, int), "must be floats"),
    ],
)
def test_cameras_that_are_none_are_refused(lifter, body, frames, lens, said):
    for folder in (lifter[1], body):
        with pytest.raises(UserError, match=said):
            Predictor.load(folder).predict(frames, lens)


def test_keypoints_are_checked_and_are_for_lifting(lifter, body):
    given = Keypoints(kp2d_px=np.zeros((2, 3)), kp2d_conf=np.ones(2), size_px=(9, 9))
    with pytest.raises(UserError, match=r"kp2d_px must be floats \[n, 17, 2\]"):
        Predictor.load(lifter[1]).predict(given)
    with pytest.raises(UserError, match="Keypoints for a model of motion_capture"):
        Predictor.load(body).predict(given)


def test_what_is_no_model_is_told(tmp_path):
    with pytest.raises(UserError, match="is not a packaged model"):
        Predictor.load(tmp_path / "missing")
    with pytest.raises(UserError, match="got model ftp://server/a; allowed are a folder, and of URIs"):
        Predictor.load("ftp://server/a")


def test_a_training_imports_no_detector_no_ray_and_no_mlflow():
    """What runs on a machine with a GPU and little else."""
    code = (
        "import sys, aign.recipes.training, pipelines.reproduce_faces_here; "
        "sys.exit([m for m in ('ai_edge_litert', 'ray', 'mlflow', 'tyro') if m in sys.modules] or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
