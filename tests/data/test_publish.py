import errno

import pytest

from aign.data.publish import published
from aign.framework.errors import StorageError


def write(path, text, error=None):
    with published(path) as temporary:
        temporary.write_text(text)
        if error:
            raise error


def test_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyError):
        write(path, "half", KeyError())
    assert path.read_text() == "old"
    with published(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    path = tmp_path / "a.txt"
    with pytest.raises(StorageError, match=r"cannot write .*a\.txt: No space left"):
        write(path, "half", OSError(errno.ENOSPC, "No space left on device"))
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(StorageError, match="cannot write"):
        write(tmp_path / "no" / "a.txt", "x")
