"""Which trial a sequence of Human3.6M is, by the names that every loader gives (protocols 3.1, trap 8)."""

import pytest

from aign.data.actions import ACTIONS_15
from aign.data.datasets.h36m import h36m_fetch, h36m_mmpose, h36m_npz, h36m_official, spin_npz
from aign.data.datasets.h36m.h36m_takes import DAMAGED, SUBJECTS, sequences_of, trial_of
from aign.data.datasets.job import Job, Stored, tables_of
from tests.data.h36m_fixtures import motion_m, write_metadata, write_mmpose, write_poses, write_processed, write_spin
from tests.data.test_h36m_npz import save

WORLD = motion_m(6, 3)
STEMS = {
    ("S1", "Eating 2"): 1,
    ("S1", "Eating"): 2,
    ("S1", "TakingPhoto 1"): 1,
    ("S1", "WalkingDog"): 2,
    ("S9", "Sitting 1"): 1,
    ("S9", "SittingDown"): 1,
    ("S9", "SittingDown 1"): 2,
    ("S9", "Waiting 1"): 1,
    ("S11", "Phoning 3"): 1,
    ("S11", "Phoning 2"): 2,
}
"""Written down from metadata.xml's table by hand."""
LISTS = {key: (WORLD, range(0, 6, 5)) for key in STEMS}


def found(jobs: list[Job]) -> dict[str, int]:
    """Trial of each sequence id that the jobs write into a store."""
    made = [job.clips(tables_of(job), Stored(url="", records={})).tables for job in jobs]
    return {clip["sequence"]: trial_of(clip["sequence"]) for tables in made for clip in tables["labels"]}


def expected(**renamed: str) -> dict[str, int]:
    return {f"{subject}/{renamed.get(stem.split()[0], stem)}": trial for (subject, stem), trial in STEMS.items()}


def test_names_of_the_official_layout(tmp_path):
    for subject, stem in STEMS:
        write_poses(tmp_path, subject, stem, WORLD)
    write_metadata(tmp_path / "metadata.xml")
    assert found(h36m_official.plan(tmp_path)) == expected()


def test_names_of_h36m_fetch_whose_folders_have_trials_for_numbers(tmp_path):
    folders = {
        **{("S1", "Eating-1"): "Eating 2", ("S1", "Eating-2"): "Eating", ("S1", "TakingPhoto-1"): "TakingPhoto 1"},
        **{("S1", "WalkingDog-2"): "WalkingDog", ("S9", "Sitting-1"): "Sitting 1", ("S9", "Waiting-1"): "Waiting 1"},
        **{("S9", "SittingDown-1"): "SittingDown", ("S9", "SittingDown-2"): "SittingDown 1"},
        **{("S11", "Phoning-1"): "Phoning 3", ("S11", "Phoning-2"): "Phoning 2"},
    }
    for subject, name in folders:
        write_processed(tmp_path, subject, name, WORLD, range(0, 6, 5))
    write_metadata(tmp_path / "metadata.xml")
    trials = found(h36m_fetch.plan(tmp_path))
    assert trials == expected()
    assert all(trials[f"{s}/{stem}"] == int(name[-1]) for (s, name), stem in folders.items())


def test_names_of_mmpose(tmp_path):
    write_mmpose(tmp_path, LISTS, "fps10/h36m_test.npz")
    assert found(h36m_mmpose.plan(tmp_path)) == expected()


def test_names_of_spin(tmp_path):
    write_spin(tmp_path, LISTS)
    assert found(spin_npz.plan(tmp_path)) == expected()


def test_names_of_videopose3d_which_renames_what_only_s1_has(tmp_path):
    world: dict[str, dict[str, object]] = {}
    for subject, stem in STEMS:
        name = stem.replace("TakingPhoto", "Photo").replace("WalkingDog", "WalkDog")
        world.setdefault(subject, {})[name] = WORLD.astype("float32")
    save(tmp_path / "data_3d_h36m.npz", positions_3d=world)
    assert found(h36m_npz.plan(tmp_path)) == expected(TakingPhoto="Photo 1", WalkingDog="WalkDog")


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_action_of_every_subject_has_each_trial_once(subject):
    for action in ACTIONS_15:
        trials = [trial_of(f"{subject}/{action}{number}") for number in ("", " 1", " 2", " 3")]
        assert sorted(trials) == [0, 0, 1, 2], action
    listed = sequences_of(subject)
    assert len(listed) == 30
    assert all(trial_of(name) == trial for name, trial in listed.items())


@pytest.mark.parametrize(
    "other",
    ["demo/walk", "S9", "S9/", "", "S9/Waiting 3", "S9/Waiting_1", "S2/Directions 1", "S9/_ALL 1", "S1/Walking 12"],
)
def test_other_names_have_no_trial(other):
    assert trial_of(other) == 0


def test_damaged_are_the_trials_that_iskakov_lists():
    """Greeting-2, SittingDown-2 and Waiting-1 of S9, by action and trial."""
    assert [trial_of(name) for name in DAMAGED] == [2, 2, 1]
