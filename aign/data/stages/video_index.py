"""Where every frame of a video lies, from its packets alone, so that a long video can be read in ranges.

Convention: frames are numbered in the order they are shown; sizes are of the picture as shown, after rotation.
"""

import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from jaxtyping import Float64, Int64

from aign.framework.errors import UserError

UNEQUAL_STEP = 0.05
"""A step between frames counts as unequal beyond this fraction of the median step (and beyond rounding)."""
MIN_UNEQUAL = 0.01
"""The rate is variable where more than this fraction of the steps is unequal."""
_USUAL_FPS = 30


@dataclass(frozen=True, kw_only=True)
class VideoIndex:
    """Where every frame of one video lies. Pickles to a few bytes per frame at most.

    Attributes:
        pts: of each frame in the order shown, strictly ascending, in units of `time_base_s`.
        keyframes: presentation and decoding time stamp of each frame at which decoding can start. Empty where the
            file's time stamps cannot be trusted: then a frame is found by counting from the first only.
        time_base_s: seconds per unit of time stamps.
        width_px, height_px: of the picture as shown, after rotation.
        rotation_deg: how far the stored picture is turned counter-clockwise to be shown: 0, 90, 180 or 270.
        codec: its short name, e.g. h264.
        pix_fmt: FFmpeg's name of the stored pixel format, e.g. yuv420p10le.
        bits: per stored component, e.g. 8 or 10.
        num_missing: frames that the header promises and the file lacks; 0 where the header promises nothing.
    """

    pts: Int64[np.ndarray, " n"]
    keyframes: Int64[np.ndarray, "k 2"]
    time_base_s: Fraction
    width_px: int
    height_px: int
    rotation_deg: int
    codec: str
    pix_fmt: str
    bits: int
    num_missing: int

    @property
    def num_frames(self) -> int:
        """Frames that the file holds and a player shows."""
        return len(self.pts)

    @property
    def time_s(self) -> Float64[np.ndarray, " n"]:
        """When each frame is shown, as the file counts it (the first need not be 0)."""
        return np.asarray(self.pts * float(self.time_base_s), np.float64)

    @property
    def fps(self) -> float:
        """Median frame rate; 0 for a single frame."""
        if self.num_frames < 2:
            return 0.0
        return float(1 / (self.time_base_s * Fraction(float(np.median(np.diff(self.pts))))))

    @property
    def variable_rate(self) -> bool:
        """Whether frames are shown for unequal times."""
        if self.num_frames < 2:
            return False
        steps = np.diff(self.pts)
        median = float(np.median(steps))
        unequal = np.abs(steps - median) > max(UNEQUAL_STEP * median, 1.0)
        return bool(unequal.mean() > MIN_UNEQUAL)

    @property
    def keyframe_positions(self) -> Int64[np.ndarray, " k"]:
        """Numbers of the frames where decoding can start: the cheap places to cut the video into ranges."""
        if len(self.keyframes) == 0:
            return np.zeros(1, np.int64)
        return np.unique(np.searchsorted(self.pts, self.keyframes[:, 0])).astype(np.int64)

    def __getstate__(self) -> dict[str, Any]:
        """Time stamps as packed differences: a job carries its index to another machine."""
        state = {field.name: getattr(self, field.name) for field in fields(self)}
        return state | {name: _packed(state[name]) for name in ("pts", "keyframes")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, _unpacked(*value) if name in ("pts", "keyframes") else value)


