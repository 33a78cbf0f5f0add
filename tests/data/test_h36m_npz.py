"""Human3.6M in VideoPose3D's layout, on fixtures written to that layout exactly (protocols 3.5 b)."""

import os
import pickle

import numpy as np
import pytest
import torch

from aign.data.datasets.h36m import h36m_npz
from aign.data.datasets.h36m.h36m_cameras import calibrate, read_metadata
from aign.data.datasets.job import run
from aign.data.datasets.rig import H36M_INTRINSICS, h36m_camera, placed_rig, see
from aign.data.store import Manifest, Quarantined, Store, commit
from aign.framework.errors import UserError
from aign.geometry.camera import Rigid
from aign.geometry.skeleton import H36M17, H36M32, convert
from tests.data.h36m_fixtures import motion_m


def motion(frames, seed=0):
    """A body of plausible size moving about, 32 joints with Human3.6M's duplicates, metres, z up."""
    return motion_m(frames, seed).astype(np.float32)


def to17(joints):
    return convert(torch.from_numpy(joints), H36M32, H36M17)[0].numpy()


def save(path, **objects):
    arrays = {}
    for name, value in objects.items():
        arrays[name] = np.empty((), dtype=object)
        arrays[name][()] = value
    np.savez_compressed(path, **arrays)


SYMMETRY = {"num_joints": 17, "keypoints_symmetry": [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]]}


@pytest.fixture
def folder(tmp_path):
    world = {
        "S1": {"Directions 1": motion(150, 1), "Walking": motion(60, 2), "SittingDown 2": motion(40, 3)},
        "S9": {"Photo": motion(50, 4)},
    }
    save(tmp_path / "data_3d_h36m.npz", positions_3d=world)
    return tmp_path


def with_gt(folder, rig):
    world = h36m_npz.load(folder / "data_3d_h36m.npz", "positions_3d")
    pixels = {
        s: {a: [see(c, to17(v)).kp2d_px for c in rig] for a, v in actions.items()} for s, actions in world.items()
    }
    save(folder / "data_2d_h36m_gt.npz", positions_2d=pixels, metadata=SYMMETRY)
    return pixels


def store_of(jobs, url):
    records = [run(job, url, number) for number, job in enumerate(jobs)]
    assert not any(isinstance(r, Quarantined) for r in records), records
    commit(url, Manifest(skeleton="h36m17", num_joints=17).updated([r for rs in records for r in rs]))
    return Store.open(url)


def test_plan_lists_every_sequence_in_order(folder):
    jobs = h36m_npz.plan(folder)
    assert [(j.subject, j.action) for j in jobs] == [
        ("S1", "Directions 1"),
        ("S1", "SittingDown 2"),
        ("S1", "Walking"),
        ("S9", "Photo"),
    ]
    assert {j.cameras for j in jobs} == {"placed"}


def test_labels_are_the_17_joints_moved_into_the_camera(folder, tmp_path):
    store = store_of(h36m_npz.plan(folder), str(tmp_path / "store"))
    clips = store.read(
        {"labels": ("joints_cam_m", "rot_world_to_cam", "trans_world_to_cam_m")},
        None,
    )
    (number,) = [i for i, k in enumerate(clips.keys) if k.sequence == "S1/Walking" and k.camera == "55011271"]
    got = clips.arrays["joints_cam_m"][clips.clip_index == number]
    world = to17(h36m_npz.load(folder / "data_3d_h36m.npz", "positions_3d")["S1"]["Walking"])
    rot = clips.arrays["rot_world_to_cam"][number].reshape(3, 3)
    want = world @ rot.T + clips.arrays["trans_world_to_cam_m"][number]
    np.testing.assert_allclose(got, want, atol=1e-5)
    assert clips.keys[number].action == "Walking"
    assert clips.keys[number].fps == 50


def test_actions_are_canonical_and_sittingdown_is_not_sitting(folder, tmp_path):
    store = store_of(h36m_npz.plan(folder), str(tmp_path / "store"))
    actions = {g.group.sequence: g.group.action for g in store.row_groups(("keypoints",))}
    assert actions["S1/SittingDown 2"] == "SittingDown"
    assert actions["S1/Directions 1"] == "Directions"


def test_cameras_are_recovered_from_ground_truth_2d(folder):
    rig = placed_rig((7,), (0.0, 0.0), 0.0)
    with_gt(folder, rig)
    world = h36m_npz.load(folder / "data_3d_h36m.npz", "positions_3d")["S1"]
    pixels = h36m_npz.load(folder / "data_2d_h36m_gt.npz", "positions_2d")["S1"]
    for found, true in zip(calibrate(world, pixels, "fixture"), rig, strict=True):
        assert found.name == true.name
        torch.testing.assert_close(found.world_to_cam.rot, true.world_to_cam.rot, atol=1e-5, rtol=0)
        torch.testing.assert_close(found.world_to_cam.trans_m, true.world_to_cam.trans_m, atol=1e-4, rtol=0)


