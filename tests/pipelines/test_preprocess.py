"""`aign preprocess` on real Ray tasks: idempotent, incremental, and what is broken is named while the rest goes on."""

import json
import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import ray

from aign.data.datasets.job import Unusable
from aign.data.sources import plan
from aign.data.store import Store, find_manifest, writing
from aign.framework.errors import StorageError, UserError
from pipelines import cli, preprocess
from tests.data.test_h36m_npz import motion, save
from tests.pipelines.samples import Wrapped, content, h36m_npz, leftovers

pytestmark = pytest.mark.ray


def refuse(_):
    raise AssertionError("Ray is not needed")


@pytest.fixture
def no_ray(monkeypatch):
    monkeypatch.setattr(preprocess, "cluster", refuse)


@pytest.fixture
def two(tmp_path):
    """Jobs of a file with two sound sequences."""
    return plan(str(h36m_npz(tmp_path / "source", {"S1": ("Walking", "Eating 1")})))


def test_demo_motions_on_ray_equal_those_made_in_this_process(ray_cluster, demo_store, tmp_path):
    done = preprocess.preprocess(plan("demo-motions"), str(tmp_path / "s"))
    assert (done.made, done.kept, done.quarantined) == (20, 0, ())
    assert done.manifest.hash == demo_store.hash
    assert content(done.manifest) == content(demo_store.manifest)
    assert not leftovers(tmp_path)


def test_a_rerun_does_nothing_and_starts_no_ray(ray_cluster, two, tmp_path, monkeypatch):
    url = str(tmp_path / "s")
    first = preprocess.preprocess(two, url)
    monkeypatch.setattr(preprocess, "cluster", refuse)
    written = {p: p.stat().st_mtime_ns for p in Path(url).rglob("*") if p.is_file()}
    again = preprocess.preprocess(two, url)
    assert (first.made, first.kept, again.made, again.kept) == (2, 0, 0, 2)
    assert {p: p.stat().st_mtime_ns for p in Path(url).rglob("*") if p.is_file()} == written


@pytest.mark.parametrize("damage", ["removed", "cut off"])
def test_a_part_that_is_gone_or_cut_off_is_made_again(ray_cluster, two, tmp_path, damage):
    url = str(tmp_path / "s")
    before = preprocess.preprocess(two, url).manifest
    lost = next(part for part in before.parts if part.table == "labels")
    file = Path(url) / lost.path
    if damage == "removed":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: lost.bytes // 2])
    again = preprocess.preprocess(two, url)
    assert (again.made, again.kept) == (1, 1)
    assert content(again.manifest) == content(before)
    Store.open(url).verify()


def test_another_source_adds_its_part_alone_and_numbers_stay(ray_cluster, two, tmp_path):
    url = str(tmp_path / "s")
    before = preprocess.preprocess(two, url).manifest
    other = tmp_path / "other"
    h36m_npz(other, {"S2": ("Photo",)})
    (other / "data_3d_h36m.npz").rename(other / "more.npz")
    added = preprocess.preprocess(plan(str(other / "more.npz"), "h36m-videopose3d"), url)
    assert (added.made, added.kept) == (1, 0)
    assert all(part in content(added.manifest)["parts"] for part in content(before)["parts"])
    assert sorted({p.part for p in added.manifest.parts}) == [0, 1, 2]


def test_numbers_do_not_depend_on_what_a_stopped_run_had_finished(ray_cluster, tmp_path):
    jobs = plan(str(h36m_npz(tmp_path / "source", {"S1": ("Eating 1", "Photo", "Walking")})))
    whole = preprocess.preprocess(jobs, str(tmp_path / "whole")).manifest
    preprocess.preprocess(jobs, str(tmp_path / "s"))
    stopped = replace(whole, parts=tuple(p for p in whole.parts if p.part == 1))  # only the second was committed
    (tmp_path / "s" / "manifest.json").write_text(stopped.to_json())
    again = preprocess.preprocess(jobs, str(tmp_path / "s"))
    assert (again.made, again.kept) == (2, 1)
    assert content(again.manifest) == content(whole)


def broken_npz(folder: Path, healed: bool = False) -> Path:
    good = motion(24)
    bad = {
        "Sitting 1": np.where(np.arange(24)[:, None, None] == 5, np.nan, good),
        "Photo": good * 1000,
        "Eating 1": good[:, :17],
    }
    world = {"S1": {"Walking": good, **(dict.fromkeys(bad, good) if healed else bad)}}
    folder.mkdir(exist_ok=True)
    save(folder / "data_3d_h36m.npz", positions_3d=world)
    return folder / "data_3d_h36m.npz"


