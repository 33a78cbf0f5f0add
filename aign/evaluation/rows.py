"""Where each pose comes from, and which poses a protocol counts."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from aign.evaluation.protocol import Protocol
from aign.framework.errors import UserError

HUMAN36M_HZ = 50


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Where each pose comes from; all arrays have one entry per pose.

    Args:
        sequence: "S9/Walking 1" or the bare file stem.
        subject: "S9".
        action: any spelling that `canonical_action` knows, or the open data's own name.
        camera: camera name.
        frame: index in the sequence, from 0, at the sequence's own rate.
        fps: that rate; None for 50.
        trial: sub-action number 1 or 2, or 0 where it is not known; needed only by protocols that select on it.
    """

    sequence: Shaped[np.ndarray, " n"]
    subject: Shaped[np.ndarray, " n"]
    action: Shaped[np.ndarray, " n"]
    camera: Shaped[np.ndarray, " n"]
    frame: Int[np.ndarray, " n"]
    fps: Float[np.ndarray, " n"] | None = None
    trial: Int[np.ndarray, " n"] | None = None


def selected(rows: Rows, protocol: Protocol) -> Bool[np.ndarray, " n"]:
    """Which poses a protocol counts.

    Raises:
        UserError: it counts frames that the data cannot have at their rate, or trials and they are not known.
    """
    keep = np.ones(len(rows.frame), dtype=bool)
    for values, allowed in ((rows.subject, protocol.subjects), (rows.camera, protocol.cameras)):
        if allowed:
            keep &= np.isin(values, allowed)
    if protocol.excluded:
        stem = [q.removeprefix(f"{s}/") for s, q in zip(rows.subject.tolist(), rows.sequence.tolist(), strict=True)]
        sequence = np.array([f"{s}/{q}" for s, q in zip(rows.subject.tolist(), stem, strict=True)])
        view = np.array([f"{q}@{c}" for q, c in zip(sequence.tolist(), rows.camera.tolist(), strict=True)])
        keep &= ~(np.isin(sequence, protocol.excluded) | np.isin(view, protocol.excluded))
    if protocol.trials:
        keep &= _of_trials(rows, protocol, keep)
    return np.asarray(keep & (_numbers(rows, protocol, keep) % protocol.frame_stride == 0), dtype=bool)


def _of_trials(rows: Rows, protocol: Protocol, keep: Bool[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    if rows.trial is None:
        raise UserError(f"got rows without trial numbers; {protocol.id} allows only trials {protocol.trials}")
    unknown = np.unique(rows.sequence[keep & (rows.trial == 0)]).tolist()
    if unknown:
        raise UserError(
            f"got {len(unknown)} sequences whose trial is not known, the first is {unknown[0]!r}; {protocol.id} counts "
            f"trials {protocol.trials} of Human3.6M's sequences by their file names, for example 'S9/Waiting 1'"
        )
    return np.isin(rows.trial, protocol.trials)


def _numbers(rows: Rows, protocol: Protocol, keep: Bool[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Frame indices in which the protocol counts: at 50 Hz for Human3.6M's, else the data's own.

    A list of every 5th picture is a sequence at 10 Hz: its frame 3 is frame 15 of Human3.6M. The rate must be 50 Hz
    over a whole number that divides the protocol's stride, or frames that the protocol counts are not in the data.
    """
    if not protocol.human36m or rows.fps is None:
        return rows.frame
    step = np.ones(len(rows.frame), dtype=np.int64)
    for fps in np.unique(rows.fps[keep]).tolist():
        every = round(HUMAN36M_HZ / fps)
        if every < 1 or abs(HUMAN36M_HZ / fps - every) > 1e-3 * every or protocol.frame_stride % every:
            raise UserError(
                f"got frames at {fps:g} Hz; {protocol.id} counts {protocol.stride_in_words} at {HUMAN36M_HZ} Hz, so "
                f"{HUMAN36M_HZ} Hz is needed"
                + (f" (or {HUMAN36M_HZ} over a divisor of {protocol.frame_stride})" * (protocol.frame_stride > 1))
            )
        step[rows.fps == fps] = every
    return rows.frame * step
