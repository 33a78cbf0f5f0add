"""Clips that failed their limits, what was left out of a part, and parts read back as they were written."""

import numpy as np
import pytest

from aign.data.datasets.job import Stored
from aign.data.schema import TABLES
from aign.data.store import Manifest, Store, commit, find_manifest, find_part, write_part
from tests.data import store_samples as samples

CLIPS = tuple((f"S{i}/Walking 1", camera, 6 + i) for i in (1, 2) for camera in samples.CAMERAS)
LEFT_OUT = ("person 2 was tracked for 9 frames; 16 are needed",)


@pytest.fixture
def store(tmp_path):
    """Keypoints of four clips, of which the second and third failed."""
    rng = np.random.default_rng(0)
    keypoints = [samples.keypoints(rng, *clip) for clip in CLIPS]
    quality = [samples.anything("quality", rng, *clip) for clip in CLIPS]
    for clip in quality[1:3]:
        clip.update(passed=np.bool_(False), reasons="keypoint_conf 0.1 < 0.4")
    url = str(tmp_path / "store")
    records = write_part(url, 0, {"keypoints": keypoints, "quality": quality}, samples.provenance(), LEFT_OUT)
    commit(url, Manifest(skeleton="h36m_17", num_joints=samples.J).updated(records))
    return Store.open(url)


def test_failed_clips_are_not_selected_unless_asked_for(store):
    columns = {"keypoints": ("kp2d_conf",)}
    passed = store.read(columns)
    assert [(k.sequence, k.camera) for k in passed.keys] == [CLIPS[0][:2], CLIPS[3][:2]]
    everything = store.read(columns, include_dropped=True)
    assert [(k.sequence, k.camera) for k in everything.keys] == [c[:2] for c in CLIPS]
    np.testing.assert_array_equal(
        passed.arrays["kp2d_conf"][: CLIPS[0][2]], everything.arrays["kp2d_conf"][: CLIPS[0][2]]
    )


def test_the_verdict_and_what_was_left_out_survive_the_manifest_and_the_part(store):
    manifest = find_manifest(store.url)
    assert [p.dropped for p in manifest.tables["quality"]] == [(1, 2)]
    assert [p.dropped for p in manifest.tables["keypoints"]] == [()]
    assert {p.left_out for p in manifest.parts} == {LEFT_OUT}
    found = find_part(store.url, 0, ("keypoints", "quality"), samples.provenance())
    assert {t: r.to_dict() for t, r in found.items()} == {p.table: p.to_dict() for p in manifest.parts}


@pytest.mark.parametrize("table", TABLES)
def test_clips_are_read_back_as_they_were_written(tmp_path, table):
    rng = np.random.default_rng(1)
    if table == "memory_pose":
        clips = [samples.memory_pose(rng, f"S{i}/Walking 1", 5 + i, rigs=i) for i in (1, 2)]
    else:
        exact = {"frames": samples.pictures, "keypoints": samples.keypoints, "labels": samples.labels}
        clips = [
            exact[table](rng, *c) if table in exact else samples.anything(table, rng, *c)
            for c in CLIPS
        ]  # fmt: skip
    (record,) = write_part(str(tmp_path), 4, {table: clips}, samples.provenance())
    back = Stored(url=str(tmp_path), records={table: record}).clips(table)
    assert len(back) == len(clips)
    (again,) = write_part(str(tmp_path / "again"), 4, {table: back}, samples.provenance())
    assert again.sha256 == record.sha256
