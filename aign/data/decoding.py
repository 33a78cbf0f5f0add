"""Which byte column becomes which tensor, decoded into a batch by several threads.

    column                    tensor                 item of the batch
    image_jpeg, face_jpeg     image_rgb, face_rgb    uint8 [h, w, 3]
    mask_png                  mask                   bool [h, w]
    parts_png                 parts                  uint8 [h, w]: 0 background, 1..24 SMPL's parts
    flow_zst, flow_back_zst   flow_64th_px, flow_back_64th_px   int16 [2, h, w]: `flow_from_64ths`
    depth_zst                 depth_mm               uint16 [h, w]: `depth_from_mm`
    visible_bits              visible                bool [vertices]

Tensors are as small as what is stored: normalising, and turning integers into pixels and metres, is the device's work.
Flow as float32 and a mask would take 2.25 times the bytes to the device, and longer to decode.
"""

from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int16, UInt16
from torch import Tensor

from aign.data import pixels
from aign.framework.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How one byte column becomes a tensor.

    Args:
        tensor: its name in a batch.
        decode: bytes to an item.
        decode_into: the same into an item of a batch; UserError if that has another shape.
    """

    tensor: str
    decode: Callable[[bytes], np.ndarray]
    decode_into: Callable[[bytes, np.ndarray], object]


def _copied(tensor: str, decode: Callable[[bytes], np.ndarray]) -> Decoding:
    def decode_into(data: bytes, out: np.ndarray) -> None:
        item = decode(data)
        if item.shape != out.shape:  # numpy would broadcast some
            raise UserError(f"an item of {_size(item)}; allowed here: {_size(out)}")
        out[...] = item

    return Decoding(tensor=tensor, decode=decode, decode_into=decode_into)


def _picture(tensor: str) -> Decoding:
    return Decoding(tensor=tensor, decode=pixels.decode_jpeg, decode_into=pixels.decode_jpeg)


def _depth_mm(data: bytes) -> UInt16[np.ndarray, "h w"]:
    return np.asarray(np.rint(pixels.decode_depth(data) * pixels.DEPTH_UNITS_PER_M), np.uint16)


DECODINGS: Mapping[str, Decoding] = {
    "image_jpeg": _picture("image_rgb"),
    "face_jpeg": _picture("face_rgb"),
    "mask_png": _copied("mask", pixels.decode_mask),
    "parts_png": _copied("parts", pixels.decode_parts),
    "flow_zst": _copied("flow_64th_px", pixels.decode_flow_int16),
    "flow_back_zst": _copied("flow_back_64th_px", pixels.decode_flow_int16),
    "depth_zst": _copied("depth_mm", _depth_mm),
    "visible_bits": _copied("visible", pixels.decode_bits),
}


def flow_from_64ths(
    flow_64th_px: Int16[Tensor, "*b 2 h w"],
) -> tuple[Float32[Tensor, "*b 2 h w"], Bool[Tensor, "*b h w"]]:
    """Flow as a batch holds it, in pixels; to be called where the flow is used, on the device.

    Convention: planes u, v = (x right, y down), as `aign.data.pixels`.

    Returns:
        flow in pixels, 0 where it is invalid, and where it is valid.
    """
    valid = flow_64th_px[..., 0, :, :] != pixels.FLOW_INVALID
    return flow_64th_px * valid[..., None, :, :] / float(pixels.FLOW_UNITS_PER_PX), valid


def depth_from_mm(depth_mm: UInt16[Tensor, "*b h w"]) -> tuple[Float32[Tensor, "*b h w"], Bool[Tensor, "*b h w"]]:
    """Depth as a batch holds it, in metres along the optical axis (0: nothing there), and where there is something."""
    depth = depth_mm.float()
    return depth / float(pixels.DEPTH_UNITS_PER_M), depth != 0


Task = tuple[int, Decoding, bytes, np.ndarray]
"""Number of the item in all columns, how to decode it, what and whereto."""


class Decoder:
    """Decodes the byte columns of batches; the result does not depend on the number of threads.

    Args:
        threads: that decode at once, the caller's among them.
    """

    def __init__(self, threads: int) -> None:
        self._helpers = threads - 1
        self._pool = ThreadPoolExecutor(max_workers=max(1, self._helpers), thread_name_prefix="aign-decode")

    def decode(self, encoded: Mapping[str, np.ndarray], place: Callable[[str, int], str]) -> dict[str, np.ndarray]:
        """Decode every item of some columns.

        Args:
            encoded: by column: bytes [b] or [b, window].
            place: names item i of the flattened column in errors.

        Returns:
            by tensor: [b, ...] or [b, window, ...].

        Raises:
            UserError: naming the first item that is damaged, or has not the size of the first one of its column.
        """
        arrays: dict[str, np.ndarray] = {}
        tasks: deque[Task] = deque()
        names, starts = list(encoded), [0]
        for name, items in encoded.items():
            decoding, flat = DECODINGS[name], items.reshape(-1)
            try:
                first = decoding.decode(flat[0])
            except UserError as error:
                raise UserError(f"{place(name, 0)}: {error}") from error
            batch = np.empty((len(flat), *first.shape), first.dtype)
            batch[0] = first
            tasks.extend((starts[-1] + i, decoding, flat[i], batch[i]) for i in range(1, len(flat)))
            starts.append(starts[-1] + len(flat))
            arrays[decoding.tensor] = batch.reshape(*items.shape, *first.shape)
        failed = self._run(tasks)
        if failed is not None:
            number, decoding, data, out = failed
            column = int(np.searchsorted(starts, number, side="right")) - 1
            what = _problem(decoding, data, out)
            raise UserError(f"{place(names[column], number - starts[column])}: {what}")
        return arrays

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, tasks: deque[Task]) -> Task | None:
        """Do all tasks; the first one that failed, or None."""
        helpers = [self._pool.submit(_drain, tasks) for _ in range(self._helpers)]
        failed = [_drain(tasks), *(helper.result() for helper in helpers)]
        # Tasks are taken in order and every task that was taken is finished: the first failure is always among these.
        return min((task for task in failed if task is not None), key=lambda task: task[0], default=None)


def _drain(tasks: deque[Task]) -> Task | None:
    """Do tasks until none is left (None) or one fails, which ends it and is returned; threads share a deque safely."""
    while True:
        try:
            task = tasks.popleft()
        except IndexError:
            return None
        _, decoding, data, out = task
        try:
            decoding.decode_into(data, out)
        except UserError:
            tasks.clear()
            return task


def _problem(decoding: Decoding, data: bytes, out: np.ndarray) -> str:
    try:
        item = decoding.decode(data)
    except UserError as error:
        return str(error)
    return f"got a {decoding.tensor} of {_size(item)}; the first of its batch has {_size(out)}: a batch needs one size"


def _size(item: np.ndarray) -> str:
    return " x ".join(map(str, item.shape))
