"""The default body is a good body, loads in smplx, and every other file is read safely or refused clearly."""

import pickle
import sys
import types

import numpy as np
import pytest
import smplx
import torch

from aign.body.assets import DEFAULT_BODY, load_body
from aign.framework.errors import UserError
from aign.geometry.skeleton import H36M17, SMPL24
from tests.body.toy_body import toy_arrays


@pytest.fixture(scope="module")
def raw():
    with np.load(DEFAULT_BODY) as file:
        return {k: file[k] for k in file.files}


def test_default_body_has_smpls_counts_and_is_closed(raw):
    assert DEFAULT_BODY.stat().st_size < 4e6
    assert raw["v_template"].shape == (6890, 3)
    assert raw["f"].shape == (13776, 3)
    assert raw["kintree_table"].dtype == np.uint32
    assert raw["kintree_table"][0, 0] == 4294967295
    faces = raw["f"].astype(np.int64)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    directed = {tuple(e) for e in edges.tolist()}
    assert len(directed) == len(edges)  # consistently oriented
    assert all((b, a) in directed for a, b in directed)  # closed
    assert 6890 - len(edges) // 2 + 13776 == 2  # a sphere
    corners = raw["v_template"][faces]
    assert np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6 > 0.04  # outward, m3


def test_default_body_weights_and_regressors(raw):
    assert (raw["weights"] >= 0).all()
    assert ((raw["weights"] > 0).sum(1) <= 4).all()
    np.testing.assert_allclose(raw["weights"].sum(1), 1, atol=1e-12)
    for key in ("J_regressor", "h36m17_regressor"):
        np.testing.assert_allclose(raw[key].sum(1), 1, atol=1e-12)
    assert not raw["posedirs"].any()
    assert "CC0" in str(raw["licence"]) + str(raw["notice"])


def test_default_body_is_symmetric(raw):
    sym = raw["vert_sym_idxs"]
    mirrored = raw["v_template"][sym] * [-1, 1, 1]
    np.testing.assert_allclose(mirrored, raw["v_template"], atol=1e-6)
    np.testing.assert_array_equal(sym[sym], np.arange(6890))
    faces = {tuple(sorted(f)) for f in raw["f"].tolist()}
    assert {tuple(sorted(f)) for f in sym[raw["f"].astype(int)].tolist()} == faces


def test_convention_template_metres_y_up_facing_z_left_is_plus_x():
    body = load_body()
    joints = dict(zip(SMPL24.joints, body.rest_joints_m, strict=True))
    height = float(body.v_template_m[:, 1].max() - body.v_template_m[:, 1].min())
    assert 1.65 < height < 1.78
    assert joints["head"][1] > joints["pelvis"][1] > joints["l_knee"][1] > joints["l_ankle"][1]
    assert joints["l_wrist"][0] > joints["l_elbow"][0] > joints["l_shoulder"][0] > 0.1
    assert joints["l_foot"][2] > joints["l_ankle"][2] + 0.05  # toes point forward
    assert float((joints["l_wrist"] - joints["l_shoulder"])[1].abs()) < 0.01  # arms along x
    assert float(joints["pelvis"].abs().max()) < 1e-3


def test_default_body_loads_in_smplx_with_its_landmarks_in_place(raw):
    model = smplx.SMPL(str(DEFAULT_BODY), data_struct=smplx.utils.Struct(**raw))
    joints = model().joints[0].detach()
    assert joints.shape == (45, 3)
    names = ["nose", "reye", "leye", "rear", "lear", "lbig", "lsmall", "lheel", "rbig", "rsmall", "rheel"]
    names += [f"{s}{f}" for s in "lr" for f in ("thumb", "index", "middle", "ring", "pinky")]
    at = dict(zip(names, joints[24:], strict=True))
    head, wrist, ankle = joints[15], joints[20], joints[7]
    assert at["nose"][2] > head[2] + 0.07
    assert abs(at["nose"][0]) < 1e-3
    assert 0.02 < at["leye"][0] < 0.05
    assert at["leye"][1] > at["nose"][1]
    assert 0.05 < at["lear"][0] < 0.1
    assert at["lear"][2] < at["leye"][2]
    assert at["lbig"][2] > ankle[2] + 0.1
    assert at["lsmall"][0] > at["lbig"][0]
    assert at["lheel"][2] < ankle[2]
    assert at["lheel"][1] < ankle[1]
    assert all(at[f"l{f}"][0] > wrist[0] + 0.05 for f in ("thumb", "index", "middle", "ring", "pinky"))
    assert at["lthumb"][2] > at["lindex"][2] > at["lpinky"][2]  # palms down, thumbs forward
    for name in ("eye", "ear", "heel", "big", "thumb", "pinky"):
        torch.testing.assert_close(at[f"r{name}"] * torch.tensor([-1.0, 1, 1]), at[f"l{name}"], atol=1e-5, rtol=0)


def test_shapes_vary_like_people_and_joints_follow():
    body = load_body()
    for sign in (-2.0, 2.0):
        shaped = body.v_template_m + sign * body.shape_dirs[..., 0]
        assert 1.45 < float(shaped[:, 1].max() - shaped[:, 1].min()) < 2.0
        joints = body.joint_regressor @ shaped
        assert float(joints[0].norm()) < 0.02
        assert float(joints[20, 0]) > float(joints[18, 0])
    energy = body.shape_dirs.square().sum((0, 1))
    assert (energy[:-1] >= energy[1:]).all()


