"""The judge of faces: it learns what is in the pictures, says how well, and is the same each time."""

import dataclasses
import json

import numpy as np
import pytest

from aign.evaluation.faces_judge import attribute_facts, identity_facts, nearest_identity, parts_facts
from aign.evaluation.faces_judge_files import CARD, WEIGHTS, kept_judge, load_judge, save_judge
from aign.evaluation.faces_judge_fit import JudgeConfig, enlarged, heads_of, split, train_judge
from aign.framework.errors import UserError
from tests.evaluation.faces_samples import colour_judge, drawn, part

QUICK = JudgeConfig(steps=100, batch=16, rate=2e-3, shift_px=1)
FACES = drawn(96)


@pytest.fixture(scope="module")
def trained():
    return train_judge(FACES, QUICK)


def test_it_learns_sex_age_and_lips_of_people_it_never_saw(trained):
    assert trained.facts["Male_accuracy"] > 0.9
    assert trained.facts["age_r"] > 0.7
    assert trained.facts["lips_iou"] > 0.4
    assert trained.facts["pictures"] == 24
    assert trained.facts["Male_accuracy_of_bicubic"] > 0.9, "colours survive the blur"
    judge = trained.judge("drawn faces")
    assert "drawn faces" in judge.name
    read = judge.read(drawn(8, side=128, seed=5).images)
    assert read.values.shape == (8, 3)
    assert np.abs(read.values[:, 0]).max() <= 1
    assert read.parts is not None
    assert set(nearest_identity(judge, read)) <= set(judge.identities)
    np.testing.assert_allclose(np.linalg.norm(judge.gallery, axis=1), 1, atol=1e-5)
    sharp = FACES.images[FACES.partition == "train"]
    spread = judge.read(np.concatenate((sharp, enlarged(sharp)))).features.std(0)
    assert spread.max() < 1.01, "features vary by 1, so FID and KID are of the same size for every judge"
    assert np.median(spread) > 0.5


def test_it_is_kept_by_the_hash_of_the_store(tmp_path, trained):
    calls = []

    def faces():
        calls.append(1)
        return part(FACES, slice(0, 40))

    quick = dataclasses.replace(QUICK, steps=3)
    one = kept_judge("ab" * 32, faces, quick, tmp_path)
    again = kept_judge("ab" * 32, faces, quick, tmp_path)
    assert len(calls) == 1, "the second time it is there"
    assert one.facts == again.facts
    other = kept_judge("cd" * 32, faces, quick, tmp_path)
    assert len(calls) == 2
    images = FACES.images[:4]
    mine, theirs = (j.judge("x").read(images) for j in (one, other))
    np.testing.assert_array_equal(mine.values, theirs.values)
    np.testing.assert_array_equal(mine.features, theirs.features)


def test_files_say_what_they_are(tmp_path, trained):
    save_judge(tmp_path, trained)
    loaded = load_judge(tmp_path)
    assert loaded.heads == trained.heads
    images = FACES.images[:3]
    np.testing.assert_array_equal(loaded.judge("x").read(images).values, trained.judge("x").read(images).values)


@pytest.mark.parametrize(
    "spoil",
    [
        {"format": 1},
        {"parts": "yes"},
        {"facts": {"x": "high"}},
        {"heads": {"names": ["a"], "is_sign": [True], "mean": [0.0], "scale": [float("inf")], "identities": []}},
        {"heads": {"names": [], "is_sign": [], "mean": [], "scale": [], "identities": []}},
        {"heads": {"names": ["a"], "is_sign": [True], "mean": [], "scale": [1.0], "identities": []}},
        {"heads": {"names": ["a"], "is_sign": [True], "mean": [0.0], "scale": [1.0], "identities": []}},
        {"heads": 3},
    ],
)
def test_a_damaged_judge_is_refused(tmp_path, trained, spoil):
    save_judge(tmp_path, trained)
    card = json.loads((tmp_path / CARD).read_text())
    (tmp_path / CARD).write_text(json.dumps({**card, **spoil}))
    with pytest.raises(UserError, match="judge"):
        load_judge(tmp_path)


