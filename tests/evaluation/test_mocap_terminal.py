"""A table that is wider than the terminal."""

import io

import pytest
from rich.console import Console

from aign.evaluation.mocap_report import MocapReport
from aign.evaluation.mocap_table import COLUMNS, mocap_table
from aign.evaluation.mocap_terminal import render_terminal
from aign.evaluation.published import NIPS17_MESH

NUMBERS = {name: 11.0 + i for i, name in enumerate(COLUMNS)}


def report(method: str) -> MocapReport:
    return MocapReport(
        method=method, data="clips of somebody", store_hash="5" * 64, protocol="p", protocol_hash="h",
        headline_name="mpjpe_pelvis_mm", numbers=NUMBERS, frames=dict.fromkeys(NUMBERS, 7), num_frames=7,
        num_skipped=0, per_action={}, per_clip={}, frames_per_clip={},
    )  # fmt: skip


def drawn(width: int, reference: str | None = None) -> str:
    table = mocap_table([report("one"), report("another")], published=NIPS17_MESH, reference=reference)
    console = Console(width=width, file=io.StringIO())
    console.print(render_terminal(table, width))
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 140, 250])
def test_nothing_is_cut_at_any_width(width):
    text = drawn(width, "one")
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    for name in NUMBERS:  # notes have one space between words, columns have more
        assert sum(f"  {COLUMNS[name].head} " in f"{line} " for line in lines) == 1, name
    assert text.count("(1) measured here") == 1
    assert sum(line.strip() == "(1)" for line in lines) == text.count(" another ")
    assert text.count("to one") == 1


def test_a_wide_terminal_has_one_block_and_a_narrow_one_several():
    assert drawn(250).count(" another ") == 1 < drawn(80).count(" another ") < drawn(60).count(" another ")


def test_a_section_without_a_number_in_a_block_is_left_out_of_it():
    """Published rows have two of the twelve numbers."""
    assert drawn(80).count("Tung et al., self-supervised *") == 1
