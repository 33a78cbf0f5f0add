import functools
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from aign.data import pixels
from aign.data.decoding import DECODINGS, Decoder, depth_from_mm, flow_from_64ths
from aign.data.loader import ClipLoader, LoaderConfig
from aign.data.schema import TABLES
from aign.data.store import Manifest, Selection, Store, commit, write_part
from aign.framework.errors import UserError
from tests.data import store_samples as samples

HEIGHT, WIDTH = 24, 32
BYTES = {
    "frames": ("image_jpeg",),
    "masks": ("mask_png",),
    "parts": ("parts_png",),
    "flow": ("flow_zst",),
    "flow_back": ("flow_back_zst",),
    "depth": ("depth_zst",),
    "visibility": ("visible_bits",),
}
MOCAP = {"frames": ("image_jpeg", "frame_size_px"), "masks": ("mask_png",), "keypoints": ("kp2d_px",)}
CONFIG = LoaderConfig(batch_size=16, streams=4, mix=2, seed=3)


def encoded(rng: np.random.Generator, name: str, height: int = HEIGHT, width: int = WIDTH) -> bytes:
    """Bytes of one byte column: smooth pictures, anything else at random."""
    size = (height, width)
    if name in ("image_jpeg", "face_jpeg"):
        return pixels.encode_jpeg(cv2.resize(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8), size[::-1]))
    if name in ("flow_zst", "flow_back_zst"):
        return pixels.encode_flow(rng.normal(0, 5, (*size, 2)).astype(np.float32), rng.random(size) < 0.8)
    return {
        "mask_png": lambda: pixels.encode_mask(rng.random(size) < 0.5),
        "parts_png": lambda: pixels.encode_parts(rng.integers(0, 25, size, dtype=np.uint8)),
        "depth_zst": lambda: pixels.encode_depth((rng.random(size) * 70 - 1).astype(np.float32)),
        "visible_bits": lambda: pixels.encode_bits(rng.random(pixels.NUM_VERTICES) < 0.5),
    }[name]()


MAKERS = {table: functools.partial(samples.anything, table) for table in TABLES}
CLIPS = [(trial, camera) for trial in (1, 2) for camera in samples.CAMERAS]
MAKERS |= {"frames": samples.pictures, "keypoints": samples.keypoints}


def picture_store(url: Path, tables: Mapping[str, Any], change: Mapping[tuple[int, str, int], bytes] = {}) -> Store:
    """Two parts of two sequences, two cameras each; `change` replaces (part, column, frame) of the very last clips."""
    records: list[Any] = []
    for part in range(2):
        rng = np.random.default_rng(part)
        made: dict[str, list[Any]] = {table: [] for table in tables}
        for (trial, camera), frames in zip(CLIPS, (11, 8, 7, 13), strict=True):
            for table in tables:
                clip = MAKERS[table](rng, f"S{part}/Walking {trial}", camera, frames)
                for name in TABLES[table].columns:
                    if name in DECODINGS:
                        clip[name] = [encoded(rng, name) for _ in range(frames)]
                for (number, name, frame), data in change.items():
                    if number == part and name in clip and (trial, camera) == CLIPS[-1]:
                        clip[name][frame] = data
                made[table].append(clip)
        records += write_part(str(url), part, made, samples.provenance(f"s{part}"))
    commit(str(url), Manifest(skeleton="h36m_17", num_joints=samples.J).updated(records))
    return Store.open(str(url))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return picture_store(tmp_path_factory.mktemp("pictures"), {**BYTES, "keypoints": ()})


def take(loader: ClipLoader, count: int) -> list[dict[str, torch.Tensor]]:
    with loader:
        batches = iter(loader)
        return [next(batches) for _ in range(count)]


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def places(store: Store, columns: Mapping[str, Any]) -> dict[int, int]:
    """Where each frame id lies in what Store.read gives."""
    found = store.row_groups(tuple(columns))
    ids = [(group.part << 32) + group.first_frame + i for group in found for i in range(group.frames)]
    return {sample: i for i, sample in enumerate(ids)}


