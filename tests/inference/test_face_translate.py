"""Faces of photographs translated by tiny models; the face is where the test says it is."""

import cv2
import numpy as np
import pytest
import torch

from aign.data.stages.faces import FoundFace
from aign.framework.errors import UserError
from aign.inference.face_mark import texts_of
from aign.inference.face_page import write_page, write_translation
from aign.inference.face_translate import FaceTranslator, part_hole, read_photo
from aign.inference.package import ModelCard, blank, save_package
from aign.tasks.faces.inpainting import InpainterConfig, new_inpainter
from aign.tasks.faces.superresolution import SuperResolverConfig, new_resolver
from aign.tasks.lifting import LifterConfig

# Places on FaceMesh's canonical face.
EYES = (
    (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
)
MOUTH = (61, 291)
LIPS = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)


def photo() -> np.ndarray:
    rng = np.random.default_rng(3)
    small = rng.integers(0, 256, (12, 16, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(small, (320, 240), interpolation=cv2.INTER_CUBIC))


def somebody(_: np.ndarray) -> FoundFace:
    """A face 96 px wide about (150, 120)."""
    points = np.tile(np.array([150.0, 125.0]), (468, 1))
    for eye, x in zip(EYES, (138.0, 162.0), strict=True):
        points[list(eye)] = x, 115.0
    for i, place in enumerate(LIPS):
        turn = np.pi - 2 * np.pi * i / len(LIPS)
        points[place] = 150 + 8 * np.cos(turn), 138 + 4 * np.sin(turn)
    points[list(MOUTH)] = (142.0, 138.0), (158.0, 138.0)
    return FoundFace(points_px=points)


def card(config: object) -> ModelCard:
    return ModelCard(
        network=config, recipe="tiny", store_hash="ab" * 32, sequences={}, licences=("CC0-1.0",),
        protocol="faces/superresolution-4x (0123)", metrics={},
    )  # fmt: skip


def resolver(**other: object) -> FaceTranslator:
    config = SuperResolverConfig(low_px=8, channels=8, blocks=1, **other)
    return FaceTranslator(net=new_resolver(config, 0), card=card(config))


def test_a_face_is_imagined_and_all_else_stays():
    image = photo()
    result = resolver(exact=True).translate(image, somebody)
    changed = (result.photo != image).any(2)
    rows, columns = np.nonzero(changed)
    assert changed.mean() < 0.25
    assert changed.any()
    assert abs((columns.min() + columns.max()) / 2 - 150) < 8
    assert 90 < rows.mean() < 150
    assert result.seen.shape == (8, 8, 3)
    assert result.imagined.shape == result.face.shape == (32, 32, 3)
    assert result.faithful_db > 30, "an exact model is faithful without training"
    assert 2 < result.shrunk < 4


def test_the_lips_alone_are_filled():
    config = InpainterConfig(side_px=64, channels=8, blocks=0, part="lips", bias="lips>q90")
    translator = FaceTranslator(net=new_inpainter(config, 0), card=card(config))
    image = photo()
    result = translator.translate(image, somebody)
    hole = (result.seen == 0).all(2)
    assert 0.005 < hole.mean() < 0.2
    assert (result.imagined[~hole] == result.face[~hole]).all()
    rows, columns = np.nonzero((result.photo != image).any(2))
    assert rows.min() > 118, "the eyes stay"
    assert columns.min() > 125
    assert "lips>q90" in translator.what
    with pytest.raises(UserError, match="no lips"):
        part_hole(FoundFace(points_px=np.full((468, 2), -100.0)), "lips", 64)


def test_no_face_is_an_error():
    def nobody(_: np.ndarray) -> FoundFace:
        raise UserError("no face found")

    with pytest.raises(UserError, match="no face"):
        resolver().translate(photo(), nobody)


def test_packages(tmp_path):
    translator = resolver(bias="sex=female")
    save_package(tmp_path / "sr", translator.net, translator.card)
    loaded = FaceTranslator.of(tmp_path / "sr")
    assert "sex=female" in loaded.what
    image = photo()
    assert np.array_equal(loaded.translate(image, somebody).photo, translator.translate(image, somebody).photo)
    config = LifterConfig(width=16, blocks=1)
    save_package(tmp_path / "lifter", blank(config), card(config))
    with pytest.raises(UserError, match="superresolution or inpainting"):
        FaceTranslator.of(tmp_path / "lifter")


def test_the_page_shows_who_was_done_and_who_not(tmp_path):
    translator, image = resolver(), photo()
    source = tmp_path / "me <3.jpg"
    result = translator.translate(image, somebody)
    done = write_translation(tmp_path, "me", source, image, result, "models:/sr@champion", translator.what)
    page = write_page(tmp_path, [done], ["other.jpg: no face found"], translator, "models:/sr@champion").read_text()
    assert "no face found" in page
    assert "me-steps.png" in page
    assert "me &lt;3.jpg" in page
    assert "Synthetic" in texts_of((tmp_path / "me.png").read_bytes())["Comment"]
    assert torch.get_default_dtype() == torch.float32


def test_photographs_that_are_none_are_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_photo(tmp_path / "nowhere.jpg")
    for data in (b"", b"\xff\xd8\xff no jpeg"):
        (tmp_path / "bad.jpg").write_bytes(data)
        with pytest.raises(UserError, match="no picture"):
            read_photo(tmp_path / "bad.jpg")
    cv2.imwrite(str(tmp_path / "good.png"), np.full((5, 7, 3), (0, 0, 255), np.uint8))
    assert read_photo(tmp_path / "good.png")[0, 0].tolist() == [255, 0, 0]
