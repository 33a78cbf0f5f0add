"""The gallery and the page of a store: what is drawn where, what is escaped, and that a browser runs it."""

import base64
import dataclasses
import hashlib
import re
import shutil
import subprocess

import cv2
import numpy as np
import pytest

from aign.data.pixels import encode_jpeg, encode_mask
from aign.data.store import Manifest, Store, commit, write_part
from aign.framework.errors import UserError
from aign.geometry.skeleton import FACE5, H36M17
from aign.inference.page import render_page, write_page
from aign.inference.store_report.drawing import (
    arrow_gain,
    flow_svg,
    in_picture,
    joints_svg,
    landmarks_svg,
    mask_svg,
    thumbnail,
)
from aign.inference.store_report.facts import Facts, gather
from aign.inference.store_report.gallery import Gallery, draw_gallery
from aign.inference.store_report.page import store_page
from tests.inference.test_report import Page
from tests.inference.test_store_report import (
    CROP,
    EVIL,
    FRAMES,
    SIZE,
    clip_key,
    motion_store,
    path_of,
    person_clips,
    person_mask,
    person_px,
    person_store,
    provenance,
)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """The person store, its sources named by somebody who means harm."""
    url = tmp_path_factory.mktemp("stores") / "person"
    person_store(str(url), source=EVIL)
    return url


@pytest.fixture
def copy(hostile, tmp_path):
    return shutil.copytree(hostile, tmp_path / "person")


def seen(url, clips: int = 12, seed: int = 0) -> tuple[Facts, Gallery]:
    store = Store.open(str(url))
    facts = gather(store)
    return facts, draw_gallery(store, facts, clips, seed)


def numbers(svg: str, kind: str) -> np.ndarray:
    """Points of the path of one class."""
    (path,) = re.findall(rf'<path class="{kind}" d="([^"]*)"', svg)
    return np.array([float(x) for x in re.findall(r"-?[\d.]+(?:e-?\d+)?", path.replace("h0", ""))]).reshape(-1, 2)


def test_convention_joints_are_drawn_in_the_crops_own_edges():
    size = (96, 128)
    corners = np.array([[CROP[0], CROP[1]], [CROP[2], CROP[3]], [(CROP[0] + CROP[2]) / 2, CROP[1]]], np.float32)
    np.testing.assert_allclose(in_picture(corners, CROP, size), [[0, 0], [96, 128], [48, 0]], atol=1e-4)
    whole = np.array([-0.5, -0.5, 95.5, 127.5], np.float32)
    np.testing.assert_allclose(in_picture(np.zeros((1, 2), np.float32), whole, size), [[0.5, 0.5]])


def test_joints_have_sides_and_unseen_ones_are_left_out():
    points = np.arange(34, dtype=np.float32).reshape(17, 2)
    conf = np.ones(17, np.float32)
    conf[H36M17.index("l_wrist")] = 0.1
    points[H36M17.index("nose")] = np.nan
    svg = joints_svg(points, conf, H36M17)
    assert len(numbers(svg, "joint")) == 15
    left = numbers(svg, "bone left")
    knee, hip = (points[H36M17.joints.index(n)] for n in ("l_knee", "l_hip"))
    assert any(np.array_equal(left[i : i + 2], [knee, hip]) for i in range(0, len(left), 2))
    wrist = points[H36M17.joints.index("l_wrist")]
    assert not any(np.array_equal(p, wrist) for p in left)
    assert "nan" not in svg
    assert numbers(joints_svg(points, conf, None), "joint").shape == (15, 2), "no skeleton: points only"
    assert joints_svg(points, np.zeros(17, np.float32), H36M17) == ""


def test_masks_are_outlined_to_the_border_with_their_holes():
    mask = np.zeros((40, 60), bool)
    mask[10:30, 0:25] = True
    mask[15:20, 5:10] = False
    outline = numbers(mask_svg(mask), "area")
    assert outline.min() >= -1
    assert abs(outline[:, 0].min()) <= 0.5
    assert abs(outline[:, 0].max() - 25) <= 0.5
    np.testing.assert_allclose([outline[:, 1].min(), outline[:, 1].max()], [10, 30], atol=0.5)
    assert mask_svg(mask).count("M") == 2, "the hole is an outline of its own"
    assert mask_svg(np.zeros((4, 4), bool)) == ""