def test_what_is_broken_is_quarantined_by_name_and_leaves_when_it_is_mended(ray_cluster, tmp_path, capsys):
    url, source = str(tmp_path / "s"), broken_npz(tmp_path / "source")
    assert cli.main(["preprocess", str(source), "--store", url]) == 0
    told = capsys.readouterr().err
    listed = {q.source: q.error for q in Store.open(url).manifest.quarantine}
    for name, why in (("Sitting 1", "NaN"), ("Photo", "looks like millimetres"), ("Eating 1", "(frames, 32, 3)")):
        (error,) = [e for s, e in listed.items() if name in s]
        assert why in error
        assert name in error
        assert told.count(error) == 1, "said once, at the end"
        assert "\n" not in error
    assert "1 sources added, 0 were there, 3 quarantined" in told
    assert Store.open(url).sequences(("keypoints",), None) == {"S1/Walking"}
    broken_npz(tmp_path / "source", healed=True)
    healed = preprocess.preprocess(plan(str(source)), url)
    assert (healed.manifest.quarantine, healed.made) == ((), 4)
    assert len(Store.open(url).sequences(("keypoints",), None)) == 4
    assert not leftovers(tmp_path)


def test_nothing_usable_is_an_error_that_says_why(ray_cluster, tmp_path, capsys):
    (tmp_path / "source").mkdir()
    save(tmp_path / "source" / "data_3d_h36m.npz", positions_3d={"S1": {"Photo": motion(24) * 1000}})
    assert cli.main(["preprocess", str(tmp_path / "source"), "--store", str(tmp_path / "s")]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "none of the 1 sources could be used" in last
    assert "Photo" in last
    assert "millimetres" in last
    assert not leftovers(tmp_path)


@dataclass(frozen=True, kw_only=True)
class Deadly(Wrapped):
    """Kills its worker until it has done so `times` times."""

    tally: Path
    times: int

    def clips(self, wanted, stored):
        tried = int(self.tally.read_text()) if self.tally.exists() else 0
        if tried < self.times:
            self.tally.write_text(str(tried + 1))
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner.clips(wanted, stored)


def test_a_killed_worker_is_tried_again_and_the_store_is_the_same(ray_cluster, two, tmp_path):
    undisturbed = preprocess.preprocess(two, str(tmp_path / "undisturbed"))
    deadly = Deadly(inner=two[0], tally=tmp_path / "tally", times=1)
    survived = preprocess.preprocess([deadly, two[1]], str(tmp_path / "s"))
    assert deadly.tally.read_text() == "1"
    assert content(survived.manifest) == content(undisturbed.manifest)
    assert not leftovers(tmp_path)


def test_what_cannot_even_be_planned_is_quarantined_and_decides_no_skeleton(ray_cluster, two, tmp_path):
    """A broken video would be BlazePose's 33 joints; the sources beside it have 17, and they go on."""
    url = str(tmp_path / "s")
    broken = Unusable(inner=two[0], error="this is a letter")
    with pytest.raises(UserError, match=r"none of the 1 sources could be used: this is a letter"):
        preprocess.preprocess([broken], url)
    done = preprocess.preprocess([broken, two[1]], url)
    assert (done.made, [q.error for q in done.quarantined]) == (1, ["this is a letter"])
    assert done.manifest.skeleton == "h36m17"
    mended = preprocess.preprocess(two, url)
    assert (mended.made, mended.kept, mended.manifest.quarantine) == (1, 1, ())


@dataclass(frozen=True, kw_only=True)
class Endless(Wrapped):
    """Never comes to an end, as some readers on some damaged files."""

    def clips(self, wanted, stored):
        while True:
            pass


def test_a_source_that_never_ends_is_quarantined_and_the_rest_goes_on(ray_cluster, two, tmp_path, monkeypatch):
    monkeypatch.setattr(preprocess, "TASK_SECONDS", 3.0)
    done = preprocess.preprocess([Endless(inner=two[0]), two[1]], str(tmp_path / "s"))
    (bad,) = done.quarantined
    assert (bad.source, done.made) == (two[0].source, 1)
    assert "not done after 3 s" in bad.error
    assert not leftovers(tmp_path)


def test_a_source_that_always_kills_its_worker_is_quarantined(ray_cluster, two, tmp_path, monkeypatch):
    monkeypatch.setattr(preprocess, "RETRIES", 1)
    done = preprocess.preprocess([Deadly(inner=two[0], tally=tmp_path / "t", times=99), two[1]], str(tmp_path / "s"))
    (bad,) = done.quarantined
    assert bad.source == two[0].source
    assert "its worker process died 2 times" in bad.error
    assert done.made == 1


@dataclass(frozen=True, kw_only=True)
class Buggy(Wrapped):
    """Has a mistake of ours in it."""

    def clips(self, wanted, stored):
        raise ZeroDivisionError("ours")


def test_a_bug_is_no_quarantine(ray_cluster, two, tmp_path, monkeypatch):
    """And its task, which has ended, is not cancelled: Ray's driver died of that when the machine was busy."""
    monkeypatch.setattr(preprocess.ray, "cancel", lambda *_, **__: pytest.fail("a task that has ended was cancelled"))
    with pytest.raises(ZeroDivisionError, match="ours"):
        preprocess.preprocess([Buggy(inner=two[0])], str(tmp_path / "s"))
    assert not leftovers(tmp_path)


def test_another_skeleton_is_refused_before_anything_is_made(ray_cluster, two, tmp_path, no_ray):
    @dataclass(frozen=True, kw_only=True)
    class Other(Wrapped):
        def provenance(self, table):
            return replace(self.inner.provenance(table), skeleton="blazepose33", num_joints=33)

    with pytest.raises(UserError, match=r"gives skeleton blazepose33.*holds h36m17.*another --store"):
        preprocess.preprocess([two[0], Other(inner=two[1])], str(tmp_path / "s"))


def test_no_source_at_all(tmp_path):
    with pytest.raises(UserError, match="no source"):
        preprocess.preprocess([], str(tmp_path / "s"))


def test_a_store_of_another_schema_version_is_left_as_it_is(two, tmp_path, no_ray):
    (tmp_path / "s").mkdir()
    manifest = tmp_path / "s" / "manifest.json"
    manifest.write_text(json.dumps({"schema_version": 99, "parts": []}))
    with pytest.raises(UserError, match="schema version 99; allowed is") as error:
        preprocess.preprocess(two, str(tmp_path / "s"))
    assert "\n" not in str(error.value)
    assert json.loads(manifest.read_text())["schema_version"] == 99
    assert not leftovers(tmp_path)


def test_a_second_run_on_the_same_store_is_refused(two, tmp_path, no_ray):
    url = str(tmp_path / "s")
    with writing(url), pytest.raises(UserError, match=rf"being written by process {os.getpid()}"):
        preprocess.preprocess(two, url)
    assert find_manifest(url) is None
    assert not leftovers(tmp_path)


def test_a_place_that_cannot_be_written(two, tmp_path, no_ray):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot lock store") as error:
        preprocess.preprocess(two, str(tmp_path / "file" / "s"))
    assert "\n" not in str(error.value)


def test_a_store_that_becomes_read_only_ends_the_run(ray_cluster, tmp_path):
    jobs = plan(str(h36m_npz(tmp_path / "source", {"S1": ("Walking",)})))
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "labels").write_text("a file where a folder is needed")
    with pytest.raises(StorageError, match="cannot write") as error:
        preprocess.preprocess(jobs, str(tmp_path / "s"))
    assert "\n" not in str(error.value)
    assert find_manifest(str(tmp_path / "s")) is None
    assert not leftovers(tmp_path)


