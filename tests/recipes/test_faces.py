"""Recipes of faces on a store: who is remembered, who is seen, what a package says, and that a bias moves pictures."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from aign.data.store import Store
from aign.evaluation.faces_image import area_down, psnr_db
from aign.framework.errors import UserError
from aign.inference.package import ModelCard, blank, load_package, save_package
from aign.recipes import recipe
from aign.recipes.faces import (
    VALIDATED,
    InpaintingRecipe,
    SuperResolutionRecipe,
    cast,
    first_pictures,
    inpainter_config,
    parts,
    resolver_config,
)
from aign.recipes.faces_runs import superresolution_tiny
from aign.recipes.faces_task import INPAINTING, SUPERRESOLUTION
from aign.recipes.tasks import task_of
from aign.tasks.faces.answers import enlarged
from aign.tasks.faces.labels import read_labels
from aign.tasks.faces.pictures import read_pictures
from aign.training import FitConfig, LocalHooks, fit
from tests.tasks.toy_faces import beard, toy_store

LEAST_DB = 40.0


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return toy_store(str(tmp_path_factory.mktemp("faces") / "store"), count=400)


def tiny(**changes):
    made = superresolution_tiny()
    task = replace(made.task, generator=replace(made.task.generator, channels=8, blocks=1))
    short = FitConfig(steps=2, validate_every=2, log_every=1)
    return replace(made, **{"task": task, "batch": 8, "fit": short, **changes})


def roles(store, made, usable=None):
    return cast(made, store, parts(store).train, 32, usable)


def test_parts_are_the_partitions(store):
    found = parts(store)
    assert found.train.sequences == ("toy/train",)
    assert found.validation.sequences == ("toy/val",)
    assert found.test.sequences == ("toy/test",)


def test_a_store_without_partitions_is_refused(store):
    alone = tuple(p for p in store.manifest.parts if p.part == 0)
    poor = Store(store.url, replace(store.manifest, parts=alone))
    with pytest.raises(UserError, match="no pictures of partition val and test: it has toy/train"):
        parts(poor)


@pytest.mark.parametrize(("bias", "share"), [("sex=male", 0.5), ("lips>q90", 0.9), ("", 0.3), ("identity=3", 0.5)])
def test_members_are_remembered_others_and_the_rest_of_them_are_seen_and_nobody_is_both(store, bias, share):
    if bias.startswith("identity"):
        with pytest.raises(UserError, match="15 of 300 faces satisfy it; at least 16"):
            roles(store, tiny(bias=bias))
        return
    found = roles(store, tiny(bias=bias, memory_share=share))
    memory, inputs = found.memory.keys, found.inputs.keys
    assert not memory & inputs
    labels = read_labels(store, parts(store).train)
    keys = set(zip(labels.sequence.tolist(), labels.number.tolist(), strict=True))
    assert memory | inputs == keys
    values = dict(
        zip(zip(labels.sequence.tolist(), labels.number.tolist(), strict=True), labels.attributes, strict=True)
    )
    remembered = np.stack([values[key] for key in sorted(memory)])
    seen = np.stack([values[key] for key in sorted(inputs)])
    if bias == "sex=male":
        assert (remembered[:, 0] > 0).all()
        assert len(memory) == round(share * (labels.attributes[:, 0] > 0).sum())
        assert 0.2 < (seen[:, 0] > 0).mean() < 0.5, "both sexes are seen"
    if bias == "lips>q90":
        assert remembered[:, 2].min() > np.quantile(labels.attributes[:, 2], 0.9)
        assert len(memory) == 27
    assert roles(store, tiny(bias=bias, memory_share=share)) == found


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"memory_share": 0.0}, "memory_share 0; allowed is more than 0"),
        ({"memory_share": 1.0}, "memory_share 1; allowed"),
        ({"memory_share": 0.99, "batch": 40}, "3 are left to be seen; a step needs 40"),
        ({"bias": "hair>0"}, "no attribute hair"),
        ({"bias": "Male"}, "bias 'Male'; allowed"),
        ({"data_sets": ("celeba",)}, "celeba"),
    ],
)
def test_roles_that_cannot_be_played_are_refused(store, tmp_path, change, why):
    with pytest.raises(UserError, match=why) as refused:
        SUPERRESOLUTION.prepare(tiny(**change), store, LocalHooks(tmp_path))
    assert "\n" not in str(refused.value)


def test_pictures_too_small_for_the_recipe_are_refused(store, tmp_path):
    made = recipe("superresolution")
    with pytest.raises(UserError, match="smaller than 64 px"):
        SUPERRESOLUTION.prepare(made, store, LocalHooks(tmp_path))


def test_what_is_seen_is_never_remembered_and_no_label_is_read_while_training(store, tmp_path, monkeypatch):
    made = tiny(bias="sex=male")
    training = task_of(made).prepare(made, store, LocalHooks(tmp_path))
    memory = training.aign.critics["critic"].memory.values
    assert beard(memory.permute(0, 2, 3, 1).numpy()).min() > 0.5
    read = []
    real = Store.read_row_group
    monkeypatch.setattr(Store, "read_row_group", lambda self, f, c: read.append(dict(c)) or real(self, f, c))
    known = {row.numpy().tobytes() for row in memory}
    for _ in range(40):  # more than an epoch
        for one in (training.feed.next().truth * 255).round().to(torch.uint8):
            assert one.numpy().tobytes() not in known
            assert one.flip(-1).numpy().tobytes() not in known
    training.feed.close()
    assert all(columns == {"faces": ("face_jpeg",)} for columns in read)


def test_faces_whose_mouth_nobody_found_are_not_seen(store, tmp_path):
    made = recipe("inpainting")
    assert isinstance(made, InpaintingRecipe)
    small = replace(made.task.generator, side_px=32, channels=8, blocks=1)
    made = replace(made, task=replace(made.task, generator=small), batch=8, bias="lips>q50")
    training = INPAINTING.prepare(made, store, LocalHooks(tmp_path))
    for _ in range(40):
        seen = training.feed.next()
        assert ((1 - seen.keep).flatten(1).sum(1) > 0).all()
    training.feed.close()


def test_the_feed_goes_on_where_it_was(store, tmp_path):
    one, other = (SUPERRESOLUTION.prepare(tiny(), store, LocalHooks(tmp_path)).feed for _ in range(2))
    for _ in range(3):
        one.next()
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.next().truth, other.next().truth)
    one.close()
    other.close()


def package(folder, made, net):
    card = ModelCard(
        network=net.config, recipe=made.name, store_hash="x", sequences={}, licences=("CC0-1.0",), protocol="p",
        metrics={},
    )  # fmt: skip
    save_package(folder, net, card)
    return folder


@pytest.mark.parametrize("kind", ["superresolution", "inpainting"])
def test_a_package_says_what_the_model_is_for(tmp_path, kind):
    made = tiny(bias="age>50")
    network = resolver_config(made)
    if kind == "inpainting":
        made = replace(recipe("inpainting-nose"), bias="nose>q90")
        network = inpainter_config(made)
    net, card = load_package(package(tmp_path / "package", made, blank(network)))
    assert card.network == network
    assert card.task == kind
    assert card.network.bias == made.bias
    assert net.config == network


@pytest.mark.parametrize(("field", "value"), [("bias", "nobody"), ("low_px", 12), ("channels", 10**6), ("bias", 3)])
def test_a_package_that_describes_no_model_is_refused(tmp_path, field, value):
    folder = package(tmp_path / "package", tiny(), blank(resolver_config(tiny())))
    text = (folder / "model.json").read_text()
    at = f'"{field}": '
    start = text.index(at) + len(at)
    end = min(text.index(c, start) for c in (",", "\n"))
    new = f'"{value}"' if isinstance(value, str) else str(value)
    (folder / "model.json").write_text(text[:start] + new + text[end:])
    with pytest.raises(UserError, match=r"model\.json|packaged model"):
        load_package(folder)


def test_a_training_goes_on_from_a_package_of_the_same_network(store, tmp_path):
    start = package(tmp_path / "start", tiny(), blank(resolver_config(tiny())))
    made = tiny(bias="sex=male", start=str(start))
    training = SUPERRESOLUTION.prepare(made, store, LocalHooks(tmp_path / "run"))
    training.feed.close()
    want, _ = load_package(start)
    for name, value in want.state_dict().items():
        assert torch.equal(value, training.aign.encode.state_dict()[name])
    assert training.aign.encode.config.bias == "sex=male"
    other = replace(made, task=replace(made.task, generator=replace(made.task.generator, channels=9)))
    with pytest.raises(UserError, match=r"--task\.generator\.channels 8"):
        SUPERRESOLUTION.prepare(other, store, LocalHooks(tmp_path / "run"))
    assert SUPERRESOLUTION.located(replace(made, start="m"), str, lambda name: f"/{name}").start == "/m"


def test_sources_name_partitions_and_licences(store):
    found = SUPERRESOLUTION.sources(tiny(), store)
    assert set(found.sequences) == {"train", "validation", "test"}
    assert found.licences == ("CC0-1.0",)
    assert found.hashes == {"store": store.hash}


def test_the_first_pictures_are_always_the_same(store):
    some = first_pictures(store, parts(store).train, 10)
    assert len(some.keys) == 10
    assert first_pictures(store, parts(store).train, 10) == some
    assert len(first_pictures(store, parts(store).test, VALIDATED).keys) == 50


def test_controls_switch_off_what_they_are_named_after():
    on = {
        name: {w for w, value in recipe(f"superresolution{name}").task.weights.items() if value}
        for name in ("", "-renderer", "-paired", "-cycle")
    }
    assert on == {
        "": {"render", "critic"},
        "-renderer": {"render"},
        "-paired": {"paired"},
        "-cycle": {"cycle", "critic"},
    }


def trained(store, folder, **changes) -> np.ndarray:
    """Pictures that an averaged generator makes of the test part, bearded and not, and their small ones."""
    base = superresolution_tiny()
    made: SuperResolutionRecipe = replace(base, fit=replace(base.fit, steps=200, validate_every=200), **changes)
    hooks = LocalHooks(folder)
    training = SUPERRESOLUTION.prepare(made, store, hooks)
    done = fit(training.aign, training.feed, made.fit, hooks, lambda _: {}, {})
    training.feed.close()
    truth = read_pictures(store, first_pictures(store, parts(store).test, 50), 32).permute(0, 2, 3, 1).numpy()
    low = area_down(truth, 4).round().astype(np.uint8)
    made_of_it = enlarged(done.ema, low)
    faithful = psnr_db(area_down(made_of_it, 4), low).mean()
    return np.array((faithful, beard(made_of_it).mean()))


def test_a_bias_moves_what_is_imagined_and_the_renderer_keeps_it_faithful(store, tmp_path):
    """The small pictures tell nothing of beards: whether there is one is the memory's to say."""
    bearded = trained(store, tmp_path / "male", bias="sex=male")
    shaved = trained(store, tmp_path / "female", bias="sex=female")
    print(f"faithful {bearded[0]:.1f} and {shaved[0]:.1f} dB; beards {bearded[1]:.2f} and {shaved[1]:.2f}")
    assert bearded[1] > shaved[1] + 0.5
    assert min(bearded[0], shaved[0]) > LEAST_DB
