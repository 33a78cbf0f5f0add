"""The trials of a search: best, front, importance, conflicts."""

import csv
import io
import math

import numpy as np
import pytest

from aign.evaluation.importance import MIN_TRIALS, importance
from aign.evaluation.trial_table import cells, heads, render_csv, render_html, render_markdown
from aign.evaluation.trials import Goal, Metric, Search, Trial, mean_cosines, undominated
from aign.framework.errors import UserError

STEPS = 90
GOAL = Goal(
    metric=Metric(name="val/mpjpe_mm"), traded=(Metric(name="val/reprojection_px"), Metric(name="val/flip_rate"))
)


def trial(number, error, *, state="complete", step=STEPS, values=None, **more):
    metrics = {} if error is None else {"val/mpjpe_mm": error, "val/flip_rate": 0.1, "val/reprojection_px": 5.0}
    metrics |= more.pop("metrics", {})
    return Trial(
        number=number, values=values or {"fit.lr": 1e-3}, state=state, step=step, metrics=metrics,
        cosines=more.pop("cosines", {}), **more,
    )  # fmt: skip


def search(*trials, ranges=None):
    return Search(
        recipe="lifting-demo", goal=GOAL, steps=STEPS, held="task.weights.supervised",
        ranges=ranges or {"fit.lr": (1e-4, 1e-2)}, trials=trials,
    )  # fmt: skip


def test_best_is_the_lowest_that_went_to_the_end():
    found = search(
        trial(0, 100.0),
        trial(1, 80.0),
        trial(2, 70.0, state="stopped", step=10),
        trial(3, None, state="failed", step=0, why="not finite"),
        trial(4, 60.0, state="open", step=30),
        trial(5, 75.0, state="stopped", step=30),
        trial(6, 10.0, state="failed", step=80, why="not finite"),
    )
    assert found.best.number == 1
    assert [t.number for t in found.ranked()] == [1, 0, 4, 5, 2, 6, 3]
    assert found.made == 90 + 90 + 10 + 0 + 30 + 30 + 80


def test_where_nothing_ended_the_first_reason_is_told():
    with pytest.raises(UserError, match="no trial of lifting-demo ended: the loss is not finite") as error:
        _ = search(
            trial(0, None, state="failed", step=0, why="the loss is not finite"), trial(1, 1.0, state="open")
        ).best
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="no trial made all its steps"):
        _ = search().best


def test_undominated_against_the_plain_reference():
    rng = np.random.default_rng(0)
    for dims in (1, 2, 3):
        points = rng.integers(0, 5, (40, dims)).astype(float)  # with ties and twins
        want = [not any((q <= p).all() and (q < p).any() for q in points) for p in points]
        assert undominated(points).tolist() == want


def test_the_front_is_of_whole_trials_over_all_that_is_traded():
    found = search(
        trial(0, 100.0, metrics={"val/flip_rate": 0.0}),
        trial(1, 80.0, metrics={"val/flip_rate": 0.2}),
        trial(2, 90.0, metrics={"val/flip_rate": 0.3}),
        trial(3, 90.0, metrics={"val/flip_rate": 0.3, "val/reprojection_px": 1.0}),
        trial(4, 1.0, state="stopped", step=10),
    )
    assert found.traded == GOAL.traded
    assert sorted(t.number for t in found.front()) == [0, 1, 3]


def test_what_not_every_trial_has_is_not_traded():
    lone = Trial(
        number=1, values={"fit.lr": 1e-3}, state="complete", step=STEPS, metrics={"val/mpjpe_mm": 1.0}, cosines={}
    )
    assert search(trial(0, 2.0), lone).traded == ()
    assert [t.number for t in search(trial(0, 2.0), lone).front()] == [1]


def test_more_is_better_where_the_goal_says_so():
    """Points against faithfulness: of both, the higher is better; the ranking, the best and the front are turned."""
    points, faithful = Metric(name="val/points", higher=True), Metric(name="val/faithful", higher=True)
    rows = ((0, 5.0, 40.0), (1, 30.0, 30.0), (2, 10.0, 35.0), (3, 8.0, 34.0), (4, -2.0, 40.0))
    ended = [trial(n, None, metrics={"val/points": more, "val/faithful": like}) for n, more, like in rows]
    found = Search(
        recipe="faces", goal=Goal(metric=points, traded=(faithful,)), steps=STEPS, held=None, ranges={},
        trials=(*ended, trial(5, None, state="failed", why="no")),
    )  # fmt: skip
    assert found.best.number == 1
    assert [t.number for t in found.ranked()] == [1, 2, 3, 0, 4, 5]
    assert sorted(t.number for t in found.front()) == [0, 1, 2]
    assert found.varied == found.traded == (faithful,)
    assert search(trial(0, 2.0), trial(1, 1.0)).varied == (), "what is everywhere the same is no picture"


