"""Video files to RGB frames and back, with PyAV.

Convention: frames are uint8 RGB [h, w, 3] the way a player shows them: rotation metadata is applied, and width and
height everywhere mean the rotated picture.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path

import av
import numpy as np
from jaxtyping import Int64, UInt8

from aign.data.publish import published
from aign.data.stages.video_index import VideoIndex, opened, promised_seconds, rotation_deg, stream_seconds
from aign.framework.errors import UserError

_SCALER = "area+accurate_rnd+bitexact"
"""Averages in YUV, before the colours are computed: half the time of the reverse, and the same bytes on every CPU."""


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
    with opened(path) as (container, stream):
        first = next(_frames(path, container, stream), None)
        if first is None:
            raise UserError(f"{path} has no frame that decodes; allowed: a video with at least one")
        rotation = rotation_deg(first)
        width, height = first.width, first.height
        seconds = stream_seconds(stream)
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
    with opened(path) as (container, stream):
        for frame in _frames(path, container, stream):
            if stop is not None and count >= stop:
                return
            if count >= start:
                yield _upright(frame)
            count += 1
    if count <= start:
        raise UserError(f"{path} has {count} frames that decode; allowed: more than start = {start}")


def read_range(
    path: Path, index: VideoIndex, start: int, stop: int, longest_side_px: int
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Exactly the frames start <= i < stop, made smaller (never larger) so that the longer side fits.

    Decoding starts at the keyframe before `start`. A frame has the same bytes however the video is cut into ranges.

    Raises:
        UserError: as `probe`; a range outside the video; a frame in it does not decode.
    """
    if not 0 <= start < stop <= index.num_frames:
        raise UserError(f"frames {start} to {stop} of {path}; allowed: 0 <= start < stop <= {index.num_frames}")
    if longest_side_px < 1:
        raise UserError(f"longest side of {longest_side_px} px for {path}; allowed: at least 1")
    scaler = _Scaler(index, longest_side_px)
    expected = start
    try:
        for number, frame in _numbered_from(path, index, start):
            if number != expected:
                break
            yield scaler(frame)
            expected += 1
            if expected == stop:
                return
    except av.FFmpegError as error:
        raise UserError(f"{path} is damaged: frame {expected} does not decode ({error.strerror})") from error
    raise UserError(f"{path} is damaged: frame {expected} of {index.num_frames} does not decode")


def fitted_size(width_px: int, height_px: int, longest_side_px: int) -> tuple[int, int]:
    """Width and height made smaller in proportion so that the longer one is at most `longest_side_px`; never larger."""
    scale = min(1.0, longest_side_px / max(width_px, height_px))
    return max(1, round(width_px * scale)), max(1, round(height_px * scale))


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


class _Scaler:
    """Decoded frames to small upright RGB; one filter graph for each kind of frame that a stream may switch to."""

    def __init__(self, index: VideoIndex, longest_side_px: int) -> None:
        width, height = fitted_size(index.width_px, index.height_px, longest_side_px)
        self._turns = index.rotation_deg // 90
        self._stored = f"{height}:{width}" if self._turns % 2 else f"{width}:{height}"
        self._graphs: dict[tuple[int | str, ...], av.filter.Graph] = {}

    def __call__(self, frame: "av.VideoFrame") -> UInt8[np.ndarray, "h w 3"]:
        kind = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        if kind not in self._graphs:
            self._graphs[kind] = self._graph(frame)
        self._graphs[kind].vpush(frame)
        return np.ascontiguousarray(np.rot90(self._graphs[kind].vpull().to_ndarray(), self._turns))

    def _graph(self, frame: "av.VideoFrame") -> "av.filter.Graph":
        graph = av.filter.Graph()
        graph.threads = 1
        graph.link_nodes(
            graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base),
            graph.add("scale", f"{self._stored}:flags={_SCALER}"),
            graph.add("format", "pix_fmts=rgb24"),
            graph.add("buffersink"),
        )
        graph.configure()
        return graph


def _numbered_from(path: Path, index: VideoIndex, start: int) -> Iterator[tuple[int, "av.VideoFrame"]]:
    """The frames from `start` on, with their numbers; not contiguous where some do not decode."""
    if len(index.keyframes) == 0:
        with opened(path) as (container, stream):
            yield from islice(enumerate(container.decode(stream)), start, None)
        return
    before = index.keyframes[index.keyframes[:, 0] <= index.pts[start]]
    # Some files mark frames as keyframes where decoding cannot start: the first one of all is the way out.
    for keyframe in (before[-1], before[0]):
        numbered = _numbered_at(path, index, keyframe)
        found = _found(numbered, start)
        if found is not None:
            yield start, found
            yield from numbered
            return


def _found(numbered: Iterator[tuple[int, "av.VideoFrame"]], start: int) -> "av.VideoFrame | None":
    """Frame `start`, if decoding leads up to it."""
    try:
        number, frame = next(((number, frame) for number, frame in numbered if number >= start), (None, None))
    except av.FFmpegError:
        return None
    return frame if number == start else None


def _numbered_at(
    path: Path, index: VideoIndex, keyframe: Int64[np.ndarray, " 2"]
) -> Iterator[tuple[int, "av.VideoFrame"]]:
    """The frames shown from one keyframe on; none if it is not there."""
    for packet in _packets_from(path, keyframe):
        for frame in _decoded(packet):
            # Frames shown before the keyframe but stored after it need pictures that were not decoded.
            if frame.pts is None or frame.pts < keyframe[0]:
                continue
            number = int(np.searchsorted(index.pts, frame.pts))
            if number < index.num_frames and index.pts[number] == frame.pts:
                yield number, frame


def _packets_from(path: Path, keyframe: Int64[np.ndarray, " 2"]) -> Iterator["av.Packet[av.VideoStream]"]:
    """The packets from exactly this keyframe on, wherever the container's seeking lands."""
    pts, dts = (int(stamp) for stamp in keyframe)
    # Some containers seek by presentation time, some by decoding time; some cannot, and are read from the start.
    for target in (pts, dts, None):
        with opened(path) as (container, stream):
            if target is not None:
                container.seek(target, stream=stream)
            packets = container.demux(stream)
            for packet in packets:
                if packet.pts == pts and packet.is_keyframe:
                    yield packet
                    yield from packets
                    return
                if packet.dts is not None and packet.dts > dts:
                    break


def _decoded(packet: "av.Packet[av.VideoStream]") -> list["av.VideoFrame"]:
    try:
        return list(packet.decode())
    except av.InvalidDataError:
        if packet.is_corrupt:  # half a packet, where the file breaks off
            return []
        raise


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
    promised = promised_seconds(container, stream)
    began = float((stream.start_time or 0) * stream.time_base) if stream.time_base else 0.0
    if count and promised and shown_until - began < 0.9 * promised - 0.5:
        raise UserError(
            f"{path} is truncated: {count} frames decode, up to {shown_until - began:.2f} of {promised:.2f} s"
        )


def _upright(frame: "av.VideoFrame") -> UInt8[np.ndarray, "h w 3"]:
    image = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(image, rotation_deg(frame) // 90))