def test_damaged_weights_are_refused(tmp_path, trained):
    save_judge(tmp_path, trained)
    (tmp_path / WEIGHTS).write_bytes(b"no")
    with pytest.raises(UserError, match="does not hold"):
        load_judge(tmp_path)
    with pytest.raises(UserError, match="no judge"):
        load_judge(tmp_path / "nowhere")


def test_the_test_part_is_never_seen():
    faces = dataclasses.replace(FACES, partition=np.array(["train", "test", "val"] * 32))
    train, held = split(faces)
    assert (faces.partition[train] == "train").all()
    assert (faces.partition[held] == "val").all()


def test_without_a_validation_part_some_people_are_held_out():
    faces = dataclasses.replace(FACES, partition=np.array(["all"] * 96))
    train, held = split(faces)
    assert len(train) + len(held) == 96
    assert not set(faces.identity[train]) & set(faces.identity[held])
    with pytest.raises(UserError, match="needed are 16 and 2"):
        split(part(FACES, slice(0, 8)))


def test_what_cannot_be_learnt_has_no_head():
    attributes = FACES.attributes.copy()
    attributes[:, 1] = 33
    attributes[5:, 2] = np.nan
    faces = dataclasses.replace(FACES, attributes=attributes, identity=np.full(96, -1))
    heads = heads_of(faces, np.arange(96))
    assert heads.names == ("Male",)
    assert heads.is_sign == (True,)
    assert heads.identities == ()
    with pytest.raises(UserError, match="no attribute"):
        train_judge(dataclasses.replace(faces, attributes=np.full_like(attributes, np.nan)), QUICK)


def test_unknown_values_teach_nothing():
    attributes = FACES.attributes.copy()
    attributes[::2, 1] = np.nan
    quick = dataclasses.replace(QUICK, steps=2)
    faces = dataclasses.replace(FACES, attributes=attributes, parts=None)
    found = train_judge(faces, quick)
    assert all(np.isfinite(v) for v in found.facts.values())
    assert not found.net.shape.parts
    assert found.judge("x").read(FACES.images[:2]).parts is None


def test_facts_by_hand():
    read = np.array([[0.5, 1], [0.9, 2], [-0.1, 4], [0.2, 3]], np.float32)
    true = np.array([[1, 10], [1, 20], [1, np.nan], [-1, 30]], np.float32)
    facts = attribute_facts(("Male", "age"), (True, False), read, true)
    assert facts["Male_accuracy"] == pytest.approx((2 / 3 + 0) / 2), "balanced over both signs"
    assert facts["age_mae"] == pytest.approx((9 + 18 + 27) / 3)
    assert facts["age_r"] == pytest.approx(1)
    assert attribute_facts(("x",), (False,), read[:, :1], np.full((4, 1), np.nan, np.float32)) == {}


def test_people_told_apart_by_hand():
    e = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    facts = identity_facts(e, np.array([3, 3, 4, 4]))
    assert facts == {"identity_auc": 1, "identity_distance_same": 0, "identity_distance_other": 1}
    assert identity_facts(e, np.array([3, 4, 3, 4]))["identity_auc"] < 0.5
    assert identity_facts(e, np.array([-1, -1, -1, 4])) == {}
    assert identity_facts(None, np.array([1])) == {}


def test_parts_by_hand():
    true = np.zeros((1, 4, 4), np.uint8)
    true[0, :2, :2] = 1
    read = np.zeros_like(true)
    read[0, :2, :4] = 1
    assert parts_facts(read, true) == {"lips_iou": 0.5, "lips_area_ratio": 2.0}


def test_nobody_is_nearest_where_nobody_is_known():
    judge = colour_judge(gallery=None, identities=())
    assert nearest_identity(judge, judge.read(FACES.images[:3])).tolist() == [-1] * 3
