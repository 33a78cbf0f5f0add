"""Who plays what: proved on stores of Human3.6M's layout with and without its test subjects, and on others."""

import itertools

import pytest

from aign.data.datasets.job import run
from aign.data.loader import ClipLoader, LoaderConfig
from aign.data.sources import plan
from aign.data.store import Manifest, Selection, Store, commit
from aign.framework.errors import UserError
from aign.recipes.lifting import check_roles, lifting_demo
from aign.recipes.lifting_tables import METHODS, UNTRAINED, rows
from aign.recipes.regimes import Cast, Take, cast, label_roles, roles
from tests.pipelines.samples import h36m_npz

ACTIONS = ("Walking", "Walking 1", "Discussion", "Posing", "Greeting", "Eating 1", "Smoking")
REGIMES = ("unpaired", "semi", "shifted", "full")


def made(folder, subjects):
    jobs = plan(str(h36m_npz(folder / "source", dict.fromkeys(subjects, ACTIONS))))
    url, manifest = str(folder / "store"), Manifest(skeleton="h36m17", num_joints=17)
    for number, job in enumerate(jobs):
        manifest = manifest.updated(run(job, url, number))
    commit(url, manifest)
    return Store.open(url)


@pytest.fixture(scope="module")
def human36m(tmp_path_factory):
    return made(tmp_path_factory.mktemp("h36m"), ("S1", "S5", "S6", "S7", "S8", "S9", "S11"))


@pytest.fixture(scope="module")
def developing(tmp_path_factory):
    return made(tmp_path_factory.mktemp("dev"), ("S1", "S5", "S6", "S7", "S8"))


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("which", ["human36m", "developing"])
def test_no_subject_plays_two_parts(which, regime, request):
    store = request.getfixturevalue(which)
    chosen = roles(cast(store), regime)
    found = check_roles(store, chosen)
    people = {name: {s.split("/")[0] for s in its} for name, its in found.items() if name != "validation"}
    for a, b in itertools.combinations(people, 2):
        assert not people[a] & people[b]
    assert people["test"] == ({"S9", "S11"} if which == "human36m" else {"S8"})
    assert people["memory"] == {"S7"}
    assert ("labelled" in people) == (regime != "unpaired")
    assert ("unlabelled" in people) == (regime != "full")
    assert chosen.regime == regime


def test_shifted_labels_walking_alone_and_the_cameras_of_seen_and_labelled_differ(developing):
    chosen = roles(cast(developing), "shifted")
    assert chosen.labelled.sequences == ("S1/Walking", "S1/Walking 1")
    assert not set(chosen.labelled.cameras) & set(chosen.unlabelled.cameras)
    assert len({*chosen.labelled.cameras, *chosen.unlabelled.cameras}) == 4
    assert chosen.test.cameras is None


def test_validation_is_of_nobody_else_where_a_subject_can_be_spared(human36m, developing):
    assert roles(cast(human36m), "semi").validation.subjects == ("S8",)
    small = roles(cast(developing), "full")
    held = developing.sequences(("labels",), small.validation)
    assert held == {"S1/Discussion", "S1/Posing"}
    assert not held & set(small.labelled.sequences)


def test_a_share_of_the_labels_is_whole_sequences_and_a_larger_share_holds_the_smaller(developing):
    who = cast(developing)
    shares = [set(label_roles(who, p).labelled.sequences) for p in (1.0, 20.0, 60.0, 100.0)]
    assert len(shares[0]) == len(shares[1]) == 1
    assert len(shares[2]) == 3
    assert all(a <= b for a, b in itertools.pairwise(shares))
    assert shares[-1] == set(roles(who, "semi").labelled.sequences)


def test_other_subjects_are_cast_in_the_order_of_their_names(tmp_path):
    who = cast(made(tmp_path, ("S21", "S22", "S23", "S24", "S25")))
    assert (who.labelled, who.unlabelled, who.memory, who.test) == (("S21",), ("S22", "S23"), ("S24",), ("S25",))


def test_three_subjects_of_many_sequences_are_parted_by_sequence(tmp_path):
    store = made(tmp_path, ("S21", "S22", "S23"))
    who = cast(store)
    assert who == cast(store), "the order means nothing but is always the same"
    parts = (who.test, who.memory, who.validation.sequences, who.labelled, who.unlabelled)
    assert [len(names) for names in parts] == [5, 5, 2, 2, 7]
    assert len({name for names in parts for name in names}) == 21
    for regime in REGIMES:
        chosen = roles(who, regime)
        assert chosen.apart == "sequences"
        assert check_roles(store, chosen)["test"] == frozenset(who.test)


