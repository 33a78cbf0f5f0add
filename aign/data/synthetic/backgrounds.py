"""Real photographs to stand in front of, and their light: Poly Haven's CC0 panoramas, read from the asset cache.

A panorama holds radiance (not just colours) from every direction, so one picture gives both what the camera sees
behind the person and the light that falls on the person.

Convention: the world is that of the motions, y up, right-handed. A panorama's middle column looks along +z and its
right half shows what lies to the right of that (-x), as a photograph does.
"""

import base64
import binascii
import math
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import OpenEXR
from jaxtyping import Float, Float32, UInt8

from aign.data import assets
from aign.framework.errors import UserError
from aign.render.raster import Lens

INDOOR = ("apartment", "bridge", "esplanade", "hall", "lab", "lobby", "studio", "warehouse", "workshop")
OUTDOOR = ("city", "dawn", "forest", "night", "park", "sunrise", "sunset", "venice")
GROUP = "backgrounds"
TONE_STEPS = 4096
TONE_RANGE = 16.0
"""Exposed radiance from which on everything is white."""
MIDDLE_TONE = 0.42
"""Exposed radiance of a white wall in the panorama's mean light: `exposure`."""


@dataclass(frozen=True, kw_only=True)
class Panorama:
    """A panorama and its light.

    Attributes:
        name: of the asset, without "background_".
        radiance: linear RGB, row 0 straight up.
        light: irradiance / pi as 9 spherical harmonics of the normal (`harmonics`), for each of R, G, B.
    """

    name: str
    radiance: Float32[np.ndarray, "256 512 3"]
    light: Float[np.ndarray, "9 3"]

    @property
    def exposure(self) -> float:
        """Factor to radiance that makes a white wall in the mean light look lighter than middle grey."""
        return MIDDLE_TONE / max(float(self.light[0].mean()) * HARMONIC_0, 1e-6)


HARMONIC_0 = 0.282095
LAMP_RADIANCE = 20.0
"""No lit surface in the panoramas is as bright."""


def check_pulled() -> None:
    """See that all panoramas are on this machine.

    Raises:
        UserError: they are not.
    """
    missing = [r.asset.name for r in assets.listing() if r.asset.group == GROUP and r.at is None]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(INDOOR + OUTDOOR)} background panoramas are not on this machine ({missing[0]} is "
            f"the first); run: aign assets pull {GROUP}"
        )


@lru_cache(maxsize=len(INDOOR + OUTDOOR))
def load_panorama(name: str) -> Panorama:
    """Read one of INDOOR or OUTDOOR.

    Raises:
        UserError: not pulled, or damaged.
    """
    check_pulled()
    path = assets.path(f"background_{name}")
    radiance = _mended(_read(path))
    if radiance.shape != (256, 512, 3):
        raise UserError(f"{path}: a panorama of {radiance.shape}; (256, 512, 3) is needed")
    return Panorama(name=name, radiance=radiance, light=_light(radiance))


def _read(path: Path) -> Float32[np.ndarray, "h w 3"]:
    _, mark, rest = path.read_text(encoding="ascii", errors="replace").partition(";base64,")
    try:
        data = base64.b64decode(rest.split("'")[0].split('"')[0], validate=True) if mark else b""
    except binascii.Error as error:
        raise UserError(f"{path}: no base64 in it ({error}); remove it and run: aign assets pull {GROUP}") from error
    # OpenEXR reads files only.
    with tempfile.NamedTemporaryFile(suffix=".exr") as file:
        file.write(data)
        file.flush()
        try:
            channels = OpenEXR.File(file.name).channels()
            return np.ascontiguousarray(channels["RGB"].pixels, np.float32)
        except (RuntimeError, KeyError, ValueError) as error:
            raise UserError(f"{path}: no RGB OpenEXR picture in it; run: aign assets pull {GROUP}") from error