def index_video(path: Path) -> VideoIndex:
    """Read a video's packets (and decode one frame, which alone knows the size shown).

    Where packets have no usable time stamps (raw streams, broken ones) the whole video is decoded once instead: slow,
    but the count is right.

    Raises:
        UserError: no such file, empty, not a video, or not one frame decodes.
    """
    with opened(path) as (container, stream):
        packets = _Packets.of(container, stream)
        first = packets.first_frame
        if first is None or stream.time_base is None:
            raise UserError(f"{path} has no frame that decodes; allowed: a video with at least one")
        pts, keyframes = packets.shown()
        time_base, codec = stream.time_base, stream.codec_context.name
        missing = _num_missing(container, stream, packets)
    if len(keyframes) == 0:
        pts, time_base = _counted(path)
    rotation = rotation_deg(first)
    width, height = (first.height, first.width) if rotation % 180 else (first.width, first.height)
    return VideoIndex(
        pts=pts,
        keyframes=keyframes,
        time_base_s=time_base,
        width_px=width,
        height_px=height,
        rotation_deg=rotation,
        codec=codec,
        pix_fmt=first.format.name,
        bits=first.format.components[0].bits,
        num_missing=missing,
    )


@contextmanager
def opened(path: Path) -> Iterator[tuple["av.container.InputContainer", "av.VideoStream"]]:
    """A video file and its first real video stream (not a cover picture), decoding on one thread.

    Raises:
        UserError: no such file, empty, or no video in it.
    """
    if not path.is_file():
        raise UserError(f"{path} is no file; allowed: a video file")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty (0 bytes); allowed: a video file")
    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise UserError(f"{path} is not a video that can be opened ({error.strerror}); it may be cut off") from error
    with container:
        cover = av.stream.Disposition.attached_pic
        streams = [stream for stream in container.streams.video if not stream.disposition & cover]
        if not streams:
            raise UserError(f"{path} has no video stream; allowed: a video file")
        # One thread takes 6 ms a 1080p frame, the landmark net 32: not the bottleneck, and jobs share the cores.
        streams[0].thread_type = "NONE"
        yield container, streams[0]


def rotation_deg(frame: "av.VideoFrame") -> int:
    """How far a decoded frame is turned counter-clockwise to be shown: 0, 90, 180 or 270."""
    return round(frame.rotation / 90) * 90 % 360


def stream_seconds(stream: "av.VideoStream") -> float | None:
    """Length of the stream by its header."""
    return float(stream.duration * stream.time_base) if stream.duration and stream.time_base else None


def promised_seconds(container: "av.container.InputContainer", stream: "av.VideoStream") -> float:
    """How long the header says the pictures last; 0 where it does not say (a transport stream has no header)."""
    promises = [stream_seconds(stream) or 0.0]
    tag = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))  # Matroska's way
    if tag:
        promises.append(int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3]))
    # FFmpeg shortens an AVI's duration to what is there; an MP4's frame count includes frames that were trimmed away.
    if stream.average_rate and "mp4" not in container.format.name:
        promises.append(stream.frames / float(stream.average_rate))
    return max(promises)


