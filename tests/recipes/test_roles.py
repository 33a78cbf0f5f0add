"""Who may see what: roles share no motion, and labels of the unlabelled are never read."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from aign.data.loader import ClipLoader
from aign.data.store import Manifest, Selection, Store, commit, write_part
from aign.framework.errors import UserError
from aign.recipes.lifting import Roles, check_roles, lifting_demo, lifting_h36m, load_memory, prepare
from aign.training import LocalHooks
from tests.data.store_samples import memory_pose, provenance
from tests.training.runs import small, train

ROLES = [f.name for f in dataclasses.fields(Roles) if f.name not in ("regime", "apart")]


def selections(roles):
    return {name: vars(roles)[name] for name in ROLES}


def sequences(selection):
    return set(selection.sequences)


def test_the_demos_roles_share_nothing_and_use_every_clip(demo_store):
    found = check_roles(demo_store, lifting_demo().roles)
    for a, b in itertools.combinations(ROLES, 2):
        assert not found[a] & found[b], f"{a} and {b}"
    assert set().union(*found.values()) == demo_store.sequences(("keypoints",))
    for name, role in selections(lifting_demo().roles).items():
        assert found[name] == sequences(role), "every named clip is there"


def test_human36ms_roles_share_no_subject():
    subjects = [set(role.subjects) for role in selections(lifting_h36m().roles).values()]
    assert sum(map(len, subjects)) == len(set().union(*subjects))
    assert set(lifting_h36m().roles.test.subjects) == {"S9", "S11"}


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(ROLES, 2)))
def test_roles_that_share_a_sequence_are_refused_by_name(demo_store, one, other):
    roles = lifting_demo().roles
    shared = vars(roles)[other].sequences[0]
    both = Selection(sequences=(*vars(roles)[one].sequences, shared))
    with pytest.raises(UserError, match="share 1 sequences") as refused:
        check_roles(demo_store, dataclasses.replace(roles, **{one: both}))
    assert shared in str(refused.value)
    assert one in str(refused.value)
    assert other in str(refused.value)


def test_subjects_must_be_apart_unless_a_recipe_says_that_sequences_are_enough(demo_store):
    """The demo's clips are all of one subject."""
    roles = lifting_demo().roles
    with pytest.raises(UserError, match="memory and labelled share subjects demo"):
        check_roles(demo_store, dataclasses.replace(roles, apart="subjects"))


def test_a_training_with_shared_roles_does_not_start(demo_store, tmp_path):
    roles = dataclasses.replace(small().roles, memory=small().roles.test)
    with pytest.raises(UserError, match="memory and test share 5 sequences"):
        prepare(dataclasses.replace(small(), roles=roles), demo_store, LocalHooks(tmp_path))


def test_a_role_of_nobody_is_refused(demo_store):
    nobody = Selection(sequences=("demo/nobody",))
    with pytest.raises(UserError, match="demo/nobody"):
        check_roles(demo_store, dataclasses.replace(lifting_demo().roles, unlabelled=nobody))


def test_a_part_that_is_not_played_needs_no_clips(demo_store, tmp_path):
    roles = dataclasses.replace(small().roles, unlabelled=None)
    assert "unlabelled" not in check_roles(demo_store, roles)
    train(dataclasses.replace(small(steps=2), roles=roles), demo_store, LocalHooks(tmp_path))


def test_labels_of_the_unlabelled_are_never_read(demo_store, tmp_path, monkeypatch):
    seen = []
    real = Store.read_row_group

    def spy(self, found, columns):
        seen.append((found.group.sequence, frozenset(columns)))
        return real(self, found, columns)

    monkeypatch.setattr(Store, "read_row_group", spy)
    recipe = small(steps=60)  # more than an epoch of some of the clips
    train(recipe, demo_store, LocalHooks(tmp_path))
    read = {name: {s for s, tables in seen if name in tables} for name in ("labels", "keypoints", "memory_pose")}
    roles = recipe.roles
    assert sequences(roles.unlabelled) <= read["keypoints"], "the spy sees what is read"
    assert read["labels"] == sequences(roles.labelled) | sequences(roles.validation)
    assert read["memory_pose"] == sequences(roles.memory)
    assert not sequences(roles.test) & set().union(*read.values())


def without(store: Store, tables: tuple[str, ...], names: set[str]) -> Store:
    """The store as if it had never had these tables of these sequences."""
    parts = tuple(
        p for p in store.manifest.parts if not (p.table in tables and {g.sequence for g in p.row_groups} & names)
    )
    return Store(store.url, dataclasses.replace(store.manifest, parts=parts))


