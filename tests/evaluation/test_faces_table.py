"""The table of methods that make faces, and the audit beside it."""

import csv
import dataclasses
import io

import pytest
from rich.console import Console

from aign.evaluation.faces_audit import audit_csv, audit_html, audit_markdown, audit_rich, audit_table, group_table
from aign.evaluation.faces_report import FaceReport
from aign.evaluation.faces_table import face_table
from aign.evaluation.mocap_table import render_csv, render_html, render_markdown
from aign.evaluation.mocap_terminal import render_terminal
from aign.framework.errors import UserError


def report(method: str, points: float, faithful: float = 41.0, **other: object) -> FaceReport:
    numbers = {"faithful_psnr_db": float(faithful), "target_points": float(points), "fid": 2.0}
    numbers |= {"kid": 0.003, "kid_deviation": 0.001}
    fields: dict[str, object] = {
        "method": method,
        "data": "rendered",
        "store_hash": "ab" * 32,
        "protocol": "faces/superresolution-4x",
        "protocol_hash": "0123456789ab",
        "headline_name": "target_points",
        "bias": "sex=female",
        "side_px": 64,
        "judge": "attribute net",
        "judge_facts": {"Male_accuracy": 0.97},
        "numbers": {**numbers, "lips_area_change": 0.15, "target_per_drift": 4.0},
        "counts": dict.fromkeys(numbers, 50),
        "num_pictures": 100,
        "audit": {
            "age": {"truth": 40.0, "before": 41.0, "after": 30.0, "change_sd": -0.8, "judge_r_truth": 0.9},
            "Male": {"truth": 0.0, "before": 0.1, "after": -0.9, "change_sd": -1.0, "judge_accuracy_truth": 0.97},
        },
        "groups": {"Male=+1": {"count": 50.0, "Male": -1.9, "age": -1.0}, "mostly asian": {"count": 1.0, "Male": -1.0}},
    }
    return FaceReport(**{**fields, **other})  # type: ignore[arg-type]


SEEDS = [report("ours", 60), report("ours", 70, 43)]
BICUBIC = report("bicubic", 0, 30)


def test_a_row_per_method_with_its_spread_over_seeds():
    text = render_markdown(face_table([BICUBIC, *SEEDS]))
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert "faithful dB" in lines[0]
    assert "0123456789ab" in lines[1]
    assert "100 pictures of 64 px" in lines[1]
    assert lines[2].startswith("| bicubic, judged by sex=female | 30.0 | 0.0 |")
    assert "**42.0 +- 1.4** | **65.0 +- 7.1**" in lines[3]
    assert "KID x1000 of 50 pictures, its spread over random subsets 1.00" in text
    assert "Male accuracy 0.97" in text, "the judge's own accuracy stands beside every table"


def test_less_fid_is_better_and_lip_area_is_neither():
    better = report("better", 1, numbers={"fid": 1.0, "lips_area_change": 0.3})
    table = face_table([BICUBIC, better])
    (group,) = table.groups
    best = dict(zip(table.names, table.best(group, group.rows[1]), strict=True))
    assert best["fid"]
    assert not best["lips_area_change"]
    assert not any(face_table([BICUBIC]).best(group, group.rows[0])), "no choice, no best"


def test_other_pictures_and_sizes_are_sections_of_their_own():
    others = [
        report("ours", 1, side_px=128),
        report("ours", 1, num_pictures=9),
        report("ours", 1, store_hash="cd" * 32),
    ]
    assert len(face_table([BICUBIC, *others]).groups) == 4
    with pytest.raises(UserError, match="at least one"):
        face_table([])


def test_every_form_holds_every_row():
    table = face_table([BICUBIC, *SEEDS])
    assert render_html(table).count("<tr>") == 3
    rows = list(csv.reader(io.StringIO(render_csv(table))))
    assert len({len(row) for row in rows}) == 1
    assert len(rows) == 3
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(render_terminal(table, 60))
    assert "ours" in console.export_text()


def test_the_audit_begins_with_what_moved_most():
    table = audit_table(SEEDS[0])
    assert [row[0] for row in table.rows] == ["Male", "age"]
    assert table.rows[0][1:5] == ("0", "0.1", "-0.9", "-1.00")
    assert any("4.0" in note for note in table.notes)
    assert table.rows[1][table.heads.index("judge, truth")] == "0.9"
    assert table.rows[1][table.heads.index("judge, before")] == "-"


def test_groups_have_their_counts_and_gaps():
    table = group_table(SEEDS[0])
    assert table.heads == ("group (pictures)", "age", "Male")
    assert table.rows == (("Male=+1 (50)", "-1.00", "-1.90"), ("mostly asian (1)", "-", "-1.00"))


def test_the_audit_in_every_form():
    tables = [audit_table(SEEDS[0]), group_table(SEEDS[0])]
    text = audit_markdown(tables)
    assert "| Male=+1 (50) | -1.00 | -1.90 |" in text
    assert audit_html(tables).count("<table") == 2
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(audit_rich(tables[0]))
    assert "change SD" in console.export_text()
    rows = list(csv.reader(io.StringIO(audit_csv([SEEDS[0]]))))
    assert len(rows) == 1 + 2 + 4
    assert rows[3][2:5] == ["Male=+1", "50", "age"]


def test_a_report_without_a_judge_says_so():
    bare = dataclasses.replace(BICUBIC, judge="", judge_facts={}, audit={}, groups={}, bias="")
    text = render_markdown(face_table([bare]))
    assert "No judge" in text
    assert "| bicubic |" in text
    assert audit_table(bare).rows == ()
