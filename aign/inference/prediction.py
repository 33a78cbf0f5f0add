"""A model by its name, pictures in, typed results out: what programs and notebooks call.

    from aign.inference import Predictor

    bodies = Predictor.load("models:/motion_capture@champion").predict(frames)

Convention: pixels (0, 0) at the centre of the top-left pixel, x right, y down; camera +x right, +y down, +z forward,
metres.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float32, Shaped, UInt8

from aign.data.datasets.video.video_files import assumed_camera
from aign.data.stages.blazepose import get_detector
from aign.framework.errors import UserError
from aign.geometry.skeleton import BLAZEPOSE33, SMPL24, convert, convert_confidence
from aign.inference.body_predictor import BodyPredictor, FrameBodies
from aign.inference.face_mark import marked
from aign.inference.face_translate import FaceTranslator
from aign.inference.package import ModelCard, load_card, package_in
from aign.inference.predictor import LiftingPredictor, checked
from aign.tasks.lifting.feed import to_h36m17

REGISTRIES = "aign.registries"
"""Entry points of this group, named after the scheme of a URI, fetch its package: (uri, folder) -> folder of it."""
Pictures: TypeAlias = UInt8[np.ndarray, "n h w 3"]


@dataclass(frozen=True, kw_only=True)
class Keypoints:
    """Joints that somebody found already, in the place of pictures; for lifting.

    Attributes:
        kp2d_px: Human3.6M's 17 joints (`aign.geometry.skeleton.H36M17`), undistorted pixels; any finite value where
            the confidence is 0.
        kp2d_conf: 0..1; 0: not seen.
        size_px: width and height of the pictures, of which a camera is assumed where none is given.
    """

    kp2d_px: Shaped[np.ndarray, "..."]
    kp2d_conf: Shaped[np.ndarray, "..."]
    size_px: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Poses:
    """Of a lifter: the pose in each of n frames of one clip.

    Attributes:
        joints_cam_m: Human3.6M's 17 joints (`aign.geometry.skeleton.H36M17`) in the camera, metres; NaN in frames that
            show too little of a person.
        kp2d_px: the joints it was made of, pixels.
        kp2d_conf: their confidences, 0..1.
        intrinsics_px: fx, fy, cx, cy.
        assumed_camera: whether a usual field of view was assumed; depth and size are then rough.
    """

    joints_cam_m: Float32[np.ndarray, "n 17 3"]
    kp2d_px: Float32[np.ndarray, "n 17 2"]
    kp2d_conf: Float32[np.ndarray, "n 17"]
    intrinsics_px: Float32[np.ndarray, "n 4"]
    assumed_camera: bool

    @property
    def known(self) -> Bool[np.ndarray, " n"]:
        """Which frames have a pose."""
        return np.asarray(np.isfinite(self.joints_cam_m).all((1, 2)))


@dataclass(frozen=True, kw_only=True)
class Bodies(FrameBodies):
    """Of a motion-capture model: the body in each of n frames of one clip; `known` says which have one, others are NaN.

    Attributes:
        kp2d_px: SMPL's 24 joints as the detector found them, pixels.
        kp2d_conf: their confidences, 0..1; 0 for joints that it does not know.
        intrinsics_px: fx, fy, cx, cy.
        assumed_camera: whether a usual field of view was assumed; depth and size are then rough.
    """

    kp2d_px: Float32[np.ndarray, "n 24 2"]
    kp2d_conf: Float32[np.ndarray, "n 24"]
    intrinsics_px: Float32[np.ndarray, "n 4"]
    assumed_camera: bool


@dataclass(frozen=True, kw_only=True)
class Faces:
    """Of a model of faces: n photographs with the surest face of each imagined anew.

    Attributes:
        photo_rgb: the whole photographs, with a visible mark that says that they are synthetic.
        face_rgb: the face, cut out as it was.
        seen_rgb: what the model was given of it: the small picture, or the one with a hole.
        imagined_rgb: what it made of that, without a mark.
        faithful_db: PSNR of P of that against what was given.
    """

    photo_rgb: UInt8[np.ndarray, "n h w 3"]
    face_rgb: UInt8[np.ndarray, "n s s 3"]
    seen_rgb: UInt8[np.ndarray, "n a a 3"]
    imagined_rgb: UInt8[np.ndarray, "n s s 3"]
    faithful_db: Float32[np.ndarray, " n"]


Prediction: TypeAlias = Poses | Bodies | Faces


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A packaged model of any task, ready to predict.

    Attributes:
        card: what the model says of itself: task, data, licences, numbers, limits.
        answer: what it makes of checked pictures or keypoints and of a camera.
    """

    card: ModelCard
    answer: Callable[[Any, Shaped[np.ndarray, "..."] | None], Prediction]

    @staticmethod
    def load(model: str | Path, mlflow: str | Path = "mlflow") -> "Predictor":
        """Read a model.

        Args:
            model: folder of a run or of a package, or models:/NAME@champion, models:/NAME/3 or models:/NAME/latest.
            mlflow: folder of the embedded MLflow store that models:/ names; MLFLOW_TRACKING_URI wins.

        Raises:
            UserError: there is no such model, or it is damaged.
        """
        folder = _package(str(model), Path(mlflow))
        card = load_card(folder)
        return Predictor(card=card, answer=_READERS[card.task](folder))

    def predict(
        self, frames: Shaped[np.ndarray, "..."] | Keypoints, intrinsics_px: Shaped[np.ndarray, "..."] | None = None
    ) -> Prediction:
        """Predict n frames: of lifting and motion capture those of one clip in order, of faces any photographs.

        People and faces are found by the nets that `aign assets pull pose face` fetches; one person a frame is
        followed, the surest.

        Args:
            frames: RGB pictures uint8 [n, h, w, 3], at least one; for lifting `Keypoints` do too.
            intrinsics_px: fx, fy, cx, cy of the pictures, floats [4] or [n, 4]; None: a field of view of 49 degrees is
                assumed. Models of faces take none.

        Returns:
            `Poses` of a model of lifting, `Bodies` of motion capture, `Faces` of super-resolution and inpainting.

        Raises:
            UserError: a wrong shape or type, numbers that no camera has, nets that were not pulled, or a photograph
                without a face.
        """
        if isinstance(frames, Keypoints):
            if self.card.task != "lifting":
                raise UserError(f"got Keypoints for a model of {self.card.task}; it takes pictures uint8 [n, h, w, 3]")
        elif frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
            raise UserError(
                f"frames must be RGB uint8 [n, h, w, 3] with at least one picture; got {frames.dtype} "
                f"{list(frames.shape)}"
            )
        return self.answer(frames, intrinsics_px)


