import json
import math
from dataclasses import replace

import pytest

from aign.framework.errors import UserError
from aign.registry.gates import (
    Decision,
    Measured,
    decide,
    judged_by,
    own_score,
    own_tags,
    score_tags,
    scores_of,
)
from aign.registry.history import Move, former_champion, history_tag, read_history
from aign.registry.licences import check_policy, is_permissive, licence_refusal, policy_of
from tests.registry.samples import measured, score

UP = {"metric": "target_points", "higher_is_better": True, "subject": "bias sex=female, 64 px"}
CASES = [
    ("no champion", measured(80), None, True, "there was no champion"),
    ("lower", measured(79), measured(80), True, "79.00 is lower than the champion's 80.00 (-1.0"),
    ("equal", measured(80), measured(80), False, "80.00 is not lower than the champion's 80.00"),
    ("higher", measured(90), measured(80), False, "90.00 is not lower than the champion's 80.00"),
    ("luck", measured(79, spread=20), measured(80), False, "that may be luck ("),
    ("few", measured(70, units=4), measured(80, units=4), False, "of 4 test units; 5 units are needed to tell"),
    ("points up", measured(30, **UP), measured(20, **UP), True, "30.00 is higher than the champion's 20.00 (+10."),
    ("points down", measured(20, **UP), measured(30, **UP), False, "20.00 is not higher than the champion's 30.00"),
    ("negative points", measured(-2, **UP), measured(-5, **UP), True, "-2.00 is higher than the champion's -5.00"),
    (
        "another bias",
        measured(90, **{**UP, "subject": "bias none, 64 px"}),
        measured(20, **UP),
        False,
        "is for bias sex=female, 64 px, the candidate for bias none, 64 px: register it by another name",
    ),
    ("other store", measured(1, store_hash="t"), measured(80), False, "first evaluate the champion on the same store"),
    ("other protocol", measured(1, protocol_hash="p2"), measured(80), False, "first evaluate the champion on the same"),
    (
        "other metric",
        measured(1, metric="pa_mpjpe_mm"),
        measured(80),
        False,
        "with metric mpjpe_mm, the candidate with pa_",
    ),
    ("other clips", measured(1, units=11), measured(80), False, "with test clips "),
    ("nan candidate", measured(math.nan), measured(80), False, "is nan, which is no measured number"),
    ("nan, no champion", measured(math.nan), None, False, "is nan, which is no measured number"),
    ("infinite", measured(math.inf), None, False, "is inf, which is no"),
    ("negative error", measured(-1), None, False, "is -1.0, which is no measured number"),
    ("nan champion", measured(80), measured(math.nan), False, "evaluate the champion again first"),
    ("perfect", measured(0), measured(80), True, "0.00 is lower"),
    (
        "without units",
        replace(measured(79), units={}),
        measured(80),
        False,
        "the candidate has no errors by test sequence, so that may be luck: evaluate it again",
    ),
    ("champion without", measured(79), replace(measured(80), units={}), False, "the champion has no errors by test"),
]


