"""Videos to clips of people: real nets on a real video, and what happens when a stage changes."""

import json
from dataclasses import replace

import numpy as np
import pytest

from aign.data import assets, pixels
from aign.data.datasets.job import Unusable, run
from aign.data.datasets.video import framing, video_ranges
from aign.data.datasets.video.framing import DEFAULT_TABLES, Framing
from aign.data.datasets.video.video_ranges import VideoRange, plan
from aign.data.stages.crops import crop_points
from aign.data.stages.decode import read_frames, write_mp4
from aign.data.stages.flow import Dis
from aign.data.stages.quality import QualityLimits
from aign.data.store import Manifest, Quarantined, Store, commit
from aign.framework.errors import UserError

pytestmark = pytest.mark.network
FRAMES = 24
QUICK = Dis(finest_scale=2, patch_stride=6, search_iterations=4, refinement_iterations=0)
SMALL = Framing(side_px=96, flow=QUICK)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A real person: every second row and column of 24 frames."""
    assets.pull(["pose", "pose2sim"])
    path = tmp_path_factory.mktemp("film") / "walk.mp4"
    frames = (np.ascontiguousarray(f[::2, ::2]) for f in read_frames(assets.path("pose2sim_cam02"), 0, FRAMES))
    write_mp4(path, frames, 30)
    return path


@pytest.fixture(scope="module")
def made(film, tmp_path_factory):
    """Its store."""
    url = str(tmp_path_factory.mktemp("made") / "store")
    return url, store_of(film, url, SMALL)


def store_of(film, url, how, detections=None):
    records = {}
    for number, job in enumerate(plan(film, how, detections)):
        result = run(job, url, number)
        assert not isinstance(result, Quarantined), result
        records |= {(r.table, number): r for r in result}
    first = next(iter(records.values())).provenance
    commit(url, Manifest(skeleton=first.skeleton, num_joints=first.num_joints).updated(records.values()))
    return Store.open(url)


def test_a_person_becomes_clips_of_every_table(made):
    _, store = made
    assert set(store.manifest.tables) == set(DEFAULT_TABLES)
    columns = {
        "keypoints": ("kp2d_px", "kp2d_conf", "intrinsics_px"),
        "frames": ("image_jpeg", "crop_xyxy_px", "frame_size_px", "frame_intrinsics_px", "time_s"),
        "masks": ("mask_png",),
        "flow": ("flow_zst",),
    }
    clips = store.read(columns, include_dropped=True)
    (key,) = clips.keys
    assert (key.frame_start, key.num_frames, key.fps) == (0, FRAMES, 30.0)
    np.testing.assert_allclose(clips.arrays["time_s"], np.arange(FRAMES) / 30, atol=1e-3)
    crop = clips.arrays["crop_xyxy_px"][0]
    points = crop_points(clips.arrays["kp2d_px"], crop, 96)
    sure = clips.arrays["kp2d_conf"] > 0.9
    assert ((points[sure] > 0) & (points[sure] < 95)).all(), "the person is in the picture"
    assert np.ptp(points[0][sure[0]], axis=0).max() > 48, "and fills it"
    x, y = points[5][24].round().astype(int)  # right hip
    assert pixels.decode_mask(clips.arrays["mask_png"][5])[y, x]
    assert pixels.decode_jpeg(clips.arrays["image_jpeg"][0]).shape == (96, 96, 3)
    flow, valid = pixels.decode_flow(clips.arrays["flow_zst"][0])
    assert flow.shape == (96, 96, 2)
    assert valid.mean() > 0.5
    assert not pixels.decode_flow(clips.arrays["flow_zst"][-1])[1].any(), "the last frame has no next one"


def test_intrinsics_of_the_picture_see_what_those_of_the_video_see(made):
    """A ray through a keypoint is the same in both."""
    _, store = made
    clips = store.read(
        {"keypoints": ("kp2d_px", "intrinsics_px"), "frames": ("crop_xyxy_px", "frame_intrinsics_px")},
        include_dropped=True,
    )
    whole, cut = clips.arrays["intrinsics_px"][0], clips.arrays["frame_intrinsics_px"][0]
    points = clips.arrays["kp2d_px"][3].astype(np.float64)
    inside = crop_points(points, clips.arrays["crop_xyxy_px"][0], 96)
    np.testing.assert_allclose((points - whole[2:]) / whole[:2], (inside - cut[2:]) / cut[:2], atol=1e-5)


def test_quality_is_measured_and_a_clip_below_its_limits_is_dropped_but_kept(made, film, tmp_path):
    _, store = made
    figures = ("keypoint_conf", "mask_agreement", "flow_consistency", "sharpness", "passed")
    (good,) = store.read({"quality": figures}, include_dropped=True).arrays["passed"]
    assert good
    strict = replace(SMALL, limits=QualityLimits(keypoint_conf=0.999))
    other = store_of(film, str(tmp_path / "s"), strict)
    with pytest.raises(UserError, match="selects no clip"):
        other.read({"keypoints": ("kp2d_px",)})
    judged = other.read({"quality": ("reasons",)}, include_dropped=True)
    assert "keypoint_conf" in judged.arrays["reasons"][0]
    assert [p.dropped for p in other.manifest.tables["quality"]] == [(0,)]


def no_nets(*_):
    raise AssertionError("the nets ran again")


@pytest.mark.parametrize(
    ("changed", "rewritten"),
    [
        (replace(SMALL, flow=replace(QUICK, patch_stride=5)), {"flow", "quality"}),
        (replace(SMALL, limits=QualityLimits(sharpness=0.0)), {"quality"}),
        (replace(SMALL, side_px=64), {"frames", "flow", "quality", "masks"}),
        (replace(SMALL, tables=(*DEFAULT_TABLES, "flow_back")), {"flow_back"}),
    ],
)
def test_a_changed_stage_rewrites_its_own_tables_only(made, film, tmp_path, monkeypatch, changed, rewritten):
    url, store = made
    before = {p.table: p.path for p in store.manifest.parts}
    if "masks" not in rewritten:
        monkeypatch.setattr(video_ranges, "get_detector", no_nets)
    (job,) = plan(film, changed)
    again = {record.table: record.path for record in run(job, url, 0)}
    assert {table for table in again if again[table] != before.get(table)} == rewritten
    fresh_url = str(tmp_path / "fresh")
    monkeypatch.undo()
    fresh = store_of(film, fresh_url, changed)
    made_again = {record.table: record.sha256 for record in run(job, url, 0)}
    assert made_again == {p.table: p.sha256 for p in fresh.manifest.parts}, "made from what was stored, or anew"


def test_a_long_video_is_cut_into_equal_ranges_with_sources_of_their_own(film, monkeypatch):
    monkeypatch.setattr(video_ranges, "RANGE_FRAMES", 10)
    jobs = plan(film, SMALL)
    assert [(job.start, job.stop) for job in jobs] == [(0, 8), (8, 16), (16, 24)]
    assert jobs[1].source == f"{film} frames 8 to 15"
    assert len({job.provenance("flow").hash for job in jobs}) == 3


def test_ranges_cover_the_video_and_short_ones_are_told_of(film, tmp_path, monkeypatch):
    monkeypatch.setattr(video_ranges, "RANGE_FRAMES", 10)
    result = run(plan(film, SMALL)[0], str(tmp_path / "s"), 0)
    assert isinstance(result, Quarantined)
    assert "nobody was followed for 16 frames (person 0, frames 0 to 7: 8 frames; 16 needed)" in result.error


def test_what_is_no_video_is_planned_and_quarantined_beside_the_others(film, tmp_path):
    (tmp_path / "letter.mp4").write_text("this is a letter")
    (tmp_path / "walk.mp4").write_bytes(film.read_bytes())
    letter, walk = plan(tmp_path, SMALL)
    assert isinstance(letter, Unusable)
    assert isinstance(walk, VideoRange)
    result = run(letter, str(tmp_path / "s"), 0)
    assert isinstance(result, Quarantined)
    assert "is not a video" in result.error


def test_a_truncated_video_keeps_its_frames_and_says_what_is_missing(film, tmp_path):
    whole = film.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: int(len(whole) * 0.93)])
    (job,) = plan(tmp_path, SMALL)
    assert 16 <= job.index.num_frames < FRAMES
    records = run(job, str(tmp_path / "s"), 0)
    assert not isinstance(records, Quarantined), records
    (told,) = {record.left_out for record in records}
    assert told == (f"{job.index.num_missing} frames that the header promises: the file is truncated",)


def test_detections_of_somebody_else_take_the_place_of_ours(made, film, tmp_path, monkeypatch):
    _, store = made
    clips = store.read({"keypoints": ("kp2d_px", "kp2d_conf")}, include_dropped=True).arrays
    coco = [0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28]
    results = [
        {
            "image_id": frame,
            "category_id": 1,
            "score": 0.9,
            "keypoints": np.column_stack((points[coco], conf[coco])).reshape(-1).tolist(),
        }
        for frame, (points, conf) in enumerate(zip(clips["kp2d_px"], clips["kp2d_conf"], strict=True))
    ]
    (tmp_path / "walk.json").write_text(json.dumps(results))
    given = store_of(film, str(tmp_path / "s"), SMALL, tmp_path)
    assert given.manifest.skeleton == "coco17"
    theirs = given.read(
        {"keypoints": ("kp2d_px",), "masks": ("mask_png",), "quality": ("mask_agreement",)}, include_dropped=True
    )
    np.testing.assert_allclose(theirs.arrays["kp2d_px"], clips["kp2d_px"][:, coco], atol=0.01)
    assert theirs.arrays["mask_agreement"][0] > 0.9, "the landmark net's mask lies under their keypoints"


@pytest.mark.parametrize(
    ("tables", "why"),
    [
        (("frames",), "keypoints say where the clips are"),
        (("keypoints", "quality"), "quality judges masks"),
        (("keypoints", "depth"), "allowed are keypoints, frames, masks"),
        ((), "got stages"),
    ],
)
def test_stages_that_cannot_be_made_are_refused(tables, why):
    with pytest.raises(UserError, match=why):
        Framing(tables=tables)


def test_every_stage_of_every_table_is_in_the_chain():
    names = {name for table in framing.TABLES for name in framing.DEPENDS[table]}
    assert set(framing.DEPENDS) == set(framing.TABLES)
    video = replace_nothing()
    assert names == set(framing.chain(video, SMALL, None))


def replace_nothing():
    from pathlib import Path

    from aign.data.datasets.video.video_files import VideoFile

    return VideoFile(
        path=Path("a.mp4"), sequence="a", camera="a", calibrated=None, sha256="0", nets="heavy", licence="CC0-1.0"
    )