def _package(model: str, mlflow: Path) -> Path:
    """Folder of a package; who knows URIs lies above this layer (docs/decisions/0013-who-fetches-a-model.md)."""
    scheme, is_uri, _ = model.partition(":/")
    if not is_uri:
        return package_in(Path(model).expanduser())
    known = {found.name: found for found in entry_points(group=REGISTRIES)}
    if scheme not in known:
        there = ", ".join(f"{name}:/" for name in sorted(known)) or "nothing: install aign (pip install -e .)"
        raise UserError(f"got model {model}; allowed are a folder, and of URIs those that are installed: {there}")
    fetch: Callable[[str, Path], Path] = known[scheme].load()
    return fetch(model, mlflow)


def _lenses(intrinsics_px: Shaped[np.ndarray, "..."] | None, n: int, size_px: tuple[int, int]) -> np.ndarray:
    """fx, fy, cx, cy of each of n frames [n, 4]."""
    if intrinsics_px is None:
        lens = assumed_camera("", *size_px).pinhole
        intrinsics_px = torch.cat((lens.focal_px, lens.centre_px)).numpy()
    elif intrinsics_px.shape not in ((4,), (n, 4)):
        raise UserError(f"intrinsics_px must be floats [4] or [{n}, 4]; got {list(intrinsics_px.shape)}")
    return checked("intrinsics_px", np.broadcast_to(intrinsics_px, (n, 4)), (n, 4))


def _lifting(folder: Path) -> Callable[[Any, Any], Prediction]:
    predictor = LiftingPredictor.of(folder)

    def answer(frames: Pictures | Keypoints, intrinsics_px: Shaped[np.ndarray, "..."] | None) -> Poses:
        given = frames if isinstance(frames, Keypoints) else _h36m17(frames)
        lenses = _lenses(intrinsics_px, len(given.kp2d_px), given.size_px)
        return Poses(
            joints_cam_m=predictor.predict(given.kp2d_px, given.kp2d_conf, lenses),
            kp2d_px=given.kp2d_px.astype(np.float32),
            kp2d_conf=given.kp2d_conf.astype(np.float32),
            intrinsics_px=lenses,
            assumed_camera=intrinsics_px is None,
        )

    return answer


def _motion_capture(folder: Path) -> Callable[[Any, Any], Prediction]:
    predictor = BodyPredictor.of(folder)

    def answer(frames: Pictures, intrinsics_px: Shaped[np.ndarray, "..."] | None) -> Bodies:
        lenses = _lenses(intrinsics_px, len(frames), (frames.shape[2], frames.shape[1]))
        found = get_detector().track(frames)
        kp, conf = torch.from_numpy(found.kp2d_px), torch.from_numpy(found.kp2d_conf)
        kp2d_px = convert(kp, BLAZEPOSE33, SMPL24)[0].numpy()
        kp2d_conf = convert_confidence(conf, BLAZEPOSE33, SMPL24).numpy()
        bodies = predictor.predict(frames, kp2d_px, kp2d_conf, lenses)
        return Bodies(
            **vars(bodies), kp2d_px=kp2d_px, kp2d_conf=kp2d_conf, intrinsics_px=lenses,
            assumed_camera=intrinsics_px is None,
        )  # fmt: skip

    return answer


def _h36m17(frames: Pictures) -> Keypoints:
    found = get_detector().track(frames)
    kp, conf = to_h36m17(torch.from_numpy(found.kp2d_px), torch.from_numpy(found.kp2d_conf), BLAZEPOSE33)
    return Keypoints(kp2d_px=kp.numpy(), kp2d_conf=conf.numpy(), size_px=(frames.shape[2], frames.shape[1]))


def _faces(folder: Path) -> Callable[[Any, Any], Prediction]:
    translator = FaceTranslator.of(folder)

    def answer(photos: Pictures, intrinsics_px: Shaped[np.ndarray, "..."] | None) -> Faces:
        if intrinsics_px is not None:
            raise UserError(f"got intrinsics_px for a model of {translator.card.task}; it takes no camera")
        done = []
        for number, photo in enumerate(photos):
            try:
                done.append(translator.translate(photo))
            except UserError as error:
                raise UserError(f"picture {number}: {error}") from error
        return Faces(
            photo_rgb=np.stack([marked(one.photo) for one in done]),
            face_rgb=np.stack([one.face for one in done]),
            seen_rgb=np.stack([one.seen for one in done]),
            imagined_rgb=np.stack([one.imagined for one in done]),
            faithful_db=np.array([one.faithful_db for one in done], np.float32),
        )

    return answer


_READERS: Mapping[str, Callable[[Path], Callable[[Any, Any], Prediction]]] = {
    "lifting": _lifting,
    "motion_capture": _motion_capture,
    "superresolution": _faces,
    "inpainting": _faces,
}
"""By task: a package as what answers."""
