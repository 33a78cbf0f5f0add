"""Grids and Pareto plots."""

import cv2
import numpy as np
import pytest

from aign.evaluation.faces_protocol import resolve_faces
from aign.evaluation.faces_view import view_of
from aign.framework.errors import UserError
from aign.inference.face_figure import SweepPoint, comparison, face_grid, pareto_figure, pareto_front
from tests.evaluation.faces_samples import drawn, face_rows


def test_a_grid_shows_every_picture(tmp_path):
    red, blue = np.zeros((2, 4, 4, 3), np.uint8), np.zeros((2, 16, 16, 3), np.uint8)
    red[..., 0], blue[..., 2] = 255, 255
    face_grid(tmp_path / "g.png", {"input 4 px": red, "ours, sex=female": blue}, "drawn")
    image = cv2.imread(str(tmp_path / "g.png"))[..., ::-1]
    is_red, is_blue = ((np.abs(image.astype(int) - c).sum(2) < 30) for c in ([255, 0, 0], [0, 0, 255]))
    assert is_red[:, : image.shape[1] // 2].sum() > 50_000
    assert is_blue[:, image.shape[1] // 2 :].sum() > 50_000
    assert not is_red[:, image.shape[1] // 2 :].any()
    with pytest.raises(UserError, match="as many"):
        face_grid(tmp_path / "h.png", {"a": red, "b": blue[:1]}, "")
    with pytest.raises(UserError, match="as many"):
        face_grid(tmp_path / "h.png", {}, "")


def test_a_comparison_goes_from_the_input_to_the_truth():
    faces = drawn(6)
    seen = view_of(faces, face_rows(6), resolve_faces("faces/superresolution-4x"))
    columns = comparison(seen, {"sex=female": faces.images, "age>50": faces.images}, [4, 1])
    assert list(columns) == ["input, 16 px", "bicubic", "sex=female", "age>50", "truth"]
    assert {len(images) for images in columns.values()} == {2}
    assert (columns["truth"][0] == faces.images[4]).all()
    hole = np.zeros((6, 64, 64), bool)
    hole[:, 30:40] = True
    masked = view_of(faces, face_rows(6), resolve_faces("faces/inpainting"), hole=hole)
    assert list(comparison(masked, {}, [0])) == ["input", "truth"]


def points(*values: tuple[float, float]) -> list[SweepPoint]:
    return [SweepPoint(label=str(i), faithful_db=float(x), target_points=float(y)) for i, (x, y) in enumerate(values)]


def test_the_front_is_what_nothing_beats():
    assert pareto_front(points((40, 60), (45, 50), (39, 59), (40, 60), (40, 50))).tolist() == [
        True,
        True,
        False,
        True,
        False,
    ]
    assert pareto_front([]).tolist() == []


def test_a_sweep_is_drawn(tmp_path):
    pareto_figure(tmp_path / "p.png", {"sex=female": points((40, 60), (45, 50)), "none": []})
    assert cv2.imread(str(tmp_path / "p.png")).shape == (720, 1080, 3)
    with pytest.raises(UserError, match="at least one"):
        pareto_figure(tmp_path / "q.png", {"none": []})
