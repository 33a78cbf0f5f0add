import io
import sys

import pytest

from aign.data.progress import progress, track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_two_lines_where_nobody_watches(capsys):
    assert list(track(range(5), "counting", "sheep")) == [0, 1, 2, 3, 4]
    out, err = capsys.readouterr()
    first, last = err.splitlines()
    assert first == "counting: 5 sheep ..."
    assert last.startswith("counting: 5 sheep in ")
    assert out == ""


def test_unknown_total(capsys):
    assert list(track((x for x in "ab"), "reading", "frames")) == ["a", "b"]
    assert "reading: ? frames ..." in capsys.readouterr().err
    list(track((x for x in "ab"), "reading", "frames", total=2))
    assert "reading: 2 frames ..." in capsys.readouterr().err


def test_no_done_line_after_an_error(capsys):
    def one_then_stop():
        yield 1
        raise RuntimeError

    with pytest.raises(RuntimeError):
        list(track(one_then_stop(), "failing", "steps", total=3))
    assert capsys.readouterr().err == "failing: 3 steps ...\n"


def test_a_bar_on_a_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress(4, "drawing", "boxes") as advance:
        advance(4)
    assert "drawing" in terminal.getvalue()
    assert "4/4" in terminal.getvalue()
    assert "boxes" in terminal.getvalue()