def test_the_unlabelled_need_no_labels_table(demo_store, tmp_path):
    recipe = small(steps=4)
    poor = without(demo_store, ("labels", "memory_pose"), sequences(recipe.roles.unlabelled))
    assert len(poor.manifest.parts) == len(demo_store.manifest.parts) - 2 * len(recipe.roles.unlabelled.sequences)
    train(recipe, poor, LocalHooks(tmp_path))
    labelled = without(demo_store, ("labels",), sequences(recipe.roles.labelled))
    with pytest.raises(UserError, match="selects no clip"):
        train(recipe, labelled, LocalHooks(tmp_path / "other"))


def test_unlabelled_samples_come_without_labels_and_labelled_with(demo_store, tmp_path):
    recipe = small()
    training = prepare(recipe, demo_store, LocalHooks(tmp_path))
    for _ in range(3):
        batch = training.feed.next()
        assert batch.conf.shape == (40, 1, 17)
        assert (batch.joints_weight[:16] == 1).all()
        assert (batch.joints_m[:16].norm(dim=-1).amax(1) > 0.3).all()
        assert (batch.joints_weight[16:] == 0).all()
        assert (batch.joints_m[16:] == 0).all()
        assert (batch.target2d_weight[16:].sum(1) > 8).all()
    training.feed.close()


def test_the_feed_goes_on_where_it_was(demo_store, tmp_path):
    def feed():
        return prepare(small(), demo_store, LocalHooks(tmp_path)).feed

    one, other = feed(), feed()
    for _ in range(3):
        one.next()
    other.load_state_dict(one.state_dict())
    for _ in range(2):
        a, b = one.next(), other.next()
        for name, value in vars(a).items():
            assert torch.equal(value, vars(b)[name]), name
    assert one.state_dict() == other.state_dict()
    one.close()
    other.close()


def test_the_seed_decides_the_order_of_the_samples(demo_store, tmp_path):
    batches = []
    for seed in (0, 0, 1):
        feed = prepare(dataclasses.replace(small(), seed=seed), demo_store, LocalHooks(tmp_path)).feed
        batches.append(feed.next().target2d)
        feed.close()
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0][:16], batches[2][:16])
    assert not torch.equal(batches[0][16:], batches[2][16:])


def test_a_closed_feed_closes_every_loader(demo_store, tmp_path, monkeypatch):
    closed = []
    real = ClipLoader.close
    monkeypatch.setattr(ClipLoader, "close", lambda self: closed.append(self) or real(self))
    prepare(small(), demo_store, LocalHooks(tmp_path)).feed.close()
    assert len(closed) == 2


def test_the_memory_is_the_selected_motions_as_factors(demo_store):
    role = lifting_demo().roles.memory
    memory = load_memory(demo_store, role)
    frames = sum(k.num_frames for k in demo_store.read({"memory_pose": ("joints_world_m",)}, role).keys)
    assert memory.canonical_m.shape == (2 * frames, 17, 3)
    assert memory.camera_6d.shape == (2 * frames * 4, 6)
    thorax = memory.canonical_m[:, 8]
    assert (thorax[:, 1] > 0.3).all(), "up is y"
    assert thorax[:, [0, 2]].abs().max() < 1e-5


def test_memory_of_rigs_of_several_sizes_is_refused(tmp_path):
    rng, url = np.random.default_rng(0), str(tmp_path / "store")
    clips = [memory_pose(rng, "S1/Walking 1", 5, rigs=4), memory_pose(rng, "S1/Walking 2", 5, rigs=3)]
    made = dataclasses.replace(provenance(), skeleton="h36m17")
    commit(url, Manifest(skeleton="h36m17", num_joints=17).updated(write_part(url, 0, {"memory_pose": clips}, made)))
    with pytest.raises(UserError, match="rigs of 3 to 4 cameras"):
        load_memory(Store.open(url), Selection())


def test_memory_without_all_joints_is_refused(tmp_path):
    rng, url = np.random.default_rng(0), str(tmp_path / "store")
    clips = [memory_pose(rng, "S1/Walking 1", 5)]
    made = dataclasses.replace(provenance(), skeleton="coco17")
    commit(url, Manifest(skeleton="coco17", num_joints=17).updated(write_part(url, 0, {"memory_pose": clips}, made)))
    with pytest.raises(UserError, match="needs all 17 joints; coco17 gives"):
        load_memory(Store.open(url), Selection())
