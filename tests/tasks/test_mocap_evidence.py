"""What of a clip bodies are fitted to: no label, nothing trained on and held out, and nothing that is not there."""

import dataclasses

import pytest
import torch

from aign.framework.errors import UserError
from aign.geometry.skeleton import SMPL24
from aign.tasks.motion_capture.adaptation import HIDDEN, Windows, evidence_of, guessed, hold_out
from aign.tasks.motion_capture.clips import observed
from aign.tasks.motion_capture.feed import BODY_COLUMNS

from .captured import BODY, FLOW, MASK, blind, changed, clips_of, cut, without

WEIGHTS = {"keypoints": 10.0, "segmentation": 2.0, "motion": 2.0, "smooth": 1.0, "motion_everywhere": 0.0}


@pytest.fixture(scope="module")
def clip(people_store):
    return clips_of(people_store)[0]


def windows(*starts, length=3):
    first = torch.tensor(starts)
    return Windows(starts=first, length=length, seed=7919 * torch.arange(len(starts)))


@pytest.mark.parametrize(("frames", "length"), [(6, 3), (7, 3), (9, 3), (24, 3), (100, 3), (31, 5), (64, 16), (5, 2)])
def test_no_frame_is_both_trained_on_and_held_out(frames, length):
    train, held = (
        {frame for start in starts.tolist() for frame in range(start, start + length)}
        for starts in hold_out(frames, length)
    )
    assert train
    assert held
    assert not train & held
    assert train | held <= set(range(frames))
    # Between two held-out blocks every window is used.
    assert len(train) + len(held) > frames - length
    assert len(held) <= max(frames // 3, length)


def test_the_third_of_five_blocks_is_held_out():
    train, held = hold_out(24, 3)
    assert held.tolist() == [6, 21]
    assert train.tolist() == [0, 1, 2, 3, *range(9, 19)]


@pytest.mark.parametrize(("frames", "length"), [(5, 3), (1, 2), (31, 16)])
def test_a_clip_that_is_too_short_is_refused(frames, length):
    with pytest.raises(UserError, match=f"clip of {frames} frames; .* at least {2 * length}"):
        hold_out(frames, length)


def test_windows_are_the_clips_own_frames(clip):
    got = evidence_of(clip, SMPL24, WEIGHTS).observe(windows(0, 3, 5), 32, BODY)
    want = observed(clip, 3, SMPL24, 32, BODY)
    rows = [1, 4, 6]  # the frames in the middle of the windows
    for name in ("image", "kp2d", "conf", "target_px", "target_conf", "intrinsics_px", "crop_xyxy_px"):
        assert torch.equal(getattr(got, name), getattr(want, name)[rows]), name
    for name, value in vars(got.evidence).items():
        assert torch.equal(value, vars(want.evidence)[name][rows]), name
    assert got.evidence.mask.any()
    assert got.evidence.flow_ok.any()


def test_labels_are_left_behind(clip):
    evidence = evidence_of(clip, SMPL24, WEIGHTS)
    assert set(BODY_COLUMNS["body"]) <= clip.columns.keys()
    assert not set(BODY_COLUMNS["body"]) & evidence.clip.columns.keys()
    assert not evidence.observe(windows(0), 32, BODY).labels.weight.any()
    assert (evidence.weights, evidence.notes, evidence.frames) == (WEIGHTS, (), 8)


@pytest.mark.parametrize(
    ("gone", "what", "term"),
    [(MASK, "masks", "segmentation"), *((gone, "flow", "motion") for gone in (FLOW, FLOW[:1], FLOW[1:]))],
)  # fmt: skip
def test_a_term_without_its_evidence_is_left_out_and_noted(clip, gone, what, term):
    evidence = evidence_of(without(clip, *gone), SMPL24, WEIGHTS)
    assert {n: w for n, w in evidence.weights.items() if w} == {n: w for n, w in WEIGHTS.items() if w and n != term}
    (note,) = evidence.notes
    assert note == f"{clip.key.sequence}, camera {clip.key.camera} has no {what}: {term} left out"
    seen, whole = (e.observe(windows(0, 4), 32, BODY).evidence for e in (evidence, evidence_of(clip, SMPL24, WEIGHTS)))
    if what == "masks":
        assert not seen.mask.any()
        assert torch.equal(seen.flow_px, whole.flow_px)
    else:
        assert not seen.flow_ok.any()
        assert torch.equal(seen.mask, whole.mask)


def test_keypoints_alone(clip):
    evidence = evidence_of(without(clip, *MASK, *FLOW), SMPL24, WEIGHTS)
    assert len(evidence.notes) == 2
    assert evidence.observe(windows(0), 32, BODY).evidence is None


def test_one_frame_moves_nowhere(clip):
    evidence = evidence_of(cut(clip, 1), SMPL24, WEIGHTS)
    assert "motion" not in evidence.weights
    assert "no flow" in evidence.notes[0]


def test_weights_that_nothing_answers_are_refused(clip):
    with pytest.raises(UserError, match="got weights for segmentation, smooth; allowed"):
        evidence_of(without(clip, *MASK), SMPL24, {"segmentation": 1.0, "smooth": 1.0, "keypoints": 0.0})


def test_a_clip_without_anybody_is_refused(clip):
    with pytest.raises(UserError, match="no keypoint with confidence"):
        evidence_of(blind(clip, *range(8)), SMPL24, WEIGHTS)


def test_what_is_not_a_number_is_refused_unless_it_has_no_confidence(clip):
    px, conf = clip.columns["kp2d_px"].clone(), clip.columns["kp2d_conf"].clone()
    foot = SMPL24.index("l_foot")[0]
    px[2, 0, foot, 0] = torch.nan
    with pytest.raises(UserError, match="got 1 keypoints that are not finite"):
        evidence_of(changed(clip, kp2d_px=px), SMPL24, WEIGHTS)
    conf[3, 0, foot] = torch.inf
    with pytest.raises(UserError, match="got 2 keypoints that are not finite"):
        evidence_of(changed(clip, kp2d_px=px, kp2d_conf=conf), SMPL24, WEIGHTS)
    conf[2:4, 0, foot] = 0
    seen = evidence_of(changed(clip, kp2d_px=px, kp2d_conf=conf), SMPL24, WEIGHTS).observe(windows(1), 32, BODY)
    assert seen.target_px.isfinite().all()
    assert seen.kp2d.isfinite().all()


def test_only_hidden_keypoints_are_to_be_guessed(clip):
    evidence = evidence_of(blind(clip, 2), SMPL24, WEIGHTS)
    shown = evidence.observe(windows(*[0] * 20, *[5] * 20), 32, BODY)
    seen = evidence.observe(windows(*[0] * 20, *[5] * 20), 32, BODY, HIDDEN)
    asked = guessed(seen)
    hidden = (shown.conf > 0) & (seen.conf == 0)
    assert float(hidden.double().sum() / (shown.conf > 0).sum()) == pytest.approx(HIDDEN.drop, abs=0.04)
    assert torch.equal(asked.target_conf > 0, hidden), "each of those that are hidden, and not what was never found"
    assert not asked.kp2d[asked.target_conf > 0].any(), "the encoder gets nothing of them"
    for name in {f.name for f in dataclasses.fields(asked)} - {"target_conf"}:
        assert getattr(asked, name) is getattr(seen, name), name
