import pickle
import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pyarrow as pa
import pytest

from aign.data import pixels
from aign.data.pixels import (
    FLOW_INVALID,
    decode_bits,
    decode_depth,
    decode_flow,
    decode_flow_int16,
    decode_jpeg,
    decode_mask,
    decode_parts,
    encode_bits,
    encode_depth,
    encode_flow,
    encode_jpeg,
    encode_mask,
    encode_parts,
)
from aign.framework.errors import UserError

SIZES = [(1, 1), (1, 9), (9, 1), (37, 53), (64, 64), (129, 130)]


def smooth(rng: np.random.Generator, height: int, width: int, channels: int) -> np.ndarray:
    coarse = rng.normal(size=(5, 6, channels)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).reshape(height, width, channels)


def picture(height: int = 48, width: int = 64) -> np.ndarray:
    return np.clip(128 + 60 * smooth(np.random.default_rng(0), height, width, 3), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_masks_and_parts_come_back_exactly(height, width):
    rng = np.random.default_rng(height)
    for mask in (rng.random((height, width)) < 0.5, np.zeros((height, width), bool), np.ones((height, width), bool)):
        data = encode_mask(mask)
        decoded = decode_mask(data)
        assert decoded.dtype == bool
        np.testing.assert_array_equal(decoded, mask)
        assert struct.unpack_from(">2I2B", data, 16) == (width, height, 1, 0)
    parts = rng.integers(0, 256, (height, width), dtype=np.uint8)
    np.testing.assert_array_equal(decode_parts(encode_parts(parts)), parts)
    np.testing.assert_array_equal(decode_parts(encode_parts(parts[::-1, ::-1])), parts[::-1, ::-1])


def test_a_person_sized_mask_is_small():
    mask = np.zeros((256, 256), np.uint8)
    cv2.ellipse(mask, (120, 130), (40, 100), 10, 0, 360, 1, -1)
    assert len(encode_mask(mask > 0)) < 600


def test_convention_jpeg_is_rgb():
    image = np.zeros((32, 48, 3), np.uint8)
    image[..., 0] = 200  # red
    image[:16, :, 2] = 200  # blue in the upper half
    decoded = decode_jpeg(encode_jpeg(image)).astype(int)
    assert np.abs(decoded - image)[4:12].max() < 8
    assert np.abs(decoded - image)[20:28].max() < 8


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_jpeg_error_is_small_in_colour_too(height, width):
    image = picture(height, width)
    decoded = decode_jpeg(encode_jpeg(image))
    assert decoded.shape == image.shape
    assert decoded.dtype == np.uint8
    assert np.abs(decoded.astype(int) - image).mean() < 2.5


def test_jpeg_keeps_colour_at_full_resolution():
    """4:2:0 would blur the red and blue stripes into each other."""
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, 0::2, 0], image[:, 1::2, 2] = 200, 200
    assert np.abs(decode_jpeg(encode_jpeg(image)).astype(int) - image).mean() < 20


def test_jpeg_into_a_batch():
    image = picture()
    data = encode_jpeg(image)
    batch = np.zeros((3, *image.shape), np.uint8)
    got = decode_jpeg(data, out=batch[1])
    assert np.shares_memory(got, batch)
    np.testing.assert_array_equal(batch[1], decode_jpeg(data))
    assert not batch[0].any()
    assert not batch[2].any()
    with pytest.raises(UserError, match="48 x 64 px; allowed here: 64 x 48"):
        decode_jpeg(data, out=np.zeros((64, 48, 3), np.uint8))


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_flow_round_trip(height, width):
    rng = np.random.default_rng(width)
    flow = 8 * smooth(rng, height, width, 2)
    flow[0, 0] = (-511, 511)
    valid = rng.random((height, width)) < 0.9
    valid[0, 0] = True
    data = encode_flow(flow, valid)
    decoded, decoded_valid = decode_flow(data)
    np.testing.assert_array_equal(decoded_valid, valid)
    assert np.abs(decoded - flow)[valid].max() <= 0.5 / 64
    assert not decoded[~valid].any()
    raw = decode_flow_int16(data)
    assert raw.flags.writeable
    assert raw.flags.c_contiguous
    assert (raw[:, ~valid] == FLOW_INVALID).all()
    np.testing.assert_array_equal(raw[:, valid], np.rint(flow[valid].T * 64))


