import threading
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from aign.data.epoch_plan import Piece, Shuffle, Window, epoch_windows, mix64
from aign.data.loader import ClipLoader, LoaderConfig
from aign.data.row_groups import RowGroups
from aign.data.store import Manifest, Selection, Store, commit, write_part
from aign.framework.errors import UserError
from tests.data import store_samples as samples

COLUMNS = {"keypoints": ("kp2d_px", "intrinsics_px"), "labels": ("joints_cam_m",)}
CONFIG = LoaderConfig(batch_size=64, streams=8, mix=2, seed=3)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    url = str(tmp_path_factory.mktemp("store"))
    samples.pair_store(url)
    return Store.open(url)


def take(loader: ClipLoader, count: int) -> list[dict[str, torch.Tensor]]:
    with loader:
        batches = iter(loader)
        return [next(batches) for _ in range(count)]


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_samples_are_what_the_store_holds(store: Store) -> None:
    """Against a plain reference: read everything, look each sample up by its id."""
    clips = store.read(COLUMNS)
    ids: list[int] = []
    for found in store.row_groups(tuple(COLUMNS)):
        ids += [(found.part << 32) + found.first_frame + i for i in range(found.frames)]
    place = {sample: i for i, sample in enumerate(ids)}
    for batch in take(ClipLoader(store, COLUMNS, None, CONFIG), 5):
        rows = [place[i] for i in batch["sample_id"].tolist()]
        np.testing.assert_array_equal(batch["kp2d_px"], clips.arrays["kp2d_px"][rows])
        np.testing.assert_array_equal(batch["joints_cam_m"], clips.arrays["joints_cam_m"][rows])
        np.testing.assert_array_equal(batch["intrinsics_px"], clips.arrays["intrinsics_px"][clips.clip_index[rows]])


