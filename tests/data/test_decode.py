import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from aign.data.stages.decode import probe, read_frames, write_mp4
from aign.framework.errors import UserError
from tests.data.turned import turn


def picture(i: int, height: int = 64, width: int = 96) -> np.ndarray:
    """Four flat quarters that say which way is up, and brightness that says which frame."""
    image = np.zeros((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = (200, 0, 0)
    image[: height // 2, width // 2 :] = (0, 200, 0)
    image[height // 2 :, : width // 2] = (0, 0, 200)
    image[height // 2 :, width // 2 :] = 20 + 4 * i
    return image


@pytest.fixture
def video(tmp_path) -> Path:
    path = tmp_path / "v.mp4"
    write_mp4(path, (picture(i) for i in range(40)), 25)
    return path


def test_round_trip_keeps_frames_order_and_colours(video):
    frames = list(read_frames(video))
    assert len(frames) == 40
    assert all(f.dtype == np.uint8 and f.shape == (64, 96, 3) and f.flags.c_contiguous for f in frames)
    for i, frame in enumerate(frames):
        assert np.abs(frame.astype(int) - picture(i)).mean() < 4
    info = probe(video)
    assert (info.width_px, info.height_px, info.fps, info.num_frames_estimate) == (96, 64, 25.0, 40)
    assert (info.rotation_deg, info.codec) == (0, "h264")


def test_written_for_browsers(video, tmp_path):
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    content = video.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # playable before it is whole
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]


def test_start_and_stop(video):
    frames = list(read_frames(video))
    part = list(read_frames(video, 7, 12))
    assert len(part) == 5
    assert all((a == b).all() for a, b in zip(part, frames[7:12], strict=True))
    assert len(list(read_frames(video, 38))) == 2
    for start, stop in ((-1, None), (5, 5), (5, 4)):
        with pytest.raises(UserError, match="allowed: 0 <= start < stop"):
            next(read_frames(video, start, stop))
    with pytest.raises(UserError, match="40 frames"):
        list(read_frames(video, 40))


def test_odd_sizes_are_padded(tmp_path):
    write_mp4(tmp_path / "odd.mp4", [picture(0, 63, 95)] * 3, 30)
    (frame, *_) = read_frames(tmp_path / "odd.mp4")
    assert frame.shape == (64, 96, 3)
    assert np.abs(frame[62].astype(int) - frame[63]).mean() < 4


@pytest.mark.parametrize("clockwise", [90, 180, 270])
def test_convention_rotation_metadata(video, tmp_path, clockwise):
    """A phone stores a turned picture and says how to turn it; we hand out what a player shows."""
    turned = tmp_path / "turned.mp4"
    shutil.copy(video, turned)
    turn(turned, clockwise)
    shown = next(read_frames(turned))
    expected = np.rot90(picture(0), -clockwise // 90)
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).mean() < 4
    info = probe(turned)
    assert (info.height_px, info.width_px) == shown.shape[:2]
    assert info.rotation_deg == 360 - clockwise


def one_line(error: pytest.ExceptionInfo[UserError], path: Path) -> None:
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"this is no video\n" * 50, b"\x00" * 4096])
def test_not_a_video(tmp_path, content):
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    for read in (probe, lambda p: list(read_frames(p))):
        with pytest.raises(UserError) as error:
            read(path)
        one_line(error, path)


def test_missing_and_folder(tmp_path):
    for path in (tmp_path / "none.mp4", tmp_path):
        with pytest.raises(UserError, match="is no file"):
            probe(path)


def test_sound_only(tmp_path):
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(UserError, match="no video stream"):
        probe(path)


@pytest.mark.parametrize("kept", [0.9, 0.5])
def test_truncated_gives_what_decodes_then_an_error(tmp_path, kept):
    rng = np.random.default_rng(0)
    whole = tmp_path / "whole.mp4"
    write_mp4(whole, (rng.integers(0, 255, (64, 96, 3), dtype=np.uint8) for _ in range(40)), 25)
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * kept)])
    frames: list[np.ndarray] = []
    with pytest.raises(UserError, match=r"damaged|truncated") as error:
        frames.extend(read_frames(path))  # list.extend keeps what came before the error
    one_line(error, path)
    assert 40 * kept - 8 < len(frames) < 40
    assert len(list(read_frames(path, 0, 10))) == 10  # the whole part can still be read


def test_cut_off_in_the_header(video, tmp_path):
    path = tmp_path / "cut.mp4"
    path.write_bytes(video.read_bytes()[:300])
    with pytest.raises(UserError) as error:
        probe(path)
    one_line(error, path)


@pytest.mark.parametrize(("ending", "codec"), [("avi", "mpeg4"), ("mkv", "libx264")])
def test_quietly_short_file_is_noticed(tmp_path, ending, codec):
    """Some containers end without complaint where the copy broke off."""
    whole = tmp_path / f"whole.{ending}"
    with av.open(str(whole), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        rng = np.random.default_rng(0)
        for _ in range(50):
            noise = rng.integers(0, 255, (64, 96, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode(None))
    content = whole.read_bytes()
    path = tmp_path / f"cut.{ending}"
    path.write_bytes(content[: len(content) // 2])
    assert len(list(read_frames(whole))) == 50
    with pytest.raises(UserError, match=r"truncated|damaged"):
        list(read_frames(path))


def test_write_refuses_and_leaves_nothing(tmp_path):
    path = tmp_path / "out.mp4"

    def broken():
        yield picture(0)
        raise RuntimeError("stop")

    with pytest.raises(UserError, match="no frames"):
        write_mp4(path, [], 25)
    with pytest.raises(UserError, match="one size"):
        write_mp4(path, [picture(0), picture(0, 32, 32)], 25)
    with pytest.raises(UserError, match="fps"):
        write_mp4(path, [picture(0)], 0)
    with pytest.raises(UserError, match="cannot write"):
        write_mp4(tmp_path / "no" / "out.mp4", [picture(0)], 25)
    with pytest.raises(RuntimeError, match="stop"):
        write_mp4(path, broken(), 25)
    assert list(tmp_path.iterdir()) == []
