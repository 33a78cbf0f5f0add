"""Video files to RGB frames and back, with PyAV.

Convention: frames are uint8 RGB [h, w, 3] the way a player shows them: rotation metadata is applied, and width and
height everywhere mean the rotated picture.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8

from aign.data.publish import published
from aign.framework.errors import UserError


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """What a video says about itself.

    Attributes:
        width_px, height_px: of the picture as shown, after rotation.
        fps: average frame rate.
        num_frames_estimate: from the header; None where it does not say. Only decoding counts frames.
        rotation_deg: how far the stored picture is turned counter-clockwise to be shown: 0, 90, 180 or 270.
        codec: its short name, e.g. h264.
    """

    width_px: int
    height_px: int
    fps: float
    num_frames_estimate: int | None
    rotation_deg: int
    codec: str


def probe(path: Path) -> VideoInfo:
    """Look at a video's header and its first frame.

    Raises:
        UserError: no such file, empty, not a video, or not one frame decodes.
    """
    with _opened(path) as (container, stream):
        first = next(_frames(path, container, stream), None)
        if first is None:
            raise UserError(f"{path} has no frame that decodes; allowed: a video with at least one")
        rotation = _rotation(first)
        width, height = first.width, first.height
        seconds = _seconds(stream)
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        return VideoInfo(
            width_px=height if rotation % 180 else width,
            height_px=width if rotation % 180 else height,
            fps=fps,
            num_frames_estimate=stream.frames or (round(seconds * fps) if seconds and fps else None),
            rotation_deg=rotation,
            codec=stream.codec_context.name,
        )


def read_frames(path: Path, start: int = 0, stop: int | None = None) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Decode frames start <= i < stop in the order they are shown.

    A truncated or damaged file first yields every frame that decodes and then raises, so that a caller who wants the
    rest can keep it and a caller who does not check gets an error instead of a short video. Reading up to a `stop`
    that lies before the damage does not raise. (A transport stream has no header to compare with: its end is its end.)

    Raises:
        UserError: as `probe`; start or stop out of order; no frame at `start`; truncated or damaged.
    """
    if start < 0 or (stop is not None and stop <= start):
        raise UserError(f"frames {start} to {stop} of {path}; allowed: 0 <= start < stop")
    count = 0
    with _opened(path) as (container, stream):
        for frame in _frames(path, container, stream):
            if stop is not None and count >= stop:
                return
            if count >= start:
                yield _upright(frame)
            count += 1
    if count <= start:
        raise UserError(f"{path} has {count} frames that decode; allowed: more than start = {start}")


def write_mp4(path: Path, frames: Iterable[UInt8[np.ndarray, "h w 3"]], fps: float | int) -> None:
    """Write H.264 that browsers play (yuv420p, the index in front).

    Odd sizes are padded by repeating the last row or column. The file appears under its name when it is whole.

    Raises:
        UserError: no frame, frames of several sizes, fps not above 0, or the folder cannot be written.
    """
    if not 0 < fps < 1000:
        raise UserError(f"fps {fps} for {path}; allowed: above 0 and below 1000")
    pending = iter(frames)
    first = next(pending, None)
    if first is None:
        raise UserError(f"no frames to write to {path}; allowed: at least one")
    with published(path) as unfinished:
        _encode(unfinished, first, chain([first], pending), fps)


def _encode(
    path: Path,
    first: UInt8[np.ndarray, "h w 3"],
    frames: Iterable[UInt8[np.ndarray, "h w 3"]],
    fps: float | int,
) -> None:
    height, width = first.shape[:2]
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height = width + width % 2, height + height % 2
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "20", "preset": "veryfast"}
        for image in frames:
            if image.shape != first.shape:
                raise UserError(f"frames of {image.shape} and {first.shape} in one video; allowed: one size")
            even = np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")))
        container.mux(stream.encode(None))


@contextmanager
def _opened(path: Path) -> Iterator[tuple["av.container.InputContainer", "av.VideoStream"]]:
    if not path.is_file():
        raise UserError(f"{path} is no file; allowed: a video file")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty (0 bytes); allowed: a video file")
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{path} is not a video that can be opened ({error.strerror}); it may be cut off") from error
    with container:
        if not container.streams.video:
            raise UserError(f"{path} has no video stream; allowed: a video file")
        stream = container.streams.video[0]
        # One thread takes 6 ms a 1080p frame, the landmark net 32: not the bottleneck, and jobs share the cores.
        stream.thread_type = "NONE"
        yield container, stream


def _frames(
    path: Path, container: "av.container.InputContainer", stream: "av.VideoStream"
) -> Iterator["av.VideoFrame"]:
    """All frames, then an error if the file broke off before what its header promises."""
    count, shown_until = 0, 0.0
    try:
        for frame in container.decode(stream):
            count += 1
            shown_until = max(shown_until, frame.time or 0.0)
            yield frame
    except av.FFmpegError as error:
        raise UserError(f"{path} is damaged after {count} frames ({error.strerror}); allowed: a whole video") from error
    promised = _promised_seconds(container, stream)
    began = float((stream.start_time or 0) * stream.time_base) if stream.time_base else 0.0
    if count and promised and shown_until - began < 0.9 * promised - 0.5:
        raise UserError(
            f"{path} is truncated: {count} frames decode, up to {shown_until - began:.2f} of {promised:.2f} s"
        )


def _seconds(stream: "av.VideoStream") -> float | None:
    return float(stream.duration * stream.time_base) if stream.duration and stream.time_base else None


def _promised_seconds(container: "av.container.InputContainer", stream: "av.VideoStream") -> float:
    """How long the header says the pictures last; 0 where it does not say (a transport stream has no header)."""
    promises = [_seconds(stream) or 0.0]
    tag = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))  # Matroska's way
    if tag:
        promises.append(int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3]))
    # FFmpeg shortens an AVI's duration to what is there; an MP4's frame count includes frames that were trimmed away.
    if stream.average_rate and "mp4" not in container.format.name:
        promises.append(stream.frames / float(stream.average_rate))
    return max(promises)


def _rotation(frame: "av.VideoFrame") -> int:
    return round(frame.rotation / 90) * 90 % 360


def _upright(frame: "av.VideoFrame") -> UInt8[np.ndarray, "h w 3"]:
    image = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(image, _rotation(frame) // 90))
