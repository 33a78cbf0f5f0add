"""Video files as preprocessing sources: sizes and cameras on any machine, the nets' part where they are."""

from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from aign.data import assets
from aign.data.assets import PoseNets
from aign.data.datasets.job import run
from aign.data.datasets.video import video_files
from aign.data.datasets.video.video_files import assumed_camera, frame_size, plan
from aign.data.stages.decode import read_frames, write_mp4
from aign.data.store import Manifest, Quarantined, Store, commit
from aign.framework.errors import UserError

EMPTY_ROOM = np.full((5, 96, 128, 3), 90, np.uint8)


def qca(names, width=1088, height=1920):
    """A Qualisys calibration of cameras that look along the world's -z."""
    turned = " ".join(f'r{i}{j}="{float(i == j)}"' for i in (1, 2, 3) for j in (1, 2, 3))
    lens = f'focalLengthU="{64 * 1500}" focalLengthV="{64 * 1500}" centerPointU="{64 * 544}" centerPointV="{64 * 960}"'
    bend = " ".join(f'{name}="0"' for name in (
        "radialDistortion1", "radialDistortion2", "radialDistortion3", "tangentalDistortion1", "tangentalDistortion2"
    ))  # fmt: skip
    cameras = "".join(
        f'<camera serial="{name}"><fov_video left="0" top="0" right="{width - 1}" bottom="{height - 1}"/>'
        f'<transform x="0" y="0" z="3000" {turned}/><intrinsic {lens} {bend}/></camera>'
        for name in names
    )
    return f"<calibration><cameras>{cameras}</cameras></calibration>"


@pytest.fixture
def nets(monkeypatch):
    """Planning names the net; it need not be there for that."""
    nowhere = Path("nowhere")
    monkeypatch.setattr(video_files, "pose_nets", lambda: PoseNets(detector=nowhere, landmark=nowhere, kind="heavy"))


@pytest.mark.parametrize(
    ("video", "stored"),
    [((1920, 1080), (640, 360)), ((1080, 1920), (360, 640)), ((320, 240), (320, 240)), ((10000, 3), (640, 1))],
)
def test_pictures_are_made_smaller_never_larger(video, stored):
    assert frame_size(*video) == stored


def test_convention_assumed_camera():
    """Pixel centres are whole numbers, so the middle of w pixels is (w - 1) / 2; square pixels; looks along +z."""
    camera = assumed_camera("phone", 1080, 1920)
    assert camera.pinhole.centre_px.tolist() == [539.5, 959.5]
    assert camera.pinhole.focal_px.tolist() == [1.1 * 1920] * 2
    assert camera.world_to_cam.rot.tolist() == np.eye(3).tolist()
    assert camera.image_size_px == (1080, 1920)


