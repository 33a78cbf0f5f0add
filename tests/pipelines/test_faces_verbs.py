"""Faces through the verbs: flags, a run from a store to a package, and models and baselines on one table."""

from dataclasses import replace

import pytest

from aign.framework.errors import UserError
from aign.inference.serving import SERVICES, serve
from aign.recipes import faces_task
from aign.registry.gates import decide
from aign.registry.models import show
from aign.registry.tracking import open_tracking
from pipelines.evaluate import Arguments, evaluated
from pipelines.recipe_flags import chosen
from pipelines.register import measured_of, register
from pipelines.train import parse, run_recipe
from tests.distributed import faces_ranks
from tests.tasks.toy_faces import toy_judge, toy_store


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of each task, of two steps."""
    folder = tmp_path_factory.mktemp("faces")
    store, tracking, runs = toy_store(str(folder / "store")), open_tracking(folder / "mlflow"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faces_task, "judge_of", lambda _: toy_judge())
        for name, made in faces_ranks.recipes().items():
            short = replace(made, fit=replace(made.fit, steps=2, validate_every=2, log_every=1))
            runs[name] = run_recipe(short, store.url, folder / name, tracking, workers=0)
    return store, runs


def test_every_number_is_a_flag_and_the_bias_is_one():
    parsed = parse(["superresolution", "--store", "x", "--bias", "sex=female", "--task.generator.low-px", "8"])
    assert parsed.args.store == "x"
    assert parsed.recipe.bias == "sex=female"
    assert parsed.recipe.name == "superresolution"
    assert parsed.recipe.task.generator.low_px == 8
    surgery = parse(["inpainting", "--store", "x", "--task.mask.shape", "box", "--start", "somewhere"])
    assert surgery.recipe.task.mask.shape == "box"
    assert chosen(surgery.recipe, surgery.args.mlflow).start.endswith("somewhere")
    with pytest.raises(UserError, match=r"--task\.generator\.low-px"):
        parse(["superresolution", "--store", "x", "--task.generator.lowpx", "8"])


@pytest.mark.parametrize("name", ["superresolution", "inpainting"])
def test_a_run_leaves_a_report_and_a_package_that_answers(trained, name):
    store, runs = trained
    run = runs[name]
    assert run.task.name == name
    assert run.report.bias == faces_ranks.recipes()[name].bias
    assert run.report.num_pictures > 10
    served = serve(run.package)
    example = run.task.example(store, served.card.role("test"))
    assert example.keys() == SERVICES[name].inputs.keys()
    picture = served.answer(example)
    assert picture["picture_rgb"].shape[1:] == (32, 32, 3)


def test_models_and_baselines_stand_on_one_table(trained, monkeypatch):
    store, runs = trained
    monkeypatch.setattr(faces_task, "judge_of", lambda _: toy_judge())
    model = str(runs["superresolution"].folder)
    done = evaluated(Arguments(models=(model, "baseline:bicubic"), store=store.url))
    ours, bicubic = done.reports
    assert {ours.bias, bicubic.bias} == {"sex=male"}
    assert bicubic.numbers["target_points"] == 0
    assert ours.numbers.keys() == bicubic.numbers.keys()
    with pytest.raises(UserError, match="got protocol 'aign-iccv17-15' for faces"):
        evaluated(Arguments(models=(model,), store=store.url, protocol="aign-iccv17-15"))
    with pytest.raises(UserError, match="a table is of one task"):
        evaluated(Arguments(models=(model, "baseline:diffused"), store=store.url))


@pytest.mark.parametrize("name", ["superresolution", "inpainting"])
def test_a_model_of_faces_is_registered_with_its_limits_and_its_direction(trained, name):
    run = trained[1][name]
    tracking = open_tracking(run.folder.parent / "mlflow")
    assert register(run, name, tracking).promoted
    found = show(tracking, f"models:/{name}@champion")
    assert found.row.score.higher_is_better
    assert found.row.score.subject == f"bias {run.report.bias or 'none'}, {run.report.side_px} px"
    for told in ("Never identify anybody", "imagined", "Audit: "):
        assert told in found.description
    (measured,) = found.measured
    assert measured.numbers == run.report.numbers
    head = measured.units[run.report.headline_name]
    assert sum(mean * weight for mean, weight in head.values()) == pytest.approx(run.report.headline)
    better = {unit: [mean + 1, weight] for unit, (mean, weight) in head.items()}
    numbers, units = {**run.report.numbers}, {**run.report.units, run.report.headline_name: better}
    numbers[run.report.headline_name] += 1
    raised = measured_of(replace(run.report, numbers=numbers, units=units), run.task)
    assert decide(raised, measured).promote, "more points are better"
    assert not decide(measured, raised).promote
    other = replace(run, report=replace(run.report, bias="identity=1"))
    with pytest.raises(UserError, match=r"holds models for bias .*, the run's is for bias identity=1.*another --name"):
        register(other, name, tracking)
