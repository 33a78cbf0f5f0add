"""aign translate: the good photographs are done, the bad ones are told."""

import cv2
import numpy as np
import pytest

from aign.data import assets
from aign.framework.errors import UserError
from aign.inference.face_mark import texts_of
from aign.inference.face_translate import FaceTranslator
from aign.inference.package import save_package
from pipelines.cli import main as aign
from pipelines.translate import Arguments, translate
from tests.inference.test_face_translate import photo, resolver, somebody


@pytest.fixture
def package(tmp_path, monkeypatch):
    monkeypatch.setattr(assets, "pull", lambda names: {})

    def find(image: np.ndarray):
        if image.max() == 0:
            raise UserError("no face found in a black picture")
        return somebody(image)

    translator = resolver(bias="sex=female")
    real = FaceTranslator.translate
    monkeypatch.setattr(FaceTranslator, "translate", lambda self, image: real(self, image, find))
    save_package(tmp_path / "package", translator.net, translator.card)
    return tmp_path / "package"


def save(path, image):
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), image[..., ::-1])
    return path


def test_the_good_ones_are_done(tmp_path, package, capsys):
    images = (
        save(tmp_path / "a" / "me.png", photo()),
        save(tmp_path / "black.png", np.zeros((50, 50, 3), np.uint8)),
        save(tmp_path / "b" / "me.png", photo()[:, ::-1]),
        tmp_path / "missing.jpg",
    )
    page, failed = translate(Arguments(images=images, model=str(package), out=tmp_path / "out"))
    assert len(failed) == 2
    assert "no face found" in capsys.readouterr().err
    text = page.read_text()
    for name in ("me-1.png", "me-3.png"):
        assert name in text
        assert "sex=female" in texts_of((tmp_path / "out" / name).read_bytes())["Comment"]
    assert "missing.jpg" in text
    done = cv2.imread(str(tmp_path / "out" / "me-1.png"))
    assert done.shape == (240, 320, 3)


def test_the_command_ends_with_an_error_where_something_failed(tmp_path, package, capsys):
    good, bad = save(tmp_path / "a.png", photo()), save(tmp_path / "b.png", np.zeros((50, 50, 3), np.uint8))
    flags = ["--model", str(package), "--out", str(tmp_path / "out")]
    assert aign(["translate", str(good), *flags]) == 0
    assert capsys.readouterr().out.strip().endswith("index.html")
    assert aign(["translate", str(good), str(bad), *flags]) == 2
    assert "1 of 2 photographs" in capsys.readouterr().err


def test_nothing_to_do_is_refused(tmp_path, package, capsys):
    with pytest.raises(UserError, match="at least one"):
        translate(Arguments(images=(), model=str(package), out=tmp_path / "out"))
    black = save(tmp_path / "black.png", np.zeros((50, 50, 3), np.uint8))
    with pytest.raises(UserError, match=r"^\S*black.png: no face found"):
        translate(Arguments(images=(black,), model=str(package), out=tmp_path / "out"))
    assert not capsys.readouterr().err, "it is said once"
    gone = tmp_path / "gone.jpg"
    with pytest.raises(UserError, match=rf"^none of 2 photographs could be translated; first {gone} cannot be read"):
        translate(Arguments(images=(gone, black), model=str(package), out=tmp_path / "out"))