def test_too_few_subjects_and_sequences_are_told_in_one_line(tmp_path):
    store = made(tmp_path, ("S21",))
    words = r"has 1 subjects \(S21\) and 7 sequences; a table needs at least 4 subjects or 8 sequences"
    with pytest.raises(UserError, match=words) as refused:
        cast(store)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("regime", REGIMES)
def test_the_embedded_motions_play_what_they_play_in_the_demo(demo_store, regime):
    chosen, demo = roles(cast(demo_store), regime), lifting_demo().roles
    check_roles(demo_store, chosen)
    assert (chosen.apart, chosen.regime) == ("sequences", regime)
    assert (chosen.memory, chosen.validation, chosen.test) == (demo.memory, demo.validation, demo.test)
    if regime == "full":
        assert set(chosen.labelled.sequences) == {*demo.labelled.sequences, *demo.unlabelled.sequences}
        assert chosen.unlabelled is None
        return
    assert chosen.unlabelled.sequences == demo.unlabelled.sequences
    if regime == "unpaired":
        assert chosen.labelled is None
        return
    assert chosen.labelled.sequences == demo.labelled.sequences == ("demo/0walk_forward",)
    assert chosen.labelled.cameras is chosen.unlabelled.cameras is None


def test_every_row_fits_the_embedded_motions(demo_store):
    """Its roles are apart, and its loaders have the windows that a step takes."""
    fitted = set()
    for row in rows(demo_store):
        if row.recipe is None:
            continue
        check_roles(demo_store, row.recipe.roles)
        frames = row.recipe.task.lifter.frames
        for part, batch in (("labelled", row.recipe.labelled_batch), ("unlabelled", row.recipe.unlabelled_batch)):
            role = vars(row.recipe.roles)[part]
            if role is not None and batch and (case := (role, batch, frames)) not in fitted:
                fitted.add(case)
                config = LoaderConfig(batch_size=batch, streams=8, seed=0, window_frames=frames)
                columns = {"keypoints": ("kp2d_px",)}
                next(iter(ClipLoader(demo_store, columns, role, config)))
    assert len(fitted) > 3


@pytest.mark.parametrize(
    ("action", "walks"),
    [("Walking", True), ("walk_forward", True), ("Slow walk", True), ("WalkDog", False), ("Running", False)],
)
def test_a_walk_is_known_by_the_datas_own_name_but_a_dog_is_not_walked(action, walks):
    takes = [Take(name=f"01/{n}", subject="01", action=a, frames=10) for n, a in (("x", "Sitting"), ("z", action))]
    who = Cast(
        apart="subjects", labelled=("01",), unlabelled=("02",), memory=("03",), test=("04",), cameras=("a", "b"),
        validation=Selection(sequences=("01/v",)), takes=tuple(takes),
    )  # fmt: skip
    labelled = roles(who, "shifted").labelled.sequences
    assert labelled == ("01/z" if walks else "01/x",), "without a walk, a fifth of the frames"


def test_every_row_is_a_run_of_its_own_or_the_same_one_in_another_group(developing):
    found = rows(developing)
    by_key = {}
    for row in found:
        assert by_key.setdefault(row.key, row.recipe) == row.recipe
        assert (row.recipe is None) == (row.key in UNTRAINED)
        if row.recipe is not None:
            assert row.recipe.name == row.key
            check_roles(developing, row.recipe.roles)
    assert {r.key for r in found if r.group == "methods"} == {*UNTRAINED, *METHODS}
    assert {r.group for r in found} == {"methods", "ablation", "labels", "weight", "regimes"}
    shifted = [r.recipe for r in found if r.group in ("methods", "ablation", "weight") and r.recipe]
    assert {r.roles.regime for r in shifted} == {"shifted"}
    recipes = [str(r) for r in by_key.values() if r is not None]
    assert len(set(recipes)) == len(recipes)


def test_baselines_see_no_critic_and_only_ours_imagines(developing):
    chosen = {r.key: r.recipe for r in rows(developing) if r.group == "methods" and r.recipe}
    for key in ("forward", "interpreter"):
        on = {name for name, weight in chosen[key].task.weights.items() if weight > 0}
        assert on == {"supervised", "reprojection"} - ({"reprojection"} if key == "forward" else set())
    assert [key for key, recipe in chosen.items() if recipe.imagined_batch] == ["aign-ours"]
    assert chosen["aign-heatmaps"].task.lifter.input == "heatmaps"


def test_the_protocol_is_the_slides_where_its_subjects_are_tested(human36m, developing):
    assert {r.recipe.protocol for r in rows(human36m) if r.recipe} == {"aign-iccv17-15"}
    assert {r.recipe.protocol for r in rows(developing) if r.recipe} == {"open-motion/heldout/j17/root0"}
