import re
from pathlib import Path

import numpy as np
import pytest
import torch

from aign.data import assets
from aign.data.datasets.video.pose2sim import fit_to_frames, read_qca, stacked
from aign.data.stages.blazepose import get_detector
from aign.data.stages.decode import read_frames
from aign.framework.errors import UserError
from aign.geometry.camera import project
from aign.geometry.triangulation import triangulate

QCA = """<?xml version='1.0' encoding='ASCII'?>
<calibration><cameras><camera serial="left">
<fov_video bottom="1919" left="0" right="1087" top="0"/>
<transform r11="0" r12="1" r13="0" r21="0" r22="0" r23="1" r31="1" r32="0" r33="0" x="2000" y="0" z="1000"/>
<intrinsic centerPointU="34816" centerPointV="61440" focalLengthU="64000" focalLengthV="32000"
 radialDistortion1="0.1" radialDistortion2="0.2" radialDistortion3="0.3"
 tangentalDistortion1="0.4" tangentalDistortion2="0.5"/>
</camera></cameras></calibration>
"""


@pytest.fixture
def qca(tmp_path) -> Path:
    path = tmp_path / "c.qca.txt"
    path.write_text(QCA)
    return path


def test_convention_qca(qca):
    """Rows of r are the camera's axes (x right, y up, z backwards) in a world with z up, in mm; lens in 1/64 px."""
    (camera,) = read_qca(qca)
    assert camera.name == "left"
    assert camera.image_size_px == (1088, 1920)
    torch.testing.assert_close(camera.pinhole.focal_px, torch.tensor([1000.0, 500.0]))
    torch.testing.assert_close(camera.pinhole.centre_px, torch.tensor([544.0, 960.0]))
    torch.testing.assert_close(camera.pinhole.distortion, torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5]))
    # It stands at (2, 0, 1) m and looks along -x (third row), right is +y, up is +z.
    seen = camera.world_to_cam.apply(torch.tensor([[2.0, 0, 1], [0.0, 0, 1], [0.0, 0.5, 1], [0.0, 0, 1.5]]))
    torch.testing.assert_close(seen, torch.tensor([[0.0, 0, 0], [0, 0, 2], [0.5, 0, 2], [0, -0.5, 2]]))


def test_frames_of_another_size(qca):
    """Scaled as a whole between black bars: a corner of the picture stays a corner of the picture."""
    (camera,) = read_qca(qca)
    assert fit_to_frames(camera, 1088, 1920).pinhole.centre_px.tolist() == [544.0, 960.0]
    small = fit_to_frames(camera, 1080, 1920)
    scale = 1080 / 1088
    torch.testing.assert_close(small.pinhole.focal_px, camera.pinhole.focal_px * scale)
    # Pixel (-0.5, -0.5) is the outer corner: it moves down by the bar of (1920 - 1920 * scale) / 2 rows.
    bar = (1920 - 1920 * scale) / 2
    moved = (torch.tensor([-0.5, -0.5]) - camera.pinhole.centre_px) * scale + small.pinhole.centre_px
    torch.testing.assert_close(moved, torch.tensor([-0.5, bar - 0.5]), atol=1e-3, rtol=0)
    with pytest.raises(UserError, match="1088 x 1920 px but its video has 1920 x 1080"):
        fit_to_frames(camera, 1920, 1080)


@pytest.mark.parametrize(
    ("pattern", "instead", "says"),
    [
        (r"(?s).*", "no xml", "is no XML"),
        (r"(?s)<camera .*</camera>", "", "has no <camera>"),
        (r'focalLengthU="64000"', "", "bad or missing value in <intrinsic>"),
        (r'focalLengthU="64000"', 'focalLengthU="wide"', "bad or missing value in <intrinsic>"),
        (r'focalLengthU="64000"', 'focalLengthU="nan"', "no finite <intrinsic>"),
        (r"<transform[^>]*>", "", "no finite <transform>"),
        (r'r12="1"', 'r12="2"', "is not a rotation"),
        (r'r12="1"', 'r12="-1"', "is not a rotation"),
    ],
)
def test_bad_calibration(qca, pattern, instead, says):
    qca.write_text(re.sub(pattern, instead, QCA, count=1))
    with pytest.raises(UserError, match=says) as error:
        read_qca(qca)
    assert str(qca) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_calibration(tmp_path):
    with pytest.raises(UserError, match="cannot read calibration"):
        read_qca(tmp_path / "none.qca.txt")


@pytest.mark.network
def test_real_clip_becomes_a_metric_person():
    """The whole chain on the real 4-camera video: orientation, units and synchrony are right only together."""
    assets.pull(["pose", "pose2sim"])
    tracks, cameras = [], []
    for number, camera in enumerate(read_qca(assets.path("pose2sim_calibration")), start=1):
        frames = list(read_frames(assets.path(f"pose2sim_cam{number:02d}"), 20, 35))
        cameras.append(fit_to_frames(camera, frames[0].shape[1], frames[0].shape[0]))
        tracks.append(get_detector().track(frames))
    lens, pose = stacked(tuple(cameras))
    kp2d_px = torch.tensor(np.stack([t.kp2d_px for t in tracks]))
    conf = torch.tensor(np.stack([t.kp2d_conf for t in tracks]))
    points, distance, valid = triangulate(kp2d_px, conf, lens, pose)
    body = [11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28]
    assert valid[:, body].float().mean() > 0.98
    assert distance[:, :, body].nanmedian() < 16

    def length_m(a: int, b: int) -> torch.Tensor:
        return (points[:, a] - points[:, b]).norm(dim=-1)

    for hip, knee, ankle in ((23, 25, 27), (24, 26, 28)):
        assert 0.36 < length_m(hip, knee).mean() < 0.43
        assert 0.33 < length_m(knee, ankle).mean() < 0.41
        assert length_m(hip, knee).std() < 0.03
    # The calibration's world has z up, the treadmill as its floor.
    assert (points[:, 0, 2] - points[:, 27, 2]).mean() > 1.2
    assert -0.1 < points[:, [29, 30, 31, 32], 2].min() < 0.15
    # BlazePose's own 3D lies on the camera's axes, metric and hip-centred.
    for track, camera in zip(tracks, cameras, strict=True):
        ours = points @ camera.world_to_cam.rot.T
        ours = ours - ours[:, 23:25].mean(1, keepdim=True)
        theirs = torch.tensor(track.kp3d_world_m)
        assert (ours - theirs)[:, body].norm(dim=-1).mean() < 0.2
    # And what we triangulate lands on what was seen in a camera that had no say.
    rest, *_ = triangulate(kp2d_px[:3], conf[:3], *stacked(tuple(cameras[:3])))
    moved = cameras[3].world_to_cam.apply(rest.flatten(0, 1))
    fourth = project(moved, cameras[3].pinhole).reshape(15, 33, 2)
    assert (fourth - kp2d_px[3])[:, body].norm(dim=-1).median() < 40
