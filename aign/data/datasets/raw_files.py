"""What loaders of published data sets share: MATLAB files, checked arrays, hashes, stretches of valid frames."""

import hashlib
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from jaxtyping import Bool, Float

from aign.framework.errors import UserError

# What scipy raises on a truncated, mangled or foreign .mat file (NotImplementedError: version 7.3, which is HDF5).
_BROKEN_MAT = (
    scipy.io.matlab.MatReadError,
    NotImplementedError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    OverflowError,
    MemoryError,
    OSError,
    zlib.error,
    struct.error,
)


def read_mat(path: Path, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Variables of a MATLAB file of version 5, all or the named ones that are there. Nothing in it is run.

    Raises:
        UserError: no such file, damaged, or of version 7.3.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        content = scipy.io.loadmat(path, variable_names=None if names is None else list(names))
    except _BROKEN_MAT as error:
        raise UserError(f"{path}: not a whole MATLAB file of version 5 ({type(error).__name__}: {error})") from error
    return {name: value for name, value in content.items() if not name.startswith("__")}


def entry(content: Mapping[str, Any], name: str, path: Path) -> Any:
    """One variable of a file.

    Raises:
        UserError: it is not there; the message lists some that are.
    """
    if name not in content:
        there = sorted(map(str, content))
        more = f" and {len(there) - 12} more" if len(there) > 12 else ""
        raise UserError(f"{path}: no {name} in it; it has {', '.join(there[:12]) or 'nothing'}{more}")
    return content[name]


def numbers(value: Any, shape: tuple[int | None, ...], where: str) -> Float[np.ndarray, "..."]:
    """A float64 array of this shape, None standing for any size.

    Raises:
        UserError: other things than numbers, another shape, or values that are not finite.
    """
    try:
        array = np.asarray(value)
    except ValueError as error:  # lists of unequal length
        raise UserError(f"{where}: not an array ({error})") from error
    if array.dtype.kind not in "fiu":
        raise UserError(f"{where}: holds {array.dtype}; numbers are needed")
    if array.ndim != len(shape) or any(n is not None and n != m for n, m in zip(shape, array.shape, strict=True)):
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise UserError(f"{where}: has shape {array.shape}; ({wanted}) is needed")
    if array.size == 0:
        raise UserError(f"{where}: has shape {array.shape}, so there is nothing in it")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise UserError(f"{where}: {int((~np.isfinite(array)).sum())} of {array.size} values are NaN or infinite")
    return array


@lru_cache(maxsize=4096)
def _sha256(path: str, _size: int, _modified_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(path: Path) -> str:
    """Sha256 of a file's content, "absent" where it cannot be read (making clips of it will say why).

    Reads a file once, as long as its size and time of change stay.
    """
    try:
        stat = path.stat()
        return _sha256(str(path), stat.st_size, stat.st_mtime_ns)
    except OSError:
        return "absent"


def listing_sha256(files: Sequence[Path]) -> str:
    """Sha256 of names and sizes: stands for folders of pictures, whose content would take hours to hash."""
    try:
        return sizes_sha256([(file.name, file.stat().st_size) for file in sorted(files)])
    except OSError:
        return "absent"


def sizes_sha256(sizes: Iterable[tuple[str, int | str]]) -> str:
    """Sha256 of names and sizes that are known already."""
    return hashlib.sha256("\n".join(f"{name} {size}" for name, size in sizes).encode()).hexdigest()


def some(names: Sequence[str], most: int = 3) -> str:
    """The first few of a list, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def stretches(valid: Bool[np.ndarray, " t"]) -> list[slice]:
    """The longest runs of consecutive valid frames, in order."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], valid, [False])).astype(np.int8)))
    return [slice(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
