"""The page of a capture in a real browser, from disk: it loads, plays, seeks, colours and says hostile texts."""

import io
import shutil

import numpy as np
import pytest
from PIL import Image

from aign.data.stages.decode import write_mp4
from aign.inference.capture_page import CapturePage, PagePerson, Strip, write_capture_page
from aign.inference.page import Entry
from tests.inference.captures import captured, vertices_m
from tests.inference.test_report import EVIL

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("no chromium is installed (Debian: apt install chromium)", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="playwright comes with the dev extra")

FRAMES, LATE, FPS = 40, 5, 25.0
STEP = 5
"""Grey levels between a frame of the video and the next."""
GREY_AT_FRAME = """(frame) => new Promise((done) => {
    seek(frame);
    const look = () => {
        if (video.seeking) return setTimeout(look, 20);
        const pen = new OffscreenCanvas(8, 8).getContext("2d");
        pen.drawImage(video, 0, 0, 8, 8);
        done(pen.getImageData(4, 4, 1, 1).data[0]);
    };
    setTimeout(look, 20);
})"""


@pytest.fixture(scope="module")
def page_url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    levels = range(20, 20 + STEP * (FRAMES + LATE), STEP)
    write_mp4(folder / "v.mp4", [np.full((64, 96, 3), level, np.uint8) for level in levels], FPS)
    write_mp4(folder / "w.mp4", [np.full((96, 64, 3), level, np.uint8) for level in levels], FPS)
    heat = np.tile(np.linspace(0, 12, 24, dtype=np.float32), (FRAMES, 1))
    curve = np.linspace(3, 4, FRAMES)
    curve[7], curve[2] = 9.0, np.nan
    strips = (
        Strip(name="reprojection", unit="px", values=curve, note=EVIL),
        Strip(name="mask overlap", unit="", values=1 - curve / 10, worst="low"),
    )
    people = (
        PagePerson(name=EVIL, video=folder / "v.mp4", fps=FPS, person=captured("dance_a", FPS, FRAMES, tall=1.5),
                   heat_px=heat, strips=strips),
        PagePerson(name="late", video=folder / "w.mp4", fps=FPS, person=captured("run", FPS, 11), first_frame=LATE),
    )  # fmt: skip
    entry = (Entry(term=EVIL, text=EVIL),)
    told = CapturePage(title=EVIL, summary=(EVIL,), people=people, settings=entry, model=entry, licences=entry)
    return write_capture_page(folder / "report.html", told).as_uri()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        # WebGL on a machine without a GPU
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--enable-unsafe-swiftshader"])
        yield found
        found.close()


class Opened:
    """A page at rest, what it complained of, and what it asked for."""

    def __init__(self, browser, url, script="", **context):
        self.complaints, self.requests = [], []
        settings = {"reduced_motion": "reduce", "viewport": {"width": 1000, "height": 700}}
        self.page = browser.new_context(**{**settings, **context}).new_page()
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        # A software driver warns that it is slow when a test reads the canvas.
        self.page.on("console", lambda m: None if "GPU stall" in m.text else self.complaints.append(m.text))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.add_init_script(script)
        self.page.goto(url)
        self.until("document.querySelector('.capture').dataset.ready && video.readyState > 1")

    def until(self, holds):
        """Wait; the page's policy forbids playwright's own way, which evaluates a text in the page."""
        for _ in range(600):
            if self.page.evaluate(holds):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"never: {holds}")

    def __call__(self, script, *args):
        return self.page.evaluate(script, *args)

    def part(self, name):
        return self.page.locator(f'[data-part="{name}"]')

    def rest(self):
        """Wait until what is drawn is what was last asked for."""
        self.until("!state.dirty && video.readyState > 1 && !video.seeking")

    def seek(self, frame):
        self(f"seek({frame})")
        self.rest()
        assert self("player.frame") == frame

    def picture(self):
        """What the canvas shows [h, w, 3]."""
        self.rest()
        return np.asarray(Image.open(io.BytesIO(self.part("canvas").screenshot())).convert("RGB")).astype(int)


@pytest.fixture(scope="module")
def desk(browser, page_url):
    return Opened(browser, page_url)


@pytest.fixture
def opened(desk):
    """The page as it is after loading; it takes a second to load, so the tests share it."""
    desk("() => { setMode('mesh'); choose(0); player.seek(0); }")
    desk.rest()
    yield desk
    assert desk.complaints == []


def body_of(picture):
    """Pixels that are far from grey."""
    return np.ptp(picture, axis=-1) > 40


def test_it_loads_from_disk_alone_and_shows_texts_as_texts(opened, page_url):
    assert opened.requests[0] == page_url
    assert all(url.startswith("blob:") for url in opened.requests[1:])
    assert opened.page.title() == EVIL
    assert opened.page.locator("h1").inner_text() == EVIL
    assert opened.part("person").locator("option").all_inner_texts() == [EVIL, "late"]
    assert opened.page.locator(".strips small").first.inner_text() == EVIL
    assert opened.page.locator("script").count() == 3, "data, our script and the video that nobody asked for yet"


def test_the_body_moves_with_the_frames_and_is_coloured_by_heat(opened):
    opened.seek(3)
    first = opened.picture()
    assert 0.01 < body_of(first).mean() < 0.4
    opened.seek(30)
    later = opened.picture()
    assert (np.abs(later - first).max(-1) > 40).mean() > 0.01
    opened.page.get_by_text("heat", exact=True).click()
    hot = opened.picture()
    assert opened.part("legend").inner_text().endswith("11.0 px")
    red, cold = ((hot[body_of(hot)] @ np.array(weights) > 30).mean() for weights in ([1, -1, 0], [-1, 0, 1]))
    assert red > 0.05
    assert cold > 0.05
    opened.page.get_by_text("skeleton", exact=True).click()
    assert np.abs(opened.picture() - hot).max(-1).max() > 40


