"""The store's byte columns: one encode and decode pair for each kind of picture.

Sizes and times below are of 256 px crops of the people in Pose2Sim's videos, one core; benchmarks/results/flow.md has
more on flow. Decoding checks the header before anything of the size it names is allocated.

Convention: arrays are [h, w]; row 0 is the top; RGB; flow (u, v) = (x right, y down) in pixels.
"""

import functools
import struct
from collections.abc import Callable
from typing import Any, no_type_check

import cv2
import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Float32, Int16, UInt8

from aign.framework.errors import UserError

MAX_SIDE_PX = 4096
"""Largest height and width of a stored picture."""
JPEG_QUALITY = 90
"""With 4:4:4 chroma: 24 kB, 39.0 dB, decodes in 0.23 ms. Quality 95 with 4:2:0 is larger and worse (27 kB, 38.7 dB: the
videos' chroma is as sharp as their luma after shrinking); quality 95 with 4:4:4 is 35 kB and 0.28 ms for 42.3 dB."""
FLOW_UNITS_PER_PX = 64
FLOW_INVALID = -32768
MAX_FLOW_PX = 511.0
"""Longer components do not fit into int16 and are stored as invalid."""
DEPTH_UNITS_PER_M = 1000
MAX_DEPTH_M = 65.535
NUM_VERTICES = 6890

# Raises the ratio over level 1 by 4 % for 0.1 ms; level 9 would give 13 % for 2 ms. Decoding takes the same time.
_ZSTD_LEVEL = 3
_HEADER = struct.Struct("<2H")  # h, w
# A zstd block holds at most 128 KiB and takes at least 4 bytes (RFC 8878, 3.1.1.2).
_MAX_ZSTD_RATIO = 128 * 1024 / 4
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"
_JPEG_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

Data = bytes | memoryview


def encode_jpeg(rgb: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """A picture as JPEG."""
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    return _image_file(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, *sampling])


def decode_jpeg(data: Data, out: UInt8[np.ndarray, "h w 3"] | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """The picture of a JPEG.

    Args:
        data: the file.
        out: where to put it (a loader's batch); contiguous.

    Raises:
        UserError: no whole JPEG, over MAX_SIDE_PX, or not of `out`'s size.
    """
    height, width = _checked_size(_jpeg_size(data), "JPEG")
    if out is not None and out.shape != (height, width, 3):
        raise UserError(f"a JPEG of {height} x {width} px; allowed here: {out.shape[0]} x {out.shape[1]} px")
    bgr = _image(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION, "JPEG")
    rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=out)
    assert out is None or np.shares_memory(rgb, out), "out must be contiguous uint8"
    return np.asarray(rgb, np.uint8)


