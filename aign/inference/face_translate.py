"""A packaged model of faces on photographs: the face found, cut out, translated, and pasted back."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import torch
from jaxtyping import Bool, UInt8

from aign.data.face_frame import part_boxes
from aign.data.stages.faces import FoundFace, aligned, find_face, pasted_back
from aign.evaluation.faces_image import area_down, psnr_db
from aign.framework.errors import UserError
from aign.inference.package import ModelCard, load_package
from aign.tasks.faces.answers import enlarged, filled
from aign.tasks.faces.inpainting import Inpainter
from aign.tasks.faces.masks import PARTS, MaskConfig, part_masks
from aign.tasks.faces.superresolution import SuperResolver

MAX_SIDE_PX = 16384
Picture: TypeAlias = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True, kw_only=True)
class Translated:
    """A photograph and what became of it.

    Attributes:
        photo: the whole picture with the new face in it, not yet marked.
        face: cut out, as it was.
        seen: what the model was given of it: the small picture, or the one with a hole.
        imagined: what the model made of that.
        faithful_db: PSNR of P of that against what was given.
        shrunk: how many pixels of the photograph one pixel of the face stands for.
    """

    photo: UInt8[np.ndarray, "h w 3"]
    face: UInt8[np.ndarray, "s s 3"]
    seen: UInt8[np.ndarray, "a a 3"]
    imagined: UInt8[np.ndarray, "s s 3"]
    faithful_db: float
    shrunk: float


def read_photo(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """A picture, turned upright as its file says.

    Raises:
        UserError: no such file, or no whole picture.
    """
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    try:
        bgr = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    except cv2.error:  # a header that promises more pixels than OpenCV reads
        bgr = None
    if bgr is None:
        raise UserError(f"{path} is no picture that can be read; allowed are whole JPEG and PNG files and the like")
    if max(bgr.shape) > MAX_SIDE_PX:
        raise UserError(f"{path} has {bgr.shape[1]} x {bgr.shape[0]} px; at most {MAX_SIDE_PX} a side are allowed")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


@dataclass(frozen=True, kw_only=True)
class FaceTranslator:
    """A model of faces, ready for photographs.

    Attributes:
        net: generator of superresolution or inpainting.
        card: its description.
    """

    net: SuperResolver | Inpainter
    card: ModelCard

    @staticmethod
    def of(folder: Path) -> "FaceTranslator":
        """Read a package.

        Raises:
            UserError: it is damaged or none, or a model of another task.
        """
        net, card = load_package(folder)
        if not isinstance(net, SuperResolver | Inpainter):
            raise UserError(
                f"{folder} holds a model of {card.task} (recipe {card.recipe}); needed is one of superresolution or "
                "inpainting"
            )
        return FaceTranslator(net=net, card=card)

    @property
    def what(self) -> str:
        """What it does, in words."""
        config = self.net.config
        bias = f" with the bias {config.bias}" if config.bias else ""
        if isinstance(self.net, SuperResolver):
            side = self.net.config.low_px
            return f"the face was reduced to {side} x {side} pixels and imagined again{bias}"
        return f"the {self.net.config.part} were taken out and imagined again{bias}"

    def translate(self, image: Picture, find: Callable[[Picture], FoundFace] = find_face) -> Translated:
        """Translate the surest face of a photograph; what lies outside of its square stays as it is.

        Args:
            image: of any size.
            find: finds the face.

        Raises:
            UserError: no face is found, or it lacks the part that the model fills.
        """
        found = find(image)
        side = self.net.config.side_px
        face, fit = aligned(image, found.landmarks_px, side)
        if isinstance(self.net, SuperResolver):
            factor = side // self.net.config.low_px
            seen = np.rint(area_down(face[None], factor)).astype(np.uint8)
            made = enlarged(self.net, seen)
            faithful = psnr_db(area_down(made, factor), seen)
            photo = pasted_back(image, made[0], fit)
        else:
            hole = part_hole(found.moved(fit), self.net.config.part, side)
            seen = np.where(hole[None, ..., None], np.uint8(0), face[None])
            made = filled(self.net, seen, hole[None])
            faithful = psnr_db(made, seen, ~hole[None])
            photo = pasted_back(image, made[0], fit, hole)
        return Translated(
            photo=photo, face=face, seen=seen[0], imagined=made[0], faithful_db=float(faithful[0]), shrunk=1 / fit.scale
        )


def part_hole(face: FoundFace, part: str, side_px: int) -> Bool[np.ndarray, "s s"]:
    """The box round a part of an aligned face, as large as the models are measured with.

    Raises:
        UserError: the part is not in the picture.
    """
    boxes, valid = part_boxes(face.parts(side_px, side_px))
    if not valid[PARTS[part]]:
        raise UserError(f"no {part} found in the face; a face that shows them is needed")
    box = torch.from_numpy(boxes[None, PARTS[part]])
    still = MaskConfig(shape="box", jitter=0.0)
    keep = part_masks(box, side_px, torch.zeros(1, dtype=torch.int64), still)
    return np.asarray(keep[0, 0].numpy() == 0)
