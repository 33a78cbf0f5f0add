"""The slide's tables: transcription and the oddities that must not be averaged away."""

import numpy as np
import pytest

from aign.data.actions import ACTIONS_13
from aign.evaluation.published import DETECTED_2D, GROUND_TRUTH_2D, PublishedRow

ROWS = {
    **{("gt", row.method): row for row in GROUND_TRUTH_2D.rows},
    **{("det", row.method): row for row in DETECTED_2D.rows},
}
# mean of the 13 printed columns, printed average, mean of the two missing columns if the average is over 15
EXPECTED = {
    ("gt", "Forward2Dto3D"): (131.57, 128.9, 111.5),
    ("gt", "3Dinterpr [33]"): (90.17, 88.6, 78.4),
    ("gt", "Monocap [39]"): (93.71, 92.3, 83.1),
    ("gt", "AIGN"): (79.61, 79.0, 75.0),
    ("det", "Forward2Dto3D"): (106.48, 104.6, 92.3),
    ("det", "3Dinterpr [33]"): (99.75, 98.4, 89.6),
    ("det", "AIGN"): (98.52, 97.2, 88.6),
}


@pytest.mark.parametrize("key", list(EXPECTED))
def test_the_printed_average_is_not_the_mean_of_the_printed_columns(key: tuple[str, str]) -> None:
    row = ROWS[key]
    mean, printed, implied = EXPECTED[key]
    assert len(row.columns) == 13
    assert np.mean(row.columns) == pytest.approx(mean, abs=0.006)
    assert row.average == printed
    assert row.average < np.mean(row.columns) - 0.5
    assert (15 * row.average - sum(row.columns)) / 2 == pytest.approx(implied, abs=0.06)


def test_every_row_is_there_once() -> None:
    assert set(ROWS) == set(EXPECTED)
    assert len(GROUND_TRUTH_2D.rows) + len(DETECTED_2D.rows) == 7


def test_cells_spot_checked_against_the_slide() -> None:
    assert ROWS["gt", "AIGN"].per_action["SittingDown"] == 112.5
    assert ROWS["gt", "Forward2Dto3D"].per_action["Purchases"] == 176.9
    assert ROWS["det", "AIGN"].per_action["Walking"] == 78.6
    assert tuple(ROWS["det", "AIGN"].per_action) == ACTIONS_13


def test_damaged_cells_are_marked() -> None:
    def damaged(row: PublishedRow) -> bool:
        return bool(row.damaged)

    assert {key for key, row in ROWS.items() if damaged(row)} == {("gt", "3Dinterpr [33]"), ("det", "Forward2Dto3D")}
    assert all(set(row.damaged) <= set(ACTIONS_13) and row.note for row in ROWS.values() if damaged(row))