def encode_mask(mask: Bool[np.ndarray, "h w"]) -> bytes:
    """A mask as 1-bit PNG: 0.5 kB, a third of what OpenCV's usual settings give, and no slower to decode."""
    bilevel = [cv2.IMWRITE_PNG_BILEVEL, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
    return _image_file(".png", mask.astype(np.uint8) * 255, [*_PNG_SETTINGS, *bilevel])


def decode_mask(data: Data) -> Bool[np.ndarray, "h w"]:
    """The mask of a 1-bit PNG.

    Raises:
        UserError: no whole PNG of one bit, or over MAX_SIDE_PX.
    """
    _check_png(data, 1)
    return np.asarray(_image(data, cv2.IMREAD_UNCHANGED, "PNG") != 0)


def encode_parts(parts: UInt8[np.ndarray, "h w"]) -> bytes:
    """Part labels as 8-bit grey PNG."""
    # Labels are no brightness: differences between neighbours (PNG's filters) make them longer, not shorter.
    return _image_file(
        ".png", np.ascontiguousarray(parts), [*_PNG_SETTINGS, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
    )


def decode_parts(data: Data) -> UInt8[np.ndarray, "h w"]:
    """The labels of an 8-bit grey PNG.

    Raises:
        UserError: no whole grey PNG of eight bits, or over MAX_SIDE_PX.
    """
    _check_png(data, 8)
    return np.asarray(_image(data, cv2.IMREAD_UNCHANGED, "PNG"), np.uint8)


def encode_flow(flow_px: Float[np.ndarray, "h w 2"], valid: Bool[np.ndarray, "h w"]) -> bytes:
    """Flow as zstd of two int16 planes in 1/64 px, each row minus the row above it.

    Rows minus the row above are 21.6 kB where plain planes are 29.1 kB (DIS medium; with finer flow 29.3 and 36.3), and
    take 0.01 ms more to decode. Rows minus the column before, both, or bytes split into planes are larger or slower.

    Args:
        flow_px: displacement; components over MAX_FLOW_PX or not finite are stored as invalid.
        valid: where it counts.
    """
    planes = np.ascontiguousarray(flow_px.transpose(2, 0, 1), np.float32)
    fits = valid & (np.abs(planes) <= MAX_FLOW_PX).all(axis=0)  # False for NaN
    scaled = np.where(fits, np.rint(planes * np.float32(FLOW_UNITS_PER_PX)), np.float32(FLOW_INVALID))
    return _packed(scaled.astype(np.int16))


def decode_flow_int16(data: Data) -> Int16[np.ndarray, "2 h w"]:
    """Flow as stored: planes u, v in 1/64 px, FLOW_INVALID in both where it is invalid.

    Raises:
        UserError: damaged, or over MAX_SIDE_PX.
    """
    return _unpacked(data, 2, "flow")


def decode_flow(data: Data) -> tuple[Float32[np.ndarray, "h w 2"], Bool[np.ndarray, "h w"]]:
    """Flow in pixels, 0 where it is invalid, and where it is valid.

    Raises:
        UserError: damaged, or over MAX_SIDE_PX.
    """
    planes = decode_flow_int16(data)
    valid = planes[0] != FLOW_INVALID
    planes *= valid
    flow_px = np.empty((*valid.shape, 2), np.float32)
    for axis in (0, 1):
        np.multiply(planes[axis], np.float32(1 / FLOW_UNITS_PER_PX), out=flow_px[..., axis])
    return flow_px, valid


def encode_depth(depth_m: Float[np.ndarray, "h w"]) -> bytes:
    """Depth as zstd of uint16 millimetres, each row minus the row above it.

    Args:
        depth_m: metres along the optical axis; 0, negative, over MAX_DEPTH_M or not finite is stored as 0: nothing.
    """
    seen = (depth_m > 0) & (depth_m <= MAX_DEPTH_M)
    scaled = np.where(seen, np.rint(depth_m * DEPTH_UNITS_PER_M), 0)
    return _packed(scaled.astype(np.uint16).view(np.int16)[None])


def decode_depth(data: Data) -> Float32[np.ndarray, "h w"]:
    """Depth in metres, 0 where there is nothing.

    Raises:
        UserError: damaged, or over MAX_SIDE_PX.
    """
    return np.asarray(_unpacked(data, 1, "depth")[0].view(np.uint16) / np.float32(DEPTH_UNITS_PER_M))


def encode_bits(flags: Bool[np.ndarray, " n"]) -> bytes:
    """Flags as bits, the first in the lowest bit of the first byte."""
    return np.packbits(flags, bitorder="little").tobytes()


def decode_bits(data: Data, count: int = NUM_VERTICES) -> Bool[np.ndarray, " n"]:
    """The first `count` flags.

    Raises:
        UserError: not as many bytes as `count` flags take.
    """
    if len(data) != -(-count // 8):
        raise UserError(f"flags of {len(data)} bytes; allowed: {-(-count // 8)} bytes for {count} flags")
    bits = np.unpackbits(np.frombuffer(data, np.uint8), count=count, bitorder="little")
    return bits.view(np.bool_)


_PNG_SETTINGS = [
    *(cv2.IMWRITE_PNG_COMPRESSION, 6),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT),  # OpenCV's own default, RLE, suits photographs
]


def _image_file(ending: str, image: Any, settings: list[int]) -> bytes:
    height, width = image.shape[:2]
    _checked_size((height, width), "picture")
    ok, encoded = cv2.imencode(ending, image, settings)
    assert ok, "encoding cannot fail on uint8 pictures"
    return bytes(encoded.tobytes())


def _image(data: Data, flags: int, kind: str) -> Any:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise UserError(f"damaged {kind} of {len(data)} bytes: {error.err}") from error
    if image is None:
        raise UserError(f"damaged {kind} of {len(data)} bytes: it does not decode")
    return image


def _checked_size(size: tuple[int, int] | None, kind: str) -> tuple[int, int]:
    if size is None:
        raise UserError(f"damaged or no {kind}; allowed: a whole {kind}")
    if min(size) < 1 or max(size) > MAX_SIDE_PX:
        raise UserError(f"{kind} of {size[0]} x {size[1]} px; allowed: 1 to {MAX_SIDE_PX} px a side")
    return size


def _jpeg_size(data: Data) -> tuple[int, int] | None:
    """Height and width of a JPEG's frame header; None where the file is cut off or none."""
    if bytes(data[:2]) != b"\xff\xd8" or bytes(data[-2:]) != b"\xff\xd9":
        return None
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _JPEG_FRAME_MARKERS:
            height, width = struct.unpack_from(">2H", data, at + 5)
            return height, width
        at += 2 + int(struct.unpack_from(">H", data, at + 2)[0])
    return None


def _check_png(data: Data, bits: int) -> None:
    whole = len(data) >= 45 and bytes(data[:8]) == _PNG_SIGNATURE and bytes(data[-8:]) == _PNG_END
    width, height, depth, colour = struct.unpack_from(">2I2B", data, 16) if whole else (0, 0, 0, 0)
    _checked_size((height, width) if whole else None, "PNG")
    if (depth, colour) != (bits, 0):
        raise UserError(f"PNG of {depth} bits and colour type {colour}; allowed here: {bits} bits, grey (0)")


def _packed(planes: Int16[np.ndarray, "c h w"]) -> bytes:
    """A header and the planes, rows minus the row above, modulo 2^16."""
    height, width = _checked_size((planes.shape[1], planes.shape[2]), "picture")
    steps = np.ascontiguousarray(np.diff(planes, axis=1, prepend=np.int16(0)))
    return _HEADER.pack(height, width) + bytes(_zstd().compress(steps, asbytes=True))


def _unpacked(data: Data, planes: int, kind: str) -> Int16[np.ndarray, "c h w"]:
    if len(data) <= _HEADER.size:
        raise UserError(f"damaged {kind} of {len(data)} bytes; allowed: more than {_HEADER.size}")
    height, width = _checked_size(_HEADER.unpack_from(data), kind)
    size = 2 * planes * height * width
    if size > len(data) * _MAX_ZSTD_RATIO:
        raise UserError(f"damaged {kind}: {len(data)} bytes cannot hold {height} x {width} px")
    try:
        raw = _zstd().decompress(memoryview(data)[_HEADER.size :], size)
    except (OSError, ValueError) as error:
        raise UserError(f"damaged {kind} of {len(data)} bytes: {str(error).splitlines()[0]}") from error
    if len(raw) != size:
        raise UserError(f"damaged {kind}: {len(raw)} bytes inside; {height} x {width} px take {size}")
    values = np.array(np.frombuffer(raw, np.int16).reshape(planes, height, width))
    _undo_steps()(values)
    return values


@functools.cache
def _zstd() -> Any:
    """The codec; made on first use because it does not pickle."""
    return pa.Codec("zstd", compression_level=_ZSTD_LEVEL)


@functools.cache
def _undo_steps() -> Callable[[Int16[np.ndarray, "c h w"]], None]:
    """Sum of the rows so far, in place, modulo 2^16.

    Compiled on first use: numpy's cumsum takes 0.2 ms for what is 5 us here, and a loop over its rows takes and drops
    the interpreter's lock once per row, which starves threaded loaders.
    """
    import numba

    @numba.njit(nogil=True)  # type: ignore[untyped-decorator,unused-ignore]
    @no_type_check
    def undo(planes: Any) -> None:
        for c in range(planes.shape[0]):
            for y in range(1, planes.shape[1]):
                for x in range(planes.shape[2]):
                    planes[c, y, x] += planes[c, y - 1, x]

    return undo  # type: ignore[no-any-return,unused-ignore]
