"""The table of motion-capture methods: what stands in it, what is best, what is said beside it."""

import csv
import dataclasses
import io

import pytest
from rich.console import Console

from aign.evaluation.mocap_report import MocapReport
from aign.evaluation.mocap_table import (
    COLUMNS,
    MocapTable,
    mocap_table,
    render_csv,
    render_html,
    render_markdown,
    render_rich,
)
from aign.evaluation.published import NIPS17_MESH
from aign.framework.errors import UserError


def report(method: str, pelvis: float, iou: float = 0.5, **other: object) -> MocapReport:
    numbers = {"mpjpe_pelvis_mm": float(pelvis), "mask_iou": iou, "flip_rate": 0.0}
    fields: dict[str, object] = {
        "method": method,
        "data": "synthetic",
        "store_hash": "ab" * 32,
        "protocol": "aign-nips17-mesh24/pelvis",
        "protocol_hash": "b4eb0da396b3",
        "headline_name": "mpjpe_pelvis_mm",
        "numbers": numbers,
        "frames": dict.fromkeys(numbers, 100),
        "num_frames": 100,
        "num_skipped": 0,
        "per_action": {},
        "per_clip": {},
        "frames_per_clip": {},
    }
    return MocapReport(**{**fields, **other})  # type: ignore[arg-type]


SEEDS = [report("supervised", 100, 0.5), report("supervised", 110, 0.6), report("supervised", 120, 0.7)]
ADAPTED = [report("self-supervised", 80, 0.80), report("self-supervised", 90, 0.82)]


def lines(table: MocapTable) -> list[list[str]]:
    marked = [line for line in render_markdown(table).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in marked]


def test_a_row_per_method_with_mean_and_spread_over_seeds() -> None:
    table = mocap_table([*SEEDS, *ADAPTED], reference="supervised")
    head, section, supervised, adapted = lines(table)
    assert head == ["", "MPJPE pelvis", "IoU %", "to supervised"], "columns without a value are not drawn"
    assert "synthetic" in section[0]
    assert "b4eb0da396b3" in section[0]
    assert "100 frames" in section[0]
    assert supervised == ["supervised", "110.0 +- 10.0", "60.0 +- 10.0", "+0.0 %"]
    assert adapted == ["self-supervised", "**85.0 +- 7.1**", "**81.0 +- 1.4**", "-22.7 %"]


def test_more_overlap_and_less_error_are_best() -> None:
    (group,) = mocap_table([report("a", 1, 0.9), report("b", 2, 0.95)]).groups
    a, b = group.rows
    assert [group.is_best(row, "mpjpe_pelvis_mm") for row in (a, b)] == [True, False]
    assert [group.is_best(row, "mask_iou") for row in (a, b)] == [False, True]
    assert not mocap_table([report("a", 1)]).groups[0].is_best(a, "mask_iou"), "no choice, no best"


def test_one_seed_has_no_spread() -> None:
    assert lines(mocap_table([report("a", 12.34)]))[2] == ["a", "12.3", "50.0"]


def test_other_frames_protocols_and_stores_are_sections_of_their_own() -> None:
    others = [
        report("a", 1, num_frames=99),
        report("a", 1, protocol="p", protocol_hash="0"),
        report("a", 1, store_hash="cd" * 32),
        report("a", 1, num_frames=98, num_skipped=2),
    ]
    table = mocap_table([report("b", 1), *others], reference="b")
    assert len(table.groups) == 4, "what was skipped was selected, so it is of the same frames"
    assert [row.change for group in table.groups for row in group.rows] == [0, 0, None, None, None]


def test_a_number_of_fewer_frames_is_told() -> None:
    few = report("lost", 1)
    few = dataclasses.replace(few, frames={**few.frames, "mask_iou": 7})
    table = mocap_table([report("a", 1), few])
    assert any("IoU % is not of the same frames: a 100, lost 7" in note for note in table.notes)


def test_published_rows_stand_apart_with_their_caveat() -> None:
    table = mocap_table(SEEDS, published=NIPS17_MESH)
    rows = {row[0].replace("\\", ""): row[1:] for row in lines(table)}
    assert table.heads == ("MPJPE origin", "MPJPE pelvis", "surface", "IoU %")
    assert rows["optimization *"] == ["562.4", "-", "-", "-"]
    assert rows["supervised pretrained *"] == ["125.6", "-", "-", "-"]
    assert rows["Supervised+self-supervised *"] == ["98.4", "-", "-", "-"]
    assert rows["Tung et al., self-supervised *"] == ["-", "-", "74.5", "-"]
    assert [group.measured for group in table.groups] == [True, False, False]
    assert not any(group.is_best(row, "mpjpe_origin_mm") for group in table.groups[1:] for row in group.rows)
    assert any("do not say which error" in note for note in table.notes)
    assert not any("*" in note for note in mocap_table(SEEDS).notes)


def test_every_way_to_draw_it_shows_the_same_rows() -> None:
    table = mocap_table([*SEEDS, *ADAPTED], published=NIPS17_MESH, reference="supervised")
    console = Console(width=160, file=io.StringIO(), record=True)
    console.print(render_rich(table))
    text, page = console.export_text(), render_html(table)
    for said in ("supervised pretrained *", "562.4", "-22.7 %", "surface", "measured here"):
        assert said in text
        assert said in page
    assert page.count("<tr>") == 1 + 6
    assert '<span class="best">85.0 \N{PLUS-MINUS SIGN} 7.1</span>' in page
    read = list(csv.DictReader(io.StringIO(render_csv(table))))
    assert [row["method"] for row in read][:2] == ["supervised", "self-supervised"]
    assert (read[0]["mpjpe_pelvis_mm"], read[0]["mpjpe_pelvis_mm_sd"], read[0]["seeds"]) == ("110.0", "10.0", "3")
    assert (read[0]["mask_iou"], read[2]["mpjpe_origin_mm"], read[2]["mask_iou"]) == ("0.6", "562.4", "")


def test_names_are_escaped() -> None:
    table = mocap_table([report("<b>|*", 1)])
    assert "&lt;b&gt;|*" in render_html(table)
    assert "| <b>\\|\\* |" in render_markdown(table)


def test_what_cannot_be_a_table_is_refused() -> None:
    with pytest.raises(UserError, match="got no report"):
        mocap_table([])
    with pytest.raises(UserError, match=r"got reference 'me'; allowed are \['supervised'\]"):
        mocap_table(SEEDS, reference="me")


def test_columns_name_numbers_whose_unit_is_told() -> None:
    for name, column in COLUMNS.items():
        unit = next(u for u in ("_mm", "_px", "_m_per_s2", "_iou") if name.endswith(u))
        told = {"_mm": "", "_px": "px", "_m_per_s2": "m/s2", "_iou": "%"}[unit]
        assert column.head.endswith(told)