def test_2d_of_another_data_set_does_not_calibrate(folder):
    rig = placed_rig((7,), (0.0, 0.0), 0.0)
    pixels = with_gt(folder, rig)
    wrong = {
        a: [v + np.random.default_rng(0).normal(0, 60, v.shape) for v in views] for a, views in pixels["S1"].items()
    }
    world = h36m_npz.load(folder / "data_3d_h36m.npz", "positions_3d")["S1"]
    with pytest.raises(UserError, match="does not fit the 3D joints"):
        calibrate(world, wrong, "fixture")


def euler(rot):
    """a, b, c of rot = Rx(a) Ry(b) Rz(c)."""
    return np.arctan2(-rot[1, 2], rot[2, 2]), np.arcsin(rot[0, 2]), np.arctan2(-rot[0, 1], rot[0, 0])


def test_metadata_xml_gives_the_cameras(folder):
    rig = placed_rig((3,), (0.0, 0.0), 0.0)
    w0 = np.zeros(300)
    for i, camera in enumerate(rig):
        rot = camera.world_to_cam.rot.numpy()
        position_mm = -rot.T @ camera.world_to_cam.trans_m.numpy() * 1000
        for subject in range(11):
            w0[6 * (i * 11 + subject) :][:6] = [*euler(rot), *position_mm]
        lens = H36M_INTRINSICS[i]
        w0[264 + 9 * i :][:9] = [*lens.intrinsics_px, *lens.distortion]
    text = f"<metadata><mapping/><w0>[{' '.join(map(repr, w0.tolist()))}]</w0></metadata>"
    (folder / "metadata.xml").write_text(text)
    jobs = h36m_npz.plan(folder)
    assert {j.cameras for j in jobs} == {"metadata.xml"}
    for found, true in zip(read_metadata(folder / "metadata.xml")["S9"], rig, strict=True):
        torch.testing.assert_close(found.world_to_cam.rot, true.world_to_cam.rot)
        torch.testing.assert_close(found.world_to_cam.trans_m, true.world_to_cam.trans_m)
        torch.testing.assert_close(found.pinhole.distortion, true.pinhole.distortion)


def test_metadata_with_another_count_says_so(folder):
    (folder / "metadata.xml").write_text("<metadata><w0>[1 2 3]</w0></metadata>")
    with pytest.raises(UserError, match="has 3 camera numbers"):
        read_metadata(folder / "metadata.xml")


def test_detections_longer_than_the_motion_are_truncated(folder, tmp_path):
    rig = placed_rig((7,), (0.0, 0.0), 0.0)
    pixels = with_gt(folder, rig)
    longer = {
        s: {a: [np.concatenate((v, v[-3:])) + 1 for v in views] for a, views in actions.items()}
        for s, actions in pixels.items()
    }
    longer["S2"] = {"Eating": longer["S1"]["Walking"]}
    save(folder / "data_2d_h36m_cpn_ft_h36m_dbb.npz", positions_2d=longer, metadata={**SYMMETRY, "layout_name": "h36m"})
    store = store_of(h36m_npz.plan(folder, "cpn_ft_h36m_dbb"), str(tmp_path / "store"))
    clips = store.read({"keypoints": ("kp2d_px", "kp2d_conf"), "labels": ("joints_cam_m",)})
    (number,) = [i for i, k in enumerate(clips.keys) if k.sequence == "S9/Photo" and k.camera == "60457274"]
    mine = clips.clip_index == number
    assert mine.sum() == 50
    np.testing.assert_allclose(clips.arrays["kp2d_px"][mine], pixels["S9"]["Photo"][3] + 1)
    assert (clips.arrays["kp2d_conf"] == 1).all()


MPII_FROM_17 = [3, 2, 1, 4, 5, 6, 0, 7, 8, 10, 16, 15, 14, 11, 12, 13]
MPII_SIDES = [[3, 4, 5, 13, 14, 15], [0, 1, 2, 10, 11, 12]]
COCO_SIDES = [[*range(1, 17, 2)], [*range(2, 17, 2)]]


def coco_of(v):
    """COCO's 17 of H36M's 17: eyes and ears at the nose; hips and shoulders, whose middles are pelvis and thorax."""
    return v[:, [9, 9, 9, 9, 9, 11, 14, 12, 15, 13, 16, 4, 1, 5, 2, 6, 3]]