def test_convention_arrows_point_where_the_pixel_goes():
    flow = np.zeros((48, 48, 2), np.float32)
    flow[..., 0], flow[..., 1] = 3.0, -1.5
    valid = np.zeros((48, 48), bool)
    valid[:, :24] = True
    assert arrow_gain([(flow, valid)]) == 1.0, "a cell is 4 px"
    (path,) = re.findall(r'class="dart" d="([^"]*)"', flow_svg(flow, valid, 2.0))
    darts = np.array([[float(x) for x in re.findall(r"-?[\d.]+", dart)] for dart in path.split("z")[:-1]])
    starts, across, to_tip = darts[:, :2], darts[:, 2:4], darts[:, 4:]
    np.testing.assert_allclose(to_tip + across / 2, [[6, -3]] * 72, atol=0.05)
    base = starts + across / 2
    assert {tuple(p) for p in np.round(base, 1)} == {
        (x + 2.5, y + 2.5) for x in range(0, 24, 4) for y in range(0, 48, 4)
    }
    assert arrow_gain([(flow / 16, valid)]) == 16.0, "0.21 px, and a power of two"
    assert arrow_gain([]) == 1.0
    assert flow_svg(flow * 0, valid, 64.0) == ""


def test_face_landmarks_have_the_persons_sides():
    svg = landmarks_svg(np.array([[10, 20], [30, 20], [20, 30], [12, 40], [28, 40]], np.float32), FACE5)
    np.testing.assert_array_equal(numbers(svg, "mark right"), [[10, 20], [12, 40]])  # on the picture's left
    np.testing.assert_array_equal(numbers(svg, "mark centre"), [[20, 30]])


def test_thumbnails_keep_to_their_bytes():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (600, 400, 3), dtype=np.uint8)
    assert len(thumbnail(noise, 6000)) <= 6000
    plain = cv2.imdecode(np.frombuffer(thumbnail(np.full((600, 400, 3), 9, np.uint8), 20000), np.uint8), 1)
    assert plain.shape == (320, 213, 3)
    assert thumbnail(noise[:2, :1], 1)


def test_gallery_shows_random_and_worst_clips_with_their_layers(hostile):
    _, gallery = seen(hostile, clips=4)
    assert len(gallery.random) == 4
    assert [f.verdict.passed for f in gallery.worst] == [False, True, True, True]
    assert gallery.findings == ()
    worst = gallery.worst[0]
    assert [t.frame for t in worst.tiles] == [FRAMES + i for i in (0, 2, 4, 5, 7, 9)]
    assert all(t.jpeg for t in worst.tiles)
    assert all("layer-mask" in t.svg and "layer-joints" in t.svg for t in worst.tiles)
    assert ["layer-flow" in t.svg for t in worst.tiles] == [True] * 5 + [False], "a clip's last frame has no flow"
    assert (worst.tiles[0].width, worst.tiles[0].height) == SIZE
    drawn = numbers(worst.tiles[0].svg, "joint")
    np.testing.assert_allclose(drawn, in_picture(person_px(start=FRAMES)[0], CROP, SIZE), atol=0.01)
    rows, columns = np.where(person_mask(person_px(start=FRAMES)[0]))
    area = numbers(worst.tiles[0].svg, "area")
    np.testing.assert_allclose(area.min(0), [columns.min(), rows.min()], atol=1)
    np.testing.assert_allclose(area.max(0), [columns.max() + 1, rows.max() + 1], atol=1)
    picture = cv2.imdecode(np.frombuffer(worst.tiles[0].jpeg, np.uint8), 1)
    assert picture.shape[:2] == SIZE[::-1]


def test_the_seed_chooses(hostile):
    names = [[f.clip.name for f in seen(hostile, 3, seed)[1].random] for seed in (0, 0, 1, 2, 3)]
    assert names[0] == names[1]
    assert len({tuple(n) for n in names}) > 1


def test_only_row_groups_that_are_shown_are_read(hostile, monkeypatch):
    store = Store.open(str(hostile))
    facts = gather(store)
    read = []
    plain = Store.read_row_group
    monkeypatch.setattr(
        Store, "read_row_group", lambda s, f, c: (read.append((*c, f.part, f.index)), plain(s, f, c))[1]
    )
    draw_gallery(store, facts, clips=1)
    assert read
    assert len(read) == len(set(read)), "nothing is read twice"
    assert len({part for _, part, _ in read}) <= 2


