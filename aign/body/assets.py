"""The numbers of an SMPL-format body, read safely: the free default body, or a licensed file the user owns."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from aign.body.found import REQUIRED
from aign.framework.errors import UserError
from aign.framework.safe_pickle import load_object_npz, load_pickle, to_array
from aign.geometry.skeleton import SMPL24

DEFAULT_BODY = Path(__file__).parent / "default" / "default_body.npz"
SHAPES_USED = 10  # later releases carry 300 directions; every published shape estimate uses the first ten


@dataclass(frozen=True, kw_only=True)
class BodyAssets:
    """An SMPL-format body: metres, y up, T-pose facing +z, the person's left = +x.

    Attributes:
        v_template_m: Vertices of the mean shape.
        shape_dirs: Vertex displacement per unit of each shape coefficient, metres.
        pose_dirs: Vertex displacement per entry of (R - I) of joints 1..23, row-major; None where the body has none.
        joint_regressor: Rest joints from shaped vertices; rows sum to 1.
        weights: Skinning weights; rows sum to 1.
        parents: Parent of each of the 24 joints, -1 at the root.
        faces: Triangles, counter-clockwise from outside.
        h36m17_regressor: Human3.6M's 17 joints (VideoPose3D order) from posed vertices, where the file has them.
        name: File the body came from.
        licence: Its terms.
    """

    v_template_m: Float[Tensor, "v 3"]
    shape_dirs: Float[Tensor, "v 3 s"]
    pose_dirs: Float[Tensor, "v 3 p"] | None
    joint_regressor: Float[Tensor, "24 v"]
    weights: Float[Tensor, "v 24"]
    parents: tuple[int, ...]
    faces: Int[Tensor, "f 3"]
    h36m17_regressor: Float[Tensor, "17 v"] | None
    name: str
    licence: str

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "BodyAssets":
        """The same body on another device or in another floating type."""

        def move(x: Tensor) -> Tensor:
            return x.to(device=device, dtype=dtype)

        return replace(
            self,
            v_template_m=move(self.v_template_m),
            shape_dirs=move(self.shape_dirs),
            pose_dirs=None if self.pose_dirs is None else move(self.pose_dirs),
            joint_regressor=move(self.joint_regressor),
            weights=move(self.weights),
            faces=self.faces.to(device=device),
            h36m17_regressor=None if self.h36m17_regressor is None else move(self.h36m17_regressor),
        )

    @cached_property
    @torch.inference_mode(mode=False)  # kept: what is first asked for in inference must serve training too
    def rest_joints_m(self) -> Float[Tensor, "24 3"]:
        """Joints of the mean shape in the T-pose."""
        return self.joint_regressor @ self.v_template_m

    @cached_property
    @torch.inference_mode(mode=False)
    def joint_shape_dirs(self) -> Float[Tensor, "24 3 s"]:
        """Rest joint displacement per unit of each shape coefficient: the regressor folded into shape_dirs."""
        return torch.einsum("jv,vcs->jcs", self.joint_regressor, self.shape_dirs)

    @cached_property
    @torch.inference_mode(mode=False)
    def vertex_rows(self) -> tuple[Float[Tensor, " rows"], Float[Tensor, "dirs rows"]]:
        """Template, and shape and pose directions below each other; all x, then all y, all z: contiguous skinning.

        The rows of pose directions are left out where the body has none.
        """
        dirs = self.shape_dirs if self.pose_dirs is None else torch.cat([self.shape_dirs, self.pose_dirs], -1)
        return self.v_template_m.mT.flatten(), dirs.permute(2, 1, 0).flatten(1)

    @cached_property
    @torch.inference_mode(mode=False)
    def weight_rows(self) -> Float[Tensor, "24 v"]:
        """Skinning weights, a row per joint."""
        return self.weights.mT.contiguous()


def load_body(path: Path | str | None = None) -> BodyAssets:
    """Load a body in float32.

    Args:
        path: None for the free default body; else an SMPL .npz, or one of the licensed SMPL .pkl files (read through a
            restricted unpickler, so chumpy is not needed and no code in the file runs).

    Raises:
        UserError: The file cannot be read safely, lacks a key, or an array has the wrong shape or unit.
    """
    if path is None:
        return _default_body()
    path = Path(path)
    if path.suffix == ".npz":
        content: Any = load_object_npz(path)
    elif path.suffix == ".pkl":
        content = load_pickle(path)
    else:
        raise UserError(f"{path}: a body is an SMPL .npz or .pkl file, got the ending {path.suffix!r}")
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: holds a {type(content).__name__}, an SMPL file holds a dictionary")
    return _from_arrays(content, path)


@cache
def _default_body() -> BodyAssets:
    return _from_arrays(load_object_npz(DEFAULT_BODY), DEFAULT_BODY)


def _from_arrays(content: Mapping[str, Any], path: Path) -> BodyAssets:
    missing = [k for k in REQUIRED if k not in content]
    if missing:
        raise UserError(f"{path}: no {', '.join(missing)} in it; an SMPL file has {', '.join(REQUIRED)}")
    template = _numbers(content, "v_template", path)
    vertices = len(template) if template.ndim else 0
    shape = _numbers(content, "shapedirs", path)
    pose = _numbers(content, "posedirs", path)
    regressor17 = _numbers(content, "h36m17_regressor", path) if "h36m17_regressor" in content else None
    arrays = {
        "v_template": (template, (vertices, 3)),
        "shapedirs": (shape, (vertices, 3, shape.shape[-1] if shape.ndim else 0)),
        "posedirs": (pose, (vertices, 3, 207)),
        "J_regressor": (regressor := _numbers(content, "J_regressor", path), (24, vertices)),
        "weights": (weights := _numbers(content, "weights", path), (vertices, 24)),
    }
    if regressor17 is not None:
        arrays["h36m17_regressor"] = (regressor17, (17, vertices))
    for key, (array, wanted) in arrays.items():
        if array.shape != wanted or array.size == 0:
            raise UserError(f"{path}: {key} has shape {array.shape}, a body with {vertices} vertices needs {wanted}")
    height = float(np.ptp(template[:, 1]))
    if not 0.3 < height < 3.0:
        raise UserError(f"{path}: the body is {height:.4g} units tall along y; metres with y up are needed (0.3 to 3)")
    return BodyAssets(
        v_template_m=_tensor(template),
        shape_dirs=_tensor(shape[:, :, :SHAPES_USED]),
        pose_dirs=_tensor(pose) if pose.any() else None,
        joint_regressor=_tensor(regressor),
        weights=_tensor(weights),
        parents=_parents(content, path),
        faces=_faces(content, vertices, path),
        h36m17_regressor=None if regressor17 is None else _tensor(regressor17),
        name=path.stem,
        licence=str(content.get("licence", "the licence the file came with")),
    )


def _numbers(content: Mapping[str, Any], key: str, path: Path) -> Shaped[np.ndarray, "..."]:
    array = to_array(content[key], f"{path}[{key}]")
    if array.dtype.kind not in "fiu":
        raise UserError(f"{path}: {key} holds {array.dtype}, numbers are needed")
    if not np.isfinite(array).all():
        raise UserError(f"{path}: {key} has values that are not finite")
    return array


def _tensor(array: Shaped[np.ndarray, "..."]) -> Float[Tensor, "..."]:
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _parents(content: Mapping[str, Any], path: Path) -> tuple[int, ...]:
    table = _numbers(content, "kintree_table", path)
    # The root's parent is -1, stored as the unsigned 4294967295.
    parents = tuple(-1 if k == 2**32 - 1 else int(k) for k in table[0].astype(np.int64)) if table.ndim == 2 else ()
    if parents != SMPL24.parents:
        raise UserError(
            f"{path}: kintree_table {table.shape} is not the tree of SMPL's 24 joints "
            "(SMPL-H and SMPL-X are other bodies)"
        )
    return parents


def _faces(content: Mapping[str, Any], vertices: int, path: Path) -> Int[Tensor, "f 3"]:
    faces = _numbers(content, "f", path).astype(np.int64)
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.size == 0 or faces.min() < 0 or faces.max() >= vertices:
        raise UserError(f"{path}: f has shape {faces.shape}; it must be [faces, 3] with indices below {vertices}")
    return torch.from_numpy(faces)
