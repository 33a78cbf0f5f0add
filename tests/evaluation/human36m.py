"""A store made of a file in VideoPose3D's layout of Human3.6M: random bodies that walk about, no licence needed."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from aign.data.datasets.h36m import h36m_npz
from aign.data.datasets.job import Job, run
from aign.data.store import Manifest, Quarantined, Store, commit
from tests.data.test_h36m_npz import motion, save

Lengths = Mapping[str, Mapping[str, int]]
"""Frames by subject and sequence name."""


def committed(jobs: Sequence[Job], url: str) -> Store:
    """The jobs' clips as a store, without Ray."""
    results = [run(job, url, number) for number, job in enumerate(jobs)]
    assert not any(isinstance(result, Quarantined) for result in results), results
    records = [record for result in results for record in result]
    commit(url, Manifest(skeleton="h36m17", num_joints=17).updated(records))
    return Store.open(url)


def human36m_store(folder: Path, lengths: Lengths) -> Store:
    """Write the file, and the store of it into folder/store; a sequence is the same however many stand before it."""
    folder.mkdir(parents=True, exist_ok=True)
    world = {
        subject: {name: motion(frames, seed=100 * int(subject[1:]) + i) for i, (name, frames) in enumerate(of.items())}
        for subject, of in lengths.items()
    }
    save(folder / "data_3d_h36m.npz", positions_3d=world)
    return committed(h36m_npz.plan(folder), str(folder / "store"))
