"""What `aign tune` leaves behind: the table in every form, pictures, the best trial, and one page."""

import json
from collections.abc import Mapping
from pathlib import Path

from aign import __version__
from aign.data.store import Store
from aign.evaluation.importance import Importance, importance
from aign.evaluation.trial_table import render_csv, render_html, render_markdown, short
from aign.evaluation.trials import Search, Trial
from aign.inference.page import Entry
from aign.inference.report import DemoReport, Picture, write_report
from aign.inference.search_figures import conflict_figure, pareto_figure, search_figure
from pipelines.commit import commit
from pipelines.run_folder import publish
from pipelines.tune_folder import BEST

OUTPUTS = (
    "table.md", "table.csv", "table.html", "figure.png", "pareto.png", "conflicts.png", BEST, "index.html",
)  # fmt: skip
"""Files in OUT; also artifacts of the search's run in MLflow. Pictures of what was not measured are left out."""
CONFLICT = -0.3
"""Terms whose gradients' cosine is below this are named."""


def write_all(out: Path, search: Search, store: Store, command: str) -> None:
    """Write `OUTPUTS`.

    Args:
        out: folder.
        search: with a trial that made all its steps.
        store: that was searched on.
        command: that trains the best trial with all steps.

    Raises:
        UserError: no trial made all its steps.
    """
    best, found = search.best, importance(search)
    lines = notes(search, found)
    publish(out / "table.md", render_markdown(search, lines))
    publish(out / "table.csv", render_csv(search))
    numbers = render_html(search, lines)
    publish(out / "table.html", numbers)
    told = {
        "number": best.number, "recipe": search.recipe, "objective": search.goal.metric.name, "steps": search.steps,
        "metrics": dict(best.metrics), "values": dict(best.values), "command": command,
    }  # fmt: skip
    publish(out / BEST, json.dumps(told, indent=1))
    search_figure(out / "figure.png", search, found)
    caption = "Each line is a trial through its numbers, the error at the right."
    bars = " Bars: how much worse a forest tells the trials' ranking without that number." if found else ""
    pictures = [Picture(path="figure.png", caption=caption + bars, alt="parallel coordinates of the trials")]
    if search.varied:
        pareto_figure(out / "pareto.png", search)
        caption = (
            "What is traded for what, of the trials that made all their steps; nobody beats one on the front in both."
        )
        pictures.append(Picture(path="pareto.png", caption=caption, alt="the goal against what is traded for it"))
    if len(search.conflicts()[0]) > 1:
        conflict_figure(out / "conflicts.png", search)
        caption = (
            "Cosines of the terms' gradients at the generator's outputs, mean over all logged steps of all trials: "
            "red terms pull against each other."
        )
        pictures.append(Picture(path="conflicts.png", caption=caption, alt="matrix of cosines of the terms' gradients"))
    write_report(out, _page(search, store, numbers, tuple(pictures), command))


def notes(search: Search, found: Importance | None) -> tuple[str, ...]:
    """What the numbers say, in words."""
    best = search.best
    recipe = next((t for t in search.trials if t.number == 0 and t.state == "complete"), None)
    metric = search.goal.metric.name
    gain = ""
    if recipe is not None and best.number != 0:
        gain = f" (the recipe as it is: {recipe.metrics[metric]:.4g})"
    whole = search.steps * sum(trial.state != "failed" for trial in search.trials)
    saved = 1 - search.made / max(whole, 1)
    said = [
        f"best: trial {best.number}, {metric} {best.metrics[metric]:.4g}{gain}; one seed, chosen on the validation "
        "part: measure it on the test part before you believe it",
        f"its numbers: {', '.join(_changed(best, search))}",
        f"steps: {search.made} of the {whole} that all trials would make ({100 * saved:.0f} % saved)",
    ]
    if search.held:
        said.append(
            f"{search.held} was held as it is: multiplying all weights by one number changes nothing but the learning "
            "rate's part, so the others are measured in it"
        )
    if found is None:
        said.append("importance: too few trials, or too much alike, to say")
    else:
        counts = [f"{short(n)} {100 * share:.0f} %" for n, share in found.shares.items() if share > found.chance]
        said.append(f"what mattered (above chance, {100 * found.chance:.0f} %): {', '.join(counts) or 'nothing'}")
    names, table = search.conflicts()
    pairs = [
        (table[i, j], f"{names[i]} and {names[j]} ({table[i, j]:+.2f})")
        for i in range(len(names))
        for j in range(i)
        if table[i, j] < CONFLICT
    ]
    if pairs:
        said.append(f"pull against each other: {', '.join(text for _, text in sorted(pairs))}")
    said += _dead(search.dead(), len(search.trials))
    return tuple(said)


def _changed(best: Trial, search: Search) -> list[str]:
    """What was drawn, and what that is to the recipe's own."""
    recipe = next((t.values for t in search.trials if t.number == 0), best.values)
    return [f"{short(n)} {value:.3g} (x {value / recipe[n]:.2g})" for n, value in best.values.items() if recipe[n]]


def _dead(dead: Mapping[str, int], trials: int) -> list[str]:
    if not dead:
        return []
    told = ", ".join(f"{name} in {count} of {trials} trials" for name, count in dead.items())
    return [f"did nothing (gradient under a thousandth of the largest): {told}"]


def _page(search: Search, store: Store, numbers: str, pictures: tuple[Picture, ...], command: str) -> DemoReport:
    return DemoReport(
        title=f"A search: {search.recipe}",
        summary=(
            f"{len(search.trials)} trials of {search.steps} steps, judged by {search.goal.metric.name} of the averaged "
            "generator on the validation part. Trial 0 is the recipe as it is. A trial that was stopped early is "
            "ranked below all that went further.",
        ),
        pictures=pictures,
        evaluation_html=numbers,
        commands=(Entry(term=command, text="train the best trial with all steps of the recipe:"),),
        files=(
            Entry(term="table.csv", text="all digits, every metric"),
            Entry(term=BEST, text="the best trial"),
            Entry(term="trials", text="every trial: what was drawn, its losses, validations and gradients"),
        ),
        provenance=(
            Entry(term="aign", text=f"{__version__} {commit()[:12]}".strip()),
            Entry(term="store", text=f"{store.url} {store.hash[:16]}"),
        ),
        licences=tuple(Entry(term="data", text=text) for text in store.manifest.licences),
    )