def test_plan_of_a_folder_is_one_job_a_video_of_whatever_depth(nets, tmp_path):
    for name in ("b.mp4", "deep/a.MOV", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    jobs = plan(tmp_path)
    assert [job.camera for job in jobs] == ["b", "a"]
    assert len({job.sequence for job in jobs}) == 2, "without a calibration each is a motion of its own"
    assert all(job.calibrated is None for job in jobs)
    assert jobs[0].source == str(tmp_path / "b.mp4")


def test_the_content_decides_the_provenance_and_so_do_the_net_and_the_calibration(nets, tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"one")
    (job,) = plan(tmp_path / "a.mp4")
    first = job.provenance("frames").hash
    (tmp_path / "a.mp4").write_bytes(b"two")
    assert plan(tmp_path / "a.mp4")[0].provenance("frames").hash != first
    assert replace(job, nets="full").provenance("frames").hash != first
    assert replace(job, calibrated=assumed_camera("c", 10, 10)).provenance("frames").hash != first


def test_a_calibration_makes_the_videos_one_motion(nets, tmp_path):
    for name in ("v1.mp4", "v2.mp4"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "Calib.qca.txt").write_text(qca(["26578", "26585"]))
    jobs = plan(tmp_path)
    assert [job.calibrated.name for job in jobs] == ["26578", "26585"]
    assert {job.sequence for job in jobs} == {tmp_path.name}
    assert [job.camera for job in jobs] == ["v1", "v2"]


def test_a_calibration_of_other_cameras_is_refused(nets, tmp_path):
    (tmp_path / "v1.mp4").write_bytes(b"x")
    (tmp_path / "Calib.qca.txt").write_text(qca(["1", "2"]))
    with pytest.raises(UserError, match=r"has 2 cameras, .* has 1 videos; as many are needed"):
        plan(tmp_path)


def test_no_video_says_which_endings_are_read(nets, tmp_path):
    with pytest.raises(UserError, match=r"no video in .*; allowed endings: .mp4, .mov"):
        plan(tmp_path)


def broken(folder: Path) -> dict[str, Path]:
    """Videos that cannot be used, by what is wrong with them."""
    sound = folder / "sound.mp4"
    noise = np.random.default_rng(0).integers(0, 255, (40, 96, 128, 3)).astype(np.uint8)
    write_mp4(sound, noise, 25)
    files = {name: folder / f"{name}.mp4" for name in ("empty", "no-video", "truncated", "headless", "mute")}
    files["empty"].write_bytes(b"")
    files["no-video"].write_text("this is a letter")
    files["truncated"].write_bytes(sound.read_bytes()[: int(sound.stat().st_size * 0.6)])
    files["headless"].write_bytes(sound.read_bytes()[64:])
    with av.open(str(files["mute"]), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound_frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound_frame.sample_rate = 44100
        container.mux(stream.encode(sound_frame))
        container.mux(stream.encode(None))
    sound.unlink()
    return files


@pytest.mark.network
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("empty", "is empty (0 bytes)"),
        ("no-video", "is not a video"),
        ("truncated", ""),
        ("headless", ""),
        ("mute", "has no video stream"),
    ],
)
def test_a_broken_video_is_quarantined_by_name(name, why, tmp_path):
    assets.pull(["pose"])
    file = broken(tmp_path)[name]
    (job,) = plan(file)
    result = run(job, str(tmp_path / "s"), 0)
    assert isinstance(result, Quarantined)
    assert result.source == str(file)
    assert str(file) in result.error
    assert why in result.error
    assert "\n" not in result.error
    assert not list((tmp_path / "s").rglob("*.parquet"))


@pytest.mark.network
def test_a_room_without_a_person_is_quarantined(tmp_path):
    assets.pull(["pose"])
    write_mp4(tmp_path / "room.mp4", EMPTY_ROOM, 25)
    result = run(plan(tmp_path / "room.mp4")[0], str(tmp_path / "s"), 0)
    assert isinstance(result, Quarantined)
    assert result.error == f"{tmp_path / 'room.mp4'}: no person found in 5 frames; one is needed"


@pytest.mark.network
def test_a_real_person_gives_pictures_and_keypoints_of_the_same_clips(tmp_path):
    assets.pull(["pose", "pose2sim"])
    write_mp4(tmp_path / "walk.mp4", read_frames(assets.path("pose2sim_cam01"), 0, 8), 50)
    records = run(plan(tmp_path / "walk.mp4")[0], str(tmp_path / "s"), 0)
    assert not isinstance(records, Quarantined)
    commit(str(tmp_path / "s"), Manifest(skeleton="blazepose33", num_joints=33).updated(records))
    clips = Store.open(str(tmp_path / "s")).read(
        {"frames": ("image_jpeg", "frame_size_px"), "keypoints": ("kp2d_px", "kp2d_conf", "intrinsics_source")}
    )
    assert clips.arrays["kp2d_px"].shape == (8, 33, 2)
    assert clips.arrays["kp2d_conf"][:, 11:13].min() > 0.5, "he is seen"
    picture = cv2.imdecode(np.frombuffer(clips.arrays["image_jpeg"][3], np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape[1::-1] == tuple(clips.arrays["frame_size_px"][0]) == frame_size(1080, 1920)
    assert clips.arrays["intrinsics_source"][0] == "assumed"
    (key,) = clips.keys
    assert (key.num_frames, key.fps, key.action) == (8, 50.0, "video")
