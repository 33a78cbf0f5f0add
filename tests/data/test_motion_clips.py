"""The embedded motions as clips of the store: real bodies, seen by cameras, remembered."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from aign.body.motion import Motion
from aign.data.datasets.job import CLIP_FRAMES, Recording, Stored, cut, labelled_views, run
from aign.data.datasets.motion.motion_clips import EMBEDDED, MotionClip, joints_world_m, plan
from aign.data.datasets.rig import placed_rig
from aign.data.motions import load_demo_motions
from aign.data.store import Quarantined
from aign.framework.errors import UserError
from aign.geometry.camera import Pinhole, project
from aign.geometry.skeleton import H36M17
from aign.geometry.torso import torso_rotation
from tests.data import cmu_samples


def still(frames=2, rot=None):
    """The default body in its rest pose, pelvis one metre above the floor."""
    rotmats = np.tile(np.eye(3, dtype=np.float32), (frames, 24, 1, 1))
    if rot is not None:
        rotmats[:, 0] = rot
    trans = np.tile(np.float32((0.5, 1.0, 2.0)), (frames, 1))
    return Motion(name="still", fps=30.0, rotmats=rotmats, trans_m=trans, source="test", licence="CC0-1.0")


def test_convention_y_up_motions_come_into_a_z_up_world():
    """Convention: (x, y, z) -> (x, -z, y). SMPL's rest faces +z with its left at +x: here it faces -y, left at +x."""
    joints = joints_world_m(still())
    assert joints.shape == (2, 17, 3)
    names = ("pelvis", "head_top", "l_ankle", "l_hip", "r_hip", "nose", "thorax")
    pelvis, head, ankle, left, right, nose, thorax = (joints[0, H36M17.index(n)[0]] for n in names)
    np.testing.assert_allclose(pelvis, [0.5, -2.0, 1.0], atol=0.06)
    assert head[2] > pelvis[2] + 0.5
    assert ankle[2] < pelvis[2] - 0.6
    assert left[0] > right[0] + 0.1
    assert nose[1] < thorax[1] - 0.03
    torso = torso_rotation(torch.from_numpy(joints[:1]), H36M17)[0].numpy()
    np.testing.assert_allclose(torso, [[1, 0, 0], [0, 0, -1], [0, 1, 0]], atol=0.15)


def test_a_turned_body_turns_about_the_pelvis():
    quarter = np.float32([[0, 0, 1], [0, 1, 0], [-1, 0, 0]])  # about y: what was at +x is at -z
    joints, turned = (joints_world_m(still(rot=r))[0] for r in (None, quarter))
    centre = np.array([0.5, -2.0, 1.0])
    in_world = np.array([[0, -1.0, 0], [1, 0, 0], [0, 0, 1]])  # the same turn in the z-up world
    np.testing.assert_allclose(turned - centre, (joints - centre) @ in_world.T, atol=1e-3)


def test_frames_do_not_depend_on_the_chunk():
    motion = max(load_demo_motions(), key=lambda m: len(m.rotmats))
    long = dataclasses.replace(
        motion, rotmats=np.concatenate([motion.rotmats] * 3)[:300], trans_m=np.concatenate([motion.trans_m] * 3)[:300]
    )
    whole = joints_world_m(long)
    assert len(whole) == len(long.rotmats) > 256
    part = dataclasses.replace(long, rotmats=long.rotmats[250:262], trans_m=long.trans_m[250:262])
    np.testing.assert_allclose(whole[250:262], joints_world_m(part), atol=1e-5)


def test_the_plan_is_one_job_a_clip_with_its_licence():
    jobs = plan(Path(EMBEDDED))
    assert len(jobs) == 20
    assert len({j.name for j in jobs}) == len({j.sha256 for j in jobs}) == 20
    assert all("zlib" in j.licence for j in jobs)
    assert jobs[0].provenance("labels").hash != jobs[1].provenance("labels").hash
    assert jobs[0].provenance("labels").hash == plan(Path(EMBEDDED))[0].provenance("labels").hash
    assert dataclasses.replace(jobs[0], seed=1).provenance("labels").hash != jobs[0].provenance("labels").hash
    assert jobs[0].source == f"{EMBEDDED}:{jobs[0].name}"


def test_nothing_there_is_said(tmp_path):
    with pytest.raises(UserError, match="no motion in"):
        plan(tmp_path)