REFERENCE = {
    "image_jpeg": ("image_rgb", pixels.decode_jpeg),
    "mask_png": ("mask", pixels.decode_mask),
    "parts_png": ("parts", pixels.decode_parts),
    "flow_zst": ("flow_64th_px", pixels.decode_flow_int16),
    "flow_back_zst": ("flow_back_64th_px", pixels.decode_flow_int16),
    "depth_zst": ("depth_mm", lambda data: np.rint(1000 * pixels.decode_depth(data).astype(float)).astype(np.uint16)),
    "visible_bits": ("visible", pixels.decode_bits),
}


@pytest.mark.parametrize("window_frames", [None, 5])
def test_pictures_are_what_the_store_holds(store: Store, window_frames: int | None) -> None:
    """Against a plain reference: read everything, look each frame up by its id, decode it alone."""
    clips, place = store.read(BYTES), places(store, BYTES)
    config = LoaderConfig(batch_size=8, streams=2, mix=2, window_frames=window_frames)
    for batch in take(ClipLoader(store, BYTES, None, config), 4):
        assert set(batch) == {"sample_id", "sample_seed", *(name for name, _ in REFERENCE.values())}
        for row, sample in enumerate(batch["sample_id"].tolist()):
            for t in range(window_frames or 1):
                for column, (name, decode) in REFERENCE.items():
                    wanted = torch.from_numpy(decode(clips.arrays[column][place[sample + t]]))
                    got = batch[name][row] if window_frames is None else batch[name][row, t]
                    assert got.dtype == wanted.dtype
                    assert torch.equal(got, wanted)


def test_shapes_and_types_of_a_batch(store: Store) -> None:
    (batch,) = take(ClipLoader(store, {**BYTES, "keypoints": ("kp2d_px",)}, None, CONFIG), 1)
    size = (16, HEIGHT, WIDTH)
    expected = {
        "image_rgb": ((*size, 3), torch.uint8),
        "mask": (size, torch.bool),
        "parts": (size, torch.uint8),
        "flow_64th_px": ((16, 2, HEIGHT, WIDTH), torch.int16),
        "flow_back_64th_px": ((16, 2, HEIGHT, WIDTH), torch.int16),
        "depth_mm": (size, torch.uint16),
        "visible": ((16, pixels.NUM_VERTICES), torch.bool),
        "kp2d_px": ((16, samples.J, 2), torch.float32),
        "sample_id": ((16,), torch.int64),
        "sample_seed": ((16,), torch.int64),
    }
    assert {name: (tuple(values.shape), values.dtype) for name, values in batch.items()} == expected


def test_every_byte_column_of_the_schema_is_decoded() -> None:
    columns = {name for table in TABLES.values() for name, c in table.columns.items() if c.dtype == "binary"}
    assert set(DECODINGS) == columns


