"""The page of a capture as a file: what is in it, what is refused."""

import base64
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from aign.data.stages.decode import write_mp4
from aign.framework.errors import UserError
from aign.geometry.rotation import from_quaternion
from aign.inference import capture_page
from aign.inference.capture_page import CapturePage, PagePerson, Strip, write_capture_page
from aign.inference.page import Entry
from tests.inference.captures import captured
from tests.inference.test_report import EVIL, Page

FRAMES, LATE, FPS = 16, 3, 25.0


def person(video, **changes):
    heat = np.tile(np.linspace(0, 9, 24, dtype=np.float32), (FRAMES, 1))
    heat[5] = np.nan
    curve = np.linspace(3, 4, FRAMES)
    curve[2] = np.nan
    given = {
        "name": "one", "video": video, "fps": FPS, "person": captured("walk", FPS, FRAMES, tall=1.0), "heat_px": heat,
        "strips": (Strip(name="reprojection", unit="px", values=curve),),
    }  # fmt: skip
    return PagePerson(**{**given, **changes})


def page(*people, **changes):
    given = {
        "title": "Captured", "summary": ("A walk.",), "people": people,
        "settings": (Entry(term="filter", text="none"),),
        "model": (Entry(term="name", text="models:/m@champion"),), "licences": (Entry(term="body", text="CC0"),),
        "files": (Entry(term="v.mp4", text="the overlay"),),
    }  # fmt: skip
    return CapturePage(**{**given, **changes})


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "v.mp4"
    write_mp4(path, [np.full((48, 64, 3), 10 * i, np.uint8) for i in range(FRAMES + LATE)], FPS)
    return path


def payload(found):
    return json.loads(found.inside("script")[0])


def numbers(text, kind, *shape):
    return np.frombuffer(base64.b64decode(text), kind).reshape(*shape)


def test_everything_is_in_one_file(video, tmp_path):
    both = (person(video), person(video, name="two", first_frame=LATE, heat_px=None))
    path = write_capture_page(tmp_path / "new" / "report.html", page(*both))
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    text = path.read_text().replace("http://www.w3.org/2000/svg", "a name, not an address")
    found = Page(text)
    assert not re.search(r"(https?:)?//[a-z0-9.-]+\.[a-z]|@import|url\(|fetch\(|XMLHttpRequest|import\(|eval\(", text)
    (policy,) = [a["content"] for a in found.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith(
        "default-src 'none'; img-src data:; media-src blob:; style-src 'unsafe-inline'; script-src 'sha"
    )
    assert len(found.all("script")) == 3, "one video for both"
    assert base64.b64decode(found.inside("script")[1]) == video.read_bytes()
    assert found.inside("option")[:2] == ["one", "two"]
    told = payload(found)
    assert len(told["bodies"]) == 1
    assert [p["first"] for p in told["people"]] == [0, LATE]
    assert [p["heat"] is None for p in told["people"]] == [False, True]
    assert found.inside("h2") == ["What was asked", "The model", "Licences", "Files"]


def test_convention_payload(video, tmp_path):
    given = person(video)
    told = payload(Page(write_capture_page(tmp_path / "r.html", page(given)).read_text()))
    one, motion = told["people"][0], given.person.motion
    quats = torch.from_numpy(numbers(one["quats"], "<i2", FRAMES, 24, 4) / 32767)
    np.testing.assert_allclose(from_quaternion(quats), motion.rotmats, atol=2e-4)
    np.testing.assert_array_equal(numbers(one["pelvis"], "<f4", FRAMES, 3), motion.trans_m)
    weights = numbers(told["bodies"][0]["weights"], "<u2", -1, 4)
    assert np.abs(weights.sum(1, dtype=int) - 65535).max() <= 2
    assert one["strips"][0]["values"][2] is None
    heat = numbers(one["heat"], "<u2", FRAMES, 24)
    assert (heat[5] == 65535).all()
    assert heat[0, -1] == 90
    assert one["state"][FRAMES // 2] in "024", "not seen"
    assert set(one["state"]) <= set("01234567")


def test_a_minute_of_motion_is_under_a_megabyte(video, tmp_path):
    whole = captured("walk", FPS, FRAMES)
    many = np.arange(900) % FRAMES
    motion = replace(whole.motion, rotmats=whole.motion.rotmats[many], trans_m=whole.motion.trans_m[many])
    long = replace(whole, motion=motion, known=whole.known[many], contact=whole.contact[many])
    film = tmp_path / "long.mp4"
    write_mp4(film, [np.zeros((16, 16, 3), np.uint8)] * 900, FPS)
    curves = tuple(Strip(name=str(i), unit="px", values=np.random.default_rng(i).random(900)) for i in range(4))
    heat = np.ones((900, 24), np.float32)
    given = person(film, person=long, strips=curves, heat_px=heat)
    size = write_capture_page(tmp_path / "r.html", page(given)).stat().st_size - film.stat().st_size * 4 / 3
    assert size < 1e6


def test_texts_are_escaped(video, tmp_path):
    entry = (Entry(term=EVIL, text=EVIL),)
    curve = Strip(name=EVIL, unit=EVIL, values=np.ones(FRAMES), note=EVIL)
    evil = page(
        person(video, name=EVIL, strips=(curve,)), title=EVIL, summary=(EVIL,), settings=entry, model=entry, files=entry
    )
    plain = page(person(video), files=(Entry(term="nothing", text="here"),))
    hostile, expected = (Page(write_capture_page(tmp_path / "r.html", p).read_text()) for p in (evil, plain))
    assert [(t, sorted(a)) for t, a in hostile.elements] == [(t, sorted(a)) for t, a in expected.elements]
    assert payload(hostile)["people"][0]["name"] == EVIL


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strips": (Strip(name="iou", unit="", values=np.ones(FRAMES - 1)),)}, "curve 'iou' of 'one' has 15 frames"),
        ({"heat_px": np.ones((FRAMES + 1, 24), np.float32)}, "heat of 'one' has 17 frames, the motion 16"),
        ({"first_frame": LATE + 1}, "in frames 4 to 20 of .*v.mp4, which has 19"),
        ({"first_frame": -1}, "in frames -1 to 15"),
        ({"fps": 50.0}, "told to be at 50.0 fps, .* is at 25.00"),
        ({"fps": 0.0}, "told to be at 0.0 fps"),
    ],
)
def test_what_does_not_belong_together_is_one_line_and_leaves_the_old_page(video, tmp_path, change, message):
    path = tmp_path / "r.html"
    path.write_text("old")
    with pytest.raises(UserError, match=message) as caught:
        write_capture_page(path, page(person(video, **change)))
    assert "\n" not in str(caught.value)
    assert path.read_text() == "old"


def test_videos_that_cannot_be_shown_are_refused(video, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="nobody to show"):
        write_capture_page(tmp_path / "r.html", page())
    with pytest.raises(UserError, match=r"gone\.mp4"):
        write_capture_page(tmp_path / "r.html", page(person(tmp_path / "gone.mp4")))
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(video.read_bytes()[:60])
    with pytest.raises(UserError, match=r"broken\.mp4"):
        write_capture_page(tmp_path / "r.html", page(person(broken)))
    monkeypatch.setattr(capture_page, "LARGEST_VIDEOS_BYTES", 100)
    with pytest.raises(UserError, match="allowed in one page"):
        write_capture_page(tmp_path / "r.html", page(person(video)))
    assert not (tmp_path / "r.html").exists()