def test_h36m17_points_lie_where_human36m_has_them():
    body = load_body()
    joints = dict(zip(H36M17.joints, body.h36m17_regressor @ body.v_template_m, strict=True))
    index = {j: i for i, j in enumerate(H36M17.joints)}
    right = [j for j in H36M17.joints if j.startswith("r_")]
    assert len(right) == 6
    assert all(joints[j][0] < -0.05 for j in right)
    assert [index[j] for j in right] == [1, 2, 3, 14, 15, 16]
    rows = body.h36m17_regressor @ body.v_template_m
    assert 0.22 < float(rows[4, 0] - rows[1, 0]) < 0.30  # hips 0.26 m apart, wider than SMPL's
    assert 0.40 < float(rows[8, 1] - rows[0, 1]) < 0.52
    assert rows[10, 1] > rows[9, 1] > rows[8, 1]


def write_pickle(path, arrays, monkeypatch, wrapped):
    """As the licensed files are: protocol 2, with shapedirs in chumpy and the regressor in an old scipy, if wrapped."""
    arrays = dict(arrays)
    if wrapped:
        for module, name in (("chumpy.ch", "Ch"), ("scipy.sparse.csc", "csc_matrix")):
            holder = types.ModuleType(module)
            setattr(holder, name, type(name, (), {"__module__": module}))
            monkeypatch.setitem(sys.modules, module, holder)
        monkeypatch.setitem(sys.modules, "chumpy", types.ModuleType("chumpy"))
        shapes = sys.modules["chumpy.ch"].Ch()
        shapes.x = arrays["shapedirs"]
        dense = arrays["J_regressor"]
        rows, columns = np.nonzero(dense.T)[::-1]
        sparse = sys.modules["scipy.sparse.csc"].csc_matrix()
        sparse.data, sparse.indices, sparse._shape = dense.T[np.nonzero(dense.T)], rows.astype(np.int32), dense.shape
        sparse.indptr = np.searchsorted(columns, np.arange(dense.shape[1] + 1)).astype(np.int32)
        arrays |= {"shapedirs": shapes, "J_regressor": sparse}
    path.write_bytes(pickle.dumps(arrays, protocol=2))


@pytest.mark.parametrize("wrapped", [False, True])
def test_licensed_pickle_loads_like_the_npz(tmp_path, monkeypatch, wrapped):
    arrays = toy_arrays()
    np.savez(tmp_path / "toy.npz", **arrays)
    write_pickle(tmp_path / "toy.pkl", arrays, monkeypatch, wrapped)
    a, b = load_body(tmp_path / "toy.npz"), load_body(tmp_path / "toy.pkl")
    for key in ("v_template_m", "shape_dirs", "pose_dirs", "joint_regressor", "weights", "faces"):
        torch.testing.assert_close(getattr(a, key), getattr(b, key), atol=0, rtol=0)
    assert a.parents == SMPL24.parents
    assert a.h36m17_regressor is None


def test_later_release_with_300_shapes_uses_ten(tmp_path):
    arrays = toy_arrays()
    arrays["shapedirs"] = np.zeros((120, 3, 300))
    np.savez(tmp_path / "toy.npz", **arrays)
    assert load_body(tmp_path / "toy.npz").shape_dirs.shape == (120, 3, 10)


BAD = {
    "v_template": (np.zeros((120, 2)), r"v_template has shape \(120, 2\)"),
    "shapedirs": (np.zeros((100, 3, 10)), r"shapedirs has shape \(100, 3, 10\)"),
    "posedirs": (np.zeros((120, 3, 9)), "posedirs has shape"),
    "J_regressor": (np.zeros((52, 120)), "J_regressor has shape"),
    "weights": (np.full((120, 24), np.nan), "weights has values that are not finite"),
    "kintree_table": (np.zeros((2, 24), np.uint32), "kintree_table"),
    "f": (np.full((4, 3), 120, np.uint32), "f has shape"),
}


@pytest.mark.parametrize("key", BAD)
def test_wrong_arrays_are_named(tmp_path, key):
    value, message = BAD[key]
    np.savez(tmp_path / "toy.npz", **(toy_arrays() | {key: value}))
    with pytest.raises(UserError, match=message):
        load_body(tmp_path / "toy.npz")


def test_missing_keys_millimetres_endings_and_strangers_are_named(tmp_path):
    arrays = toy_arrays()
    np.savez(tmp_path / "mm.npz", **(arrays | {"v_template": arrays["v_template"] * 1000}))
    with pytest.raises(UserError, match="metres"):
        load_body(tmp_path / "mm.npz")
    del arrays["weights"], arrays["f"]
    np.savez(tmp_path / "few.npz", **arrays)
    with pytest.raises(UserError, match="no weights, f in it"):
        load_body(tmp_path / "few.npz")
    with pytest.raises(UserError, match=r"ending '\.obj'"):
        load_body(tmp_path / "body.obj")
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2], protocol=2))
    with pytest.raises(UserError, match="holds a list"):
        load_body(tmp_path / "list.pkl")
    with pytest.raises(UserError, match="no such file"):
        load_body(tmp_path / "none.pkl")


def test_to_changes_every_floating_array():
    body = load_body().to(dtype=torch.float64)
    assert body.vertex_rows[0].dtype == body.joint_regressor.dtype == body.h36m17_regressor.dtype == torch.float64
    assert body.faces.dtype == torch.int64