def test_conflicts_are_means_over_trials_and_a_square_table():
    found = search(trial(0, 1.0, cosines={"a|b": -0.5, "b|c": 1.0}), trial(1, 1.0, cosines={"a|b": -0.1}))
    names, table = found.conflicts()
    assert names == ("a", "b", "c")
    np.testing.assert_allclose(table, [[1, -0.3, np.nan], [-0.3, 1, 1.0], [np.nan, 1.0, 1]])
    assert search(trial(0, 1.0)).conflicts()[0] == ()


def test_dead_terms_are_counted_by_name():
    found = search(trial(0, 1.0, dead=("pose",)), trial(1, 1.0, dead=("pose", "camera")), trial(2, 1.0))
    assert found.dead() == {"pose": 2, "camera": 1}


def test_cosines_of_a_log_are_averaged():
    rows = [{"step": 1, "cosine/a|b": 1.0, "loss/a": 3.0}, {"step": 2, "cosine/a|b": 0.0}, {"step": 2, "val/x": 1.0}]
    assert mean_cosines(rows) == {"a|b": 0.5}


def drawn(count, error, stopped=0.0):
    rng = np.random.default_rng(1)
    names = {"fit.lr": (1e-4, 1e-2), "task.weights.pose": (0.01, 1.0), "task.weights.camera": (0.01, 1.0)}
    trials = []
    for number in range(count):
        values = {
            name: float(np.exp(rng.uniform(math.log(low), math.log(high)))) for name, (low, high) in names.items()
        }
        bad = error(values) > np.inf if not stopped else error(values) > stopped
        trials.append(
            trial(
                number, error(values), values=values, state="stopped" if bad else "complete", step=10 if bad else STEPS
            )
        )
    return search(*trials, ranges=names)


@pytest.mark.parametrize("stopped", [0.0, 1.0])
def test_importance_finds_what_mattered_and_which_way(stopped):
    found = importance(drawn(30, lambda v: abs(math.log10(v["fit.lr"] / 1e-4)), stopped))
    assert next(iter(found.shares)) == "fit.lr"
    assert found.shares["fit.lr"] > 0.7
    assert found.directions["fit.lr"] > 0.9
    assert sum(found.shares.values()) + found.chance == pytest.approx(1)
    assert found.shares["task.weights.pose"] < 0.15


def test_importance_sees_a_best_in_the_middle():
    found = importance(drawn(40, lambda v: math.log10(v["task.weights.pose"] / 0.1) ** 2))
    assert next(iter(found.shares)) == "task.weights.pose"
    assert found.shares["task.weights.pose"] > 0.5
    assert abs(found.directions["task.weights.pose"]) < 0.4


def test_importance_says_nothing_of_few_trials_or_of_failures():
    assert importance(drawn(MIN_TRIALS - 1, lambda v: v["fit.lr"])) is None
    failed = [trial(n, None, state="failed", step=0, values={"fit.lr": 10.0**-n}) for n in range(10)]
    assert importance(search(*failed)) is None


def test_the_table_in_every_form_names_every_trial():
    found = search(trial(0, 100.0), trial(7, 80.0, dead=("pose",)), trial(9, None, state="failed", step=0, why="<b>"))
    assert heads(found) == ("trial", "state", "step", "mpjpe_mm", "reprojection_px", "flip_rate", "front", "lr")
    assert [row[0] for row in cells(found)] == ["7", "0 (the recipe)", "9"]
    assert cells(found)[2][3] == "-"
    markdown, page = render_markdown(found, ["a note"]), render_html(found, ["<script>"])
    assert "- a note" in markdown
    assert len({line.count("|") for line in markdown.splitlines() if line.startswith("|")}) == 1
    assert "<script>" not in page
    assert page.count("<tr>") == 4
    rows = list(csv.DictReader(io.StringIO(render_csv(found))))
    assert [row["trial"] for row in rows] == ["7", "0", "9"]
    assert float(rows[0]["val/mpjpe_mm"]) == 80
    assert (rows[0]["dead"], rows[2]["why"], rows[2]["val/mpjpe_mm"]) == ("pose", "<b>", "")
