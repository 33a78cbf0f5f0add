"""People whose keypoints somebody else detected, in the form in which `PeopleTracker` gives its own.

Only their masks are made here: by the landmark net, in the region that the given keypoints say.

Convention: pixels (0, 0) at the centre of the top-left pixel of the frames given, x right, y down.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64, UInt8

from aign.data.stages.blazepose import MIN_FLAG
from aign.data.stages.blazepose_nets import MASK_SIDE_PX, Nets, Region
from aign.data.stages.crops import rescale_points
from aign.data.stages.detected import Detections
from aign.data.stages.linking import DetectedPerson
from aign.data.stages.people import PersonTrack
from aign.geometry.skeleton import Skeleton

RIM = 1.1
"""The net's own circle about a person reaches so much further than the outermost joint."""


class GivenPeople:
    """Hands out a video's detections block by block; a shot has no meaning to it.

    Args:
        found: by somebody else, in pixels of the whole video.
        scale: of the working frames, along x and y.
        nets: for the masks; None where no mask is wanted: all are empty.
    """

    def __init__(self, found: Detections, scale: Float64[np.ndarray, " 2"], nets: Nets | None) -> None:
        self._found, self._scale, self._nets = found, scale, nets

    def new_shot(self) -> None:
        """Nothing is remembered from frame to frame."""

    def track(self, frames: Sequence[UInt8[np.ndarray, "h w 3"]], first_frame: int) -> list[PersonTrack]:
        """Everybody in consecutive frames of one shot; see `PeopleTracker.track`."""
        tracks = []
        for number, person in enumerate(self._found.people):
            start = max(first_frame, person.first_frame)
            stop = min(first_frame + len(frames), person.first_frame + len(person.conf))
            if start < stop:
                part = slice(start - person.first_frame, stop - person.first_frame)
                tracks.append(self._track(number, person, part, frames[start - first_frame : stop - first_frame]))
        return [track for track in tracks if (track.conf > 0).any()]

    def _track(
        self, number: int, person: DetectedPerson, part: slice, frames: Sequence[UInt8[np.ndarray, "h w 3"]]
    ) -> PersonTrack:
        conf = person.conf[part].astype(np.float32)
        points = rescale_points(person.kp2d_px[part], self._scale)
        masks = np.zeros((len(frames), MASK_SIDE_PX, MASK_SIDE_PX), np.uint8)
        to_frame = np.tile(np.eye(2, 3), (len(frames), 1, 1))
        if self._nets is not None:
            for t, frame in enumerate(frames):
                region = region_of(points[t], conf[t], self._found.skeleton)
                seen = self._nets.landmarks(frame, region) if region else None
                if region and seen and seen.flag >= MIN_FLAG:
                    masks[t], to_frame[t] = seen.mask, region.crop_to_image
        return PersonTrack(
            person=number,
            first_frame=person.first_frame + part.start,
            kp2d_px=points.astype(np.float32),
            conf=conf,
            flag=(conf.max(1) > 0).astype(np.float32),
            masks=masks,
            mask_to_frame=to_frame,
        )


def region_of(kp2d_px: Float[np.ndarray, "j 2"], conf: Float[np.ndarray, " j"], layout: Skeleton) -> Region | None:
    """Where the landmark net would look for this person: a circle about the hips, upright as the trunk is.

    Returns:
        None where hips or shoulders were not detected.
    """
    hips, shoulders = layout.index("l_hip", "r_hip"), layout.index("l_shoulder", "r_shoulder")
    if not (conf[[*hips, *shoulders]] > 0).all():
        return None
    centre, neck = kp2d_px[hips].mean(0).astype(np.float64), kp2d_px[shoulders].mean(0).astype(np.float64)
    trunk = float(np.hypot(*(neck - centre)))
    if trunk < 1:
        return None
    reach = float(np.hypot(*(kp2d_px[conf > 0] - centre).T).max())
    return Region.around(centre + 0.5, centre + 0.5 + (neck - centre) * (RIM * reach / trunk))