@pytest.mark.parametrize(
    ("name", "metadata", "of_17", "unknown"),
    [
        ("detectron_ft_h36m", {**SYMMETRY, "layout_name": "h36m"}, lambda v: v, []),
        (
            "detectron_pt_coco",
            {"num_joints": 17, "keypoints_symmetry": COCO_SIDES, "layout_name": "coco"},
            coco_of,
            [10],
        ),
        (
            "sh_pt_mpii",
            {"num_joints": 16, "keypoints_symmetry": MPII_SIDES, "layout_name": "mpii"},
            lambda v: v[:, MPII_FROM_17],
            [9],
        ),
        (
            "sh_ft_h36m",
            {"num_joints": 16, "keypoints_symmetry": MPII_SIDES, "layout_name": "h36m"},
            lambda v: v[:, MPII_FROM_17],
            [9],
        ),
    ],
)
def test_every_detection_file_becomes_the_17_joints(folder, tmp_path, name, metadata, of_17, unknown):
    """S2, S3 and S4, who have no 3D joints, are there in the published files and not read."""
    pixels = with_gt(folder, placed_rig((7,), (0.0, 0.0), 0.0))
    detected = {s: {a: [of_17(v) for v in views] for a, views in acts.items()} for s, acts in pixels.items()}
    for hidden in ("S2", "S3", "S4"):
        detected[hidden] = {"Eating": [np.zeros((9, metadata["num_joints"], 2), np.float32)] * 4}
    save(folder / f"data_2d_h36m_{name}.npz", positions_2d=detected, metadata=metadata)
    jobs = h36m_npz.plan(folder, name)
    assert {j.subject for j in jobs} == {"S1", "S9"}
    clips = store_of(jobs, str(tmp_path / "store")).read({"keypoints": ("kp2d_px", "kp2d_conf")})
    (number,) = [i for i, k in enumerate(clips.keys) if k.sequence == "S9/Photo" and k.camera == "60457274"]
    mine = clips.clip_index == number
    sure = clips.arrays["kp2d_conf"][mine]
    assert (sure == ~np.isin(np.arange(17), unknown)).all()
    # COCO's pelvis, spine and thorax are middles, some pixels from Human3.6M's own.
    off = np.linalg.norm(clips.arrays["kp2d_px"][mine] - pixels["S9"]["Photo"][3], axis=-1)
    assert off[:, [j for j in range(17) if j not in (*unknown, *((0, 7, 8) if "coco" in name else ()))]].max() < 1e-4
    assert (clips.arrays["kp2d_px"][mine][:, unknown] == 0).all()
    assert f"2D: {', '.join(sorted((name, 'gt')))}; " in h36m_npz.found(folder)


def test_a_joint_order_that_does_not_fit_its_sides_is_refused(folder, tmp_path):
    pixels = with_gt(folder, placed_rig((7,), (0.0, 0.0), 0.0))
    bad = {"num_joints": 17, "keypoints_symmetry": SYMMETRY["keypoints_symmetry"][::-1], "layout_name": "h36m"}
    save(folder / "data_2d_h36m_d.npz", positions_2d=pixels, metadata=bad)
    result = run(h36m_npz.plan(folder, "d")[0], str(tmp_path / "s"), 0)
    assert isinstance(result, Quarantined)
    assert "left and right are" in result.error
    sixteen = {s: {a: [v[:, :16] for v in views] for a, views in acts.items()} for s, acts in pixels.items()}
    save(folder / "data_2d_h36m_d.npz", positions_2d=sixteen, metadata={**SYMMETRY, "layout_name": "h36m"})
    result = run(h36m_npz.plan(folder, "d")[0], str(tmp_path / "s"), 0)
    assert isinstance(result, Quarantined)
    assert "4 of (frames, 17, 2)" in result.error


def test_a_world_whose_z_is_not_up_is_refused(tmp_path):
    save(tmp_path / "data_3d_h36m.npz", positions_3d={"S1": {"Walking": motion(30)[..., [0, 2, 1]]}})
    result = run(h36m_npz.plan(tmp_path)[0], str(tmp_path / "s"), 0)
    assert isinstance(result, Quarantined)
    assert "+z is not up" in result.error


def test_recognised_and_what_is_missing(folder, tmp_path):
    assert h36m_npz.looks_like(folder)
    assert h36m_npz.looks_like(folder / "data_3d_h36m.npz")
    assert h36m_npz.missing(folder) == []
    assert "S1, S9; 4 sequences; 2D: none, it is projected; cameras: placed by us" in h36m_npz.found(folder)
    (tmp_path / "empty").mkdir()
    assert not h36m_npz.looks_like(tmp_path / "empty")
    assert h36m_npz.missing(tmp_path / "empty") == ["data_3d_h36m.npz (from VideoPose3D's prepare_data_h36m.py)"]


