"""`aign capture` with a motion-capture model, on real video: who is in it, what is written, and what cannot be."""

import csv
import dataclasses
from itertools import islice

import av
import numpy as np
import pytest
import torch

from aign.data import assets
from aign.data.stages.decode import read_frames, write_mp4
from aign.framework.errors import UserError
from pipelines import capture_bodies, cli
from tests.data.turned import turn
from tests.inference.test_body_predictor import package
from tests.pipelines.samples import leftovers

pytestmark = [pytest.mark.network, pytest.mark.ray]
FRAMES = 16
BLANK = 255 * np.ones((FRAMES, 640, 360, 3), np.uint8)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """An untrained model: it stands people where they are, in poses of its own."""
    return package(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def filmed():
    """Frames of a person in a real video, half as large."""
    assets.pull(["pose", "pose2sim"])
    frames = islice(read_frames(assets.path("pose2sim_cam01")), 2 * FRAMES)
    return np.stack([frame[:1920:3, :1080:3] for frame in frames])


def captured(video, model, out, *flags):
    return cli.main(["capture", str(video), "--model", str(model), "--out", str(out), *flags])


@pytest.fixture(scope="module")
def done(ray_cluster, filmed, model, tmp_path_factory):
    """Two people who then leave, captured with --all."""
    root = tmp_path_factory.mktemp("capture")
    pair = np.concatenate((filmed[:FRAMES], filmed[:FRAMES, :, ::-1]), 2)
    gone = np.concatenate((BLANK, BLANK), 2)[:4]
    write_mp4(root / "two people.mp4", np.concatenate((pair, gone)), 25)
    assert captured(root / "two people.mp4", model, root / "out", "--all") == 0
    return root


def rows_of(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_everybody_gets_files_and_the_video_one_overlay(done):
    out = done / "out"
    for name in ("overlay.mp4", "side_by_side.mp4"):
        frames = list(read_frames(out / name))
        assert len(frames) == FRAMES + 4, name
    assert frames[0].shape[1] == 720 + 640, "the view from aside is a square beside"
    people = [out, out / "person-2"]
    places = []
    for folder in people:
        with np.load(folder / "bodies.npz", allow_pickle=False) as content:
            assert content["rotmats"].shape == (FRAMES + 4, 24, 3, 3)
            assert np.isfinite(content["joints_cam_m"]).all()
            assert (content["betas"] == content["betas"][0]).all(), "a person has one shape"
            fx, _, cx, _ = content["intrinsics_px"]
            pelvis = content["pelvis_cam_m"][5]
            places.append(pelvis[0] / pelvis[2] * fx + cx)
        rows = rows_of(folder / "quality.csv")
        assert [int(row["frame"]) for row in rows] == list(range(FRAMES + 4))
        seen = [row for row in rows if row["known"] == "1"]
        assert FRAMES - 3 <= len(seen) <= FRAMES + 1
        assert all(float(row["reprojection_px"]) > 0 for row in seen)
        assert rows[-1]["known"] == "0"
        assert rows[-1]["reprojection_px"] == rows[-1]["mask_iou"] == ""
        for name in ("motion.npz", "motion.bvh", "motion.glb", "motion.trc", "joint_angles.csv", "README.txt"):
            assert (folder / name).stat().st_size > 0
    assert sorted(place > 360 for place in places) == [False, True], "one stands left, one right"
    page = (out / "report.html").read_text()
    for said in ("two people", "two people-person-2", "owner", "motion.glb", "assumed"):
        assert said in page
    assert not leftovers(out)


def test_the_same_again_does_nothing_and_another_filter_does(done, model, capsys, monkeypatch):
    before = (done / "out" / "overlay.mp4").stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(capture_bodies, "captured_people", lambda *_: pytest.fail("captured again"))
        assert captured(done / "two people.mp4", model, done / "out", "--all") == 0
    told = capsys.readouterr()
    assert "is there already" in told.err
    assert told.out.strip() == str(done / "out" / "report.html")
    assert captured(done / "two people.mp4", model, done / "out", "--filter", "none") == 0
    told = capsys.readouterr().err
    assert " more people" in told
    assert "--all captures each" in told
    assert (done / "out" / "overlay.mp4").stat().st_mtime_ns > before


def test_a_cut_ends_a_person_a_phone_is_turned_and_the_rest_of_a_folder_goes_on(
    ray_cluster, filmed, model, tmp_path, capsys
):
    folder = tmp_path / "videos"
    folder.mkdir()
    cut = np.concatenate((filmed[:FRAMES], filmed[FRAMES:, 40:, :200].repeat(2, 1).repeat(2, 2)[:, :640, :360]))
    write_mp4(folder / "cut.mp4", cut, 25)
    write_mp4(folder / "empty.mp4", BLANK, 25)
    write_mp4(folder / "fast.mp4", np.rot90(filmed[:FRAMES], axes=(1, 2)), 240)
    turn(folder / "fast.mp4", 90)
    (folder / "broken.mp4").write_bytes((folder / "fast.mp4").read_bytes()[:2000])
    assert captured(folder, model, tmp_path / "out") == 0
    told = capsys.readouterr()
    assert sorted(line.split("/")[-2] for line in told.out.split()) == ["cut", "fast"]
    assert "empty.mp4: nobody was followed" in told.err
    assert "broken.mp4" in told.err
    assert "fast: 240 frames per second, all are captured" in told.err
    (frame, *_) = read_frames(tmp_path / "out" / "fast" / "overlay.mp4")
    assert frame.shape == (640, 360, 3), "a phone's turned picture comes out upright"
    assert all(row["known"] == "1" for row in rows_of(tmp_path / "out" / "fast" / "quality.csv")[2:-2])
    rows = rows_of(tmp_path / "out" / "cut" / "quality.csv")
    known = np.array([row["known"] == "1" for row in rows])
    assert len(known) == 2 * FRAMES
    assert not (known[2 : FRAMES - 2].any() and known[FRAMES + 2 : -2].any()), "one side of the cut"


def test_what_is_no_video_of_a_person_is_one_line(ray_cluster, model, tmp_path, capsys):
    write_mp4(tmp_path / "empty.mp4", BLANK, 25)
    with av.open(str(tmp_path / "song.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux([*stream.encode(frame), *stream.encode(None)])
    for name, said in (("empty.mp4", "nobody was followed"), ("song.mp4", "no video")):
        assert captured(tmp_path / name, model, tmp_path / name[:4]) == 2
        last = capsys.readouterr().err.splitlines()[-1]
        assert last.startswith("aign capture: ")
        assert said in last
        assert not (tmp_path / name[:4] / "overlay.mp4").exists()


def test_adapting_says_what_came_of_it_and_goes_on_after_an_end(
    ray_cluster, filmed, model, tmp_path, capsys, monkeypatch
):
    few = capture_bodies.AdaptConfig(steps=2, check_every=1, batch=2)
    adapt, seen = capture_bodies.adapt, []

    def kept(*given):
        """So few steps may leave the model as it was; here they do not."""
        done = adapt(*given)
        with torch.no_grad():
            done.encoder.head.last.weight.mul_(0.5)
        return dataclasses.replace(done, kept=1)

    def stop(video, body):
        seen.append(video.people[0].seen.bodies.rotmats)
        raise UserError("the disk is full")

    monkeypatch.setattr(capture_bodies, "AdaptConfig", lambda: few)
    write_mp4(tmp_path / "somebody.mp4", filmed[:FRAMES], 25)
    with monkeypatch.context() as patch:
        patch.setattr(capture_bodies, "adapt", kept)
        patch.setattr(capture_bodies, "write_files", stop)
        assert captured(tmp_path / "somebody.mp4", model, tmp_path / "out", "--adapt") == 2
    assert "step 1 kept" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(capture_bodies, "adapt", lambda *_: pytest.fail("adapted again"))
        assert captured(tmp_path / "somebody.mp4", model, tmp_path / "out", "--adapt") == 0
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "jitter" in line)
    assert "step 1 kept" in line
    with np.load(tmp_path / "out" / "bodies.npz", allow_pickle=False) as content:
        np.testing.assert_array_equal(content["rotmats"], seen[0])
    assert not leftovers(tmp_path / "out")
    assert not (tmp_path / "out" / "adapted").exists()

    assert captured(tmp_path / "somebody.mp4", model, tmp_path / "plain", "--adapt") == 0
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "jitter" in line)
    assert "step" in line or "left as it was" in line or "not adapted" in line


def test_a_gpu_that_is_not_there_is_one_line(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert captured(tmp_path / "any.mp4", model, tmp_path / "out", "--device", "cuda") == 2
    assert capsys.readouterr().err == "aign capture: got --device cuda; torch finds no GPU on this machine\n"
