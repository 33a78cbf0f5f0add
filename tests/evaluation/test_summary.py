"""Seeds become means, spreads and ratios; what may not be compared is refused."""

import csv
import dataclasses
import io
import statistics

import pytest
from rich.console import Console

from aign.evaluation.report import Report, Scores
from aign.evaluation.summary import (
    Measured,
    mean_report,
    render_csv,
    render_html,
    render_markdown,
    render_rich,
    spread,
    summarise,
)
from aign.framework.errors import UserError

REFERENCES = {"forward": "/F2D", "interpreter": "/interp."}


def scores(value):
    return Scores(
        per_action={"Walking": value, "Posing": value + 2},
        mean_actions=value + 1, mean_frames=value, mean_13=None, mean_15=value if value > 50 else None,
    )  # fmt: skip


def report(pa, mpjpe, *, flips=0.0, **changes):
    made = Report(
        method="m", data="d", store_hash="s", protocol="open", protocol_hash="h", aggregation="frames",
        columns=("Posing", "Walking"),
        scores={"root": scores(mpjpe), "similarity": scores(pa), "scale": scores(mpjpe - 1)},
        flip_rate=flips, num_frames=100, num_skipped=0, frames_per_action={"Posing": 40, "Walking": 60},
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def measured(key, *values, group="methods", kind="trained"):
    reports = tuple(report(pa, mpjpe, flips=0.01) for pa, mpjpe in values)
    return Measured(key=key, label=f"the {key}", group=group, kind=kind, reports=reports)


@pytest.fixture
def table():
    return summarise(
        (
            measured("mean-pose", (90.0, 210.0), kind="untrained"),
            measured("forward", (70.0, 140.0), (72.0, 142.0), (74.0, 144.0)),
            measured("interpreter", (58.0, 99.0), (60.0, 101.0)),
            measured("aign", (45.0, 70.0), (43.0, 72.0)),
            measured("oracle-basis", (2.0, 3.0), kind="bound"),
            measured("no-ema", (46.0, 75.0), (44.0, 80.0), group="ablation"),
        ),
        REFERENCES,
    )


def row(table, key):
    return next(row for row in table.rows if row.key == key)


def test_the_spread_is_the_sample_standard_deviation():
    values = [44.2, 45.9, 43.1, 47.7]
    got = spread(values)
    assert got.mean == pytest.approx(statistics.mean(values))
    assert got.deviation == pytest.approx(statistics.stdev(values))
    assert got.seeds == 4


def test_one_seed_has_no_spread_and_none_is_an_error():
    assert spread([5.0]).deviation is None
    with pytest.raises(UserError, match="got no value"):
        spread([])


def test_means_and_ratios(table):
    forward, aign = row(table, "forward"), row(table, "aign")
    assert forward.cells["pa_mpjpe_mm"].mean == pytest.approx(72)
    assert forward.cells["pa_mpjpe_mm"].deviation == pytest.approx(2)
    assert forward.cells["flip_rate"].mean == pytest.approx(1), "percent"
    assert aign.ratios["pa_mpjpe_mm", "forward"] == pytest.approx(44 / 72)
    assert aign.ratios["mpjpe_mm", "interpreter"] == pytest.approx(71 / 100)
    assert forward.ratios["mpjpe_mm", "forward"] == 1


def test_the_protocols_own_mean_is_taken():
    by_actions = report(45.0, 70.0, aggregation="actions")
    got = summarise([Measured(key="a", label="a", group="methods", reports=(by_actions,))], REFERENCES)
    assert got.rows[0].cells["pa_mpjpe_mm"].mean == 46


def test_a_reference_that_is_not_there_has_no_column():
    got = summarise([measured("aign", (45.0, 70.0)), measured("forward", (70.0, 140.0))], REFERENCES)
    assert got.heads[-2:] == ("PA /F2D", "MPJPE /F2D")
    assert len(got.cells(got.rows[0])) == len(got.heads)


def test_a_bound_is_never_the_best_and_flips_have_none(table):
    assert table.is_best(row(table, "aign"), 0)
    assert not table.is_best(row(table, "oracle-basis"), 0)
    assert not any(table.is_best(each, 3) for each in table.rows)
    alone = summarise([measured("aign", (45.0, 70.0))], REFERENCES)
    assert not alone.is_best(alone.rows[0], 0), "there is no choice"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"protocol": "other"}, "protocol open and other"),
        ({"store_hash": "t"}, "store s and t"),
        ({"num_frames": 99}, "frames 100 and 99"),
    ],
)
def test_rows_of_other_frames_are_refused(changes, named):
    other = Measured(key="b", label="b", group="methods", reports=(report(1.0, 2.0, **changes),))
    with pytest.raises(UserError, match=f"'the a' and 'b' cannot stand in one table: {named}"):
        summarise([measured("a", (45.0, 70.0)), other], REFERENCES)