def test_detections_need_real_cameras_and_the_right_layout(folder, tmp_path):
    pixels = with_gt(folder, placed_rig((7,), (0.0, 0.0), 0.0))
    save(folder / "data_2d_h36m_d.npz", positions_2d=pixels, metadata={**SYMMETRY, "layout_name": "body25"})
    result = run(h36m_npz.plan(folder, "d")[0], str(tmp_path / "s"), 0)
    assert isinstance(result, Quarantined)
    assert "layout 'body25'" in result.error
    (folder / "data_2d_h36m_gt.npz").unlink()
    with pytest.raises(UserError, match="must be known"):
        h36m_npz.plan(folder, "d")


def test_a_subject_without_2d_is_quarantined(folder, tmp_path):
    pixels = with_gt(folder, placed_rig((7,), (0.0, 0.0), 0.0))
    save(folder / "data_2d_h36m_gt.npz", positions_2d={"S1": pixels["S1"]}, metadata=SYMMETRY)
    results = [run(job, str(tmp_path / "s"), i) for i, job in enumerate(h36m_npz.plan(folder))]
    assert [isinstance(r, Quarantined) for r in results] == [False, False, False, True]
    assert "no subject S9" in results[3].error


def test_unknown_keypoints_name_lists_what_is_there(folder):
    with_gt(folder, placed_rig((7,), (0.0, 0.0), 0.0))
    with pytest.raises(UserError, match="there: gt"):
        h36m_npz.plan(folder, "cpn")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda v: v * 1000, "looks like millimetres"),
        (lambda v: v.transpose(1, 2, 0), "frames, 32, 3"),
        (lambda v: v[:, :17], "frames, 32, 3"),
        (lambda v: np.where(np.arange(len(v))[:, None, None] == 5, np.nan, v), "NaN"),
        (lambda v: v.astype(np.int32), "dtype int32"),
        (lambda v: v[:0], "frames, 32, 3"),
    ],
)
def test_a_bad_sequence_is_quarantined_with_the_reason_and_the_rest_goes_on(tmp_path, spoil, message):
    world = {"S1": {"Walking": motion(30), "Sitting 1": spoil(motion(30))}}
    save(tmp_path / "data_3d_h36m.npz", positions_3d=world)
    sitting, walking = (run(j, str(tmp_path / "s"), i) for i, j in enumerate(h36m_npz.plan(tmp_path)))
    assert isinstance(sitting, Quarantined)
    assert message in sitting.error
    assert "Sitting 1" in sitting.error
    assert not isinstance(walking, Quarantined)


class Hostile:
    def __reduce__(self):
        return os.system, ("touch /tmp/aign-was-here",)


def test_a_hostile_file_is_refused_by_name_and_runs_nothing(tmp_path):
    save(tmp_path / "data_3d_h36m.npz", positions_3d={"S1": {"Walking": Hostile()}})
    with pytest.raises(UserError, match="system"):
        h36m_npz.plan(tmp_path)
    assert not os.path.exists("/tmp/aign-was-here")
    assert pickle.dumps(Hostile())


def test_wrong_key_and_missing_file_say_what_is_needed(tmp_path):
    save(tmp_path / "data_3d_h36m.npz", positions={})
    with pytest.raises(UserError, match="positions_3d"):
        h36m_npz.plan(tmp_path)
    with pytest.raises(UserError, match="no file"):
        h36m_npz.plan(tmp_path / "nowhere")


def test_convention_rig_world_is_z_up_and_people_stand_upright_in_the_picture():
    (camera, *_) = placed_rig((0,), (0.0, 0.0), 0.0)
    upright = np.array([[[0.0, 0.0, 0.1], [0.0, 0.0, 1.7]]])
    sight = see(camera, upright)
    assert sight.inside.all()
    assert sight.kp2d_px[0, 1, 1] < sight.kp2d_px[0, 0, 1]
    assert sight.joints_cam_m[0, :, 2].min() > 3


def test_keypoints_outside_the_image_have_no_confidence():
    lens = H36M_INTRINSICS[0]
    camera = h36m_camera(lens, Rigid(rot=torch.eye(3).double(), trans_m=torch.zeros(3).double()))
    sight = see(camera, np.array([[[0.0, 0.0, 3.0], [9.0, 0.0, 3.0], [0.0, 0.0, -3.0]]]))
    assert sight.inside.tolist() == [[True, False, False]]
    assert (sight.kp2d_px[0, 1:] == 0).all()
