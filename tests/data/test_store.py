import errno
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from aign.data.schema import SCHEMA_VERSION, TABLES
from aign.data.store import (
    Manifest,
    Moments,
    Quarantined,
    Selection,
    Store,
    check_disjoint,
    commit,
    find_manifest,
    find_part,
    lock,
    reader,
    write_part,
    writing,
)
from aign.framework.errors import UserError
from tests.data import store_samples as samples

EMPTY = Manifest(skeleton="h36m_17", num_joints=samples.J)


def clips_of(table: str) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    if table == "memory_pose":
        return [samples.memory_pose(rng, f"S{i}/Walking 1", 5 + i, rigs=i) for i in (1, 2, 3)]
    make = {"frames": samples.pictures, "keypoints": samples.keypoints, "labels": samples.labels}.get(table)
    make = make or functools.partial(samples.anything, table)
    return [make(rng, f"S{i}/Walking 1", camera, 5 + i) for i in (1, 2) for camera in samples.CAMERAS]


@pytest.mark.parametrize("table", TABLES)
def test_round_trip(tmp_path: Path, table: str) -> None:
    clips = clips_of(table)
    records = write_part(str(tmp_path), 3, {table: clips}, samples.provenance())
    commit(str(tmp_path), EMPTY.updated(records))
    store = Store.open(str(tmp_path))
    store.verify()
    read = store.read({table: tuple(TABLES[table].columns)})
    frame = clip_item = ragged_item = 0
    for index, (clip, key) in enumerate(zip(clips, read.keys, strict=True)):
        frames = slice(frame, frame := frame + clip["num_frames"])
        assert (read.clip_index[frames] == index).all()
        assert all(getattr(key, name) == clip[name] for name in samples.key("S/a", "", 1))
        for name, column in TABLES[table].columns.items():
            place: Any = frames if column.per == "frame" else index
            if column.ragged:
                place = slice(ragged_item, ragged_item := ragged_item + len(clip[name]))
                assert read.counts[name][index] == len(clip[name])
            np.testing.assert_array_equal(
                read.arrays[name][place], np.asarray(clip[name]).astype(read.arrays[name].dtype)
            )
        clip_item += 1
    assert frame == len(read.clip_index) == store.manifest.parts[0].frames
    assert clip_item == store.manifest.parts[0].rows


def test_plain_pandas_reads_a_part(tmp_path: Path) -> None:
    (clip, *_) = clips = clips_of("keypoints")
    (record,) = write_part(str(tmp_path), 0, {"keypoints": clips}, samples.provenance())
    row = pd.read_parquet(tmp_path / record.path).iloc[0]
    assert row["sequence"] == "S1/Walking 1"
    np.testing.assert_array_equal(row["kp2d_px"].reshape(-1, samples.J, 2), clip["kp2d_px"])


def test_file_metadata_says_where_a_part_comes_from(tmp_path: Path) -> None:
    (record,) = write_part(str(tmp_path), 0, {"labels": clips_of("labels")}, samples.provenance("abc"))
    footer = json.loads(pq.read_metadata(tmp_path / record.path).metadata[b"aign"])
    assert footer["schema_version"] == SCHEMA_VERSION
    assert footer["table"] == "labels"
    assert footer["skeleton"] == "h36m_17"
    assert footer["source_hashes"] == ["abc"]
    assert footer["licence"] == "CC0-1.0"
    assert footer["stages"] == [{"name": "project", "version": "1", "params": {"noise_px": 1.0}}]


def test_row_groups_hold_one_sequence_and_are_equal_in_all_tables(tmp_path: Path) -> None:
    clips = [
        ("S1/Walking 1", "a", 1500),
        ("S1/Walking 1", "b", 1500),
        ("S1/Sitting 1", "a", 20),
        ("S1/Sitting 1", "b", 9),
    ]
    keypoints, labels = samples.pair_part(str(tmp_path), 0, clips)
    assert [[c.num_frames for c in g.clips] for g in keypoints.row_groups] == [[1500], [1500], [20, 9]]
    assert keypoints.row_groups == labels.row_groups
    assert pq.read_metadata(tmp_path / keypoints.path).num_row_groups == 3