def test_too_many_clips_are_refused(hostile):
    store = Store.open(str(hostile))
    with pytest.raises(UserError, match="got 25 clips for the page; allowed: 0 to 24"):
        draw_gallery(store, gather(store, verify=False), clips=25)


@pytest.mark.parametrize("table", ["frames", "keypoints", "masks", "flow", "quality"])
def test_a_part_that_is_gone_costs_its_layer_only(copy, table):
    path_of(copy, table, 1).unlink()
    facts, gallery = seen(copy)
    assert set(facts.broken) == {(table, 1)}
    assert gallery.findings == ()
    drawn = "".join(t.svg for f in gallery.random if f.clip.part == 1 for t in f.tiles)
    assert ("layer-mask" in drawn) == (table not in ("masks", "frames"))
    assert ("layer-joints" in drawn) == (table != "keypoints")
    assert len(gallery.random) == 6


def rewritten(copy, table: str, column: str, change) -> None:
    """Replace a byte column of part 0 by something else of the right type."""
    store = Store.open(str(copy))
    clips = [person_clips(clip_key("anna/walk", "cam1", start))[table] for start in (0, FRAMES)]
    clips = [clip | {column: [change(data) for data in clip[column]]} for clip in clips]
    records = write_part(str(copy), 0, {table: clips}, provenance("changed", table))
    commit(str(copy), store.manifest.updated(records))


@pytest.mark.parametrize(
    ("table", "column", "change", "said"),
    [
        ("frames", "image_jpeg", lambda d: d[:60], "no JPEG"),
        ("frames", "image_jpeg", lambda _: encode_jpeg(np.zeros((8, 8, 3), np.uint8)), "its clip says 96 x 128"),
        ("masks", "mask_png", lambda d: d[:60], "PNG"),
        (
            "masks",
            "mask_png",
            lambda _: encode_mask(np.ones((8, 8), bool)),
            "a mask of 8 x 8 px for pictures of 96 x 128",
        ),
        ("flow", "flow_zst", lambda d: d[:20], "flow"),
    ],
)
def test_pictures_that_do_not_decode_are_findings_once_a_part(copy, table, column, change, said):
    rewritten(copy, table, column, change)
    facts, gallery = seen(copy)
    assert facts.broken == {}, "the file is as it was written; what was written is bad"
    (found,) = gallery.findings
    assert found.level == "broken"
    assert said in found.what
    assert f"{table}/part-00000" in found.what
    page = render_page(store_page(facts, gallery))
    assert '<p class="state broken">1 part broken</p>' in page
    assert len([f for f in gallery.random if f.tiles]) == 6


def face_store(url: str) -> None:
    clips = []
    for i in range(5):
        rgb = np.full((48, 40, 3), 60 + 30 * i, np.uint8)
        clips.append(
            clip_key(f"face {i}", "", frames=1, source="celeba") | {
                "face_jpeg": [encode_jpeg(rgb)], "face_size_px": np.array([40, 48], np.int32),
                "landmarks_px": np.array([[12, 18], [28, 18], [20, 26], [14, 34], [26, 34]], np.float32),
                "landmarks_valid": np.bool_(i != 4), "attributes": np.array([1, -1, 1, 34.5, np.nan], np.float32),
                "attribute_names": "Male Young Big_Lips age lips", "identity": np.int32(i - 1), "partition": "train",
            }
        )  # fmt: skip
    records = write_part(url, 0, {"faces": clips}, provenance("f", "faces"))
    commit(url, Manifest(skeleton="h36m17", num_joints=17).updated(records))


def test_faces_are_shown_with_landmarks_and_attributes(tmp_path):
    face_store(str(tmp_path / "faces"))
    facts, gallery = seen(tmp_path / "faces")
    assert [len(f.tiles) for f in gallery.random] == [1] * 5
    assert gallery.random[0].notes == ("Male, Big Lips, age 34.5", "partition train")
    assert gallery.random[1].notes[-1] == "identity 0"
    np.testing.assert_allclose(numbers(gallery.random[0].tiles[0].svg, "mark centre"), [[20.5, 26.5]])
    assert gallery.random[4].tiles[0].svg == ""
    assert 'class="clips faces"' in render_page(store_page(facts, gallery))


def test_motion_without_pictures_is_drawn_as_sticks(tmp_path):
    facts, gallery = seen(motion_store(str(tmp_path / "motion")).url)
    (figure,) = gallery.random
    assert all(t.jpeg is None for t in figure.tiles)
    first = numbers(figure.tiles[0].svg, "joint")
    assert 0 < first.min() < first.max() < 200
    head, foot = first[H36M17.joints.index("head_top"), 1], first[H36M17.joints.index("l_ankle"), 1]
    assert head < foot, "upright"
    assert "No quality was measured" in render_page(store_page(facts, gallery))