def test_convention_flow_layout():
    """Header h, w little-endian; then zstd of planes u (right), v (down), each row minus the row above, mod 2^16."""
    flow = np.zeros((3, 2, 2), np.float32)
    flow[..., 0] = [[1, 2], [3, 4], [-500, 500]]
    flow[..., 1] = 0.5
    valid = np.ones((3, 2), bool)
    valid[1, 0] = False
    data = encode_flow(flow, valid)
    assert data[:4] == struct.pack("<2H", 3, 2)
    raw = np.frombuffer(pa.Codec("zstd").decompress(data[4:], 24, asbytes=True), np.int16).reshape(2, 3, 2)
    planes = np.cumsum(raw.astype(np.int64), axis=1).astype(np.int16)
    np.testing.assert_array_equal(planes[0], [[64, 128], [FLOW_INVALID, 256], [-32000, 32000]])
    np.testing.assert_array_equal(planes[1], [[32, 32], [FLOW_INVALID, 32], [32, 32]])


def test_flow_that_does_not_fit_is_invalid():
    flow = np.zeros((2, 4, 2), np.float32)
    flow[0, :, 0] = (511.01, -600, np.nan, np.inf)
    flow[1, :, 1] = (511, -511, 1e30, 0)
    decoded, valid = decode_flow(encode_flow(flow, np.ones((2, 4), bool)))
    np.testing.assert_array_equal(valid, [[False] * 4, [True, True, False, True]])
    assert np.isfinite(decoded).all()
    np.testing.assert_array_equal(decoded[1, :2, 1], (511, -511))


def test_real_looking_flow_is_smaller_than_plain_planes():
    flow = 3 * smooth(np.random.default_rng(0), 256, 256, 2)
    flow += np.random.default_rng(1).normal(scale=0.02, size=flow.shape).astype(np.float32)
    data = encode_flow(flow, np.ones((256, 256), bool))
    plain = pa.Codec("zstd").compress(decode_flow_int16(data).tobytes(), asbytes=True)
    assert len(data) < 0.8 * len(plain)


def test_depth_round_trip():
    rng = np.random.default_rng(0)
    depth = rng.uniform(0.001, 65.5, (40, 30)).astype(np.float32)
    depth[0, :8] = (0, -1, 65.536, 1e9, np.nan, np.inf, 65.535, 0.001)
    decoded = decode_depth(encode_depth(depth))
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded[0, :6], 0)
    np.testing.assert_allclose(decoded[0, 6:8], (65.535, 0.001), rtol=1e-6)
    assert np.abs(decoded[1:] - depth[1:]).max() <= 0.0005 + 1e-5


@pytest.mark.parametrize("count", [1, 8, 9, 6890])
def test_bits_round_trip(count):
    flags = np.random.default_rng(count).random(count) < 0.5
    data = encode_bits(flags)
    assert len(data) == (count + 7) // 8
    np.testing.assert_array_equal(decode_bits(data, count), flags)
    for bad in (data[:-1], data + b"\0"):
        with pytest.raises(UserError, match=rf"{len(bad)} bytes; allowed: {len(data)} bytes for {count} flags"):
            decode_bits(bad, count)


def test_convention_bits_are_little_endian():
    assert encode_bits(np.arange(10) == 0) == b"\x01\x00"
    assert decode_bits(b"\x00\x02", 10).nonzero()[0].tolist() == [9]
    assert len(decode_bits(bytes(862))) == 6890


def encoded() -> dict[str, tuple[bytes, object]]:
    mask = picture()[..., 0] > 128
    flow = 4 * smooth(np.random.default_rng(2), 48, 64, 2)
    return {
        "jpeg": (encode_jpeg(picture()), decode_jpeg),
        "mask": (encode_mask(mask), decode_mask),
        "parts": (encode_parts(picture()[..., 1]), decode_parts),
        "flow": (encode_flow(flow, mask), decode_flow),
        "depth": (encode_depth(np.abs(flow[..., 0])), decode_depth),
    }


@pytest.mark.parametrize("kind", encoded())
def test_views_decode_as_bytes_do(kind):
    data, decode = encoded()[kind]
    inside = memoryview(b"before" + data + b"after")[6:-5]
    np.testing.assert_equal(decode(inside), decode(data))


