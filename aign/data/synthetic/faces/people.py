"""Who is shown and how: people and sittings drawn from distributions that are independent where an audit needs it.

Sex, age, origin, lips, nose, expression, pose, light and background are drawn independently. What follows from them, as
in life: skin from origin, grey and receding hair from age and sex, style of hair, brows, beard and make-up from sex.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from aign.data.synthetic.faces.hair import Style

AGES = (18.0, 80.0)
YOUNG_UNDER = 40.0
GREY_OVER = 0.5
LIGHT_DEGREES = 65.0
"""Light comes from so far to the left at most, and as far to the right."""
ORIGINS = ("african", "asian", "caucasian")
_CHILD, _YOUNG, _OLD = 10.0, 25.0, 90.0
# Colours as sRGB 0..1.
_SKIN = np.array([(0.40, 0.26, 0.19), (0.86, 0.69, 0.55), (0.93, 0.75, 0.66)])
_LIPS = np.array([(0.47, 0.25, 0.23), (0.74, 0.44, 0.41), (0.78, 0.45, 0.43)])
_BLACK, _BROWN, _BLOND, _RED = (0.06, 0.05, 0.05), (0.24, 0.14, 0.08), (0.76, 0.58, 0.33), (0.50, 0.20, 0.08)
_GREY = np.array((0.80, 0.80, 0.81))
_IRIS = np.array([(0.20, 0.11, 0.06), (0.28, 0.18, 0.09), (0.30, 0.45, 0.62), (0.30, 0.42, 0.28)])


@dataclass(frozen=True, kw_only=True)
class Person:
    """What stays from picture to picture of one identity.

    Attributes:
        male: whether.
        age: years.
        origin: african, asian, caucasian; sum 1.
        lips, nose: fullness and size, 0 to 1.
        shape: weights of the head's targets.
        hair: how it is worn.
        curl: of the hair, 0 to 1.
        grey: share of the hair, 0 to 1.
        beard: 0 none, 0.3 stubble, 1 full.
        make_up: 0 to 1.
        colours: sRGB of "skin", "lips", "hair", "brows", "iris", "clothes".
    """

    male: bool
    age: float
    origin: tuple[float, float, float]
    lips: float
    nose: float
    shape: Mapping[str, float]
    hair: Style
    curl: float
    grey: float
    beard: float
    make_up: float
    colours: Mapping[str, tuple[float, float, float]]


@dataclass(frozen=True, kw_only=True)
class Sitting:
    """What changes from picture to picture.

    Attributes:
        smiling: whether.
        expression: weights of the head's targets.
        yaw, pitch, roll: of the head, degrees; yaw positive where the person turns to the picture's right.
        gaze: where the eyes look, x and y, shares of the iris' size.
        light_degrees: whence light comes: to the right of the camera, and above it.
        ambient: share of the light that comes from everywhere.
        warmth: -1 blue to 1 yellow.
        background: sRGB at the top-left and at the bottom-right.
    """

    smiling: bool
    expression: Mapping[str, float]
    yaw: float
    pitch: float
    roll: float
    gaze: tuple[float, float]
    light_degrees: tuple[float, float]
    ambient: float
    warmth: float
    background: tuple[tuple[float, float, float], tuple[float, float, float]]


def draw_person(seed: int, identity: int) -> Person:
    """One of a population: the same for the same numbers, whoever else is drawn."""
    rng = np.random.default_rng([seed, identity, 0])
    male, age = bool(rng.random() < 0.5), float(rng.uniform(*AGES))
    origin = rng.dirichlet((0.35, 0.35, 0.35))
    lips, nose = float(rng.random()), float(rng.random())
    grey = float(np.clip((age - rng.normal(50, 7)) / 18, 0, 1))
    curl = float(np.clip(origin @ [0.95, 0.05, 0.3] + rng.normal(0, 0.12), 0, 1))
    shape = _shape(rng, male, age, origin)
    _signed(shape, "lips", "lips_thin", 2 * lips - 1, 1.0)
    _signed(shape, "nose", "nose_small", 2 * nose - 1, 0.75)
    hair = _style(rng, male, age, curl)
    beard = float(rng.choice([0.0, 0.35, 1.0], p=[0.45, 0.3, 0.25])) if male else 0.0
    make_up = 0.0 if male else float(rng.choice([0.0, rng.uniform(0.4, 1)], p=[0.3, 0.7]))
    return Person(
        male=male,
        age=age,
        origin=(float(origin[0]), float(origin[1]), float(origin[2])),
        lips=lips,
        nose=nose,
        shape=shape,
        hair=hair,
        curl=curl,
        grey=grey,
        beard=beard,
        make_up=make_up,
        colours=_colours(rng, origin, grey, make_up),
    )


def draw_sitting(seed: int, identity: int, picture: int) -> Sitting:
    """One picture of somebody."""
    rng = np.random.default_rng([seed, identity, 1, picture])
    smiling = bool(rng.random() < 0.5)
    expression = {"raise_brows": abs(rng.normal(0, 0.3)), "squint": abs(rng.normal(0, 0.15))}
    if smiling:
        expression |= {"smile": rng.uniform(0.6, 1.0), "smile_open": rng.choice([0.0, rng.uniform(0.15, 0.4)])}
    else:
        expression |= {"frown": max(rng.normal(0, 0.15), 0.0), "mouth_open": max(rng.normal(0, 0.08), 0.0)}
    tint = rng.uniform(0.15, 0.85) + rng.normal(0, 0.06, 3)
    step = np.zeros(3) if rng.random() < 0.4 else rng.normal(0, 0.14) + rng.normal(0, 0.04, 3)
    return Sitting(
        smiling=smiling,
        expression={name: float(weight) for name, weight in expression.items()},
        yaw=float(np.clip(rng.normal(0, 11), -28, 28)),
        pitch=float(np.clip(rng.normal(0, 4), -10, 10)),
        roll=float(np.clip(rng.normal(0, 4), -10, 10)),
        gaze=(float(rng.normal(0, 0.25)), float(rng.normal(0, 0.1))),
        light_degrees=(float(rng.uniform(-LIGHT_DEGREES, LIGHT_DEGREES)), float(rng.uniform(0, 50))),
        ambient=float(rng.uniform(0.4, 0.7)),
        warmth=float(np.clip(rng.normal(0, 0.4), -1, 1)),
        background=(_rgb(tint + step), _rgb(tint - step)),
    )


def _shape(rng: np.random.Generator, male: bool, age: float, origin: Float64[np.ndarray, "3"]) -> dict[str, float]:
    # MakeHuman's anchors: a child of 10, a young adult of 25, somebody of 90.
    ages = np.interp(age, (_CHILD, _YOUNG, _OLD), (-1, 0, 1))
    by_age = {"child": max(-ages, 0) * 0.5, "old": max(ages, 0.0)}
    by_age["young"] = 1 - by_age["child"] - by_age["old"]
    sexes = {"male": 1.0, "female": 0.0} if male else {"male": 0.0, "female": 1.0}
    shape = {
        f"{name}-{sex}-{when}": float(share * sexes[sex] * by_age[when])
        for name, share in zip(ORIGINS, origin, strict=True)
        for sex in sexes
        for when in by_age
        if sexes[sex]
    }
    shape["aged"], shape["bags"] = (1.0 * max(ages, 0.0), 0.9 * max(ages, 0.0))
    for more, less, reach in (
        ("fat", "lean", 0.55),
        ("wide", "narrow", 0.25),
        ("jaw_wide", "jaw_narrow", 0.4),
        ("mouth_wide", "mouth_narrow", 0.5),
        ("eyes_large", "eyes_small", 0.6),
        ("brows_up", "brows_down", 0.35),
    ):
        _signed(shape, more, less, float(np.clip(rng.normal(0, 0.5), -1, 1)), reach)
    for name, reach in (("chin_long", 0.35), ("cheeks", 0.7), ("eyes_apart", 0.5), ("nose_hump", 0.5)):
        shape[name] = float(abs(np.clip(rng.normal(0, 0.5), -1, 1)) * reach)
    if male:
        shape["jaw_wide"] = shape.get("jaw_wide", 0.0) + 0.35
    return shape


def _signed(shape: dict[str, float], more: str, less: str, value: float, reach: float) -> None:
    """One target upwards and its opposite downwards."""
    shape[more if value > 0 else less] = abs(value) * reach


def _style(rng: np.random.Generator, male: bool, age: float, curl: float) -> Style:
    grows_old = float(np.clip((age - 30) / 45, 0, 1))
    long = rng.random() < (0.08 if male else 0.72)
    recede = float(np.clip(rng.normal(grows_old * 0.8, 0.25), 0, 1)) if male else float(rng.uniform(0, 0.2))
    bald = male and not long and rng.random() < 0.1 + 0.25 * grows_old
    thick = float(rng.uniform(0.05, 0.16) if male else rng.uniform(0.12, 0.24)) + 0.22 * curl * rng.random()
    length = float(rng.choice([rng.uniform(0.5, 0.9), rng.uniform(1.0, 2.6)])) if long else 0.0
    return Style(
        thickness=0.0 if bald else thick,
        top=0.0 if bald else float(rng.uniform(0, 0.16)),
        recede=1.0 if bald else recede,
        fringe=0.0 if male and rng.random() < 0.7 else float(rng.choice([0.0, rng.uniform(0.3, 1)], p=[0.6, 0.4])),
        length=length,
        wide=float(rng.uniform(0.22, 0.42) + 0.2 * curl),
        open_degrees=float(rng.uniform(68, 84)),
    )


def _colours(
    rng: np.random.Generator, origin: Float64[np.ndarray, "3"], grey: float, make_up: float
) -> dict[str, tuple[float, float, float]]:
    tone = 1 + rng.normal(0, 0.06) + rng.normal(0, 0.012, 3)
    skin = origin @ _SKIN * tone
    lips = origin @ _LIPS * tone
    painted = np.array([rng.uniform(0.55, 0.8), rng.uniform(0.08, 0.28), rng.uniform(0.12, 0.32)])
    lips = lips + make_up * 0.8 * (painted - lips)
    light = rng.random() < 0.65 * origin[2]
    fair = [_BROWN, _BLOND, _RED][rng.choice(3, p=[0.5, 0.38, 0.12])]
    hair = np.array(fair if light else _BLACK) * rng.uniform(0.8, 1.2) + (0.0 if light else rng.uniform(0, 0.06))
    brows = 0.75 * hair * (1 - 0.6 * grey) + 0.6 * grey * _GREY * 0.7
    hair = hair + grey * (_GREY * rng.uniform(0.85, 1.05) - hair)
    iris = _IRIS[rng.choice([1, 2, 3], p=[0.3, 0.45, 0.25])] if light else _IRIS[0]
    clothes = rng.uniform(0.08, 0.85) + rng.normal(0, 0.14, 3)
    named = {"skin": skin, "lips": lips, "hair": hair, "brows": brows, "iris": iris, "clothes": clothes}
    return {name: _rgb(colour) for name, colour in named.items()}


def _rgb(colour: Float64[np.ndarray, "3"]) -> tuple[float, float, float]:
    r, g, b = np.clip(colour, 0.01, 0.99)
    return float(r), float(g), float(b)
