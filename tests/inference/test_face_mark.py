"""Marks of synthetic pictures: seen by eye, and read from the file by others' programs."""

import cv2
import numpy as np
import pytest
from PIL import Image

from aign.framework.errors import UserError
from aign.inference.face_mark import SOURCE_TYPE, marked, marked_png, texts_of, with_texts


@pytest.mark.parametrize("size", [(64, 64), (128, 128), (300, 200), (1080, 1920)])
def test_the_mark_is_in_the_corner_and_small(size):
    grey = np.full((*size, 3), 127, np.uint8)
    rows, columns = np.nonzero((marked(grey) != grey).any(2))
    assert len(rows) > 30
    assert rows.min() > 0.75 * size[0]
    assert columns.min() > 0.6 * size[1]
    assert marked(grey).max() > 180
    assert (grey == 127).all(), "the picture itself stays as it was"


def test_the_file_says_what_it_is(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (80, 60, 3)).astype(np.uint8)
    data = marked_png(image, "models:/superresolution-female@champion", "the face was imagined")
    (tmp_path / "a.png").write_bytes(data)
    with Image.open(tmp_path / "a.png") as opened:
        opened.load()
        assert "Synthetic" in opened.text["Comment"]
        assert "superresolution-female@champion" in opened.text["Comment"]
        assert SOURCE_TYPE in opened.text["XML:com.adobe.xmp"]
        assert np.array_equal(np.asarray(opened), marked(image)), "nothing is lost"
    assert texts_of(data)["Software"].startswith("aign ")
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (80, 60, 3)


def test_what_is_no_png_is_refused():
    data = with_texts(cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes(), {"a": "\u00e9"})
    assert texts_of(data) == {"a": "\u00e9"}
    with pytest.raises(UserError, match="no PNG"):
        texts_of(b"JFIF")
    with pytest.raises(UserError, match="cut off"):
        texts_of(data[:60])
