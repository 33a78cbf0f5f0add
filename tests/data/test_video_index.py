"""Index and ranges together: what the packets say must be what decoding the whole file gives."""

import pickle
import struct
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from aign.data import assets
from aign.data.stages.decode import read_range
from aign.data.stages.video_index import VideoIndex, index_video
from aign.framework.errors import UserError
from tests.data.turned import turn

HEIGHT, WIDTH = 48, 64


def picture(i: int) -> np.ndarray:
    """Quarters that say which way is up, and six black or white blocks that say which frame."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[:24, :32] = (200, 0, 0)
    image[:24, 32:] = (0, 200, 0)
    image[24:, :32] = (0, 0, 200)
    for bit in range(6):
        y, x = 24 + 12 * (bit // 3), 32 + 11 * (bit % 3)
        image[y : y + 12, x : x + 11] = 235 * (i >> bit & 1) + 10
    return image


def write(path: Path, codec: str = "libx264", pts_ms: list[int] | None = None, n: int = 40, **options: str) -> Path:
    """A video of n pictures at 25 per second, or at the times given; options of codec, or of the container (_...)."""
    container_options = {name[1:]: value for name, value in options.items() if name.startswith("_")}
    options = {name: value for name, value in options.items() if not name.startswith("_")}
    pix_fmt = options.pop("pix_fmt", "yuv420p")
    with av.open(str(path), "w", options=container_options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        still = {"sc_threshold": "0"} if codec == "libx264" else {}  # keyframes only where they are due
        stream.options = {"g": "12", **still, **{name.replace("_", "-"): value for name, value in options.items()}}
        if pts_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for i in range(n):
            frame = av.VideoFrame.from_ndarray(picture(i), format="rgb24")
            if pts_ms is not None:
                frame.pts, frame.time_base = pts_ms[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def numbers(frames) -> list[int]:
    """Which pictures these half-size frames are."""
    return [sum(int(f[12 + 6 * (b // 3) + 3, 16 + 5 * (b % 3) + 3, 0] > 128) << b for b in range(6)) for f in frames]


def check(path: Path, expected: range = range(40)) -> VideoIndex:
    """The index finds every picture, and ranges of 7 give the bytes of the whole."""
    index = index_video(path)
    assert index.num_frames == len(expected)
    assert (np.diff(index.pts) > 0).all()
    whole = list(read_range(path, index, 0, index.num_frames, 32))
    assert numbers(whole) == list(expected)
    for start in range(0, index.num_frames, 7):
        stop = min(start + 7, index.num_frames)
        part = list(read_range(path, index, start, stop, 32))
        assert len(part) == stop - start
        assert all((a == b).all() for a, b in zip(part, whole[start:stop], strict=True))
    return index


KINDS = {
    "b-frames.mp4": {"codec": "libx264", "bf": "3", "b_pyramid": "normal", "refs": "3"},
    "open-gop.mp4": {"codec": "libx264", "bf": "3", "x264_params": "open-gop=1:keyint=12:min-keyint=6"},
    "intra-refresh.mp4": {"codec": "libx264", "bf": "0", "x264_params": "intra-refresh=1:keyint=10"},
    "h265.mp4": {"codec": "libx265", "x265_params": "log-level=none:scenecut=0:keyint=12"},
    "h265-closed.mkv": {"codec": "libx265", "x265_params": "log-level=none:scenecut=0:keyint=12:no-open-gop=1"},
    "a.mkv": {"codec": "libx264", "bf": "2"},
    "a.mov": {"codec": "libx264", "bf": "2"},
    "fragments.mp4": {"codec": "libx264", "_movflags": "frag_keyframe+empty_moov"},
    "a.avi": {"codec": "mpeg4"},
    "b-frames.avi": {"codec": "mpeg4", "bf": "2"},
    "h264.avi": {"codec": "libx264", "bf": "2"},
    "motion-jpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "a.ts": {"codec": "libx264", "bf": "2"},
    "mpeg2.ts": {"codec": "mpeg2video", "bf": "2"},
    "vp9.webm": {"codec": "libvpx-vp9", "deadline": "realtime"},
    "vp8.webm": {"codec": "libvpx", "auto_alt_ref": "1", "lag_in_frames": "16", "b": "300k"},
    "raw.h264": {"codec": "libx264", "bf": "2"},
}


NO_STAMPS = ("raw.h264", "h264.avi", "b-frames.avi")  # counted by decoding once


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_file(tmp_path, name):
    index = check(write(tmp_path / name, **KINDS[name]))
    assert (index.width_px, index.height_px, index.rotation_deg, index.bits) == (WIDTH, HEIGHT, 0, 8)
    assert index.fps == pytest.approx(25, rel=1e-3)
    assert not index.variable_rate
    assert index.num_missing == 0
    assert np.allclose(index.time_s - index.time_s[0], np.arange(40) / 25, atol=0.002)
    keyframes = index.keyframe_positions
    assert keyframes[0] == 0
    assert len(index.keyframes) > 2 or name in NO_STAMPS


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mp4", "libx265", "yuv420p10le"),
        ("a.mkv", "ffv1", "yuv422p10le"),
        ("b.mp4", "libx264", "yuv444p"),
        ("c.mkv", "ffv1", "gray"),
    ],
)
def test_depths_and_layouts_of_pixels(tmp_path, name, codec, pix_fmt):
    options = {"x265_params": "log-level=none"} if codec == "libx265" else {}
    path = write(tmp_path / name, codec, pix_fmt=pix_fmt, **options)
    index = check(path)
    assert (index.codec, index.pix_fmt) == (index.codec, pix_fmt)
    assert index.bits == (10 if "10" in pix_fmt else 8)
    if pix_fmt != "gray":
        (frame,) = read_range(path, index, 20, 21, WIDTH)
        assert np.abs(frame.astype(int) - picture(20)).mean() < 6


def test_variable_rate(tmp_path):
    times = np.cumsum(np.random.default_rng(0).integers(10, 90, 40)).tolist()
    for name in ("v.mp4", "v.mkv", "v.ts"):
        index = check(write(tmp_path / name, pts_ms=times, bf="2"))
        assert index.variable_rate
        shift = index.time_s[0] - times[0] / 1000  # a transport stream starts somewhere
        assert np.allclose(index.time_s - shift, np.array(times) / 1000, atol=0.002)
        assert index.fps == pytest.approx(1000 / np.median(np.diff(times)), rel=0.05)


def test_times_before_zero(tmp_path):
    times = [-200 + 40 * i for i in range(40)]
    index = check(write(tmp_path / "n.mkv", "ffv1", pts_ms=times))
    assert np.allclose(np.diff(index.time_s), 0.04, atol=1e-3)


@pytest.mark.parametrize("clockwise", [90, 180, 270])
def test_convention_rotation_metadata(tmp_path, clockwise):
    path = write(tmp_path / "turned.mp4")
    turn(path, clockwise)
    index = index_video(path)
    expected = np.rot90(picture(3), -clockwise // 90)
    assert (index.height_px, index.width_px) == expected.shape[:2]
    assert index.rotation_deg == 360 - clockwise
    (frame,) = read_range(path, index, 3, 4, 1000)
    assert frame.shape == expected.shape, "never enlarged"
    assert np.abs(frame.astype(int) - expected).mean() < 6
    (small,) = read_range(path, index, 3, 4, 32)
    assert small.shape == ((32, 24, 3) if clockwise % 180 else (24, 32, 3))


def shifted_edit(path: Path, skipped: int) -> None:
    """Make the (only) edit list of an mp4 begin `skipped` ticks later, as a phone does that trims without encoding."""
    content = bytearray(path.read_bytes())
    at = content.index(b"elst") + 4
    assert struct.unpack_from(">II", content, at) == (0, 1)
    duration, begin = struct.unpack_from(">Ii", content, at + 8)
    struct.pack_into(">Ii", content, at + 8, duration, begin + skipped)
    path.write_bytes(content)


def test_an_edit_list_hides_the_first_frames(tmp_path):
    path = write(tmp_path / "trimmed.mp4", bf="2")
    with av.open(str(path)) as container:
        ticks = int(Fraction(1, 25) / container.streams.video[0].time_base)
    shifted_edit(path, 17 * ticks)
    index = check(path, range(17, 40))
    assert index.num_missing == 0


@pytest.mark.parametrize("name", ["front.mp4", "a.mkv", "a.avi"])
@pytest.mark.parametrize("kept", [0.9, 0.5])
def test_truncated_counts_what_is_missing(tmp_path, name, kept):
    rng = np.random.default_rng(0)
    path = tmp_path / name
    with av.open(str(path), "w", options={"movflags": "faststart"} if "mp4" in name else {}) as container:
        stream = container.add_stream("mpeg4" if "avi" in name else "libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.options = WIDTH, HEIGHT, "yuv420p", {"g": "12"}
        for _ in range(60):
            noise = rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode(None))
    whole = index_video(path)
    assert (whole.num_frames, whole.num_missing) == (60, 0)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    index = index_video(path)
    assert 60 * kept - 12 < index.num_frames < 60
    if "mkv" not in name:
        assert index.num_frames + index.num_missing == 60
    elif kept == 0.5:  # Matroska promises a duration only, and a little is forgiven
        assert abs(index.num_frames + index.num_missing - 60) <= 2
    frames = list(read_range(path, index, 0, index.num_frames, 32))
    assert len(frames) == index.num_frames


def test_index_at_the_end_and_cut_off(tmp_path):
    path = write(tmp_path / "end.mp4")
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(UserError, match="may be cut off"):
        index_video(path)


def test_a_stream_that_began_late(tmp_path):
    """A transport stream cut in the middle of a group: what comes before its first keyframe cannot be decoded."""
    path = write(tmp_path / "late.ts", bf="2")
    content = path.read_bytes()
    path.write_bytes(content[: 188 * 3] + content[188 * 8 :])
    index = index_video(path)
    found = numbers(read_range(path, index, 0, index.num_frames, 32))
    assert found == list(range(40 - len(found), 40))
    assert len(found) < 40


def test_a_damaged_frame_is_an_error_that_names_it(tmp_path):
    path = write(tmp_path / "hurt.mkv", bf="0")
    index = index_video(path)
    with av.open(str(path)) as container:
        payload = bytes(list(container.demux(video=0))[20])
    content = path.read_bytes()
    assert content.count(payload) == 1
    path.write_bytes(content.replace(payload, bytes(len(payload))))
    assert len(list(read_range(path, index, 0, 20, 32))) == 20
    with pytest.raises(UserError, match=r"hurt.mkv is damaged: frame 20 (of 40 )?does not decode"):
        list(read_range(path, index, 18, 22, 32))
    assert len(list(read_range(path, index, 24, 40, 32))) == 16, "the next group is whole"


def test_a_keyframe_that_is_none_is_got_round(tmp_path):
    """Wherever decoding from a keyframe does not lead to the frame wanted, it begins with the first of all."""
    path = write(tmp_path / "false.mp4", bf="0")
    index = index_video(path)
    false = replace(index, keyframes=np.stack([index.pts[[0, 15, 30]]] * 2, axis=1))
    frames = list(read_range(path, false, 17, 33, 32))
    assert numbers(frames) == list(range(17, 33))
    assert all((a == b).all() for a, b in zip(frames, read_range(path, index, 17, 33, 32), strict=True))


@pytest.mark.parametrize("content", [b"", b"this is no video\n" * 50, b"\x00" * 4096])
def test_not_a_video(tmp_path, content):
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        index_video(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_no_frames_no_video_and_no_file(tmp_path):
    with av.open(str(tmp_path / "none.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height = WIDTH, HEIGHT
        container.start_encoding()
    with pytest.raises(UserError, match=r"none\.mp4"):
        index_video(tmp_path / "none.mp4")
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(UserError, match="no video stream"):
        index_video(tmp_path / "sound.wav")
    for path in (tmp_path / "gone.mp4", tmp_path):
        with pytest.raises(UserError, match="is no file"):
            index_video(path)


def test_ranges_are_checked(tmp_path):
    path = write(tmp_path / "a.mp4", n=5)
    index = index_video(path)
    for start, stop in ((-1, 2), (2, 2), (3, 2), (0, 6), (5, 6)):
        with pytest.raises(UserError, match="allowed: 0 <= start < stop <= 5"):
            next(read_range(path, index, start, stop, 32))
    with pytest.raises(UserError, match="longest side of 0 px"):
        next(read_range(path, index, 0, 1, 0))


def test_one_frame(tmp_path):
    index = check(write(tmp_path / "one.mp4", n=1), range(1))
    assert (index.fps, index.variable_rate) == (0.0, False)


def test_pickles_small_and_whole(tmp_path):
    index = index_video(write(tmp_path / "a.mp4", bf="2", pts_ms=[40 * i + i % 3 for i in range(40)]))
    again = pickle.loads(pickle.dumps(index))
    assert (again.pts == index.pts).all()
    assert (again.keyframes == index.keyframes).all()
    assert (again.time_base_s, again.codec, again.num_missing) == (index.time_base_s, "h264", 0)
    hours = VideoIndex(
        pts=np.arange(500_000, dtype=np.int64) * 512,
        keyframes=np.stack([np.arange(0, 500_000, 250) * 512] * 2, axis=1),
        time_base_s=Fraction(1, 12800),
        width_px=1, height_px=1, rotation_deg=0, codec="h264", pix_fmt="yuv420p", bits=8,
        num_missing=0,
    )  # fmt: skip
    assert len(pickle.dumps(hours)) < 10_000
    raw = index_video(write(tmp_path / "raw.h264"))
    assert pickle.loads(pickle.dumps(raw)).keyframes.shape == (0, 2)


def test_thousands_of_frames_in_milliseconds(tmp_path):
    path = write(tmp_path / "long.mp4", n=3000, preset="ultrafast")
    index_video(path)
    began = time.process_time()
    index = index_video(path)
    assert time.process_time() - began < 0.5  # measured: 20 ms
    assert index.num_frames == 3000


@pytest.mark.network
def test_real_videos():
    assets.pull(["pose2sim"])
    for number, width in ((1, 1080), (2, 1080), (3, 1088), (4, 1088)):
        path = assets.path(f"pose2sim_cam{number:02d}")
        index = index_video(path)
        assert (index.num_frames, index.fps, index.variable_rate, index.num_missing) == (100, 60, False, 0)
        assert (index.width_px, index.height_px) == (width, 1920)
        whole = list(read_range(path, index, 10, 16, 320))
        assert all((a == b).all() for a, b in zip(read_range(path, index, 13, 16, 320), whole[3:], strict=True))
        assert whole[0].shape[0] == 320