@dataclass(frozen=True, kw_only=True)
class _Packets:
    """The whole packets of a stream in decoding order.

    Attributes:
        pts, dts: time stamps, where the file has them.
        is_key: whether decoding can start here.
        is_shown: not for references only, and not cut away by an edit list.
        lacks_pts: the container stores no presentation times: FFmpeg guesses them, and errs (seen: H.264 in AVI).
        first_frame: the only one that was decoded.
    """

    pts: list[int | None]
    dts: list[int | None]
    is_key: list[bool]
    is_shown: list[bool]
    lacks_pts: bool
    first_frame: "av.VideoFrame | None"

    @staticmethod
    def of(container: "av.container.InputContainer", stream: "av.VideoStream") -> "_Packets":
        pts, dts, is_key, is_shown = [], [], [], []
        first: av.VideoFrame | None = None
        broken_off = False  # a copy that was cut ends in half a packet
        try:
            for packet in container.demux(stream):
                if first is None:
                    first = _decoded_first(packet)
                if packet.size == 0:  # the end
                    break
                broken_off = packet.is_corrupt
                pts.append(packet.pts)
                dts.append(packet.dts)
                is_key.append(packet.is_keyframe)
                is_shown.append(not packet.is_discard and not _is_hidden(packet, stream))
        except av.FFmpegError:
            pass  # what lies behind the damage is missing, and is counted as such
        whole = slice(len(pts) - broken_off)
        return _Packets(
            pts=pts[whole],
            dts=dts[whole],
            is_key=is_key[whole],
            is_shown=is_shown[whole],
            lacks_pts=container.format.name == "avi",
            first_frame=first,
        )

    def shown(self) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, "k 2"]]:
        """Time stamps of the frames shown, and of the keyframes; no keyframes where time stamps make no sense."""
        nothing = np.zeros(0, np.int64), np.zeros((0, 2), np.int64)
        if not any(self.is_key) or any(stamp is None for stamp in self.pts):
            return nothing
        pts = np.array(self.pts, np.int64)
        dts = np.array([p if d is None else d for p, d in zip(self.pts, self.dts, strict=True)], np.int64)
        known = np.array([d for d in self.dts if d is not None], np.int64)
        is_guessed = self.lacks_pts and (pts != dts).any()
        if is_guessed or len(np.unique(pts)) < len(pts) or (np.diff(known) < 0).any():
            return nothing
        is_key = np.array(self.is_key)
        keyframes = np.stack((pts[is_key], dts[is_key]), axis=1)
        # What is shown before the first keyframe, or comes before it, cannot be decoded: a recording that began late.
        usable = np.array(self.is_shown) & (pts >= keyframes[0, 0]) & (np.arange(len(pts)) >= is_key.argmax())
        return np.sort(pts[usable]), keyframes[np.argsort(keyframes[:, 0])]


def _decoded_first(packet: "av.Packet[av.VideoStream]") -> "av.VideoFrame | None":
    try:
        return next(iter(packet.decode()), None)
    except av.FFmpegError:
        return None  # a recording that began late: the next keyframe will do


def _is_hidden(packet: "av.Packet[av.VideoStream]", stream: "av.VideoStream") -> bool:
    """VP8 stores references that are never shown as packets of their own: bit 4 of the header (RFC 6386)."""
    return stream.codec_context.name == "vp8" and not bytes(packet)[0] & 0x10


def _num_missing(container: "av.container.InputContainer", stream: "av.VideoStream", packets: _Packets) -> int:
    """By count where the header has one, else by time, where a little is forgiven."""
    is_mp4 = "mp4" in container.format.name  # its own count includes frames that were trimmed away
    count = len(stream.index_entries) if is_mp4 else stream.frames
    if count:
        return max(0, count - len(packets.pts))
    times = [stamp for stamp in packets.pts if stamp is not None]
    promised, rate = promised_seconds(container, stream), float(stream.average_rate or _USUAL_FPS)
    if not times or not promised or stream.time_base is None:
        return 0
    present = float((max(times) - (stream.start_time or 0)) * stream.time_base) + 1 / rate
    return round((promised - present) * rate) if present < 0.9 * promised - 0.5 else 0


def _counted(path: Path) -> tuple[Int64[np.ndarray, " n"], Fraction]:
    """The frames that decode, at equal times."""
    count = 0
    with opened(path) as (container, stream):
        rate = stream.average_rate or stream.guessed_rate or Fraction(_USUAL_FPS)
        try:
            for _ in container.decode(stream):
                count += 1
        except av.FFmpegError as error:
            if count == 0:
                raise UserError(f"{path} is damaged after 0 frames ({error.strerror})") from error
    return np.arange(count, dtype=np.int64), 1 / Fraction(rate)


def _packed(stamps: Int64[np.ndarray, "n *d"]) -> tuple[tuple[int, ...], bytes]:
    steps = np.diff(stamps, axis=0, prepend=np.zeros((1, *stamps.shape[1:]), np.int64))
    return stamps.shape, zlib.compress(steps.T.tobytes(), 9)


def _unpacked(shape: tuple[int, ...], content: bytes) -> Int64[np.ndarray, "n *d"]:
    steps = np.frombuffer(zlib.decompress(content), np.int64).reshape(shape[::-1]).T
    return np.ascontiguousarray(np.cumsum(steps, axis=0))
