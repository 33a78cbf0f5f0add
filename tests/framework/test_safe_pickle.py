"""Other people's pickles: read where harmless, refused by name where not, one clear error where broken."""

import os
import pickle
import pickletools
import sys
import types
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from aign.framework.errors import UserError
from aign.framework.safe_pickle import load_object_npz, load_pickle, to_array


class Hostile:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def fake_class(monkeypatch, module, name):
    """A class that pickles as module.name, as chumpy's and old scipy's do."""
    holder = types.ModuleType(module)
    made = type(name, (), {"__module__": module})
    setattr(holder, name, made)
    for part in range(1, module.count(".") + 1):
        parent = ".".join(module.split(".")[:part])
        monkeypatch.setitem(sys.modules, parent, sys.modules.get(parent, types.ModuleType(parent)))
    monkeypatch.setitem(sys.modules, module, holder)
    return made


def test_plain_arrays_come_back_in_every_protocol(tmp_path):
    content = OrderedDict(a=np.arange(6.0).reshape(2, 3), b=np.float32(2.5), c=["x", {"y": np.array([1, 2], np.int16)}])
    for protocol in range(6):
        path = tmp_path / f"{protocol}.pkl"
        path.write_bytes(pickle.dumps(content, protocol=protocol if protocol else 2))
        got = load_pickle(path)
        np.testing.assert_array_equal(got["a"], content["a"])
        assert got["b"] == np.float32(2.5)
        np.testing.assert_array_equal(got["c"][1]["y"], [1, 2])


def test_chumpy_and_sparse_arrays_are_read_without_their_packages(tmp_path, monkeypatch):
    ch = fake_class(monkeypatch, "chumpy.ch", "Ch")()
    ch.x = np.arange(24.0).reshape(2, 3, 4)
    select = fake_class(monkeypatch, "chumpy.reordering", "Select")()
    select.a, select.idxs, select.preferred_shape = ch, np.array([0, 1, 4, 5]), (2, 2)
    sparse = fake_class(monkeypatch, "scipy.sparse.csc", "csc_matrix")()
    sparse.data, sparse.indices = np.array([1.0, 2.0, 3.0]), np.array([0, 1, 1], np.int32)
    sparse.indptr, sparse._shape = np.array([0, 1, 1, 3], np.int32), (2, 3)
    path = tmp_path / "body.pkl"
    path.write_bytes(pickle.dumps({"ch": ch, "select": select, "sparse": sparse}, protocol=2))
    assert any(op.name == "PROTO" and arg == 2 for op, arg, _ in pickletools.genops(path.read_bytes()))
    for name in ("chumpy.ch", "chumpy.reordering", "scipy.sparse.csc"):
        monkeypatch.delitem(sys.modules, name)
    got = load_pickle(path)
    np.testing.assert_array_equal(to_array(got["ch"], "ch"), ch.x)
    np.testing.assert_array_equal(to_array(got["select"], "select"), [[0, 1], [4, 5]])
    np.testing.assert_array_equal(to_array(got["sparse"], "sparse"), [[1, 0, 0], [0, 0, 5]])


def test_real_scipy_matrix_is_read(tmp_path):
    scipy_sparse = pytest.importorskip("scipy.sparse")
    dense = np.array([[0.0, 1.0, 0.0], [2.0, 0.0, 3.0]])
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps(scipy_sparse.csc_matrix(dense), protocol=2))
    np.testing.assert_array_equal(to_array(load_pickle(path), "m"), dense)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_hostile_pickle_is_refused_and_named(tmp_path, protocol):
    marker = tmp_path / "ran"
    path = tmp_path / "smpl.pkl"
    path.write_bytes(pickle.dumps({"v_template": Hostile(marker)}, protocol=protocol))
    with pytest.raises(UserError, match=r"smpl\.pkl.*posix\.system.*refused"):
        load_pickle(path)
    assert not marker.exists()


def test_hostile_npz_member_is_refused_and_named(tmp_path):
    marker = tmp_path / "ran"
    path = tmp_path / "data.npz"
    np.savez(path, good=np.arange(3), bad=np.array(Hostile(marker), dtype=object))
    with pytest.raises(UserError, match=r"data\.npz\[bad\].*posix\.system.*refused"):
        load_object_npz(path)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["builtins\neval", "builtins\ngetattr", "numpy\nload", "scipy.sparse._csc\ncsc_array"])
def test_only_the_listed_globals_are_answered(tmp_path, name):
    path = tmp_path / "x.pkl"
    path.write_bytes(f"c{name}\n.".encode())
    with pytest.raises(UserError, match=name.replace("\n", r"\.")):
        load_pickle(path)


def test_videopose_layout_is_read(tmp_path):
    path = tmp_path / "data_3d_h36m.npz"
    content = {"S1": {"Directions 1": np.zeros((5, 32, 3), np.float32)}}
    np.savez_compressed(
        path, positions_3d=content, plain=np.arange(4), rows=np.array([np.zeros(2), np.ones(3)], object)
    )
    got = load_object_npz(path)
    assert got["positions_3d"]["S1"]["Directions 1"].shape == (5, 32, 3)
    np.testing.assert_array_equal(got["plain"], np.arange(4))
    assert [len(r) for r in got["rows"]] == [2, 3]


def test_truncated_files_are_one_user_error(tmp_path):
    whole = pickle.dumps({"a": np.arange(1000.0)}, protocol=2)
    np.savez(tmp_path / "whole.npz", a={"x": np.arange(100.0)})
    zipped = (tmp_path / "whole.npz").read_bytes()
    for cut in (0, 1, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.pkl").write_bytes(whole[:cut])
        with pytest.raises(UserError, match=r"cut\.pkl"):
            load_pickle(tmp_path / "cut.pkl")
    for cut in (0, 10, len(zipped) // 2, len(zipped) - 1):
        (tmp_path / "cut.npz").write_bytes(zipped[:cut])
        with pytest.raises(UserError, match=r"cut\.npz"):
            load_object_npz(tmp_path / "cut.npz")
    with pytest.raises(UserError, match="no such file"):
        load_pickle(tmp_path / "none.pkl")


def test_garbage_never_escapes_as_another_error(tmp_path):
    rng = np.random.default_rng(0)
    whole = bytearray(pickle.dumps({"a": np.arange(50.0), "b": [1, "x"]}, protocol=2))
    path = tmp_path / "g.pkl"
    for _ in range(300):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(0, 256)
        path.write_bytes(bytes(data))
        try:
            load_pickle(path)
        except UserError:
            continue


def test_member_that_lies_about_its_shape_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, a=np.array([{"k": 1}, {"k": 2}], dtype=object))
    with zipfile.ZipFile(path) as archive:
        data = archive.read("a.npy")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", data.replace(b"(2,)", b"(3,)"))
    with pytest.raises(UserError, match=r"x\.npz\[a\].*shape"):
        load_object_npz(path)


@pytest.mark.parametrize("value", [None, object(), np.array([None]), {"x": 1}])
def test_to_array_names_what_it_cannot_use(value):
    with pytest.raises(UserError, match="shapedirs"):
        to_array(value, "shapedirs")


def test_damaged_sparse_matrix_is_named(tmp_path, monkeypatch):
    sparse = fake_class(monkeypatch, "scipy.sparse.csc", "csc_matrix")()
    sparse.data, sparse.indices, sparse.indptr, sparse._shape = np.ones(2), np.array([0, 9]), np.array([0, 2]), (2, 1)
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps(sparse, protocol=2))
    with pytest.raises(UserError, match=r"J_regressor.*SparseColumns"):
        to_array(load_pickle(path), "J_regressor")
