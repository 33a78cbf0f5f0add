"""Tables in all their forms: what stands where, and that nothing is passed off as something else."""

import csv
import dataclasses
import io
from html.parser import HTMLParser

import pytest

from aign.data.actions import ACTIONS_13, ACTIONS_15
from aign.evaluation.published import DETECTED_2D, GROUND_TRUTH_2D
from aign.evaluation.report import Report, Scores
from aign.evaluation.tables import (
    error_table,
    render_csv,
    render_html,
    render_markdown,
    render_rich,
    render_text,
    slide_table,
)
from aign.framework.errors import UserError


def report(method: str, base: float, actions: tuple[str, ...], columns: tuple[str, ...] = ACTIONS_13) -> Report:
    per_action = {a: base + i for i, a in enumerate(actions)}
    mean = sum(per_action.values()) / len(per_action)
    of_13 = mean if set(ACTIONS_13) <= set(actions) else None
    of_15 = mean if set(ACTIONS_15) <= set(actions) else None
    scores = Scores(per_action=per_action, mean_actions=mean, mean_frames=mean + 1, mean_13=of_13, mean_15=of_15)
    return Report(
        method=method,
        data="toy <bodies>",
        store_hash="cafe0123",
        protocol="aign-iccv17-13",
        protocol_hash="123456789abc",
        aggregation="actions",
        columns=columns,
        scores={"similarity": scores, "root": scores},
        flip_rate=0.125,
        num_frames=1234,
        num_skipped=5,
        frames_per_action=dict.fromkeys(actions, 1),
    )


REPORTS = (report("AIGN", 50.0, ACTIONS_13[:12]), report("Mean pose", 90.0, ACTIONS_13[:12]))


class Cells(HTMLParser):
    """Rows of cells of an HTML table; refuses unbalanced tags."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def test_text_names_data_protocol_alignment_and_unit() -> None:
    text = render_text(error_table(REPORTS, published=GROUND_TRUTH_2D), width=140)
    assert "PA-MPJPE in mm" in text
    assert "never mirrored" in text
    assert "measured here: toy <bodies>; protocol aign-iccv17-13 (123456789abc); store cafe0123" in text
    assert "published: Human3.6M S9, S11; ground-truth 2D input" in text
    assert "1234 poses, 5 skipped, flip rate 12.5 %" in text
    assert "no data for Walking" in text
    assert "111.9 is printed twice" in text


def test_text_rows() -> None:
    lines = render_text(error_table(REPORTS, published=DETECTED_2D), width=140).splitlines()
    head = next(line for line in lines if "Dir" in line.split())
    assert head.split() == [
        *("Dir", "Disc", "Eat", "Greet", "Phone", "Photo", "Pose", "Purch", "Sit", "SitD", "Smoke", "Wait", "Walk"),
        *("Avg/act", "Avg", "13", "Avg", "15", "Avg/frm"),
    ]
    ours, theirs = (line.split() for line in lines if line.startswith("AIGN "))
    assert ours == ["AIGN", *(f"{50 + i}.0" for i in range(12)), "-", "55.5", "-", "-", "56.5"]
    assert theirs[-5:] == ["78.6", "-", "98.5", "97.2", "-"]
    assert len({len(line) for line in lines if line.startswith(("AIGN ", "Mean pose "))}) == 1


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140])
def test_text_never_exceeds_the_width_and_loses_no_column(width: int) -> None:
    text = render_text(error_table(REPORTS, published=GROUND_TRUTH_2D), width=width)
    assert max(map(len, text.splitlines())) <= width
    for value in ("53.7", "57.0", "79.0", "61.0", "56.5"):
        assert value in text.split()


def test_the_best_measured_value_is_marked_and_published_ones_are_not() -> None:
    markdown = render_markdown(error_table(REPORTS, published=GROUND_TRUTH_2D))
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    assert rows[3].startswith("| AIGN | **50.0** |")
    assert "**" not in rows[4]
    assert all("**" not in row for row in rows[5:])
    assert len({row.replace("\\|", "").count("|") for row in rows}) == 1
    styles = {str(span.style) for span in render_rich(error_table(REPORTS)).spans}
    assert "bold green" in styles


def test_a_single_row_is_not_its_own_winner() -> None:
    assert "**5" not in render_markdown(error_table(REPORTS[:1]))


def test_html_is_balanced_escaped_and_complete() -> None:
    text = render_html(error_table(REPORTS, published=GROUND_TRUTH_2D))
    parser = Cells()
    parser.feed(text)
    assert parser.open == []
    assert "toy &lt;bodies&gt;" in text
    assert "<script" not in text
    assert "http" not in text
    assert ["AIGN", *(f"{50 + i}.0" for i in range(12)), "-", "55.5", "-", "-", "56.5"] in parser.rows
    assert {len(row) for row in parser.rows} == {1, 18}


def test_open_data_get_a_block_of_their_own() -> None:
    ours = report("AIGN", 40.0, ("kick", "roll"), columns=("kick", "roll"))
    table = error_table([ours], published=GROUND_TRUTH_2D)
    assert [block.heads[:2] for block in table.blocks] == [("kick", "roll"), ("Dir", "Disc")]
    assert len(error_table([ours]).blocks) == 1


def test_the_slide_comes_first_then_what_it_did_not_print() -> None:
    """13 columns in the slide's order, WalkDog and WalkTogether, both means and the frames' mean."""
    ours = report("AIGN", 40.0, ACTIONS_15, columns=ACTIONS_13)
    (block,) = error_table([ours], published=GROUND_TRUTH_2D).blocks
    assert block.heads[:2] == ("Dir", "Disc")
    assert block.heads[12:] == ("Walk", "WalkD", "WalkT", "Avg 13", "Avg 15", "Avg/frm")
    assert block.sections[0].lines[0].values[12:15] == (53.0, 52.0, 54.0)
    published = block.sections[1].lines[-1]
    assert published.method == "AIGN"
    assert published.values[12:] == (57.0, None, None, pytest.approx(79.607692), 79.0, None)


def test_without_the_slide_fifteen_columns_keep_the_order_of_the_papers() -> None:
    (block,) = error_table([report("AIGN", 40.0, ACTIONS_15, columns=ACTIONS_15)]).blocks
    assert block.heads[12:] == ("WalkD", "Walk", "WalkT", "Avg 13", "Avg 15", "Avg/frm")


def test_the_slide_table_has_a_block_for_each_alignment_it_may_have_used() -> None:
    """Ours differ by block; the slide's rows stand in each, since which alignment they have is not known."""
    ours = report("AIGN", 40.0, ACTIONS_15)
    scores = {n: dataclasses.replace(ours.scores["root"], mean_13=v) for n, v in (("root", 3.0), ("similarity", 1.0))}
    limb = dataclasses.replace(ours.scores["root"], mean_13=2.0)
    table = slide_table([dataclasses.replace(ours, scores={**scores, "limb329": limb})], GROUND_TRUTH_2D)
    assert [block.caption.split(" (")[0] for block in table.blocks] == ["PA-MPJPE", "Limb-329 MPJPE", "MPJPE"]
    column = table.blocks[0].heads.index("Avg 13")
    assert [block.sections[0].lines[0].values[column] for block in table.blocks] == [1.0, 2.0, 3.0]
    assert all(len(block.sections[1].lines) == 4 for block in table.blocks)
    for text in (render_text(table, width=200), render_markdown(table)):
        assert (
            text.index("PA-MPJPE (") < text.index("Limb-329 MPJPE (") < text.index("roots put together, nothing else")
        )
        assert text.count("published: ") == 3
    parser = Cells()
    parser.feed(render_html(table))
    assert parser.open == []
    with pytest.raises(UserError, match="limb329"):
        slide_table([ours])


