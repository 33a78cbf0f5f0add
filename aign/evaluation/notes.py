"""What must be said beside a table of errors: what was aligned, what was counted, what is known to be wrong."""

from collections.abc import Sequence

from aign.evaluation.pose import METRICS, Alignment
from aign.evaluation.published import PublishedTable
from aign.evaluation.report import Report

MEAN_ACTIONS, MEAN_FRAMES = "Avg/act", "Avg/frm"
MEAN_13, MEAN_15 = "Avg 13", "Avg 15"


def alignment_in_words(alignment: Alignment) -> str:
    """What the error of this name forgives."""
    return {
        "root": "roots put together, nothing else aligned",
        "similarity": "each pose turned, moved and scaled to fit; never mirrored",
        "scale": "roots put together, each pose scaled to fit",
        "rigid": "each pose turned and moved to fit, size kept; never mirrored",
        "limb329": "roots put together, hip-to-shoulder scaled to 329 mm",
    }[alignment]


def notes(reports: Sequence[Report], published: PublishedTable | None) -> tuple[str, ...]:
    """One line per fact."""
    return (
        f"{MEAN_ACTIONS} is the unweighted mean of the protocol's actions that have data, {MEAN_13} and {MEAN_15} that "
        f"of the slide's 13 actions and of all 15 where all are there, {MEAN_FRAMES} the mean over all frames of the "
        "protocol's actions.",
        *(_of_report(r) for r in reports),
        *_damaged(reports),
        *(_of_slide(published) if published else ()),
    )


def _of_report(r: Report) -> str:
    missing = [a for a in r.columns if a not in r.frames_per_action]
    gap = f"; no data for {', '.join(missing)}" if missing else ""
    skipped = f", {r.num_skipped} skipped" if r.num_skipped else ""
    first = next(iter(r.scores.values()))
    means = [f"{n}-action mean {v:.1f}" for n, v in ((13, first.mean_13), (15, first.mean_15)) if v is not None]
    extra = f", {', '.join(means)} ({METRICS[next(iter(r.scores))][0]})" if means else ""
    part = f"; only {r.num_views} of the {r.of_views} views that {r.protocol} counts" * (r.num_views < r.of_views)
    return f"{r.method}: {r.num_frames} poses{skipped}, flip rate {100 * r.flip_rate:.1f} %{extra}{gap}{part}."


def _damaged(reports: Sequence[Report]) -> tuple[str, ...]:
    """Said once for all rows, which are mostly of the same frames."""
    counted: dict[str, int] = {}
    for r in reports:
        for sequence, poses in r.damaged.items():
            counted[sequence] = max(poses, counted.get(sequence, 0))
    if not counted:
        return ()
    names = ", ".join(f"{sequence} ({poses} poses)" for sequence, poses in counted.items())
    return (
        f"Counted although their published 3D joints are known to be shifted: {names}. Protocols whose id ends in "
        "/no-damaged leave them out.",
    )


def _of_slide(published: PublishedTable) -> tuple[str, ...]:
    return (
        f"Published: {MEAN_13} is the mean of the 13 printed columns, taken here; {MEAN_15} is the average as printed, "
        "which is lower and fits a mean of 15 actions, two of which are not printed. The slides do not name the "
        "alignment; later papers file them under PA-MPJPE.",
        *(f"* {row.method}: {row.note} in the slide." for row in published.rows if row.note),
    )
