"""A storage server that is away for a while, and one that says no; through pyarrow, as Ray asks."""

import errno
import time

import fsspec
import pyarrow.fs
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from infra import patience
from infra.patience import _Patient, patiently


class Away(MemoryFileSystem):
    """Does not answer the first times it is asked."""

    cachable = False
    protocol = "away"
    left, asked = 0, 0

    def _answer(self):
        Away.asked += 1
        if Away.left > 0:
            Away.left -= 1
            raise ConnectionError("nobody there")

    def info(self, path, **kwargs):
        self._answer()
        return super().info(path, **kwargs)

    def _open(self, path, mode="rb", **kwargs):
        self._answer()
        return super()._open(path, mode, **kwargs)

    def rm(self, path, recursive=False, maxdepth=None):
        self._answer()
        super().rm(path, recursive, maxdepth)


@pytest.fixture
def away(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    MemoryFileSystem.store.clear()
    yield pyarrow.fs.PyFileSystem(_Patient(Away()))
    Away.left = Away.asked = 0
    MemoryFileSystem.store.clear()


def test_what_ray_writes_reads_and_removes_arrives_when_the_server_answers_again(away):
    for action in (
        lambda: away.open_output_stream("/run/snapshot.json").close(),
        lambda: away.get_file_info("/run/snapshot.json"),
        lambda: away.open_input_file("/run/snapshot.json").close(),
        lambda: away.delete_file("/run/snapshot.json"),
    ):
        Away.left, before = 3, Away.asked
        action()
        assert (Away.left, Away.asked - before > 3) == (0, True)


def test_a_file_is_put_whole_when_it_is_closed(away):
    stream = away.open_output_stream("/run/checkpoint.pt")
    stream.write(b"first ")
    stream.write(b"and last")
    assert away.get_file_info("/run/checkpoint.pt").type == pyarrow.fs.FileType.NotFound
    Away.left = 2
    stream.close()
    assert away.open_input_file("/run/checkpoint.pt").readall() == b"first and last"


def test_folders_are_copied_both_ways(away, tmp_path):
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "checkpoint.pt").write_bytes(b"x" * 3_000_000)
    (tmp_path / "to").mkdir()
    away.create_dir("/run/checkpoint")
    pyarrow.fs.copy_files(str(tmp_path / "from"), "/run/checkpoint", destination_filesystem=away)
    Away.left = 3
    pyarrow.fs.copy_files("/run/checkpoint", str(tmp_path / "to"), source_filesystem=away)
    assert (tmp_path / "to" / "checkpoint.pt").read_bytes() == b"x" * 3_000_000


@pytest.mark.parametrize("error", [PermissionError("no"), FileNotFoundError("no bucket"), ValueError("a bug")])
def test_what_will_not_pass_is_told_at_once(error):
    asked = []

    def refused():
        asked.append(1)
        raise error

    with pytest.raises(type(error)):
        patiently(refused)
    assert len(asked) == 1


def test_patience_ends(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(patience.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(patience.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))

    def gone():
        raise OSError(errno.EBUSY, "slow down")

    with pytest.raises(OSError, match="slow down"):
        patiently(gone)
    assert patience.PATIENCE_S - patience.LONGEST_PAUSE_S <= now[0] <= patience.PATIENCE_S


def test_a_url_is_opened_without_a_list_that_grows_old():
    fs, path = patience.open_fresh("memory://run/one/")
    assert (type(fs), path) == (type(fsspec.filesystem("memory")), "/run/one")