def test_faces(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clips = [samples.anything("faces", rng, f"S1/Face {i}", "", 1) for i in range(12)]
    for clip in clips:
        clip["face_jpeg"] = [encoded(rng, "face_jpeg")]
        clip["attributes"] = np.ones(3, np.int32)
    commit(
        str(tmp_path),
        Manifest(skeleton="h36m_17", num_joints=samples.J).updated(
            write_part(str(tmp_path), 0, {"faces": clips}, samples.provenance())
        ),
    )
    columns = {"faces": ("face_jpeg", "attributes")}
    config = LoaderConfig(batch_size=4, streams=2, mix=2)
    (batch,) = take(ClipLoader(Store.open(str(tmp_path)), columns, None, config), 1)
    for row, sample in enumerate(batch["sample_id"].tolist()):
        np.testing.assert_array_equal(batch["face_rgb"][row], pixels.decode_jpeg(clips[sample]["face_jpeg"][0]))
    assert batch["attributes"].shape == (4, 3)


@pytest.mark.parametrize("threads", [2, 7])
def test_threads_do_not_matter(store: Store, threads: int) -> None:
    one, several = (
        LoaderConfig(batch_size=16, streams=4, mix=2, window_frames=3, decode_threads=n) for n in (1, threads)
    )
    pairs = zip(*(take(ClipLoader(store, BYTES, None, c), 5) for c in (one, several)), strict=True)
    assert all(equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("window_frames", [None, 3])
def test_ranks_together_see_what_one_process_sees(store: Store, world: int, window_frames: int | None) -> None:
    config = LoaderConfig(batch_size=16, streams=4, mix=2, window_frames=window_frames, decode_threads=2)
    alone = ClipLoader(store, MOCAP, None, config)
    steps = alone.steps_per_epoch + 2
    ranks = [ClipLoader(store, MOCAP, None, config, rank=rank, world=world) for rank in range(world)]
    assert {rank.steps_per_epoch for rank in ranks} == {alone.steps_per_epoch}
    shares = zip(*(take(rank, steps) for rank in ranks), strict=True)
    for whole, parts in zip(take(alone, steps), shares, strict=True):
        assert equal(whole, {name: torch.cat([part[name] for part in parts]) for name in whole})


def test_resuming_anywhere_equals_an_unbroken_run(store: Store) -> None:
    """Although the batch after the present one is being made, the state is that of the consumer."""
    loader = ClipLoader(store, MOCAP, None, CONFIG)
    steps = 2 * loader.steps_per_epoch + 1
    states, unbroken = [loader.state_dict()], []
    with loader:
        for _, batch in zip(range(steps), loader, strict=False):
            unbroken.append(batch)
            states.append(loader.state_dict())
    per_epoch = loader.steps_per_epoch
    assert states == [{"epoch": n // per_epoch, "step": n % per_epoch} for n in range(steps + 1)]
    for at in range(steps - 1):
        resumed = ClipLoader(store, MOCAP, None, CONFIG)
        resumed.load_state_dict(states[at])
        assert all(equal(a, b) for a, b in zip(take(resumed, 2), unbroken[at:], strict=False))


def test_a_position_can_be_set_while_iterating(store: Store) -> None:
    with ClipLoader(store, MOCAP, None, CONFIG) as loader:
        batches = iter(loader)
        first = [next(batches) for _ in range(3)]
        for step in (1, 2, 0):
            loader.load_state_dict({"epoch": 0, "step": step})
            assert equal(next(batches), first[step])
            assert loader.state_dict() == {"epoch": 0, "step": step + 1}


def test_one_batch_is_made_ahead(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, int]] = []
    plain = ClipLoader._batch

    def counted(self: ClipLoader, epoch: int, step: int) -> Any:
        made.append((epoch, step))
        return plain(self, epoch, step)

    monkeypatch.setattr(ClipLoader, "_batch", counted)
    with ClipLoader(store, MOCAP, None, CONFIG) as loader:
        batches = iter(loader)
        for expected in ([(0, 0), (0, 1)], [(0, 0), (0, 1), (0, 2)]):
            next(batches)
            deadline = time.monotonic() + 10
            while len(made) < len(expected) and time.monotonic() < deadline:
                time.sleep(0.005)
            time.sleep(0.05)
            assert made == expected


def test_numbers_alone_take_no_batch_thread(store: Store) -> None:
    with ClipLoader(store, {"keypoints": ("kp2d_px",)}, None, CONFIG) as loader:
        next(iter(loader))
        names = {thread.name.rsplit("_", 1)[0] for thread in threading.enumerate()}
        assert "aign-loader" in names
        assert not names & {"aign-batches", "aign-decode"}


def test_closing_ends_all_threads_also_in_the_middle(store: Store) -> None:
    before = threading.active_count()
    config = LoaderConfig(batch_size=16, streams=4, mix=2, decode_threads=3)
    loader = ClipLoader(store, BYTES, None, config)
    next(iter(loader))
    assert threading.active_count() > before
    loader.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("window_frames", [None, 5])
def test_a_damaged_picture_is_named(tmp_path: Path, threads: int, window_frames: int | None) -> None:
    cut = encoded(np.random.default_rng(0), "image_jpeg")[:-20]
    store = picture_store(tmp_path, {"frames": (), "masks": (), "keypoints": ()}, {(1, "image_jpeg", 7): cut})
    config = LoaderConfig(batch_size=8, streams=2, mix=2, window_frames=window_frames, decode_threads=threads)
    with ClipLoader(store, MOCAP, None, config) as loader:
        name = (
            f"sequence 'S1/Walking 2' from S1/Walking 2.npz, camera {samples.CAMERAS[1]}, frame 7: damaged or no JPEG"
        )
        with pytest.raises(UserError, match=rf"^frames\.image_jpeg of {name}"):
            for _ in zip(range(loader.steps_per_epoch + 3), loader, strict=False):
                pass


def test_an_error_comes_with_its_batch_and_the_loader_goes_on(tmp_path: Path) -> None:
    store = picture_store(tmp_path, {"masks": ()}, {(1, "mask_png", 2): b"\x89PNG\r\n\x1a\n and nothing else"})
    columns = {"masks": ("mask_png",)}
    with ClipLoader(store, columns, None, CONFIG) as loader:
        outcomes = []
        for epoch, step in [(0, step) for step in range(loader.steps_per_epoch)] * 2:
            loader.load_state_dict({"epoch": epoch, "step": step})
            try:
                outcomes.append(next(iter(loader))["sample_id"].tolist())
            except UserError:
                outcomes.append(loader.state_dict())
    half = len(outcomes) // 2
    assert outcomes[:half] == outcomes[half:]
    bad = [outcome for outcome in outcomes[:half] if isinstance(outcome, dict)]
    assert len(bad) == 1
    assert bad[0]["step"] == outcomes.index(bad[0])


@pytest.mark.parametrize(
    ("name", "size", "got", "usual"),
    [
        ("image_jpeg", (12, 14), "image_rgb of 12 x 14 x 3", f"{HEIGHT} x {WIDTH} x 3"),
        ("mask_png", (1, 1), "mask of 1 x 1", f"{HEIGHT} x {WIDTH}"),  # numpy would stretch it
    ],
)
def test_pictures_of_two_sizes_are_refused(
    tmp_path: Path, name: str, size: tuple[int, int], got: str, usual: str
) -> None:
    data = encoded(np.random.default_rng(0), name, *size)
    store = picture_store(tmp_path, {"frames": (), "masks": ()}, {(0, name, 3): data})
    columns = {"frames": ("image_jpeg",), "masks": ("mask_png",)}
    where = rf"\.{name} of sequence 'S0/Walking 2' from .*frame 3: "
    with (
        ClipLoader(store, columns, None, LoaderConfig(batch_size=32, streams=4, mix=2)) as loader,
        pytest.raises(UserError, match=rf"{where}got a {got}; the first of its batch has {usual}"),
    ):
        for _ in zip(range(3 * loader.steps_per_epoch), loader, strict=False):
            pass


def test_the_first_bad_item_is_named_whatever_the_threads() -> None:
    rng = np.random.default_rng(0)
    items = np.empty(40, object)
    items[:] = [encoded(rng, "mask_png") for _ in items]
    for bad in (11, 12, 13, 30):
        items[bad] = b"no picture"
    for threads in (1, 2, 8):
        for _ in range(5):
            with pytest.raises(UserError, match=r"^mask_png 11: damaged or no PNG"):
                Decoder(threads).decode({"mask_png": items}, lambda name, index: f"{name} {index}")


def test_a_selection_names_the_right_clip(tmp_path: Path) -> None:
    """Frame ids count the frames of clips that are not selected too."""
    store = picture_store(tmp_path, {"masks": ()}, {(1, "mask_png", 12): b"\x89PNG\r\n\x1a\n"})
    config = LoaderConfig(batch_size=8, streams=1, mix=2)
    selection = Selection(cameras=samples.CAMERAS[1:])
    with (
        ClipLoader(store, {"masks": ("mask_png",)}, selection, config) as loader,
        pytest.raises(UserError, match=rf"S1/Walking 2.*camera {samples.CAMERAS[1]}, frame 12"),
    ):
        for _ in zip(range(2 * loader.steps_per_epoch), loader, strict=False):
            pass


def test_convention_flow_of_a_batch_is_in_pixels_x_first() -> None:
    """The device's conversion equals the plain decoder; u is to the right."""
    rng = np.random.default_rng(0)
    flow_px = np.zeros((HEIGHT, WIDTH, 2), np.float32)
    flow_px[..., 0], flow_px[..., 1] = 3.5, -1.25
    flow_px[:4] = rng.normal(0, 100, (4, WIDTH, 2))
    valid = rng.random((HEIGHT, WIDTH)) < 0.7
    data = pixels.encode_flow(flow_px, valid)
    expected, expected_valid = pixels.decode_flow(data)
    batch = torch.from_numpy(pixels.decode_flow_int16(data))[None, None]
    got, got_valid = flow_from_64ths(batch)
    assert got.shape == (1, 1, 2, HEIGHT, WIDTH)
    np.testing.assert_array_equal(got[0, 0].permute(1, 2, 0), expected)
    np.testing.assert_array_equal(got_valid[0, 0], expected_valid)
    np.testing.assert_array_equal(got_valid[0, 0], valid)
    assert got[0, 0, 0, 8:][got_valid[0, 0, 8:]].unique().tolist() == [3.5]
    assert got[0, 0, 1, 8:][got_valid[0, 0, 8:]].unique().tolist() == [-1.25]
    assert (got[0, 0, :, ~got_valid[0, 0]] == 0).all()


def test_depth_of_a_batch_is_in_metres() -> None:
    got, seen = depth_from_mm(torch.tensor([[0, 1, 65535]], dtype=torch.uint16))
    torch.testing.assert_close(got, torch.tensor([[0.0, 0.001, 65.535]]))
    assert seen.tolist() == [[False, True, True]]


def test_depth_comes_through_exactly() -> None:
    every_mm = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    data = pixels.encode_depth(every_mm / np.float32(1000))
    np.testing.assert_array_equal(DECODINGS["depth_zst"].decode(data), every_mm)


def test_the_cache_holds_encoded_bytes_within_its_limit(store: Store) -> None:
    columns = {"frames": ("image_jpeg",)}
    clips = store.read(columns)
    total = sum(map(len, clips.arrays["image_jpeg"]))
    config = LoaderConfig(batch_size=8, streams=1, mix=1)
    roomy = ClipLoader(store, columns, None, config)
    batches = take(roomy, 3 * roomy.steps_per_epoch)
    assert roomy._groups._cached_bytes == total
    assert total <= roomy._groups.encoded_bytes(4) <= 3 * total  # files hold more than pictures
    needed = roomy._groups.encoded_bytes(2)
    assert needed < total
    tight = LoaderConfig(batch_size=8, streams=1, mix=1, cache_bytes=needed)
    loader = ClipLoader(store, columns, None, tight)
    assert all(equal(a, b) for a, b in zip(take(loader, 3 * loader.steps_per_epoch), batches, strict=True))
    assert loader._groups._cached_bytes <= needed


def test_windows_that_do_not_fit_are_refused(store: Store) -> None:
    config = LoaderConfig(batch_size=8, streams=2, mix=4, cache_bytes=1000)
    with pytest.raises(UserError, match=r"pictures \(2 streams of mix 4, twice\); cache_bytes allows 1,000"):
        ClipLoader(store, MOCAP, None, config)
    ClipLoader(store, {"keypoints": ("kp2d_px",)}, None, config).close()  # poses are small: as before


def test_bad_thread_count() -> None:
    with pytest.raises(UserError, match="got decode_threads 0; allowed is None or at least 1"):
        LoaderConfig(decode_threads=0)