def test_a_row_that_skips_what_it_cannot_judge_may_stay():
    poorer = Measured(key="b", label="b", group="methods", reports=(report(1.0, 2.0, num_frames=97, num_skipped=3),))
    assert len(summarise([measured("a", (45.0, 70.0)), poorer], REFERENCES).rows) == 2


def test_a_key_twice_in_a_group_is_refused():
    with pytest.raises(UserError, match="got a twice"):
        summarise([measured("a", (1.0, 2.0)), measured("a", (1.0, 2.0))], REFERENCES)
    elsewhere = measured("a", (1.0, 2.0), group="weight")
    assert len(summarise([measured("a", (1.0, 2.0)), elsewhere], REFERENCES).rows) == 2, "the same run in two groups"


def test_the_mean_report_averages_what_every_seed_has():
    got = mean_report([report(60.0, 90.0, flips=0.02), report(40.0, 100.0)])
    assert got.scores["similarity"].per_action == {"Walking": 50, "Posing": 52}
    assert (got.scores["root"].mean_frames, got.scores["root"].mean_actions) == (95, 96)
    assert got.scores["similarity"].mean_15 is None, "one seed has none"
    assert got.scores["root"].mean_15 == 95
    assert got.flip_rate == pytest.approx(0.01)
    assert mean_report([got]) == got
    with pytest.raises(UserError, match="got no report"):
        mean_report([])


def test_markdown(table):
    lines = render_markdown(table).splitlines()
    assert all(line.count("|") == lines[0].count("|") for line in lines)
    assert (
        "| the aign | **44.0 +- 1.4** | **71.0 +- 1.4** | **70.0 +- 1.4** | 1.0 +- 0.0 | 0.61 | 0.75 | 0.50 | 0.71 |"
        in lines
    )
    assert lines.index("| *ablation* | | | | | | | | |") == len(lines) - 2
    assert "| the mean-pose | 90.0 | 210.0 | 209.0 | 1.0 | 1.25 | 1.53 | 1.48 | 2.10 |" in lines


def test_csv_holds_all_digits(table):
    rows = list(csv.DictReader(io.StringIO(render_csv(table))))
    by_key = {each["key"]: each for each in rows}
    assert float(by_key["aign"]["pa_mpjpe_mm_sd"]) == row(table, "aign").cells["pa_mpjpe_mm"].deviation
    assert float(by_key["aign"]["pa_mpjpe_mm_ratio_to_forward"]) == 44 / 72
    assert by_key["mean-pose"]["pa_mpjpe_mm_sd"] == ""
    assert by_key["no-ema"]["group"] == "ablation"


def test_html_is_escaped_and_terminal_is_whole(table):
    odd = dataclasses.replace(table, rows=(dataclasses.replace(table.rows[0], label="a <b>"), *table.rows[1:]))
    text = render_html(odd)
    assert "a &lt;b&gt;" in text
    assert "72.0 \N{PLUS-MINUS SIGN} 2.0" in text
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(render_rich(table))
    told = console.export_text()
    for each in table.rows:
        assert all(cell in told for cell in (each.label, *table.cells(each)))
