"""The synthetic source as jobs of a store: exact counts, valid rows, labels that agree across tables, same bytes."""

import dataclasses
import pickle

import cv2
import numpy as np
import pytest
import torch

from aign.body.assets import load_body
from aign.body.skinning import skin
from aign.data import assets
from aign.data.datasets.job import Stored, run
from aign.data.datasets.synthetic import TABLES, SyntheticClips, SyntheticOptions, plan
from aign.data.motions import load_demo_motions
from aign.data.pixels import decode_bits, decode_depth, decode_flow, decode_jpeg, decode_mask, decode_parts
from aign.data.store import Quarantined
from aign.data.synthetic.backgrounds import check_pulled
from aign.data.synthetic.scene import SOURCE, TARGET
from aign.framework.errors import UserError
from aign.geometry.rotation import from_axis_angle
from aign.geometry.skeleton import SMPL24

OPTIONS = SyntheticOptions(frames=50, side_px=128, clip_frames=24, seed=3)


@pytest.fixture(scope="session", autouse=True)
def _panoramas() -> None:
    try:
        check_pulled()
    except UserError:
        try:
            assets.pull(["backgrounds"])
        except UserError as error:
            pytest.skip(f"no panoramas: {error}")


@pytest.fixture(scope="module")
def job() -> SyntheticClips:
    (only,) = plan(OPTIONS)
    return only


@pytest.fixture(scope="module")
def tables(job):
    return job.clips(TABLES, Stored(url="", records={})).tables


def test_exactly_the_frames_that_were_asked_for(tables):
    for table in TABLES:
        assert sum(clip["num_frames"] for clip in tables[table]) == OPTIONS.frames
        assert [c["sequence"] for c in tables[table]] == [c["sequence"] for c in tables["frames"]]
    assert len({clip["sequence"] for clip in tables["frames"]}) == len(tables["frames"]) >= 3
    assert sum(job.frames for job in plan(SyntheticOptions(frames=1300))) == 1300


def test_tables_agree(tables):
    body = load_body()
    for rows in zip(*(tables[table] for table in TABLES), strict=True):
        row = {key: value for part in rows for key, value in part.items()}
        fx, fy, cx, cy = row["frame_intrinsics_px"].astype(np.float64)
        np.testing.assert_allclose(row["frame_intrinsics_px"], row["intrinsics_px"])
        np.testing.assert_allclose(row["crop_xyxy_px"], [-0.5, -0.5, 127.5, 127.5])
        assert row["body_model"] == "aign-default"
        picture, mask = decode_jpeg(row["image_jpeg"][0]), decode_mask(row["mask_png"][0])
        assert picture.shape == (128, 128, 3)
        depth, parts = decode_depth(row["depth_zst"][0]), decode_parts(row["parts_png"][0])
        assert ((depth > 0) == mask).all()
        assert ((parts > 0) == mask).all()

        rotmats = from_axis_angle(torch.from_numpy(row["body_pose_rad"]))
        posed = skin(body, rotmats, torch.from_numpy(row["betas"]), torch.from_numpy(row["body_trans_cam_m"]))
        joints = posed.joints_m.numpy()
        np.testing.assert_allclose(joints, row["joints_cam_m"], atol=1e-3)
        px = joints[..., :2] / joints[..., 2:] * [fx, fy] + [cx, cy]
        seen = row["kp2d_conf"] > 0
        np.testing.assert_allclose(row["kp2d_px"][seen], px[seen], atol=0.05)

        points = posed.vertices_m[0].numpy()[decode_bits(row["visible_bits"][0])]
        at = np.rint(points[:, :2] / points[:, 2:] * [fx, fy] + [cx, cy]).astype(int)
        inside = ((at >= 0) & (at < 128)).all(1)
        found = depth[at[inside, 1], at[inside, 0]]
        # At this size many vertices round to a pixel beside the body, or to another limb.
        assert np.mean(found > 0) > 0.5
        assert np.mean(np.abs(found - points[inside, 2])[found > 0] < 0.1) > 0.9


def test_flow_carries_parts_to_the_next_frame_and_back(tables):
    for clip in range(len(tables["flow"])):
        flow, back = tables["flow"][clip]["flow_zst"], tables["flow_back"][clip]["flow_back_zst"]
        parts = [decode_parts(p) for p in tables["parts"][clip]["parts_png"]]
        assert not decode_flow(flow[-1])[1].any()
        assert not decode_flow(back[0])[1].any()
        for t, (field, other) in ((1, (flow[1], 2)), (2, (back[2], 1))):
            if other >= len(parts):
                continue
            flow_px, valid = decode_flow(field)
            assert valid.all()
            assert (flow_px[parts[t] == 0] == 0).all()
            y, x = np.nonzero(parts[t])
            to = np.rint(np.column_stack((x, y)) + flow_px[y, x]).astype(int)
            inside = ((to >= 0) & (to < 128)).all(1)
            same = parts[other][to[inside, 1], to[inside, 0]] == parts[t][y, x][inside]
            assert same.mean() > 0.65


