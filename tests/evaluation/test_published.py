"""The slide's tables: transcription and the oddities that must not be averaged away."""

import numpy as np
import pytest

from aign.data.actions import ACTIONS_13
from aign.data.datasets.h36m import h36m_fetch, h36m_mmpose, h36m_npz, h36m_official, spin_npz
from aign.data.sources import SourceOptions, plan
from aign.data.store import ClipSpan, Manifest, PartRecord, Provenance, RowGroup, Selection, Stage
from aign.evaluation.protocol import SLIDE_PROTOCOLS, resolve
from aign.evaluation.published import CANDIDATES, DETECTED_2D, GROUND_TRUTH_2D, NIPS17_MESH, PublishedRow, keypoints_of
from tests.data.h36m_fixtures import motion_m, write_metadata, write_mmpose, write_poses, write_processed, write_spin
from tests.data.test_h36m_npz import SYMMETRY, save

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


def test_the_alignments_it_may_have_used_are_computed_by_its_protocols() -> None:
    assert all(set(CANDIDATES) <= set(resolve(name).alignments) for name in SLIDE_PROTOCOLS)


def part(provenance: Provenance, number: int = 0, sequence: str = "S9/Walking") -> PartRecord:
    span = ClipSpan(camera="54138969", frame_start=0, num_frames=1)
    group = RowGroup(sequence=sequence, subject="S9", action="Walking", source="s", fps=50.0, clips=(span,))
    return PartRecord(
        table="keypoints",
        part=number,
        path="p",
        bytes=0,
        sha256="0",
        provenance=provenance,
        row_groups=(group,),
        statistics={},
    )


EVERYTHING = Selection()


def told(*parts: PartRecord, selection: Selection = EVERYTHING) -> str | None:
    return keypoints_of(Manifest(skeleton="h36m17", num_joints=17, parts=parts), selection)


def made_by(*stages: Stage) -> Provenance:
    return Provenance(
        source_hashes=(), stages=stages, skeleton="h36m17", num_joints=17, licence="none", producer="a test"
    )


def named(name: str, **params: str) -> Stage:
    return Stage(name=name, version="1", params=params)


def test_every_loader_of_human36m_says_what_its_keypoints_are(tmp_path) -> None:
    world = motion_m(6, 3)
    write_metadata(tmp_path / "metadata.xml")
    write_poses(tmp_path / "official", "S9", "Walking", world)
    write_metadata(tmp_path / "official/metadata.xml")
    write_processed(tmp_path, "S9", "Walking-2", world, range(6))
    write_mmpose(tmp_path / "mmpose", {("S9", "Walking"): (world, range(6))})
    write_spin(tmp_path / "spin", {("S9", "Walking"): (world, range(6))}, part=True)
    jobs = {
        "official": h36m_official.plan(tmp_path / "official"),
        "fetch": h36m_fetch.plan(tmp_path),
        "mmpose": h36m_mmpose.plan(tmp_path / "mmpose"),
        "spin": spin_npz.plan(tmp_path / "spin"),
    }
    for name, (job,) in jobs.items():
        assert told(part(job.provenance("keypoints"))) == "ground-truth", name


def test_videopose3d_s_files_are_projected_or_somebody_s_detections(tmp_path) -> None:
    save(tmp_path / "data_3d_h36m.npz", positions_3d={"S9": {"Walking": motion_m(6).astype("float32")}})
    (job,) = h36m_npz.plan(tmp_path)
    assert told(part(job.provenance("keypoints"))) == "ground-truth"
    pixels = {"S9": {"Walking": [np.zeros((6, 17, 2), np.float32)] * 4}}
    for name in ("gt", "cpn_ft_h36m_dbb"):
        save(tmp_path / f"data_2d_h36m_{name}.npz", positions_2d=pixels, metadata=SYMMETRY)
    (job,) = h36m_npz.plan(tmp_path, "cpn_ft_h36m_dbb")
    assert told(part(job.provenance("keypoints"))) == "detected"


def test_open_data_and_videos_say_it_too() -> None:
    assert told(part(plan("demo-motions")[0].provenance("keypoints"))) == "ground-truth"
    assert told(part(made_by(named("decode"), named("people"), named("crop")))) == "detected"
    simulated = plan("demo-motions", options=SourceOptions(keypoints="detector"))[0]
    assert told(part(simulated.provenance("keypoints"))) == "detected"
    assert told(part(made_by(named("h36m-npz", keypoints="projection"), named("detector-errors")))) == "detected"


def test_what_is_not_told_is_not_guessed() -> None:
    projected, detected = (made_by(named("h36m-npz", keypoints=k)) for k in ("projection", "data_2d_h36m_cpn.npz"))
    assert told(part(made_by(named("somebody's own")))) is None
    assert told() is None
    both = (part(projected), part(detected, 1, "S9/Eating"))
    assert told(*both) is None
    assert told(*both, selection=Selection(sequences=("S9/Eating",))) == "detected"


def test_bodies_as_the_slide_prints_them_and_nothing_that_is_only_remembered() -> None:
    assert [row.per_joint_mm for row in NIPS17_MESH] == [562.4, 125.6, 98.4, None]
    assert [row.surface_mm for row in NIPS17_MESH] == [None, None, None, 74.5]
    assert [row.data for row in NIPS17_MESH] == ["Human3.6M"] * 3 + ["SURREAL"]
    assert all(row.source for row in NIPS17_MESH)