@pytest.mark.parametrize("kind", encoded())
def test_damaged_bytes_are_refused_in_one_line(kind):
    data, decode = encoded()[kind]
    cuts = [data[:n] for n in (0, 1, 4, 5, 20, 40, len(data) // 2, len(data) - 9, len(data) - 1)]
    for bad in [*cuts, b"\0" * len(data), b"no picture at all " * 9, data[::-1], data[:8] + data[:8] + data]:
        with pytest.raises(UserError) as error:
            decode(bad)
        assert "\n" not in str(error.value)


def test_any_byte_may_be_wrong_without_a_crash():
    """Not every change can be seen in the bytes (the store's checksums can); but nothing other than UserError."""
    rng = np.random.default_rng(0)
    for data, decode in encoded().values():
        for _ in range(60):
            bad = bytearray(data)
            bad[rng.integers(len(bad))] = rng.integers(256)
            try:
                decode(bytes(bad))
            except UserError as error:
                assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize("size", [(65535, 65535), (4096, 4096), (4097, 1), (0, 5)])
@pytest.mark.parametrize("kind", ["flow", "depth", "mask"])
def test_a_header_that_lies_allocates_nothing(kind, size):
    small = np.zeros((8, 8, 2), np.float32)
    data, decode = {
        "flow": (encode_flow(small, small[..., 0] == 0), decode_flow),
        "depth": (encode_depth(small[..., 0]), decode_depth),
        "mask": (encode_mask(small[..., 0] == 0), decode_mask),
    }[kind]
    decode(data)  # imports and compiles
    bad = bytearray(data)
    if kind == "mask":
        struct.pack_into(">2I", bad, 16, *size)
        struct.pack_into(">I", bad, 29, zlib.crc32(bytes(bad[12:29])))
    else:
        struct.pack_into("<2H", bad, 0, *size)
    tracemalloc.start()
    before = pa.default_memory_pool().max_memory()
    with pytest.raises(UserError):
        decode(bytes(bad))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6
    assert pa.default_memory_pool().max_memory() - before < 4e6


def test_jpeg_header_that_lies():
    data = bytearray(encode_jpeg(picture()))
    at = bytes(data).index(b"\xff\xc0") + 5
    struct.pack_into(">2H", data, at, 65500, 65500)
    with pytest.raises(UserError, match="65500 x 65500 px; allowed: 1 to 4096"):
        decode_jpeg(bytes(data))


def test_other_sizes_inside_than_the_header_says():
    flow, valid = np.zeros((8, 8, 2), np.float32), np.ones((8, 8), bool)
    data = encode_flow(flow, valid)
    for size in ((8, 4), (8, 16)):
        with pytest.raises(UserError, match="damaged flow"):
            decode_flow(struct.pack("<2H", *size) + data[4:])
    with pytest.raises(UserError, match="damaged depth"):
        decode_depth(data)


def test_wrong_bit_depth():
    mask = encode_mask(picture()[..., 0] > 128)
    with pytest.raises(UserError, match="PNG of 1 bits and colour type 0; allowed here: 8 bits"):
        decode_parts(mask)
    with pytest.raises(UserError, match="PNG of 8 bits and colour type 0; allowed here: 1 bits"):
        decode_mask(encode_parts(picture()[..., 0]))
    for image in (picture(), picture()[..., 0].astype(np.uint16) * 256):
        data = cv2.imencode(".png", image)[1].tobytes()
        for decode in (decode_mask, decode_parts):
            with pytest.raises(UserError, match="allowed here"):
                decode(data)
    with pytest.raises(UserError, match="JPEG"):
        decode_jpeg(mask)


def test_too_large_to_encode():
    with pytest.raises(UserError, match="5000 x 2 px; allowed: 1 to 4096"):
        encode_mask(np.zeros((5000, 2), bool))
    with pytest.raises(UserError, match="0 x 2 px"):
        encode_flow(np.zeros((0, 2, 2), np.float32), np.zeros((0, 2), bool))


def test_functions_pickle_after_use():
    data = encode_flow(np.zeros((4, 4, 2), np.float32), np.ones((4, 4), bool))
    decode = pickle.loads(pickle.dumps(pixels.decode_flow))
    assert decode(data)[1].all()