def test_frame_i_of_the_video_shows_pose_i(opened):
    for frame in (0, 1, 17, FRAMES - 1):
        grey = opened(GREY_AT_FRAME, frame)
        assert round((grey - 20) / STEP) == frame
        assert opened("player.frame") == frame
        opened.rest()
        assert opened.part("time").inner_text() in (f"frame {frame + 1} / {FRAMES + LATE}", "")


def test_it_plays_and_stops(opened):
    opened.part("play").click()
    opened.until("player.frame > 5")
    opened.part("play").click()
    stopped = opened("player.frame")
    assert round((opened(GREY_AT_FRAME, stopped) - 20) / STEP) == stopped
    assert opened("[video.paused, player.frame]") == [True, stopped]


def test_it_goes_round_and_stays_at_its_end_when_stopped_there(opened):
    opened.seek(FRAMES + LATE - 4)
    opened("player.play(true)")
    opened.until("player.frame > 0 && player.frame < 30")
    opened("player.play(false)")
    for _ in range(3):
        assert round((opened(GREY_AT_FRAME, FRAMES + LATE - 1) - 20) / STEP) == FRAMES + LATE - 1
        opened.page.wait_for_timeout(100)


def test_scrub_curves_and_keys_seek(opened):
    opened.part("scrub").fill("12")
    assert opened("player.frame") == 12
    plot = opened.page.locator(".plot").first.bounding_box()
    opened.page.mouse.click(plot["x"] + plot["width"] * 20.5 / (FRAMES + LATE), plot["y"] + 10)
    assert opened("player.frame") == 20
    opened.page.get_by_text("worst 9.00").click()
    assert opened("player.frame") == 7
    opened.rest()
    assert opened.page.locator(".strips output").first.inner_text() == "9.00 px"
    opened.page.get_by_text("worst 0.10").click()
    assert opened("player.frame") == 7
    opened.page.locator("h1").click()
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        opened.page.keyboard.press(key)
    assert opened("player.frame") == 8
    opened.page.keyboard.press("End")
    assert opened("player.frame") == FRAMES + LATE - 1
    opened.until("!document.querySelector('[data-part=absent]').hidden")
    opened.page.keyboard.press("Space")
    assert opened("player.playing")
    opened.page.keyboard.press("Space")
    yaw = opened("state.yaw")
    opened.page.keyboard.press("Shift+ArrowRight")
    assert opened("state.yaw") != yaw


def test_dragging_turns_and_shift_moves(opened):
    box = opened.part("canvas").bounding_box()
    yaw, shift = opened("[state.yaw, state.shift]")
    opened.page.mouse.move(box["x"] + 100, box["y"] + 100)
    opened.page.mouse.down()
    opened.page.mouse.move(box["x"] + 200, box["y"] + 100)
    assert opened("state.yaw") == pytest.approx(yaw - 0.8)
    opened.page.keyboard.down("Shift")
    opened.page.mouse.move(box["x"] + 200, box["y"] + 150)
    opened.page.mouse.up()
    assert opened("state.shift[1]") > shift[1] + 0.1


def test_another_person_has_a_video_and_a_span_of_its_own(opened):
    opened.part("person").select_option("1")
    opened.rest()
    assert opened("[video.videoWidth, state.person.first]") == [64, LATE]
    assert opened.part("absent").is_visible(), "not yet there in the first frame"
    opened.seek(LATE)
    assert opened.part("absent").is_hidden()
    assert opened.part("modes").get_by_text("heat").is_hidden()
    opened.seek(LATE + 11 // 2)
    assert opened.part("filled").is_visible()


def test_vertices_are_those_of_our_skinning(opened):
    for number, given, late in (
        (0, captured("dance_a", FPS, FRAMES, tall=1.5), 0),
        (1, captured("run", FPS, 11), LATE),
    ):
        opened.part("person").select_option(str(number))
        truth = vertices_m(given)
        for frame in (0, 4, 10):
            drawn = np.array(opened(f"Array.from(verticesAt({frame + late}))")).reshape(-1, 3)
            assert np.linalg.norm(drawn - truth[frame], axis=1).max() < 0.0005


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything_within_its_width(browser, page_url, scheme):
    phone = Opened(browser, page_url, viewport={"width": 375, "height": 800}, color_scheme=scheme, has_touch=True)
    assert phone("document.documentElement.scrollWidth") <= 375
    assert (phone.picture().mean() > 128) == (scheme == "light")
    assert body_of(phone.picture()).mean() > 0.01
    assert phone.complaints == []
    phone.page.context.close()


def test_without_webgl_limbs_are_drawn_as_lines(browser, page_url):
    hide = "const plain = HTMLCanvasElement.prototype.getContext; HTMLCanvasElement.prototype.getContext = " \
        "function (kind, ...rest) { return kind === 'webgl2' ? null : plain.call(this, kind, ...rest); };"  # fmt: skip
    found = Opened(browser, page_url, script=hide)
    found.seek(9)
    assert 0.002 < body_of(found.picture()).mean() < 0.2
    assert found.part("modes").get_by_text("mesh").is_hidden()
    assert found.complaints == []
    found.page.context.close()
