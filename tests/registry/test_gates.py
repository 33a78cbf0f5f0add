import math

import pytest

from aign.registry.gates import decide, decide_versions, own_score, own_tags, score_tags
from aign.registry.history import Move, former_champion, history_tag, read_history
from tests.registry.samples import SCORE, score

CASES = [
    ("no champion", score(80), None, True, "there was no champion"),
    ("lower", score(79.99), score(80), True, "79.99 is lower than the champion's 80.00"),
    ("equal", score(80), score(80), False, "80.00 is not lower than the champion's 80.00"),
    ("higher", score(90), score(80), False, "90.00 is not lower than the champion's 80.00"),
    ("other store", score(1, store_hash="t"), score(80), False, "first evaluate the champion on the same store and"),
    ("other protocol", score(1, protocol_hash="p2"), score(80), False, "first evaluate the champion on the same store"),
    (
        "other metric",
        score(1, metric="pa_mpjpe_mm"),
        score(80),
        False,
        "with metric mpjpe_mm, the candidate with pa_",
    ),
    ("nan candidate", score(math.nan), score(80), False, "is nan, which is no measured error"),
    ("nan, no champion", score(math.nan), None, False, "is nan, which is no measured error"),
    ("infinite", score(math.inf), None, False, "is inf, which is no"),
    ("negative", score(-1), score(80), False, "is -1.0, which is no measured error"),
    ("nan champion", score(80), score(math.nan), False, "evaluate the champion again first"),
    ("perfect", score(0), score(80), True, "0.00 is lower"),
]


@pytest.mark.parametrize(
    ("candidate", "champion", "promote", "reason"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_table(candidate, champion, promote, reason):
    decision = decide(candidate, champion)
    assert decision.promote is promote
    assert reason in decision.reason
    assert "\n" not in decision.reason


def test_two_names_of_one_protocol_are_one_protocol():
    assert decide(score(79, protocol="alias"), SCORE).promote  # the hash, which leaves the id out, is the same


def test_tags_hold_the_score_exactly():
    tags = own_tags(score(80.123456789))
    assert own_score(tags) == score(80.123456789)
    assert decide_versions(own_tags(score(80.123456788)), tags).promote


def test_versions_compare_by_a_score_they_share():
    new = {"store_hash": "n" * 64}
    candidate, champion = own_tags(score(70, **new)), own_tags(score(60))
    assert "first evaluate the champion" in decide_versions(candidate, champion).reason
    measured = champion | score_tags(score(75, **new))
    assert decide_versions(candidate, measured).promote
    better = champion | score_tags(score(65, **new))
    assert "70.00 is not lower than the champion's 65.00" in decide_versions(candidate, better).reason
    # The candidate measured on the old store shares that one, though it was registered with the new.
    assert not decide_versions(candidate | score_tags(score(61)), champion).promote
    assert decide_versions(candidate | score_tags(score(59)), champion).promote


@pytest.mark.parametrize(
    ("candidate", "champion", "who"), [({}, own_tags(SCORE), "candidate"), (own_tags(SCORE), {"x": "y"}, "champion")]
)
def test_a_version_without_a_score_is_never_silently_better(candidate, champion, who):
    decision = decide_versions(candidate, champion)
    assert not decision.promote
    assert f"the {who} has no recorded score" in decision.reason


def test_unreadable_own_score_is_none():
    assert own_score({**own_tags(SCORE), "value_mm": "eighty"}) is None


def _moves(text: str) -> list[Move]:
    """ "1 3 <1": promoted 1, promoted 3, rolled back to 1."""
    return [Move(version=int(w.strip("<")), back=w.startswith("<"), reason="") for w in text.split()]


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
    assert former_champion(_moves(history), now, there) == expected


def test_history_is_appended_and_read_in_order():
    tags: dict[str, str] = {"other": "tag"}
    for n in range(1, 12):
        key, text = history_tag(Move(version=n, back=n == 3, reason="r"), read_history(tags))
        assert key not in tags
        tags[key] = text
    assert [m.version for m in read_history(tags)] == list(range(1, 12))
    assert read_history(tags)[2] == Move(version=3, back=True, reason="r")
