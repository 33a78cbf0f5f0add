"""Human3.6M's silhouettes: MySegmentsMat/ground_truth_bs/*.mat, MATLAB v7.3, which is HDF5 (protocols 3.5 a)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import h5py
import numpy as np
from jaxtyping import Bool

from aign.framework.errors import UserError

BROKEN_HDF5 = (OSError, KeyError, ValueError, TypeError, RuntimeError)
"""What h5py raises on a truncated or foreign file."""


def read_silhouettes(
    path: Path, rows: Sequence[slice], size_px: tuple[int, int], left_out: list[str]
) -> Iterator[Bool[np.ndarray, "h w"]]:
    """The person's masks of some frames, one at a time. Frames that the file lacks have empty ones, and a line says so.

    Convention: `Masks` holds one object reference per frame; MATLAB stores columns first, so each is transposed.

    Args:
        path: the file.
        rows: frames from 0.
        size_px: w, h that the masks must have.
        left_out: takes the line about frames without mask.

    Raises:
        UserError: missing, damaged, no HDF5, not such a file, or masks of another size.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    width, height = size_px
    try:
        with h5py.File(path, "r") as file:
            held = file.get("Masks", getclass=True)
            if held is not h5py.Dataset or h5py.check_ref_dtype(file["Masks"].dtype) is not h5py.Reference:
                raise UserError(f"{path}: no Masks in it (object references, one a frame); it has {', '.join(file)}")
            references = np.asarray(file["Masks"]).reshape(-1)
            wanted = max((row.stop for row in rows), default=0)
            if wanted > len(references):
                left_out.append(f"{path.name}: masks of frames {len(references)} to {wanted} are not there; left empty")
            for number in (n for row in rows for n in range(row.start, row.stop)):
                if number >= len(references):
                    yield np.zeros((height, width), bool)
                    continue
                mask = np.asarray(file[references[number]]).T
                if mask.shape != (height, width):
                    raise UserError(f"{path}: mask {number} is {mask.shape[::-1]}; {width} x {height} px are needed")
                yield mask > 0
    except BROKEN_HDF5 as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: not a whole MATLAB 7.3 file ({type(error).__name__}: {error})") from error