def test_a_folder_of_cmu_subjects(tmp_path):
    """subjects/01/01.asf, 01_01.amc: the subject is the folder, and the skeleton is no motion of its own."""
    frames = cmu_samples.random_frames(5)
    for subject in ("01", "02"):
        cmu_samples.write(tmp_path / "subjects" / subject, frames, name=f"{subject}_01")
        (tmp_path / "subjects" / subject / "01.asf").rename(tmp_path / "subjects" / subject / f"{subject}.asf")
    cmu_samples.write(tmp_path / "subjects" / "01", frames, name="01_02")
    jobs = plan(tmp_path / "subjects")
    assert [(job.subject, job.name) for job in jobs] == [("01", "01_01"), ("01", "01_02"), ("02", "02_01")]
    made = jobs[0].clips(("memory_pose",), Stored(url="", records={}))
    (clip,) = made.tables["memory_pose"]
    assert (clip["sequence"], clip["subject"], clip["num_frames"], clip["fps"]) == ("01/01_01", "01", 5, 120.0)
    # Another skeleton is another motion, though the .amc is the same.
    asf = tmp_path / "subjects" / "01" / "01.asf"
    asf.write_text(asf.read_text().replace("length 7.2", "length 7.9"))
    after = plan(tmp_path / "subjects")
    assert [a.sha256 == b.sha256 for a, b in zip(after, jobs, strict=True)] == [False, False, True]
    asf.unlink()
    result = run(plan(tmp_path / "subjects")[0], str(tmp_path / "store"), 0)
    assert isinstance(result, Quarantined)
    assert "no 01.asf beside it" in result.error


def test_cmus_index_says_what_a_trial_shows_and_without_it_the_trial_is_its_own_action(tmp_path):
    frames = cmu_samples.random_frames(2)
    for subject, trial in (("07", "07_01"), ("09", "09_01"), ("09", "09_02")):
        cmu_samples.write(tmp_path / subject, frames, name=trial)
    (tmp_path / "09" / "swing2.bvh").write_bytes(b"not read by the plan")
    bare = plan(tmp_path)
    assert [job.action for job in bare] == ["07_01", "09_01", "09_02", "swing"]
    (tmp_path / "cmu-mocap-index-text.txt").write_text(
        "Motion Capture Database\n\nSubject #7 (walk)\n\n07_01\tslow walk, stop\nSubject #9 (run)\n09_01   run/jog \n"
    )
    told = plan(tmp_path)
    assert [job.action for job in told] == ["Walking", "Running", "09_02", "swing"]
    hashes = [[job.provenance("labels").hash for job in jobs] for jobs in (bare, told)]
    assert [a == b for a, b in zip(*hashes, strict=True)] == [False, False, True, True], "made again with its new name"
    made = told[0].clips(("labels",), Stored(url="", records={}))
    assert {clip["action"] for clip in made.tables["labels"]} == {"Walking"}
    assert plan(tmp_path / "07" / "07_01.amc")[0].action == "07_01", "the index does not lie beside it"


def test_cmus_trials_in_one_folder_say_whose_they_are(tmp_path):
    for name in ("01_01", "01_02", "143_05", "walk_1"):
        (tmp_path / f"{name}.bvh").write_bytes(b"not read by the plan")
    assert [job.subject for job in plan(tmp_path)] == ["01", "01", "143", tmp_path.name]


def test_an_amass_folder_has_more_than_motions(tmp_path):
    """Trap 17: shape.npz lies among the motions, and *_stagei.npz in the newer release."""
    folder = tmp_path / "ACCAD" / "Male2 Walking"
    folder.mkdir(parents=True)
    for name in ("B3_walk_poses.npz", "shape.npz", "male_stagei.npz", "B3_walk_stageii.npz", "LICENSE.txt"):
        (folder / name).write_bytes(b"not read by the plan")
    (folder / "readme.txt").write_text("see LICENSE.txt")
    assert [job.name for job in plan(tmp_path)] == ["B3_walk_poses", "B3_walk_stageii"]
    with pytest.raises(UserError, match="no motion in"):
        plan(folder / "shape.npz")


