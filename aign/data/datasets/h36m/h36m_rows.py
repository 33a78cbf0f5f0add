"""Rows of large .npz lists without reading the whole of them: lists of every Human3.6M frame hold a gigabyte."""

import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from aign.framework.errors import UserError

CHUNK_ROWS = 65536
_LOCAL_HEADER = struct.Struct("<26xHH")
_BROKEN = (
    zipfile.BadZipFile,
    OSError,
    EOFError,
    ValueError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, kw_only=True)
class _Member:
    """One array: its type, and where its values begin in the member and, if it is not compressed, in the file."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    skip: int
    offset: int | None


class NpzRows:
    """The plain arrays of an .npz file, by rows. Members of pickled objects are refused: nothing in the file is run."""

    def __init__(self, path: Path) -> None:
        """Read the headers.

        Raises:
            UserError: missing, truncated or no .npz.
        """
        self.path = path
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        try:
            with zipfile.ZipFile(path) as archive:
                names = [n for n in archive.namelist() if n.endswith(".npy")]
                self._members = {name.removesuffix(".npy"): self._header(archive, name) for name in names}
        except _BROKEN as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{path}: not a whole .npz file ({type(error).__name__}: {error})") from error

    @property
    def names(self) -> tuple[str, ...]:
        """The arrays."""
        return tuple(self._members)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one array.

        Raises:
            UserError: there is none of that name, or it holds pickled objects.
        """
        return self._member(name).shape

    def take(self, name: str, runs: Sequence[tuple[int, int]]) -> Shaped[np.ndarray, "n ..."]:
        """The rows first <= i < last of ascending runs, in order.

        Raises:
            UserError: no such array or rows, or the file ends before them.
        """
        member = self._member(name)
        if not runs or runs[0][0] < 0 or runs[-1][1] > (member.shape or (0,))[0]:
            raise UserError(f"{self.path}: rows {runs[:1]} to {runs[-1:]} of {name}, which has shape {member.shape}")
        try:
            if member.offset is not None:
                held = np.memmap(self.path, member.dtype, "r", member.offset, member.shape)
                return np.concatenate([held[first:last] for first, last in runs])
            return np.concatenate(list(self._inflated(name, member, runs)))
        except _BROKEN as error:
            raise UserError(f"{self.path}: {name} is damaged ({type(error).__name__}: {error})") from error

    def chunks(self, name: str) -> Iterator[Shaped[np.ndarray, "n ..."]]:
        """All rows, some at a time.

        Raises:
            UserError: as `take`.
        """
        member = self._member(name)
        count = (member.shape or (0,))[0]
        runs = [(first, min(first + CHUNK_ROWS, count)) for first in range(0, count, CHUNK_ROWS)]
        if member.offset is not None:
            yield from (self.take(name, [run]) for run in runs)
            return
        try:
            yield from self._inflated(name, member, runs)
        except _BROKEN as error:
            raise UserError(f"{self.path}: {name} is damaged ({type(error).__name__}: {error})") from error

    def _member(self, name: str) -> _Member:
        if name not in self._members:
            raise UserError(f"{self.path}: no {name} in it; it has {', '.join(self._members) or 'nothing'}")
        member = self._members[name]
        if member.dtype.hasobject:
            raise UserError(f"{self.path}: {name} is pickled objects, which are refused; a plain array is needed")
        return member

    def _inflated(
        self, name: str, member: _Member, runs: Sequence[tuple[int, int]]
    ) -> Iterator[Shaped[np.ndarray, "n ..."]]:
        row_shape = member.shape[1:]
        row_bytes = member.dtype.itemsize * int(np.prod(row_shape))
        with zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as stream:
            for first, last in runs:
                stream.seek(member.skip + first * row_bytes)
                data = stream.read((last - first) * row_bytes)
                yield np.frombuffer(data, member.dtype).reshape(last - first, *row_shape)

    def _header(self, archive: zipfile.ZipFile, name: str) -> _Member:
        with archive.open(name) as stream:
            version = np.lib.format.read_magic(stream)
            if version == (1, 0):
                shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
            elif version == (2, 0):
                shape, fortran, dtype = np.lib.format.read_array_header_2_0(stream)
            else:
                raise UserError(f"{self.path}: {name} is of npy version {version}; 1.0 and 2.0 are read")
            skip = stream.tell()
        if fortran and len(shape) > 1:
            raise UserError(f"{self.path}: {name} is stored columns first; rows first is needed")
        info = archive.getinfo(name)
        offset = None
        if info.compress_type == zipfile.ZIP_STORED and int(np.prod(shape)) > 0 and not dtype.hasobject:
            with self.path.open("rb") as file:
                file.seek(info.header_offset)
                lengths = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
            # A local header is 30 bytes, then name and extra field, whose lengths are its last two numbers.
            offset = info.header_offset + 30 + sum(lengths) + skip
        return _Member(shape=shape, dtype=dtype, skip=skip, offset=offset)