def test_name_follows_inputs_and_stage_parameters(tmp_path: Path) -> None:
    names = {
        write_part(str(tmp_path), 0, {"labels": clips_of("labels")}, provenance)[0].path
        for provenance in (
            samples.provenance(),
            samples.provenance(noise_px=2.0),
            samples.provenance("other source"),
        )
    }
    assert len(names) == 3


def test_a_repeated_part_is_left_alone(tmp_path: Path) -> None:
    tables = {"keypoints": clips_of("keypoints"), "labels": clips_of("labels")}
    first = write_part(str(tmp_path), 0, tables, samples.provenance())
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    again = write_part(str(tmp_path), 0, tables, samples.provenance())
    assert [r.to_dict() for r in again] == [r.to_dict() for r in first]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} == before
    found = find_part(str(tmp_path), 0, ("keypoints", "labels", "frames"), samples.provenance())
    assert [found[t].to_dict() for t in ("keypoints", "labels")] == [r.to_dict() for r in first]
    assert "frames" not in found


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    one, two = (samples.pair_store(str(tmp_path / name), parts=2) for name in ("one", "two"))
    assert one.hash == two.hash
    assert samples.pair_store(str(tmp_path / "three"), parts=2, seed=1).hash != one.hash


def test_a_file_without_a_footer_is_written_again(tmp_path: Path) -> None:
    tables = {"labels": clips_of("labels")}
    (first,) = write_part(str(tmp_path), 0, tables, samples.provenance())
    os.truncate(tmp_path / first.path, first.bytes // 2)
    assert not find_part(str(tmp_path), 0, ("labels",), samples.provenance())
    assert write_part(str(tmp_path), 0, tables, samples.provenance())[0].sha256 == first.sha256


def run(code: str, *args: str) -> subprocess.Popen[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", textwrap.dedent(code), *args]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def test_killed_between_writing_and_publishing(tmp_path: Path) -> None:
    code = """
        import os, signal, sys
        from aign.data.store import files, writing
        from tests.data import store_samples as samples
        files._publish = lambda fs, temp, path: os.kill(os.getpid(), signal.SIGKILL)
        with writing(sys.argv[1]):
            samples.pair_store(sys.argv[1], parts=1)
    """
    process = run(code, str(tmp_path))
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert [p.name for p in tmp_path.rglob("*.parquet") if p.name.startswith(".tmp-")]
    assert not [p.name for p in tmp_path.rglob("part-*")]
    assert find_manifest(str(tmp_path)) is None
    with writing(str(tmp_path)):  # takes the dead run's lock and removes what it left
        assert not list(tmp_path.rglob(".tmp-*"))
        samples.pair_store(str(tmp_path), parts=1)
    assert not list(tmp_path.rglob(".*"))
    Store.open(str(tmp_path)).verify()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_full_or_read_only_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(pq.ParquetWriter, "write_table", refuse)
    allowed = {errno.ENOSPC: "no space left", errno.EROFS: "read-only", errno.EACCES: "permission denied"}[number]
    with pytest.raises(UserError, match=rf"cannot write .*labels.*{allowed}") as caught:
        write_part(str(tmp_path), 0, {"labels": clips_of("labels")}, samples.provenance())
    assert "\n" not in str(caught.value)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(UserError, match=rf"cannot write .*manifest.json: .*{allowed}"):
        commit(str(tmp_path), EMPTY)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(UserError, match=rf"cannot lock .*{allowed}"), writing(str(tmp_path)):
        pass
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_a_file_size_limit_is_a_real_write_error(tmp_path: Path) -> None:
    code = """
        import resource, sys
        from aign.framework.errors import UserError
        from tests.data import store_samples as samples
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            samples.pair_store(sys.argv[1], parts=1)
        except UserError as error:
            print(error)
    """
    process = run(code, str(tmp_path))
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "cannot write" in out
    assert len(out.splitlines()) == 1
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_a_second_run_is_told_who_holds_the_store(tmp_path: Path) -> None:
    with (
        writing(str(tmp_path)),
        pytest.raises(UserError, match=rf"written by process {os.getpid()} on .* since .*remove .*\.lock"),
        writing(str(tmp_path)),
    ):
        pass
    assert not (tmp_path / ".lock").exists()
    with pytest.raises(KeyboardInterrupt), writing(str(tmp_path)):
        raise KeyboardInterrupt
    assert not (tmp_path / ".lock").exists()


def test_ctrl_c_releases_the_lock(tmp_path: Path) -> None:
    code = """
        import sys, time
        from aign.data.store import writing
        with writing(sys.argv[1]):
            print("held", flush=True)
            time.sleep(60)
    """
    process = run(code, str(tmp_path))
    assert said(process) == "held"
    with pytest.raises(UserError, match=f"process {process.pid} on"), writing(str(tmp_path)):
        pass
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert not (tmp_path / ".lock").exists()


def test_only_dead_locks_of_this_host_are_taken_over(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait(30)
    lock = tmp_path / ".lock"
    lock.write_text(json.dumps({"host": "elsewhere", "pid": dead.pid, "time": "now"}))
    with pytest.raises(UserError, match="elsewhere"), writing(str(tmp_path)):
        pass
    lock.write_text(json.dumps({"host": socket.gethostname(), "pid": dead.pid, "time": "now"}))
    with writing(str(tmp_path)):
        assert json.loads(lock.read_text())["pid"] == os.getpid()


def test_only_one_of_many_takes_over_a_dead_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait(30)
    (tmp_path / ".lock").write_text(json.dumps({"host": socket.gethostname(), "pid": dead.pid, "time": "now"}))
    plain = lock._holder

    def slow(fs: Any, path: str) -> dict[str, Any]:
        holder = plain(fs, path)
        time.sleep(0.2)  # long enough for all to have seen the dead one, were they not kept apart
        return holder

    monkeypatch.setattr(lock, "_holder", slow)
    tried = threading.Barrier(3)

    def hold(_: int) -> str:
        try:
            with writing(str(tmp_path)):
                tried.wait(20)
                return "held"
        except UserError:
            tried.wait(20)
            return "refused"

    with ThreadPoolExecutor(3) as threads:
        assert sorted(threads.map(hold, range(3))) == ["held", "refused", "refused"]
    assert not (tmp_path / ".lock").exists()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_selection_needs_the_manifest_only(tmp_path: Path) -> None:
    samples.pair_store(str(tmp_path))
    store = Store.open(str(tmp_path))
    for part in tmp_path.rglob("*.parquet"):
        part.unlink()
    everything = store.row_groups(("keypoints", "labels"))
    assert len(everything) == 12
    chosen = Selection(subjects=("S1", "S3"), actions=("Walking",), cameras=samples.CAMERAS[1:])
    found = store.row_groups(("keypoints",), chosen)
    assert {f.group.subject for f in found} == {"S1", "S3"}
    assert all(f.rows == (1,) and f.group.action == "Walking" for f in found)
    assert store.sequences(("keypoints",), Selection(sequences=("S2/Sitting 2",))) == {"S2/Sitting 2"}
    with pytest.raises(UserError, match=r"subjects=\('S12',\).*selects no clip.*has subjects \['S1', 'S2', 'S3'\]"):
        store.row_groups(("keypoints",), Selection(subjects=("S12",)))
    with pytest.raises(UserError, match="no table 'frames'; it has: keypoints, labels"):
        store.row_groups(("keypoints", "frames"))


def test_reading_a_selection_equals_filtering_everything(tmp_path: Path) -> None:
    samples.pair_store(str(tmp_path))
    store = Store.open(str(tmp_path))
    columns = {"keypoints": ("kp2d_px", "intrinsics_px"), "labels": ("joints_valid",)}
    whole = store.read(columns)
    part = store.read(columns, Selection(cameras=samples.CAMERAS[1:], subjects=("S2",)))
    clips = [i for i, k in enumerate(whole.keys) if k.camera == samples.CAMERAS[1] and k.subject == "S2"]
    keep = np.isin(whole.clip_index, clips)
    assert part.keys == tuple(whole.keys[i] for i in clips)
    np.testing.assert_array_equal(part.arrays["kp2d_px"], whole.arrays["kp2d_px"][keep])
    np.testing.assert_array_equal(part.arrays["joints_valid"], whole.arrays["joints_valid"][keep])
    np.testing.assert_array_equal(part.arrays["intrinsics_px"], whole.arrays["intrinsics_px"][clips])


def test_ragged_selection(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clips = [samples.memory_pose(rng, "S1/Walking 1", 5, rigs=r) | {"frame_start": 5 * r} for r in (2, 3, 1)]
    records = write_part(str(tmp_path), 0, {"memory_pose": clips}, samples.provenance())
    commit(str(tmp_path), EMPTY.updated(records))
    store = Store.open(str(tmp_path))
    (found,) = store.row_groups(("memory_pose",))
    some = reader.Selected(**{**found.__dict__, "rows": (0, 2)})
    block = store.read_row_group(some, {"memory_pose": ("rig_rot_world_to_cam",)})
    wanted = np.concatenate([clips[0]["rig_rot_world_to_cam"], clips[2]["rig_rot_world_to_cam"]])
    np.testing.assert_allclose(block.arrays["rig_rot_world_to_cam"], wanted, atol=1e-6)
    assert block.counts["rig_rot_world_to_cam"].tolist() == [2, 1]


class CountingFile:
    """A binary file that adds up the bytes asked of it."""

    def __init__(self, file: Any, counts: list[int]) -> None:
        self._file, self._counts = file, counts

    def __enter__(self) -> "CountingFile":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._file.read(size)
        self._counts.append(len(data))
        return data


def test_only_requested_columns_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = samples.pair_part(str(tmp_path), 0, [("S1/Walking 1", "a", 2000)])
    commit(str(tmp_path), EMPTY.updated(records))
    store = Store.open(str(tmp_path))
    counts: list[int] = []
    plain = reader.open_part
    monkeypatch.setattr(reader, "open_part", lambda *args: CountingFile(plain(*args), counts))

    def read(names: Sequence[str]) -> int:
        store.read({"keypoints": names})  # footer
        counts.clear()
        store.read({"keypoints": names})
        return sum(counts)

    size = records[0].bytes
    assert read(tuple(TABLES["keypoints"].columns)) > 0.9 * size
    assert read(("kp2d_conf",)) < 0.4 * size
    assert read(("intrinsics_px", "distortion")) < 0.01 * size


def test_statistics_merge(tmp_path: Path) -> None:
    manifest = samples.pair_store(str(tmp_path))
    joints = Store.open(str(tmp_path)).read({"labels": ("joints_cam_m",)}).arrays["joints_cam_m"].astype(np.float64)
    for moments in (manifest.statistics["labels"]["joints_cam_m"], find_statistics(tmp_path)):
        assert moments.count == len(joints)
        np.testing.assert_allclose(moments.mean, joints.mean(axis=0), atol=1e-9)
        np.testing.assert_allclose(moments.std, joints.std(axis=0), atol=1e-9)


def find_statistics(tmp_path: Path) -> Moments:
    return Store.open(str(tmp_path)).manifest.statistics["labels"]["joints_cam_m"]


def test_manifest_round_trip_and_update(tmp_path: Path) -> None:
    manifest = samples.pair_store(str(tmp_path))
    assert manifest.licences == ("CC0-1.0",)
    assert manifest.fps == (50.0,)
    bad = Quarantined(source="broken.npz", stage="read", error="no positions_3d")
    records = samples.pair_part(str(tmp_path), 1, [("S2/Walking 1", "a", 12)], seed=5)
    new = manifest.updated(records, [bad])
    assert [(p.table, p.part) for p in new.parts] == [(t, n) for t in ("keypoints", "labels") for n in range(3)]
    assert new.tables["labels"][1].frames == 12
    commit(str(tmp_path), new)
    again = find_manifest(str(tmp_path))
    assert again is not None
    assert again.to_json() == new.to_json()
    assert again.quarantine == (bad,)
    assert again.hash == new.hash != manifest.hash
    good = samples.pair_part(str(tmp_path), 4, [("S2/Walking 1", "a", 12)])
    renamed = Quarantined(source="S2/Walking 1.npz", stage="read", error="was broken once")
    assert new.updated(good, [renamed]).quarantine == (bad,)


def test_one_skeleton_per_store(tmp_path: Path) -> None:
    records = samples.pair_part(str(tmp_path), 0, [("S1/Walking 1", "a", 4)])
    with pytest.raises(UserError, match=r"'h36m_17' \(17 joints\); this store allows 'coco_17'"):
        Manifest(skeleton="coco_17", num_joints=17).updated(records)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ("{}", "is damaged"),
        ('{"schema_version": 2, "parts": 3}', "is damaged"),
        ('{"schema_version": 1}', "has schema version 1; allowed is 2"),
    ],
)
def test_unreadable_manifest(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        Store.open(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_no_store_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no store at .*missing.*aign preprocess"):
        Store.open(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="cannot open store 'nope://x'"):
        Store.open("nope://x")


def test_damaged_parts_are_named(tmp_path: Path) -> None:
    manifest = samples.pair_store(str(tmp_path))
    flipped, short, gone = manifest.parts[:3]
    with open(tmp_path / flipped.path, "r+b") as file:
        file.seek(flipped.bytes // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    os.truncate(tmp_path / short.path, short.bytes - 100)
    (tmp_path / gone.path).unlink()
    store = Store.open(str(tmp_path))
    with pytest.raises(UserError) as caught:
        store.verify()
    message = str(caught.value)
    assert "3 of 6 parts" in message
    assert f"{flipped.path} (sha256 differs" in message
    assert f"{short.path} ({short.bytes - 100} bytes, the manifest says {short.bytes})" in message
    assert gone.path in message
    with pytest.raises(UserError, match=f"{short.path} is damaged"):
        store.read({"keypoints": ("kp2d_px",)}, Selection(subjects=("S2",)))
    with pytest.raises(UserError, match=f"cannot read .*{gone.path}"):
        store.read({"keypoints": ("kp2d_px",)}, Selection(subjects=("S3",)))


def test_a_part_that_lies_about_its_content_is_refused_at_read(tmp_path: Path) -> None:
    """A bad value that got past the writer is found by the reader."""
    from aign.data.store import codec

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "check_block", lambda *_: None)
        clip = samples.labels(np.random.default_rng(0), "S1/Walking 1", "a", 6)
        clip["joints_cam_m"][4, 2] = np.nan
        records = write_part(str(tmp_path), 0, {"labels": [clip]}, samples.provenance())
    commit(str(tmp_path), EMPTY.updated(records))
    with pytest.raises(UserError, match=r"labels\.joints_cam_m of sequence 'S1/Walking 1'.*frame 4.*NaN"):
        Store.open(str(tmp_path)).read({"labels": ("joints_cam_m",)})


def test_invalid_joints_pass_even_when_their_validity_is_not_read(tmp_path: Path) -> None:
    clip = samples.labels(np.random.default_rng(0), "S1/Walking 1", "a", 6)
    clip["joints_cam_m"][:, 2] = 0.0  # 5 m from the rest of the body
    clip["joints_valid"] = np.arange(samples.J) != np.full((6, 1), 2)
    commit(str(tmp_path), EMPTY.updated(write_part(str(tmp_path), 0, {"labels": [clip]}, samples.provenance())))
    read = Store.open(str(tmp_path)).read({"labels": ("joints_cam_m",)})
    np.testing.assert_array_equal(read.arrays["joints_cam_m"], clip["joints_cam_m"])


def test_unequal_tables_and_unknown_columns(tmp_path: Path) -> None:
    tables = {"keypoints": clips_of("keypoints"), "labels": clips_of("labels")[:-1]}
    with pytest.raises(UserError, match=r"keypoints \(4 clips\) and labels \(3 clips\) hold different clips"):
        write_part(str(tmp_path), 0, tables, samples.provenance())
    with pytest.raises(UserError, match="same sequence, camera and first frame"):
        write_part(str(tmp_path), 0, {"labels": [tables["labels"][0]] * 2}, samples.provenance())
    with pytest.raises(UserError, match="got no clips"):
        write_part(str(tmp_path), 0, {"labels": []}, samples.provenance())
    samples.pair_store(str(tmp_path), parts=1)
    store = Store.open(str(tmp_path))
    with pytest.raises(UserError, match="got column 'kp_px' of keypoints; allowed are kp2d_px"):
        store.read({"keypoints": ("kp_px",)})
    with pytest.raises(UserError, match="got no columns"):
        store.read({})
    # labels written later for other clips under the same number
    other = write_part(str(tmp_path), 0, {"labels": clips_of("labels")}, samples.provenance("other"))
    commit(str(tmp_path), store.manifest.updated(other))
    with pytest.raises(UserError, match=r"part 0 of .* holds other clips in labels than in keypoints"):
        Store.open(str(tmp_path)).row_groups(("keypoints", "labels"))


def test_memory_and_training_share_no_sequence() -> None:
    check_disjoint({"a", "b"}, {"c"})
    with pytest.raises(UserError, match=r"share 2 sequences \('b', 'c'\)"):
        check_disjoint(["a", "b", "c"], ["c", "b"])
