"""Protocols of faces: what must be said before a number of a picture means anything, with an id and a hash.

Apart from `aign.evaluation.protocol`, whose fields are all of joints; an id of one is never an id of the other.
"""

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from aign.evaluation.faces_image import CAP_DB, SSIM_SIGMA, SSIM_WINDOW
from aign.framework.errors import UserError


@dataclass(frozen=True, kw_only=True)
class FaceProtocol:
    """How pictures of faces are judged.

    Attributes:
        id: canonical id; not part of the hash.
        task: what P is: the mean of blocks, or the picture outside of the mask.
        factor: side of a block, pixels; 1 of inpainting.
        headline: the number that the protocol is about.
        quantised: pictures are judged as files hold them, 8 bits a channel.
        psnr_cap_db: of equal pictures; means are of the pictures' own PSNRs.
        ssim_window: pixels, of a Gaussian window; all three channels, inside of the picture only.
        ssim_sigma: of it, pixels.
        kid_subsets: random subsets that KID is the mean of.
        kid_subset_size: pictures of each set in one, or all of the smaller set.
        changed: whose change of the target attribute counts: those that do not have it by their label.
        before: what a picture is compared with: the bicubic enlargement, or the true picture under the mask.
    """

    id: str
    task: Literal["superresolution", "inpainting"]
    factor: int
    headline: str = "target_points"
    quantised: bool = True
    psnr_cap_db: float = CAP_DB
    ssim_window: int = SSIM_WINDOW
    ssim_sigma: float = SSIM_SIGMA
    kid_subsets: int = 50
    kid_subset_size: int = 100
    changed: Literal["without-target"] = "without-target"
    before: Literal["bicubic", "truth"] = "bicubic"

    @property
    def hash(self) -> str:
        """First 12 hex digits of the SHA-256 of every field but the id."""
        content = {k: v for k, v in dataclasses.asdict(self).items() if k != "id"}
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:12]


FACE_PROTOCOLS: Mapping[str, FaceProtocol] = {
    p.id: p
    for p in (
        FaceProtocol(id="faces/superresolution-4x", task="superresolution", factor=4),
        FaceProtocol(id="faces/superresolution-2x", task="superresolution", factor=2),
        FaceProtocol(id="faces/inpainting", task="inpainting", factor=1, before="truth"),
    )
}


def resolve_faces(name: str) -> FaceProtocol:
    """The protocol of an id.

    Raises:
        UserError: unknown; close ids are offered.
    """
    if name in FACE_PROTOCOLS:
        return FACE_PROTOCOLS[name]
    close = difflib.get_close_matches(name, FACE_PROTOCOLS, n=3, cutoff=0.4)
    allowed = f"did you mean {close}?" if close else f"allowed are {sorted(FACE_PROTOCOLS)}"
    raise UserError(f"got protocol {name!r} for faces; {allowed}")