def test_the_store_takes_it_and_a_second_run_changes_nothing(job, tmp_path):
    few = dataclasses.replace(job, frames=12)
    first = run(few, str(tmp_path), 0)
    assert not isinstance(first, Quarantined), first
    assert {record.table for record in first} == set(TABLES)
    again = run(few, str(tmp_path), 0)
    elsewhere = run(pickle.loads(pickle.dumps(few)), str(tmp_path / "other"), 0)
    assert [r.provenance for r in first] == [r.provenance for r in again] == [r.provenance for r in elsewhere]
    assert [r.sha256 for r in first] == [r.sha256 for r in again] == [r.sha256 for r in elsewhere]


def test_domains_differ_in_their_pictures():
    means = {}
    for domain in ("source", "target"):
        (job,) = plan(SyntheticOptions(frames=40, side_px=64, clip_frames=4, domain=domain))
        rows = job.clips(("frames",), Stored(url="", records={})).tables["frames"]
        means[domain] = np.mean([cv2.cvtColor(decode_jpeg(r["image_jpeg"][0]), cv2.COLOR_RGB2GRAY) for r in rows])
    assert means["target"] < 0.75 * means["source"]


def test_knobs_replace_the_domains_own():
    assert SyntheticOptions(domain="source").scene_domain == SOURCE
    mixed = SyntheticOptions(domain="target", lighting="flat", body_range=(0.0, 0.0)).scene_domain
    assert mixed == dataclasses.replace(TARGET, lighting="flat", body_range=(0.0, 0.0))


def test_a_knob_changes_the_hash_and_panoramas_only_that_of_pictures(job):
    other = plan(dataclasses.replace(OPTIONS, texture="plain"))[0]
    assert job.provenance("frames").hash != other.provenance("frames").hash
    assert job.provenance("frames").source_hashes != job.provenance("flow").source_hashes
    assert len(pickle.dumps(job)) < 20_000


def test_motions_of_a_folder(tmp_path):
    """AMASS files: what is written is what moves."""
    motion = load_demo_motions()[0]
    folder = tmp_path / "CMU" / "01"
    folder.mkdir(parents=True)
    poses = np.zeros((90, 156))
    poses[:, 0] = np.pi / 2
    poses[:, 3 * 16 + 2] = np.linspace(0, 1, 90)
    np.savez(
        folder / "01_01_poses.npz",
        poses=poses,
        trans=np.tile([0.0, 0.0, float(motion.trans_m[0, 1])], (90, 1)),
        betas=np.zeros(16),
        dmpls=np.zeros((90, 8)),
        gender="neutral",
        mocap_framerate=60.0,
    )
    (job,) = plan(SyntheticOptions(frames=8, side_px=64, motions=str(tmp_path)))
    rows = job.clips(("labels",), Stored(url="", records={})).tables["labels"]
    assert sum(r["num_frames"] for r in rows) == 8


@pytest.mark.parametrize(
    "bad",
    [{"frames": 0}, {"side_px": 8}, {"clip_frames": 1}, {"clip_frames": 500}, {"fps": 0.0}, {"seed": -1}],
)
def test_bad_options_are_refused(bad):
    with pytest.raises(UserError, match=r"allowed|needed"):
        SyntheticOptions(**bad)


def test_no_motions_is_told(tmp_path):
    with pytest.raises(UserError, match="no motion"):
        plan(SyntheticOptions(motions=str(tmp_path)))


def test_detected_keypoints_are_off_as_a_detectors_are_and_nothing_else_changes(tables):
    (job,) = plan(dataclasses.replace(OPTIONS, keypoints="detector"))
    found = job.clips(("keypoints", "masks"), Stored(url="", records={})).tables
    assert [c["mask_png"] for c in found["masks"]] == [c["mask_png"] for c in tables["masks"]]
    names = SMPL24.joints
    off, exact_conf, conf = [], [], []
    for seen, exact in zip(found["keypoints"], tables["keypoints"], strict=True):
        both = (seen["kp2d_conf"] > 0) & (exact["kp2d_conf"] > 0)
        assert not ((seen["kp2d_conf"] > 0) & (exact["kp2d_conf"] == 0)).any(), "outside of the picture stays unseen"
        off.append(np.linalg.norm(seen["kp2d_px"] - exact["kp2d_px"], axis=-1)[both])
        exact_conf.append(exact["kp2d_conf"])
        conf.append(seen["kp2d_conf"])
    assert 0.2 < np.median(np.concatenate(off)) < 8
    conf = np.concatenate(conf)
    for unknown in ("spine1", "head", "l_collar"):
        assert (conf[:, names.index(unknown)] == 0).all()
    for known in ("pelvis", "neck", "l_foot", "r_wrist"):
        assert (conf[:, names.index(known)] > 0).mean() > 0.5
    plain, detected = plan(OPTIONS)[0].provenance("keypoints"), job.provenance("keypoints")
    assert detected.stages[:-1] == plain.stages
    assert detected.stages[-1].name == "detector-errors"
    assert job.provenance("masks") == plan(OPTIONS)[0].provenance("masks")
    with pytest.raises(UserError, match="gt and detector are allowed"):
        dataclasses.replace(OPTIONS, keypoints="guessed")
