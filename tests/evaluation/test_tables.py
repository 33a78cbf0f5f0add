"""Tables in three forms: what stands where, and that nothing is passed off as something else."""

from html.parser import HTMLParser

import pytest

from aign.data.actions import ACTIONS_13, ACTIONS_15
from aign.evaluation.published import DETECTED_2D, GROUND_TRUTH_2D
from aign.evaluation.report import Report, Scores
from aign.evaluation.tables import error_table, render_html, render_markdown, render_rich, render_text
from aign.framework.errors import UserError


def report(method: str, base: float, actions: tuple[str, ...], columns: tuple[str, ...] = ACTIONS_13) -> Report:
    per_action = {a: base + i for i, a in enumerate(actions)}
    mean = sum(per_action.values()) / len(per_action)
    full = mean if set(ACTIONS_13) <= set(actions) else None
    scores = Scores(per_action=per_action, mean_actions=mean, mean_frames=mean + 1, mean_13=full, mean_15=None)
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
        *("Avg/act", "Avg/frm"),
    ]
    ours, theirs = (line.split() for line in lines if line.startswith("AIGN "))
    assert ours == ["AIGN", *(f"{50 + i}.0" for i in range(12)), "-", "55.5", "56.5"]
    assert theirs[-3:] == ["78.6", "97.2", "-"]
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
    assert ["AIGN", *(f"{50 + i}.0" for i in range(12)), "-", "55.5", "56.5"] in parser.rows
    assert {len(row) for row in parser.rows} == {1, 16}


def test_open_data_get_a_block_of_their_own() -> None:
    ours = report("AIGN", 40.0, ("kick", "roll"), columns=("kick", "roll"))
    table = error_table([ours], published=GROUND_TRUTH_2D)
    assert [block.heads[:2] for block in table.blocks] == [("kick", "roll"), ("Dir", "Disc")]
    assert len(error_table([ours]).blocks) == 1


def test_fifteen_columns_keep_the_paper_order_with_dashes_for_the_slide() -> None:
    ours = report("AIGN", 40.0, ACTIONS_15, columns=ACTIONS_15)
    (block,) = error_table([ours], published=GROUND_TRUTH_2D).blocks
    assert block.heads[12:15] == ("WalkD", "Walk", "WalkT")
    published = block.sections[1].lines[-1]
    assert published.method == "AIGN"
    assert published.values[12:15] == (None, 57.0, None)


def test_reports_of_other_stores_are_not_in_one_section() -> None:
    import dataclasses

    other = dataclasses.replace(REPORTS[1], store_hash="beef")
    assert len(error_table([REPORTS[0], other]).blocks[0].sections) == 2
    assert len(error_table(REPORTS).blocks[0].sections) == 1


def test_bad_requests() -> None:
    with pytest.raises(UserError, match="no report"):
        error_table([])
    with pytest.raises(UserError, match="limb329"):
        error_table(REPORTS, alignment="limb329")