@pytest.mark.parametrize(
    ("candidate", "champion", "promote", "reason"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_table(candidate, champion, promote, reason):
    decision = decide(candidate, champion)
    assert reason in decision.reason
    assert decision.promote is promote
    assert "\n" not in decision.reason


def test_two_names_of_one_protocol_are_one_protocol():
    assert decide(measured(79, protocol="alias"), measured(80)).promote  # the hash leaves the id out


def test_measured_and_back():
    found = measured(80.123456789, **UP)
    assert Measured.from_json(found.to_json()) == found


@pytest.mark.parametrize("changes", [{}, UP])
def test_tags_hold_the_score_exactly(changes):
    one = score(80.123456789, **changes)
    tags = own_tags(one)
    assert own_score(tags) == one
    assert scores_of(tags) == {one.key: one}
    assert all(value and set(key) <= set("abcdefghijklmnopqrstuvwxyz0123456789_/") for key, value in tags.items())


def test_versions_compare_by_a_score_they_share():
    old, new = score(60), score(75, store_hash="n" * 64)
    ours, theirs = score(70, store_hash="n" * 64), own_tags(old)
    assert judged_by(own_tags(ours), theirs) == (ours, old), "none shared: for the reason to say so"
    assert judged_by(own_tags(ours), theirs | score_tags(new)) == (ours, new)
    # The candidate measured on the old store shares that one, though it was registered with the new.
    again = score(61)
    assert judged_by(own_tags(ours) | score_tags(again), theirs) == (again, old)
    assert judged_by(own_tags(ours), None) == (ours, None)


@pytest.mark.parametrize(
    ("candidate", "champion", "who"),
    [({}, own_tags(score(1)), "candidate"), (own_tags(score(1)), {"x": "y"}, "champion"), ({}, None, "candidate")],
)
def test_a_version_without_a_score_is_never_silently_better(candidate, champion, who):
    decision = judged_by(candidate, champion)
    assert isinstance(decision, Decision)
    assert not decision.promote
    assert f"the {who} has no recorded score" in decision.reason


def test_unreadable_own_score_is_none():
    assert own_score({**own_tags(score(80)), "value": "eighty"}) is None
    assert own_score({**own_tags(score(80)), "higher_is_better": "perhaps"}) is None


@pytest.mark.parametrize(
    "licence",
    [
        "MIT", "zlib (pybullet_data)", "Apache-2.0", "CC0-1.0 (panoramas by Poly Haven)",
        "BSD-3-Clause, (c) perfanalytics",
        "CC0-1.0 (body, photographs); motions: zlib (pybullet_data)", "CC-BY-4.0",
    ],
)  # fmt: skip
def test_permissive(licence):
    assert is_permissive(licence)
    assert licence_refusal("permissive", ["MIT", licence]) is None


@pytest.mark.parametrize(
    "licence",
    [
        "", "  ", "unknown", "as the file", "licence of the video's owner", "AMASS licence (research only)",
        "MIT (research only)",
        "CC-BY-NC-4.0", "CC-BY-SA-4.0", "GPL-3.0", "CC0-1.0 (body, photographs); motions: as the file",
        "human3.6m licence (research only, see vision.imar.ro/human3.6m)", "MIT, non-commercial",
        "Apache-2.0; CC-BY-NC-3.0",
    ],
)  # fmt: skip
def test_not_permissive(licence):
    assert not is_permissive(licence)
    assert policy_of(["MIT", licence]) == "any"
    assert f"it was trained on {licence!r}" in str(licence_refusal("permissive", ["MIT", licence]))
    assert licence_refusal("any", [licence]) is None


def test_data_without_a_licence_is_not_permissive():
    assert policy_of([]) == "any"
    assert "without a licence" in str(licence_refusal("permissive", []))


def test_a_policy_names_every_culprit_in_one_line():
    origins = {"store s3://a": ("MIT", "AMASS licence (research only)"), "body b": ("CC0-1.0",), "model m": ()}
    check_policy("any", origins)
    check_policy("permissive", {"body b": ("CC0-1.0",)})
    with pytest.raises(UserError) as told:
        check_policy("permissive", origins)
    said = str(told.value)
    assert "refuses store s3://a (AMASS licence (research only)); model m (none is known); allowed" in said
    assert "body b" not in said
    assert "\n" not in said


def _moves(text: str) -> list[Move]:
    """ "1 3 <1": promoted 1, promoted 3, rolled back to 1."""
    return [Move(alias="champion", version=int(w.strip("<")), back=w.startswith("<"), reason="") for w in text.split()]


@pytest.mark.parametrize(
    ("history", "now", "there", "expected"),
    [
        ("", None, {1}, None),
        ("1", 1, {1}, None),
        ("1 2", 2, {1, 2}, 1),
        ("1 2 3", 3, {1, 2, 3}, 2),
        ("1 2 3 <2", 2, {1, 2, 3}, 1),
        ("1 2 3 <2 <1", 1, {1, 2, 3}, None),
        ("1 2 <1 3", 3, {1, 2, 3}, 1),  # 2 was taken back: not again
        ("1 2 1", 1, {1, 2}, 2),  # promoted again
        ("1 2 1 <2", 2, {1, 2}, 1),
        ("1 2 3", 3, {1, 3}, 1),  # 2 deleted since
        ("1 2", 7, {1, 2, 7}, 2),  # alias moved by hand: the last recorded one
        ("1 2", None, {1, 2}, 2),  # alias removed by hand
        ("1 2", 1, {1, 2}, None),  # a move that was killed before it took place would be 2; 1 had none before
    ],
)
def test_former_champion(history, now, there, expected):
    challenged = Move(alias="challenger", version=9, back=False, reason="")
    assert former_champion([challenged, *_moves(history), challenged], now, there) == expected


def test_history_is_appended_and_read_in_order():
    tags: dict[str, str] = {"other": "tag"}
    for n in range(1, 12):
        step = Move(alias="champion", version=n, back=n == 3, reason="r")
        key, text = history_tag(step, read_history(tags))
        assert key not in tags
        assert history_tag(step, read_history(tags))[0] != key, "two processes write two tags"
        tags[key] = text
    assert [m.version for m in read_history(tags)] == list(range(1, 12))
    third = read_history(tags)[2]
    assert (third.back, third.user != "", third.host != "") == (True, True, True)
    assert third.at == json.loads(sorted(tags.items())[2][1])["at"]
