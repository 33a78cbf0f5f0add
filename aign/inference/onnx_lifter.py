"""A packaged lifter as one ONNX file, which runs where there is no torch, and that file as a predictor.

The graph is all of `lift` for a batch of windows: undistortion, virtual camera, crop, network, the way back into the
camera. Inputs: kp2d_px [n, t, 17, 2], conf [n, t, 17], intrinsics_px [n, 4] and distortion [n, 5] of the middle frames;
output: joints_cam_m [n, 17, 3]; n is free, t is the lifter's number of frames. The package's card travels in the file.
"""

import importlib
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor, nn

from aign.data.publish import published
from aign.framework.errors import StorageError, UserError
from aign.geometry.camera import Pinhole
from aign.inference.package import CARD, load_as
from aign.inference.predictor import checked_frames, unseen_as_nan
from aign.tasks.lifting.factors import PoseFactors
from aign.tasks.lifting.frames import neighbours
from aign.tasks.lifting.nets import Lifter
from aign.tasks.lifting.observation import observe

INPUTS, OUTPUT = ("kp2d_px", "conf", "intrinsics_px", "distortion"), "joints_cam_m"
CARD_KEY = "aign_card"
TOLERANCE_M = 1e-4
"""An exported file that differs more than this from torch is not published."""
OPSET = 20


class _Lift(nn.Module):
    """`aign.tasks.lifting.lift` for windows that were cut already."""

    def __init__(self, lifter: Lifter) -> None:
        super().__init__()
        self.lifter = lifter

    def forward(
        self,
        kp2d_px: Float[Tensor, "n t 17 2"],
        conf: Float[Tensor, "n t 17"],
        intrinsics_px: Float[Tensor, "n 4"],
        distortion: Float[Tensor, "n 5"],
    ) -> Float[Tensor, "n 17 3"]:
        seen, rot_cam_to_virtual = observe(kp2d_px, conf, Pinhole.of(intrinsics_px, distortion))
        z: PoseFactors = self.lifter(seen)
        return z.joints_m @ rot_cam_to_virtual


def _needed(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"ONNX needs the package {name}: pip install 'aign[onnx]'") from error


def _windows(count: int, frames: int, seed: int) -> tuple[Tensor, ...]:
    """Random people, some keypoints unseen, in Human3.6M's kind of camera, every other one distorted."""
    rng = torch.Generator().manual_seed(seed)
    middle = 300 + 400 * torch.rand(count, 1, 1, 2, generator=rng)
    kp2d_px = middle + 100 * torch.randn(count, frames, 17, 2, generator=rng)
    drawn = torch.rand(count, frames, 17, generator=rng)
    camera = torch.tensor((1145.0, 1144.0, 512.0, 515.0)).expand(count, 4).contiguous()
    bent = torch.tensor((-0.2, 0.24, -0.002, -0.001, -0.002)) * (torch.arange(count) % 2).unsqueeze(1)
    return kp2d_px, torch.where(drawn < 0.2, torch.zeros_like(drawn), drawn), camera, bent


def export_onnx(package: Path, out: Path) -> float:
    """Write a packaged lifter as one .onnx file; it appears under its name only after it was compared with torch.

    Returns:
        The largest difference from torch over random windows, metres.

    Raises:
        UserError: no package, no ONNX packages installed, or a difference over TOLERANCE_M.
        StorageError: the file cannot be written.
    """
    for name in ("onnx", "onnxscript", "onnxruntime"):
        _needed(name)
    lifter, _ = load_as(Lifter, package)
    if not out.parent.is_dir():
        raise StorageError(f"cannot write {out}: no such folder")
    module = _Lift(lifter).eval()
    program = _traced(module, lifter.frames)
    program.model.metadata_props[CARD_KEY] = (package / CARD).read_text()
    with published(out) as unfinished:
        program.save(unfinished, external_data=False)
        gap = _largest_gap(module, OnnxPredictor.of(unfinished))
        if not gap <= TOLERANCE_M:
            raise UserError(f"{out}: the exported lifter differs from torch by {gap:g} m; allowed is {TOLERANCE_M:g}")
    return gap