@pytest.mark.parametrize("world", [2, 4, 8])
@pytest.mark.parametrize("window_frames", [None, 9])
def test_ranks_together_see_what_one_process_sees(store: Store, world: int, window_frames: int | None) -> None:
    config = LoaderConfig(batch_size=64, streams=8, mix=2, window_frames=window_frames)
    alone = ClipLoader(store, COLUMNS, None, config)
    steps = alone.steps_per_epoch + 3
    ranks = [ClipLoader(store, COLUMNS, None, config, rank=rank, world=world) for rank in range(world)]
    assert {rank.steps_per_epoch for rank in ranks} == {alone.steps_per_epoch}
    shares = zip(*(take(rank, steps) for rank in ranks), strict=True)
    for whole, parts in zip(take(alone, steps), shares, strict=True):
        assert {len(part["sample_id"]) for part in parts} == {64 // world}
        assert equal(whole, {name: torch.cat([part[name] for part in parts]) for name in whole})


def test_resuming_anywhere_equals_an_unbroken_run(store: Store) -> None:
    loader = ClipLoader(store, COLUMNS, None, CONFIG)
    steps = 2 * loader.steps_per_epoch + 1
    states, unbroken = [], []
    with loader:
        for _, batch in zip(range(steps), loader, strict=False):
            unbroken.append(batch)
            states.append(loader.state_dict())
    assert states[loader.steps_per_epoch - 1] == {"epoch": 1, "step": 0}
    for at in range(0, steps - 1, 3):
        resumed = ClipLoader(store, COLUMNS, None, CONFIG)
        resumed.load_state_dict(states[at])
        assert all(equal(a, b) for a, b in zip(take(resumed, 3), unbroken[at + 1 :], strict=False))


def test_a_position_can_be_set_while_iterating(store: Store) -> None:
    with ClipLoader(store, COLUMNS, None, CONFIG) as loader:
        batches = iter(loader)
        first = [next(batches) for _ in range(6)]
        loader.load_state_dict({"epoch": 0, "step": 1})
        assert equal(next(batches), first[1])


def test_an_epoch_takes_each_sample_at_most_once_and_nearly_all(store: Store) -> None:
    loader = ClipLoader(store, COLUMNS, None, CONFIG)
    total = sum(found.frames for found in store.row_groups(tuple(COLUMNS)))
    batches = take(loader, 2 * loader.steps_per_epoch)
    epochs = [batches[: loader.steps_per_epoch], batches[loader.steps_per_epoch :]]
    seen = []
    for epoch in epochs:
        ids = torch.cat([batch["sample_id"] for batch in epoch]).tolist()
        assert len(set(ids)) == len(ids) > total - CONFIG.batch_size - CONFIG.streams
        seen.append(ids)
    assert seen[0] != seen[1]
    assert len({*seen[0], *seen[1]}) == total  # what one epoch leaves out comes in another (true for this seed)


def test_shuffling_mixes_sequences(store: Store) -> None:
    (batch,) = take(ClipLoader(store, COLUMNS, None, CONFIG), 1)
    ids = batch["sample_id"]
    assert len(set((ids >> 32).tolist())) == 3  # all three parts at once
    for stream in ids.reshape(8, 8):
        assert (stream.diff() != 1).any()


def test_seed_decides_the_order(store: Store) -> None:
    other = LoaderConfig(batch_size=64, streams=8, mix=2, seed=4)
    one, same, two = (take(ClipLoader(store, COLUMNS, None, c), 1)[0] for c in (CONFIG, CONFIG, other))
    assert equal(one, same)
    assert not torch.equal(one["sample_id"], two["sample_id"])


def test_sample_seeds_differ_by_sample_and_epoch(store: Store) -> None:
    loader = ClipLoader(store, COLUMNS, None, CONFIG)
    batches = take(loader, 2 * loader.steps_per_epoch)
    seeds = torch.cat([batch["sample_seed"] for batch in batches])
    assert len(set(seeds.tolist())) == len(seeds)
    assert (seeds >= 0).all()
    values = mix64(np.arange(1000, dtype=np.uint64))
    assert len(set(values.tolist())) == 1000
    # The published first output of SplitMix64 seeded with 0.
    assert int(values[0]) == 0xE220A8397B1DCDAF


def test_windows_are_consecutive_frames_of_one_clip(store: Store) -> None:
    config = LoaderConfig(batch_size=32, streams=4, window_frames=9)
    selection = Selection(cameras=samples.CAMERAS[1:])
    clips = store.read({"keypoints": ("kp2d_px",)}, selection)
    ends = np.cumsum([key.num_frames for key in clips.keys])
    where = {clips.arrays["kp2d_px"][i].tobytes(): i for i in range(len(clips.clip_index))}
    loader = ClipLoader(store, {"keypoints": ("kp2d_px", "distortion")}, selection, config)
    possible = sum(key.num_frames - 8 for key in clips.keys)
    seen = set()
    for batch in take(loader, loader.steps_per_epoch):
        assert batch["kp2d_px"].shape == (32, 9, samples.J, 2)
        assert batch["distortion"].shape == (32, 5)
        for sample in batch["kp2d_px"].numpy():
            rows = [where[frame.tobytes()] for frame in sample]
            assert rows == list(range(rows[0], rows[0] + 9))
            assert np.searchsorted(ends, rows[0], side="right") == np.searchsorted(ends, rows[-1], side="right")
            seen.add(rows[0])
    assert possible - 36 < len(seen) == 32 * loader.steps_per_epoch


@pytest.mark.parametrize("sizes", [(1000,), (3, 500, 1, 0, 77), tuple(range(40))])
def test_streams_are_equal_and_disjoint(sizes: tuple[int, ...]) -> None:
    streams = epoch_windows(sizes, Shuffle(seed=0, streams=4, mix=3), 0)
    taken = [
        [(p.unit, i) for window in windows for p in window.pieces for i in range(p.start, p.end)] for windows in streams
    ]
    assert {len(samples_) for samples_ in taken} == {sum(sizes) // 4}
    flat = [sample for samples_ in taken for sample in samples_]
    assert len(set(flat)) == len(flat)
    assert all(i < sizes[unit] for unit, i in flat)
    for windows in streams:
        assert [w.first for w in windows] == [0, *np.cumsum([w.size for w in windows])[:-1]]
        assert all(sorted(w.order()) == list(range(w.size)) for w in windows)


def test_cache_keeps_its_limit_and_avoids_reading_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    plain = Store.read_row_group

    def counted(self: Store, *args: Any) -> Any:
        reads.append(1)
        return plain(self, *args)

    monkeypatch.setattr(Store, "read_row_group", counted)
    roomy = ClipLoader(store, COLUMNS, None, CONFIG)
    batches = take(roomy, 3 * roomy.steps_per_epoch)
    assert len(reads) == len(store.row_groups(tuple(COLUMNS)))
    reads.clear()
    tight = LoaderConfig(batch_size=64, streams=8, mix=2, seed=3, cache_bytes=50_000)
    loader = ClipLoader(store, COLUMNS, None, tight)
    assert all(equal(a, b) for a, b in zip(take(loader, 3 * loader.steps_per_epoch), batches, strict=True))
    assert len(reads) > len(store.row_groups(tuple(COLUMNS)))
    assert loader._groups._cached_bytes <= 50_000


def test_cache_drops_the_least_recently_used(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    plain = Store.read_row_group
    units = store.row_groups(tuple(COLUMNS))

    def counted(self: Store, found: Any, columns: Any) -> Any:
        reads.append(units.index(found))
        return plain(self, found, columns)

    monkeypatch.setattr(Store, "read_row_group", counted)
    groups = RowGroups(store, COLUMNS, None, None, cache_bytes=70_000)  # two of them
    for unit in (0, 1, 0, 2, 0, 1):
        piece = Piece(unit=unit, start=0, end=groups.sizes[unit])
        groups.prepare(Window(pieces=(piece,), first=0, size=groups.sizes[unit], key=(0, 0, 0, 0)))
    assert reads == [0, 1, 2, 1]


def test_each_window_is_prepared_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the background thread prepares ahead is what is taken next, over the end of an epoch too."""
    prepared: list[tuple[int, ...]] = []
    plain = RowGroups.prepare

    def counted(self: RowGroups, window: Window) -> Any:
        prepared.append(window.key)
        return plain(self, window)

    monkeypatch.setattr(RowGroups, "prepare", counted)
    loader = ClipLoader(store, COLUMNS, None, CONFIG)
    take(loader, 2 * loader.steps_per_epoch)
    assert len(set(prepared)) == len(prepared)
    assert {key[1] for key in prepared} >= {0, 1}


def memory_store(url: Path, rigs: tuple[int, ...]) -> Store:
    rng = np.random.default_rng(0)
    clips = [samples.memory_pose(rng, f"S{i}/Walking 1", 40, rigs=count) for i, count in enumerate(rigs)]
    records = write_part(str(url), 0, {"memory_pose": clips}, samples.provenance())
    commit(str(url), Manifest(skeleton="h36m_17", num_joints=samples.J).updated(records))
    return Store.open(str(url))


def test_rigs_of_one_size_are_batched_others_refused(tmp_path: Path) -> None:
    columns = {"memory_pose": ("joints_world_m", "rig_rot_world_to_cam")}
    config = LoaderConfig(batch_size=16, streams=2, mix=2)
    store = memory_store(tmp_path / "equal", (4, 4, 4))
    (batch,) = take(ClipLoader(store, columns, None, config), 1)
    assert batch["rig_rot_world_to_cam"].shape == (16, 4, 9)
    with pytest.raises(UserError, match="got clips with"):
        take(ClipLoader(memory_store(tmp_path / "mixed", (4, 3, 2)), columns, None, config), 5)


def test_errors_of_the_background_thread_reach_the_consumer(tmp_path: Path) -> None:
    samples.pair_store(str(tmp_path))
    store = Store.open(str(tmp_path))
    before = threading.active_count()
    config = LoaderConfig(batch_size=8, streams=1, mix=1)
    with ClipLoader(store, COLUMNS, None, config) as loader:
        batches = iter(loader)
        next(batches)
        for path in tmp_path.glob("keypoints/*"):
            path.write_bytes(b"")
        with pytest.raises(UserError, match=r"keypoints/part-\d+-\w+\.parquet is damaged|cannot read"):
            deque(batches, maxlen=0)
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 60}, "got batch_size 60; allowed are multiples of streams"),
        ({"batch_size": 0}, "at least 1 each"),
        ({"window_frames": 0}, "got window_frames 0"),
        ({"seed": -1}, "got seed -1"),
    ],
)
def test_bad_configuration(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        LoaderConfig(**change)


def test_bad_requests(store: Store) -> None:
    with pytest.raises(UserError, match=r"got 1044 frames in .*; one step needs 4096"):
        ClipLoader(store, COLUMNS, None, LoaderConfig(batch_size=4096))
    with pytest.raises(UserError, match=r"got 0 windows of 500 frames"):
        ClipLoader(store, COLUMNS, None, LoaderConfig(batch_size=8, window_frames=500))
    for rank, world in ((0, 3), (2, 2), (-1, 2)):
        with pytest.raises(UserError, match=rf"got rank {rank} of {world}; allowed are world sizes that divide"):
            ClipLoader(store, COLUMNS, None, CONFIG, rank=rank, world=world)
    with pytest.raises(UserError, match="column 'intrinsics_source' holds string values"):
        ClipLoader(store, {"keypoints": ("intrinsics_source",)}, None, CONFIG)
    loader = ClipLoader(store, COLUMNS, None, CONFIG)
    with pytest.raises(UserError, match="got epoch 0, step 16; allowed are steps 0 to 15"):
        loader.load_state_dict({"epoch": 0, "step": 16})
