"""Panoramas: which way they look, how bright they are, and what happens without them."""

import numpy as np
import pytest

from aign.data.assets import cache
from aign.data.synthetic import backgrounds
from aign.data.synthetic.backgrounds import Panorama, from_srgb, harmonics, load_panorama, to_srgb, toned, view
from aign.framework.errors import UserError
from aign.render.raster import Lens

LENS = Lens(fx=40.0, fy=40.0, cx=31.5, cy=23.5, width=64, height=48)
LOOK_PLUS_Z = np.array([[-1.0, 0, 0], [0, -1.0, 0], [0, 0, 1.0]])
"""World (y up) to a level camera that looks along +z: its right is -x."""


def painted(paint) -> Panorama:
    radiance = np.full((256, 512, 3), 0.2, np.float32)
    paint(radiance)
    return Panorama(name="painted", radiance=radiance, light=backgrounds._light(radiance))


def test_convention_the_middle_column_is_ahead_and_the_right_half_to_the_right():
    def lamps(radiance):
        radiance[:, 256 + 30 : 256 + 34, 0] = 5.0  # 22.5 degrees to the right of +z: red
        radiance[100:104, :, 1] = 5.0  # 18 degrees above the horizon: green

    seen = view(painted(lamps), LOOK_PLUS_Z, LENS, 1.0)
    red, green = seen[..., 0].mean(0), seen[..., 1].mean(1)
    turn, up = np.radians(32 / 512 * 360), np.radians((128 - 102) / 256 * 180)
    assert red.argmax() == pytest.approx(LENS.cx + LENS.fx * np.tan(turn), abs=1.5)
    assert green.argmax() == pytest.approx(LENS.cy - LENS.fy * np.tan(up), abs=1.5)


def test_seam_behind_the_camera_is_closed():
    def ramp(radiance):
        radiance[:] = (0.3 + 0.2 * np.cos(2 * np.pi * (np.arange(512) + 0.5) / 512))[None, :, None]

    back = LOOK_PLUS_Z @ np.diag([-1.0, 1.0, -1.0])
    seen = view(painted(ramp), back, LENS, 1.0).astype(int)
    assert np.abs(np.diff(seen[24, :, 0])).max() <= 2


def test_light_comes_from_the_lamp_and_equals_the_integral():
    def lamp(radiance):
        radiance[60:70, 380:392] = 60.0  # up, and 90 degrees to the right of +z, which is -x

    panorama = painted(lamp)
    normals = np.array([[-1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0], [0, -1.0, 0]])
    lit = harmonics(normals) @ panorama.light
    assert lit[0].mean() > 1.3 * lit[1].mean()
    assert lit[2].mean() > 1.2 * lit[3].mean()
    even = painted(lambda radiance: None)
    np.testing.assert_allclose(harmonics(normals) @ even.light, 0.2, rtol=2e-3)


def test_tones_rise_and_srgb_turns_back():
    radiance = np.linspace(0, 20, 200, dtype=np.float32)
    display = toned(radiance, 1.0)
    assert (np.diff(display) >= 0).all()
    assert display[0] == 0
    assert display[-1] == pytest.approx(255, abs=0.5)
    value = np.linspace(0, 1, 50)
    np.testing.assert_allclose(from_srgb(to_srgb(value)), value, atol=1e-6)


def test_real_panoramas_are_bright_above_and_never_negative(panoramas):
    for name in ("park", "lab", "workshop"):
        panorama = load_panorama(name)
        assert panorama.radiance.min() >= 0
        up, down = harmonics(np.array([[0.0, 1, 0], [0, -1, 0]])) @ panorama.light
        assert up.mean() > down.mean()
        # The suns of park and sunrise have lost red and green in the file: no blue light from them.
        assert up[2] < 3 * up[0]


def test_without_panoramas_one_line_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("AIGN_ASSETS", raising=False)
    load_panorama.cache_clear()
    with pytest.raises(UserError, match="run: aign assets pull backgrounds"):
        load_panorama("park")


@pytest.mark.parametrize("content", ["nothing", "export default 'data:application/exr;base64,AAAA'"])
def test_a_damaged_panorama_is_named(tmp_path, content):
    path = tmp_path / "x.exr.js"
    path.write_text(content)
    with pytest.raises(UserError, match=r"x\.exr\.js"):
        backgrounds._read(path)


def test_every_panorama_is_an_asset():
    names = {asset.name for asset in cache.ASSETS if asset.group == backgrounds.GROUP}
    assert names == {f"background_{name}" for name in backgrounds.INDOOR + backgrounds.OUTDOOR}
