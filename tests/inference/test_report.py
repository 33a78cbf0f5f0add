import base64
import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pytest

from aign.data.stages.decode import write_mp4
from aign.framework.errors import UserError
from aign.geometry.skeleton import H36M17
from aign.inference.page import Entry
from aign.inference.report import MISSING_MM, DemoReport, LiftedClip, Picture, TextTable, write_report
from tests.inference.test_figure import STANDING_M

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)> & \"quoted\" 'too' ${js}"
VOID = {"meta", "link", "img", "input", "br", "hr", "source"}


class Page(HTMLParser):
    """Elements in order, what they say, and whether they close in order."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    def inside(self, tag):
        return [text for name, text in self.texts if name == tag]


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    frames = [np.full((64, 48, 3), 20 * i, np.uint8) for i in range(8)]
    write_mp4(folder / "cam #1: a.mp4", frames, 30)
    write_mp4(folder / "b.mp4", frames, 30)
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    (folder / "lifted.png").write_bytes(base64.b64decode(pixel))
    return folder


@pytest.fixture
def folder(media, tmp_path):
    return shutil.copytree(media, tmp_path / "demo")


def walk():
    swing = np.sin(np.arange(8) / 3)[:, None].astype(np.float32)
    joints = np.repeat(STANDING_M[None], 8, axis=0)
    joints[:, 3, 2:] += 0.3 * swing
    return joints + np.float32([0.5, 0.2, 4.0])


def report(**changes):
    reference = walk()
    reference[:, 10] = np.nan
    first = LiftedClip(
        name="first", caption="c1", video="cam #1: a.mp4", fps=30.0, predicted_m=walk(), reference_m=reference
    )
    given = {
        "title": "Lifted",
        "summary": ("One.", "Two."),
        "clips": (
            first,
            LiftedClip(name="second", caption="c2", video="b.mp4", fps=30.0, predicted_m=walk()),
        ),
        "pictures": (Picture(path="lifted.png", caption="a picture", alt="bodies"),),
        "evaluation_html": '<table class="aign-table"><tbody><tr><td>AIGN</td><td>79.0</td></tr></tbody></table>',
        "agreement": TextTable(columns=("method", "mm"), rows=(("AIGN", "81.7"),), note="16 joints"),
        "commands": (Entry(term="aign models", text="lists them"),),
        "files": (Entry(term="lifted.png", text="the picture"), Entry(term="/elsewhere/store", text="the store")),
        "provenance": (Entry(term="commit", text="1234567"),),
        "licences": (Entry(term="clips", text="zlib"),),
    }
    return DemoReport(**{**given, **changes})


def page_of(folder, what):
    return Page(write_report(folder, what).read_text(encoding="utf-8"))


def payload(page):
    attributes = [a for a in page.all("script") if a.get("id") == "clips"]
    assert attributes == [{"type": "application/json", "id": "clips"}]
    return json.loads(page.inside("script")[0])


def unpacked(text):
    return np.frombuffer(base64.b64decode(text), "<i2").reshape(-1, 17, 3)


def test_page_has_every_section_and_text(folder):
    page = page_of(folder, report())
    text = " ".join(text for _, text in page.texts)
    assert page.inside("h1") == ["Lifted"]
    assert len([t for t in page.inside("h2") if t.strip()]) == 6
    for said in ("One.", "Two.", "c1", "a picture", "79.0", "81.7", "16 joints", "aign models", "1234567", "zlib"):
        assert said in text
    assert [a["data-part"] for a in page.all("canvas")] == ["canvas"]
    assert page.inside("option")[:2] == ["first", "second"]
    assert sorted(p.name for p in folder.iterdir()) == ["b.mp4", "cam #1: a.mp4", "index.html", "lifted.png"]


def test_triangulation_is_said_to_be_a_pseudo_truth(folder):
    page = page_of(folder, report())
    assert any("pseudo-truth" in title for title in page.inside("h2"))
    assert any("pseudo-truth, not ground truth" in text for text in page.inside("p"))


def test_sections_without_content_are_left_out(folder):
    page = page_of(folder, DemoReport(title="Bare", summary=()))
    assert page.inside("h2") == []
    assert page.all("video") == []
    assert page.all("table") == []
    assert payload(page)["clips"] == []


def test_nothing_is_fetched_and_every_reference_is_a_file_beside_the_page(folder):
    text = write_report(folder, report()).read_text(encoding="utf-8")
    assert not re.search(r"(https?:)?//[a-z0-9.-]+\.[a-z]|@import|url\(|fetch\(|XMLHttpRequest|import\(|eval\(", text)
    page = Page(text)
    links = [a[key] for _, a in page.elements for key in ("src", "href") if key in a]
    assert len(links) == 5  # video, picture, two <noscript> links, one file
    for link in links + [clip["video"] for clip in payload(page)["clips"]]:
        assert not re.search("^/|:", link)
        assert (folder / unquote(link)).is_file()


def test_policy_lets_only_our_script_run(folder):
    text = write_report(folder, report()).read_text(encoding="utf-8")
    page = Page(text)
    (policy,) = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    script = page.inside("script")[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'")
    assert f"script-src 'sha256-{digest}'" in policy
    assert len(page.all("script")) == 2
    assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)


def test_every_text_is_escaped(folder):
    (folder / "we<b>\"ird'&.png").write_bytes((folder / "lifted.png").read_bytes())
    entry = (Entry(term=EVIL, text=EVIL),)
    first = replace(report().clips[0], name=EVIL, caption=EVIL)
    evil = report(
        title=EVIL, summary=(EVIL,), clips=(first,), commands=entry, files=entry, provenance=entry, licences=entry,
        pictures=(Picture(path="we<b>\"ird'&.png", caption=EVIL, alt=EVIL),),
        agreement=TextTable(columns=(EVIL,), rows=((EVIL,),), note=EVIL),
    )  # fmt: skip
    entry = (Entry(term="a", text="b"),)
    plain = report(
        summary=("s",),
        clips=report().clips[:1],
        files=entry,
        agreement=TextTable(columns=("a",), rows=(("1",),), note="n"),
    )
    expected, hostile = page_of(folder, plain), page_of(folder, evil)
    assert [(t, sorted(a)) for t, a in hostile.elements] == [(t, sorted(a)) for t, a in expected.elements]
    for tag in ("title", "h1", "p", "option", "figcaption", "td", "th", "code", "dt", "dd"):
        assert EVIL in "".join(hostile.inside(tag)), tag
    assert hostile.all("img")[0]["alt"] == EVIL
    assert payload(hostile)["clips"][0]["name"] == EVIL


def test_convention_payload_is_int16_millimetres_from_the_pelvis(folder):
    data = payload(page_of(folder, report()))
    assert [[child, parent] for child, parent, _ in data["bones"]] == [list(bone) for bone in H36M17.bones]
    assert {H36M17.joints[c]: ("left", "right", "centre")[s] for c, _, s in data["bones"]}["r_knee"] == "right"
    first, second = data["clips"]
    assert (first["frames"], first["fps"], first["size"]) == (8, 30.0, [48, 64])
    joints = unpacked(first["predicted"])
    centred = walk() - walk()[:, :1]
    assert joints.shape == (8, 17, 3)
    assert np.abs(joints / 1000 - centred).max() <= 0.00051
    reference = unpacked(first["reference"])
    assert (reference[:, 10] == MISSING_MM).all()
    assert (np.delete(reference, 10, axis=1) != MISSING_MM).all()
    assert second["reference"] is None


def test_known_up_makes_the_clip_upright(folder):
    tilt = np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]], np.float32)
    clip = replace(report().clips[1], predicted_m=walk() @ tilt.T, up_cam=tilt @ np.float32([0, -1, 0]))
    joints = unpacked(payload(page_of(folder, report(clips=(clip,))))["clips"][0]["predicted"])
    assert np.abs(joints / 1000 - (walk() - walk()[:, :1])).max() <= 0.00051


def clip_with(**changes):
    return report(clips=(replace(report().clips[0], **changes),))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda: clip_with(video="missing.mp4"), "missing.mp4"),
        (lambda: clip_with(video="../demo/b.mp4"), "allowed: paths of files inside"),
        (lambda: clip_with(video="lifted.png.mp4"), "is not a file|is no file"),
        (lambda: clip_with(fps=0.0), "8 frames at 0.0 fps"),
        (lambda: clip_with(reference_m=walk()[:5]), "8 poses and 5 references"),
        (lambda: clip_with(predicted_m=walk()[:0], reference_m=None), "has 0 frames"),
        (lambda: clip_with(predicted_m=walk() * 1000), "allowed are metres"),
        (lambda: report(pictures=(Picture(path="/etc/hostname", caption="", alt=""),)), "not a file in"),
        (lambda: report(pictures=(Picture(path="http://a.b/c.png", caption="", alt=""),)), "not a file in"),
        (lambda: report(agreement=TextTable(columns=("a", "b"), rows=(("1",),))), "1 cells for 2 columns"),
    ],
)
def test_bad_input_is_one_line_and_leaves_the_old_page(folder, bad, message):
    (folder / "index.html").write_text("old")
    with pytest.raises(UserError, match=message) as caught:
        write_report(folder, bad())
    assert "\n" not in str(caught.value)
    assert (folder / "index.html").read_text() == "old"
    assert not [p.name for p in folder.iterdir() if p.name.startswith(".")]


def test_folder_that_cannot_be_written_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*index\.html: File exists"):
        write_report(tmp_path / "file", DemoReport(title="t", summary=()))


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed; the page is parsed above")
def test_page_runs_in_a_browser(folder, tmp_path):
    page = write_report(folder, report())
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=1500", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    shown = Page(done.stdout)
    (viewer,) = [a for a in shown.all("figure") if "viewer" in a.get("class", "")]
    assert viewer.get("data-ready") == "true"
    assert any(re.fullmatch(r"frame \d+ / 8", text) for text in shown.inside("output"))