@pytest.fixture
def full_object_store(ray_cluster):
    """Ray's own: more than it holds is in use, so that nothing of it can be dropped, and the last went to disk."""
    size = int(ray.cluster_resources()["object_store_memory"])
    held = [ray.get(ray.put(np.zeros(size // 10, np.uint8))) for _ in range(11)]
    yield
    assert sum(one.nbytes for one in held) > size


def test_a_full_object_store_is_no_matter_because_no_picture_passes_through_it(full_object_store, two, tmp_path):
    done = preprocess.preprocess(two, str(tmp_path / "s"))
    assert (done.made, done.quarantined) == (2, ())


@pytest.fixture
def small_disk(tmp_path):
    """A real file system of 200 kB; only root can mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=200k tmpfs {disk} 2> /dev/null") != 0:
        pytest.skip("needs the right to mount a file system")
    yield disk
    os.system(f"umount {disk}")


def test_a_full_disk_is_one_message_and_leaves_nothing_half_written(ray_cluster, small_disk, tmp_path):
    jobs = plan(str(h36m_npz(tmp_path / "source", {"S1": ("Walking", "Eating 1")}, frames=900)))
    with pytest.raises(StorageError, match="no space left on the disk") as error:
        preprocess.preprocess(jobs, str(small_disk / "s"))
    assert "\n" not in str(error.value)
    assert not leftovers(small_disk)
    manifest = find_manifest(str(small_disk / "s"))
    assert manifest is None or manifest.quarantine == (), "a full disk is not the source's fault"
