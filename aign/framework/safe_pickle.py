"""Reading other people's pickles without running other people's code.

Research data arrive as pickles (SMPL bodies) and as .npz files with pickled members (VideoPose3D). A pickle names the
functions it wants called; here only the few that rebuild numpy arrays are answered. Everything else is refused by name.
"""

import codecs
import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped
from numpy._core import multiarray as np_multiarray
from numpy._core import numeric as np_numeric

from aign.framework.errors import UserError


class ChumpyArray:
    """Stands for chumpy.ch.Ch: keeps the pickled state (the values are under `x`) and can do nothing."""


class ChumpySelect:
    """Stands for chumpy.reordering.Select: `a.ravel()[idxs].reshape(preferred_shape)`."""


class SparseColumns:
    """Stands for scipy.sparse.csc_matrix: `data`, `indices`, `indptr`, `_shape`."""


def _encode(text: str, encoding: str) -> bytes:
    """What Python 3 writes for bytes in protocol 2; the only encoding it uses is latin1."""
    if encoding not in {"latin1", "latin-1"}:
        raise UserError(f"a pickle asks for the text encoding {encoding!r}; only latin1 is allowed")
    return codecs.encode(text, "latin1")


_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): np_multiarray._reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): np_multiarray._reconstruct,
    ("numpy.core.multiarray", "scalar"): np_multiarray.scalar,
    ("numpy._core.multiarray", "scalar"): np_multiarray.scalar,
    ("numpy.core.numeric", "_frombuffer"): np_numeric._frombuffer,  # type: ignore[attr-defined]
    ("numpy._core.numeric", "_frombuffer"): np_numeric._frombuffer,  # type: ignore[attr-defined]
    ("scipy.sparse.csc", "csc_matrix"): SparseColumns,
    ("scipy.sparse._csc", "csc_matrix"): SparseColumns,
    ("chumpy.ch", "Ch"): ChumpyArray,
    ("chumpy.reordering", "Select"): ChumpySelect,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _encode,
}

_BROKEN = (
    pickle.UnpicklingError,
    EOFError,
    AttributeError,
    ImportError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    TypeError,
    ValueError,
)
"""What a truncated or nonsensical pickle makes the unpickler raise."""


class _Restricted(pickle.Unpickler):
    def __init__(self, stream: io.BufferedIOBase, name: str) -> None:
        super().__init__(stream, encoding="latin1")
        self._name = name

    def find_class(self, module: str, name: str) -> Any:
        found = _ALLOWED.get((module, name))
        if found is None:
            raise UserError(
                f"{self._name}: the pickle asks for {module}.{name}, which is refused; "
                "only plain numpy, scipy.sparse and chumpy arrays are read"
            )
        return found

    def persistent_load(self, pid: Any) -> Any:
        raise UserError(f"{self._name}: the pickle refers to an outside object ({pid!r}), which is refused")


def _loads(data: bytes, name: str) -> Any:
    try:
        return _Restricted(io.BytesIO(data), name).load()
    except UserError:
        raise
    except _BROKEN as error:
        raise UserError(f"{name}: not a complete pickle ({type(error).__name__}: {error})") from error


def load_pickle(path: Path | str) -> Any:
    """Unpickle a file that holds only arrays and plain containers.

    Raises:
        UserError: The file is missing, truncated, or asks for anything that is not on the allow-list.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    return _loads(path.read_bytes(), str(path))


def to_array(value: Any, name: str) -> Shaped[np.ndarray, "..."]:
    """The numbers inside a numpy array, a chumpy array or selection, or a sparse matrix, as an ndarray.

    Raises:
        UserError: The value is none of these, or its parts do not fit together.
    """
    try:
        if isinstance(value, ChumpyArray):
            return to_array(vars(value)["x"], name)
        if isinstance(value, ChumpySelect):
            state = vars(value)
            picked = to_array(state["a"], name).ravel()[np.asarray(state["idxs"], dtype=np.int64).ravel()]
            return picked.reshape(tuple(int(n) for n in state["preferred_shape"]))
        if isinstance(value, SparseColumns):
            return _dense(vars(value))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UserError(f"{name}: a damaged {type(value).__name__} ({type(error).__name__}: {error})") from error
    if isinstance(value, np.ndarray | np.generic | int | float | str | bytes | list | tuple):
        array = np.asarray(value)
        if not array.dtype.hasobject:
            return array
    raise UserError(f"{name}: got {type(value).__name__}, allowed is an array of numbers")


def _dense(state: dict[str, Any]) -> Shaped[np.ndarray, "r c"]:
    """Compressed columns -> a full matrix; repeated entries add up, as in scipy."""
    rows, columns = (int(n) for n in state["_shape"])
    indptr = np.asarray(state["indptr"], dtype=np.int64)
    if indptr.shape != (columns + 1,):
        raise ValueError(f"indptr has shape {indptr.shape} for {columns} columns")
    data = np.asarray(state["data"])
    dense = np.zeros((rows, columns), data.dtype)
    np.add.at(
        dense, (np.asarray(state["indices"], dtype=np.int64), np.repeat(np.arange(columns), np.diff(indptr))), data
    )
    return dense


def load_object_npz(path: Path | str) -> dict[str, Any]:
    """Read an .npz whose members may be pickled objects, through the restricted unpickler.

    Plain members come back as arrays; a 0-d object member comes back as the object it holds (VideoPose3D's nested
    dictionaries); other object members as object arrays.

    Raises:
        UserError: Not an .npz, truncated, or a member asks for anything that is not on the allow-list.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            members = {n: archive.read(n) for n in archive.namelist() if n.endswith(".npy")}
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, RuntimeError, zipfile.zlib.error) as error:  # type: ignore[attr-defined]
        raise UserError(f"{path}: not a complete .npz file ({type(error).__name__}: {error})") from error
    if not members:
        raise UserError(f"{path}: no arrays in it; an .npz holds members named *.npy")
    return {
        n.removesuffix(".npy"): _read_member(data, f"{path}[{n.removesuffix('.npy')}]") for n, data in members.items()
    }


def _read_member(data: bytes, name: str) -> Any:
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(stream)
        if not dtype.hasobject:
            stream.seek(0)
            return np.lib.format.read_array(stream, allow_pickle=False)
    except (ValueError, EOFError, MemoryError) as error:
        raise UserError(f"{name}: not a complete array ({type(error).__name__}: {error})") from error
    held = _loads(data[stream.tell() :], name)
    if not isinstance(held, np.ndarray) or held.dtype != object or held.size != int(np.prod(shape)):
        raise UserError(
            f"{name}: the header promises an object array of shape {shape}, the pickle holds something else"
        )
    held = held.reshape(shape, order="F" if fortran else "C")
    return held.item() if held.ndim == 0 else held