def test_a_broken_motion_is_quarantined_and_nothing_is_written(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.bvh").write_text("HIERARCHY\nnonsense")
    (job,) = plan(tmp_path / "in")
    assert isinstance(job, MotionClip)
    result = run(job, str(tmp_path / "store"), 0)
    assert isinstance(result, Quarantined)
    assert "broken.bvh" in result.source
    assert not list((tmp_path / "store").rglob("*.parquet"))


def test_the_store_holds_every_frame_of_every_motion(demo_store):
    motions = {f"demo/{m.name}": m for m in load_demo_motions()}
    clips = demo_store.read({"memory_pose": ("joints_world_m",)})
    for name, motion in motions.items():
        mine = [k for k in clips.keys if k.sequence == name]
        assert [k.frame_start for k in mine] == list(range(0, len(motion.rotmats), CLIP_FRAMES))
        assert sum(k.num_frames for k in mine) == len(motion.rotmats)
        assert {k.fps for k in mine} == {motion.fps}
    walk = motions["demo/walk"]
    rows = np.isin(clips.clip_index, [i for i, k in enumerate(clips.keys) if k.sequence == "demo/walk"])
    np.testing.assert_allclose(clips.arrays["joints_world_m"][rows], joints_world_m(walk), atol=1e-5)


def test_people_of_the_store_are_of_human_size_and_mostly_in_view(demo_store):
    clips = demo_store.read({"keypoints": ("kp2d_conf",), "labels": ("joints_cam_m", "joints_valid")})
    joints = clips.arrays["joints_cam_m"]
    assert (joints[..., 2] > 1.0).all()
    thigh = np.linalg.norm(joints[:, 1] - joints[:, 2], axis=-1)
    assert 0.25 < thigh.min() < thigh.max() < 0.55
    assert (clips.arrays["joints_valid"] > 0).all()
    assert clips.arrays["kp2d_conf"].mean() > 0.95
    assert set(np.unique(clips.arrays["kp2d_conf"])) <= {0.0, 1.0}


def test_keypoints_labels_memory_and_rig_agree(demo_store):
    columns = {
        "keypoints": ("kp2d_px", "kp2d_conf", "intrinsics_px", "distortion"),
        "labels": ("joints_cam_m", "rot_world_to_cam", "trans_world_to_cam_m"),
    }
    clips = demo_store.read(columns)
    memory = demo_store.read({"memory_pose": ("joints_world_m", "rig_rot_world_to_cam")})
    rigs = np.split(memory.arrays["rig_rot_world_to_cam"], np.cumsum(memory.counts["rig_rot_world_to_cam"])[:-1])
    at = {(k.sequence, k.frame_start): i for i, k in enumerate(memory.keys)}
    for i, key in enumerate(clips.keys):
        mine, there = clips.clip_index == i, at[key.sequence, key.frame_start]
        rot, trans = clips.arrays["rot_world_to_cam"][i].reshape(3, 3), clips.arrays["trans_world_to_cam_m"][i]
        world = memory.arrays["joints_world_m"][memory.clip_index == there]
        cam = clips.arrays["joints_cam_m"][mine]
        np.testing.assert_allclose(world @ rot.T + trans, cam, atol=1e-4)
        assert np.abs(rigs[there].reshape(-1, 3, 3) - rot).max((1, 2)).min() < 1e-6, "the rig is the memory's"
        lens = Pinhole.of(
            torch.from_numpy(clips.arrays["intrinsics_px"][i]), torch.from_numpy(clips.arrays["distortion"][i])
        )
        px = project(torch.from_numpy(cam).reshape(-1, 3), lens).reshape((*cam.shape[:2], 2)).numpy()
        seen = clips.arrays["kp2d_conf"][mine] > 0
        np.testing.assert_allclose(px[seen], clips.arrays["kp2d_px"][mine][seen], atol=0.01)


def test_a_second_run_makes_nothing_new(demo_store, tmp_path):
    (job, *_) = plan(Path(EMBEDDED))
    url = str(tmp_path / "store")
    first = run(job, url, 0)
    before = {p: p.stat().st_mtime_ns for p in Path(url).rglob("*.parquet")}
    assert [r.sha256 for r in run(job, url, 0)] == [r.sha256 for r in first]
    assert {p: p.stat().st_mtime_ns for p in Path(url).rglob("*.parquet")} == before
    assert len(before) == 3
    there = {p.sha256 for p in demo_store.manifest.parts}
    assert {record.sha256 for record in first} <= there, "the same bytes wherever it is made"


RECORDING = Recording(sequence="S1/Walk", subject="S1", action="Walk", source="x", fps=50.0)


@pytest.mark.parametrize("total", [1, CLIP_FRAMES, CLIP_FRAMES + 1, 3 * CLIP_FRAMES - 5])
def test_a_recording_is_cut_without_loss(total):
    values = np.arange(total * 2).reshape(total, 2)
    clips = cut(RECORDING, "cam", {"a": values}, {"k": 7})
    np.testing.assert_array_equal(np.concatenate([c["a"] for c in clips]), values)
    assert [c["frame_start"] for c in clips] == list(range(0, total, CLIP_FRAMES))
    assert all(len(c["a"]) == c["num_frames"] and c["k"] == 7 and c["camera"] == "cam" for c in clips)
    assert max(c["num_frames"] for c in clips) <= CLIP_FRAMES


def test_detections_take_the_place_of_projections():
    joints = joints_world_m(still(3))
    rig = placed_rig((0,), (0.5, -2.0), 0.0)
    detected = [np.full((3, 17, 2), float(i)) for i in range(4)]
    made = labelled_views(RECORDING, joints, rig, detected)
    exact = labelled_views(RECORDING, joints, rig)
    for i, (clip, label) in enumerate(zip(made["keypoints"], made["labels"], strict=True)):
        assert (clip["kp2d_px"] == i).all()
        assert (clip["kp2d_conf"] == 1).all()
        np.testing.assert_array_equal(label["joints_cam_m"], exact["labels"][i]["joints_cam_m"])
        assert clip["camera"] == label["camera"] == rig[i].name