def _mended(radiance: Float32[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 3"]:
    """Without what DWAB's compression broke: two suns lost red and green, and lamps have negative values beside them.

    The suns become white; negative values become the mean around them.
    """
    positive = np.maximum(radiance, 0)
    brightest = positive.max(-1, keepdims=True)
    lost = (brightest > LAMP_RADIANCE) & (positive.min(-1, keepdims=True) < 0.02 * brightest)
    positive = np.where(lost, brightest, positive)
    wide = np.concatenate((positive[:, -4:], positive, positive[:, :4]), axis=1)
    around = cv2.blur(wide, (7, 7))[:, 4:-4]
    return np.where((radiance < 0).any(-1, keepdims=True), around, positive)


def harmonics(directions: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 9"]:
    """The 9 real spherical harmonics up to degree 2 of unit directions."""
    x, y, z = directions.T
    return np.stack(
        (
            np.full_like(x, HARMONIC_0),
            *(0.488603 * y, 0.488603 * z, 0.488603 * x),
            *(1.092548 * x * y, 1.092548 * y * z, 0.315392 * (3 * z * z - 1), 1.092548 * x * z),
            0.546274 * (x * x - y * y),
        ),
        axis=1,
    )


def _light(radiance: Float32[np.ndarray, "h w 3"]) -> Float[np.ndarray, "9 3"]:
    """Irradiance / pi by the normal: radiance's harmonics times the cosine lobe's 1, 2/3, 1/4.

    Source: Ramamoorthi and Hanrahan, "An Efficient Representation for Irradiance Environment Maps" (2001), eqs. 10, 7.
    """
    height, width, _ = radiance.shape
    elevation = (0.5 - (np.arange(height) + 0.5) / height) * math.pi
    turn = ((np.arange(width) + 0.5) / width - 0.5) * 2 * math.pi
    up, round_ = np.meshgrid(elevation, turn, indexing="ij")
    directions = np.stack((-np.sin(round_) * np.cos(up), np.sin(up), np.cos(round_) * np.cos(up)), -1).reshape(-1, 3)
    solid = np.cos(up).reshape(-1, 1) * (math.pi / height) * (2 * math.pi / width)
    lobe = np.repeat([1.0, 2 / 3, 1 / 4], [1, 3, 5])
    light: Float[np.ndarray, "9 3"] = harmonics(directions).T @ (radiance.reshape(-1, 3) * solid) * lobe[:, None]
    return light


@lru_cache(maxsize=1)
def tone_table() -> Float32[np.ndarray, "4096"]:
    """Display value (0..255) by the square root of exposed radiance: a soft shoulder, then sRGB's curve."""
    radiance = (np.arange(TONE_STEPS) / (TONE_STEPS - 1)) ** 2 * TONE_RANGE
    linear = 1 - np.exp(-1.6 * radiance)
    return (255 * to_srgb(linear)).astype(np.float32)


def toned(radiance: Float32[np.ndarray, "*s"], exposure: float) -> Float32[np.ndarray, "*s"]:
    """Exposed and tone-mapped to 0..255."""
    steps = np.sqrt(np.clip(radiance * (exposure / TONE_RANGE), 0, 1)) * (TONE_STEPS - 1)
    return tone_table()[steps.astype(np.int32)]


def to_srgb(linear: Float[np.ndarray, "*s"]) -> Float[np.ndarray, "*s"]:
    """SRGB's transfer curve (IEC 61966-2-1)."""
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 1e-9) ** (1 / 2.4) - 0.055)


def from_srgb(value: Float[np.ndarray, "*s"]) -> Float[np.ndarray, "*s"]:
    """The inverse of `to_srgb`."""
    return np.where(value <= 0.04045, value / 12.92, ((np.maximum(value, 0) + 0.055) / 1.055) ** 2.4)


def view(
    panorama: Panorama, rot_world_to_cam: Float[np.ndarray, "3 3"], lens: Lens, exposure: float
) -> UInt8[np.ndarray, "h w 3"]:
    """What a camera sees of a panorama that is infinitely far away.

    Args:
        panorama: the photograph.
        rot_world_to_cam: from the y-up world.
        lens: the camera.
        exposure: factor to radiance.
    """
    x = ((np.arange(lens.width, dtype=np.float32) - lens.cx) / lens.fx)[None, :]
    y = ((np.arange(lens.height, dtype=np.float32) - lens.cy) / lens.fy)[:, None]
    rot = rot_world_to_cam.astype(np.float32)
    east, up, north = (rot[0, i] * x + rot[1, i] * y + rot[2, i] for i in range(3))
    height, width, _ = panorama.radiance.shape
    column = (0.5 + cv2.phase(north, -east) / np.float32(2 * math.pi)) % 1 * width - 0.5
    row = (0.5 - np.arctan2(up, np.sqrt(east * east + north * north)) / np.float32(math.pi)) * height - 0.5
    # Tone first: cubic interpolation of a sun would ring over half the sky.
    tone = toned(panorama.radiance, exposure)
    ahead = tone[:, :16], tone[:, -16:]
    wide = np.concatenate((ahead[1], tone, ahead[0]), axis=1)
    seen = cv2.remap(wide, column + 16, row, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.clip(np.rint(seen), 0, 255).astype(np.uint8)