def _traced(module: nn.Module, frames: int) -> torch.onnx.ONNXProgram:
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module,
            _windows(4, frames, 0),  # neither 0 nor 1: those are special to torch.export
            dynamo=True,
            opset_version=OPSET,
            input_names=INPUTS,
            output_names=(OUTPUT,),
            dynamic_shapes=({0: torch.export.Dim("n")},) * len(INPUTS),
            verbose=False,
            external_data=False,
        )
    assert program is not None, "the exporter of torch.export returns a program"
    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of its own deprecated parts, and of torchvision's operators, which nobody here uses."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _largest_gap(module: nn.Module, exported: "OnnxPredictor") -> float:
    """Over batches of other sizes than the one that was traced."""
    gaps = []
    for count in (1, 7, 64):
        windows = _windows(count, exported.frames, count)
        with torch.inference_mode():
            expected: Tensor = module(*windows)
        gaps.append(float((exported.run(*windows) - expected).abs().max()))
    return float(np.max(gaps))  # unlike max(), NaN wins


@dataclass(frozen=True, kw_only=True)
class OnnxPredictor:
    """An exported lifter, ready to predict.

    Attributes:
        session: onnxruntime's.
        frames: t, how many frames the lifter sees.
        card: the package's card, as plain data.
    """

    session: Any
    frames: int
    card: dict[str, Any]

    @staticmethod
    def of(path: Path, threads: int = 0) -> "OnnxPredictor":
        """Read an exported lifter.

        Args:
            path: the .onnx file.
            threads: that compute; 0: one per core.

        Raises:
            UserError: it is damaged, or nothing that `export_onnx` wrote.
        """
        runtime = _needed("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            session = runtime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        except _session_errors() as error:
            raise UserError(f"{path} is not a readable ONNX file: {str(error).splitlines()[0]}") from error
        card = session.get_modelmeta().custom_metadata_map.get(CARD_KEY)
        inputs = {given.name: given.shape for given in session.get_inputs()}
        if card is None or tuple(inputs) != INPUTS:
            raise UserError(f"{path} is no exported lifter: it has the inputs {', '.join(inputs)}; see aign export")
        return OnnxPredictor(session=session, frames=int(inputs["kp2d_px"][1]), card=json.loads(card))

    def run(
        self,
        kp2d_px: Float32[Tensor, "n t 17 2"],
        conf: Float32[Tensor, "n t 17"],
        intrinsics_px: Float32[Tensor, "n 4"],
        distortion: Float32[Tensor, "n 5"],
    ) -> Float32[Tensor, "n 17 3"]:
        """The graph itself, unchecked."""
        windows = zip(INPUTS, (kp2d_px, conf, intrinsics_px, distortion), strict=True)
        (joints,) = self.session.run((OUTPUT,), {name: value.numpy() for name, value in windows})
        return torch.from_numpy(joints)

    def predict(
        self,
        kp2d_px: Shaped[np.ndarray, "..."],
        kp2d_conf: Shaped[np.ndarray, "..."],
        intrinsics_px: Shaped[np.ndarray, "..."],
        distortion: Shaped[np.ndarray, "..."] | None = None,
        clip: Shaped[np.ndarray, "..."] | None = None,
        chunk: int = 8192,
    ) -> Float32[np.ndarray, "n 17 3"]:
        """As `LiftingPredictor.predict`, chunk frames at a time."""
        given = checked_frames(kp2d_px, kp2d_conf, intrinsics_px, distortion, clip)
        lens = torch.cat((given.camera.focal_px, given.camera.centre_px), dim=1)
        joints = [torch.zeros(0, 17, 3)]
        for index in torch.split(neighbours(given.clip, self.frames // 2), chunk):
            middle = index[:, self.frames // 2]
            part = given.camera.distortion[middle]
            joints.append(self.run(given.kp2d_px[index], given.conf[index], lens[middle], part))
        return unseen_as_nan(torch.cat(joints), given)


def _session_errors() -> tuple[type[Exception], ...]:
    """What a file that cannot be taken raises: onnxruntime's classes have no common base."""
    states = _needed("onnxruntime.capi.onnxruntime_pybind11_state")
    return (
        OSError,
        states.Fail,
        states.InvalidGraph,
        states.InvalidProtobuf,
        states.InvalidArgument,
        states.NotImplemented,
    )