def test_memory_alone_stands_upright(tmp_path):
    store = motion_store(str(tmp_path / "motion"))
    kept = [p for p in store.manifest.parts if p.table == "memory_pose"]
    commit(store.url, dataclasses.replace(store.manifest, parts=tuple(kept)))
    (figure,) = seen(store.url)[1].random
    points = numbers(figure.tiles[0].svg, "joint")
    assert points[H36M17.joints.index("head_top"), 1] < points[H36M17.joints.index("l_ankle"), 1]


def test_page_is_whole_self_contained_and_escaped(hostile, tmp_path):
    write_page(tmp_path / "new" / "report.html", store_page(*seen(hostile)))
    text = (tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["report.html"]
    assert len(page.all("script")) == 1
    (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    script = "".join(page.inside("script"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert all(img["src"].startswith("data:image/jpeg;base64,") for img in page.all("img"))
    assert not [a for _, a in page.elements if any(name.startswith("on") for name in a)]
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text)
    assert any(EVIL in cell for cell in page.inside("td"))
    assert any(EVIL in item for item in page.inside("li"))
    assert "CC-BY-4.0 <b>" in page.inside("td")
    assert "$" not in re.sub(re.escape(EVIL), "", "".join(t for tag, t in page.texts if tag not in ("script", "style")))


def test_page_says_what_it_should(hostile, tmp_path):
    page = Page(render_page(store_page(*seen(hostile))))
    assert page.inside("h2") == [
        "What is wrong", "Clips to look at", "What is in it", "Quality", "What the numbers say", "What is not in it",
        "Where it comes from",
    ]  # fmt: skip
    assert "dropped: keypoint_conf 0.3 < 0.4; blur <b>7.5</b> px" in page.inside("span")
    assert "keypoint_conf 0.3 < 0.4; blur <b>7.5</b> px" in page.inside("td")
    assert "limit 0.4" in page.inside("text")
    assert [box["value"] for box in page.all("input")] == ["joints", "mask", "flow"]
    assert len(page.all("button")) == 12 * 6 + 3
    assert len([r for r in page.all("rect") if "failed" in r["class"]]) == 2


def test_page_stays_small_whatever_is_asked_for(tmp_path):
    rng = np.random.default_rng(0)
    keys = [clip_key(f"eva/walk {i}", "cam1", frames=6) for i in range(30)]
    clips = [person_clips(key, 0.9) for key in keys]
    noise = rng.integers(0, 256, (128, 96, 3), dtype=np.uint8)
    big = [cv2.resize(np.roll(noise, i, 0), (480, 640), interpolation=cv2.INTER_NEAREST) for i in range(6)]
    jpegs = [encode_jpeg(picture) for picture in big]
    for clip in clips:
        clip["frames"] |= {"image_jpeg": jpegs, "frame_size_px": np.array([480, 640], np.int32)}
    tables = {name: [clip[name] for clip in clips] for name in ("frames", "keypoints", "quality")}
    records = [
        r for name, made in tables.items() for r in write_part(str(tmp_path), 0, {name: made}, provenance("e", name))
    ]
    commit(str(tmp_path), Manifest(skeleton="h36m17", num_joints=17).updated(records))
    facts, gallery = seen(tmp_path, clips=24)
    assert len(gallery.random) == len(gallery.worst) == 24
    assert len(render_page(store_page(facts, gallery))) < 6e6


def test_a_place_that_cannot_be_written_is_one_line_and_keeps_the_old_page(hostile, tmp_path):
    (tmp_path / "file").write_text("old")
    with pytest.raises(UserError, match="cannot write") as caught:
        write_page(tmp_path / "file" / "report.html", store_page(*seen(hostile, clips=0)))
    assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed; the page is parsed above")
def test_page_runs_in_a_browser(hostile, tmp_path):
    path = tmp_path / "report.html"
    write_page(path, store_page(*seen(hostile, clips=2)))
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=1000", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    shown = Page(done.stdout)
    assert shown.all("body")[0].get("data-ready") == "true"
    (bar,) = [a for a in shown.all("div") if a.get("class") == "layers"]
    assert "hidden" not in bar, "the script switches the layers' boxes on"