def test_csv_holds_every_row_of_every_block_and_empty_cells_for_what_is_not_there() -> None:
    limb = {"limb329": REPORTS[0].scores["root"]}
    reports = [dataclasses.replace(r, scores={**r.scores, **limb}) for r in REPORTS]
    rows = list(csv.DictReader(io.StringIO(render_csv(slide_table(reports, DETECTED_2D)))))
    assert len(rows) == 3 * (2 + 3)
    first, last = rows[0], rows[-1]
    assert (first["method"], first["Dir"], first["Walk"], first["Avg 15"]) == ("AIGN", "50.000", "", "")
    assert first["error"].startswith("PA-MPJPE (")
    assert first["source"].startswith("measured here: toy <bodies>; protocol aign-iccv17-13")
    assert (last["method"], last["Dir"], last["Avg 13"], last["Avg 15"]) == ("AIGN", "77.600", "98.523", "97.200")
    assert last["source"].startswith("published: Human3.6M")


def test_csv_of_blocks_with_other_columns_has_the_columns_of_all() -> None:
    table = error_table([report("AIGN", 40.0, ("kick", "roll"), columns=("kick", "roll"))], published=GROUND_TRUTH_2D)
    rows = list(csv.DictReader(io.StringIO(render_csv(table))))
    assert (rows[0]["kick"], rows[0]["Dir"], rows[-1]["kick"], rows[-1]["Dir"]) == ("40.000", "", "", "53.700")


def test_damaged_sequences_that_were_counted_are_named_once() -> None:
    reports = [dataclasses.replace(r, damaged={"S9/Greeting": 12, "S9/Waiting 1": 3}) for r in REPORTS]
    text = render_markdown(error_table(reports))
    assert text.count("S9/Greeting (12 poses), S9/Waiting 1 (3 poses)") == 1
    assert "/no-damaged" in text
    assert "shifted" not in render_markdown(error_table(REPORTS))


def test_reports_of_other_stores_are_not_in_one_section() -> None:
    other = dataclasses.replace(REPORTS[1], store_hash="beef")
    assert len(error_table([REPORTS[0], other]).blocks[0].sections) == 2
    assert len(error_table(REPORTS).blocks[0].sections) == 1


def test_bad_requests() -> None:
    with pytest.raises(UserError, match="no report"):
        error_table([])
    with pytest.raises(UserError, match="limb329"):
        error_table(REPORTS, alignment="limb329")
