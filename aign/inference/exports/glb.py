"""motion.glb: the body's skin on 24 joints, moving, as one binary glTF 2.0 file: metres, y up.

A glTF vertex follows at most four joints and its shape does not depend on the pose. The default body is made so, and
loses nothing. Of another body the smaller weights and the pose-dependent blend shapes are left out; `error_mm` measures
what that costs a clip, and the number is written into the file.

glTF 2.0 specification: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html
"""

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Shaped
from torch import Tensor

from aign.body.skinning import skin
from aign.data.synthetic.shading import vertex_normals
from aign.geometry.rotation import to_quaternion
from aign.inference.captured import CapturedMotion
from aign.inference.exports.rig import BONE_NAMES, one_line, rest_joints_m, shaped_m

INFLUENCES = 4
FRAMES_COMPARED = 16
_SKIN_COLOUR = (0.76, 0.60, 0.50, 1.0)
_COMPONENTS = {"float32": 5126, "uint8": 5121, "uint32": 5125}
_KINDS = {1: "SCALAR", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
_VERTICES, _INDICES = 34962, 34963  # bufferView targets


@dataclass(frozen=True, kw_only=True)
class SkinError:
    """How far the file's skin lies from the body's, over all vertices of some frames."""

    mean_mm: float
    most_mm: float


@dataclass(frozen=True, kw_only=True)
class _Array:
    """One accessor: rows of numbers, and what the GPU uses them for."""

    rows: Shaped[np.ndarray, "n k"]
    target: int | None = None
    bounds: bool = False


def write_glb(path: Path, captured: CapturedMotion, licences: Sequence[str]) -> None:
    """Write mesh, skin and animation.

    The shape is baked into the mesh. The rest pose is the T-pose, standing on y = 0 at the origin. A key stands at
    every frame; the last one is at (frames - 1) / fps seconds.
    """
    arrays = _geometry(captured) | _animation(captured)
    views, accessors, blob = _packed(arrays)
    number = {name: index for index, name in enumerate(arrays)}
    error = error_mm(captured)
    document = {
        "asset": {
            "version": "2.0",
            "generator": "AIGN",
            "copyright": "; ".join(licences),
            "extras": {
                "licences": list(licences),
                "body": captured.body.name,
                "units": "metres",
                "axes": "+y up, rest pose faces +z, the person's left is +x, the floor is y = 0",
                "fps": captured.motion.fps,
                "skin_error_mm": {"mean": round(error.mean_mm, 3), "most": round(error.most_mm, 3)},
            },
        },
        "scene": 0,
        "scenes": [{"nodes": [0, 1]}],
        "nodes": _nodes(captured),
        "meshes": [_mesh(number)],
        "materials": [
            {"pbrMetallicRoughness": {"baseColorFactor": _SKIN_COLOUR, "metallicFactor": 0.0, "roughnessFactor": 0.8}}
        ],
        "skins": [{"joints": list(range(1, 25)), "skeleton": 1, "inverseBindMatrices": number["unbind"]}],
        "animations": [_clip(one_line(captured.motion.name), number)],
        "buffers": [{"byteLength": len(blob)}],
        "bufferViews": views,
        "accessors": accessors,
    }
    path.write_bytes(_binary(document, blob))


def pruned(weights: Float[Tensor, "v 24"]) -> tuple[Float[Tensor, "v 4"], Int[Tensor, "v 4"]]:
    """The four largest skinning weights of each vertex, made to sum to 1, and their joints; joint 0 for a weight 0."""
    largest = weights.topk(INFLUENCES, dim=1)
    kept = largest.values / largest.values.sum(1, keepdim=True)
    return kept, torch.where(kept > 0, largest.indices, 0)


def error_mm(captured: CapturedMotion) -> SkinError:
    """What pruned weights and missing blend shapes cost, in up to 16 frames spread over the clip."""
    body = captured.body
    kept, joints = pruned(body.weights)
    as_gltf = replace(body, pose_dirs=None, weights=torch.zeros_like(body.weights).scatter_add(1, joints, kept))
    frames = np.unique(np.linspace(0, len(captured.known) - 1, FRAMES_COMPARED).round().astype(np.int64))
    rotmats = torch.from_numpy(captured.motion.rotmats[frames])
    betas = torch.from_numpy(captured.betas).expand(len(frames), -1)
    still = torch.zeros(len(frames), 3)
    ours, theirs = (skin(b, rotmats, betas, still).vertices_m for b in (body, as_gltf))
    off = (ours - theirs).norm(dim=-1) * 1000
    return SkinError(mean_mm=float(off.mean()), most_mm=float(off.max()))


def _geometry(captured: CapturedMotion) -> dict[str, _Array]:
    weights, joints = pruned(captured.body.weights)
    vertices = (shaped_m(captured) + _lift_m(captured)).astype(np.float32)
    faces = captured.body.faces.numpy()
    normals = vertex_normals(vertices, faces)
    normals[~normals.any(1)] = (0.0, 1.0, 0.0)  # of vertices without a face; glTF wants unit vectors
    unbind = np.tile(np.eye(4, dtype=np.float32), (24, 1, 1))
    unbind[:, :3, 3] = -_bind_m(captured)
    return {
        "position": _Array(rows=vertices, target=_VERTICES, bounds=True),
        "normal": _Array(rows=normals, target=_VERTICES),
        "joints": _Array(rows=joints.numpy().astype(np.uint8), target=_VERTICES),
        "weights": _Array(rows=weights.numpy(), target=_VERTICES),
        "faces": _Array(rows=faces.astype(np.uint32).reshape(-1, 1), target=_INDICES),
        "unbind": _Array(rows=unbind.mT.reshape(24, 16)),  # glTF's matrices are column-major
    }


def _animation(captured: CapturedMotion) -> dict[str, _Array]:
    motion = captured.motion
    times = np.arange(len(motion.rotmats)) / motion.fps
    turns = to_quaternion(torch.from_numpy(motion.rotmats).double()).roll(-1, dims=-1).numpy()  # x, y, z, w
    # q and -q are one rotation; some programs blend neighbours as they stand.
    flips = np.sign((turns[1:] * turns[:-1]).sum(-1, keepdims=True))
    turns[1:] *= np.cumprod(np.where(flips == 0, 1, flips), 0)
    arrays = {
        "times": _Array(rows=times.astype(np.float32)[:, None], bounds=True),
        "translation": _Array(rows=motion.trans_m.astype(np.float32)),
    }
    return arrays | {f"turn{j}": _Array(rows=turns[:, j].astype(np.float32)) for j in range(24)}


def _lift_m(captured: CapturedMotion) -> Float[np.ndarray, " 3"]:
    """What brings the soles of the T-pose to y = 0."""
    return np.array([0.0, -shaped_m(captured)[:, 1].min(), 0.0])


def _bind_m(captured: CapturedMotion) -> Float32[np.ndarray, "24 3"]:
    bind: Float32[np.ndarray, "24 3"] = (rest_joints_m(captured) + _lift_m(captured)).astype(np.float32)
    return bind


def _nodes(captured: CapturedMotion) -> list[dict[str, Any]]:
    """The skinned mesh, then the 24 joints."""
    bind, parents = _bind_m(captured), captured.body.parents
    nodes: list[dict[str, Any]] = [{"name": "body", "mesh": 0, "skin": 0}]
    for joint, parent in enumerate(parents):
        offset = bind[joint] - (bind[parent] if parent >= 0 else 0)
        node: dict[str, Any] = {"name": BONE_NAMES[joint], "translation": offset.tolist(), "rotation": [0, 0, 0, 1]}
        children = [1 + child for child, above in enumerate(parents) if above == joint]
        nodes.append(node | ({"children": children} if children else {}))
    return nodes


def _mesh(number: Mapping[str, int]) -> dict[str, Any]:
    attributes = {"POSITION": "position", "NORMAL": "normal", "JOINTS_0": "joints", "WEIGHTS_0": "weights"}
    return {
        "name": "body",
        "primitives": [
            {
                "attributes": {theirs: number[ours] for theirs, ours in attributes.items()},
                "indices": number["faces"],
                "material": 0,
            }
        ],
    }


def _clip(name: str, number: Mapping[str, int]) -> dict[str, Any]:
    moved = [("translation", 0, "translation"), *(("rotation", joint, f"turn{joint}") for joint in range(24))]
    return {
        "name": name or "motion",
        "samplers": [{"input": number["times"], "output": number[array]} for _, _, array in moved],
        "channels": [
            {"sampler": sampler, "target": {"node": 1 + joint, "path": path}}
            for sampler, (path, joint, _) in enumerate(moved)
        ],
    }


def _packed(arrays: Mapping[str, _Array]) -> tuple[list[dict[str, Any]], list[dict[str, Any]], bytes]:
    """One buffer view and one accessor an array, in their order, each beginning at a multiple of four bytes."""
    views: list[dict[str, Any]] = []
    accessors: list[dict[str, Any]] = []
    blob = b""
    for index, array in enumerate(arrays.values()):
        rows = np.ascontiguousarray(array.rows)
        content = rows.astype(rows.dtype.newbyteorder("<")).tobytes()
        view = {"buffer": 0, "byteOffset": len(blob), "byteLength": len(content)}
        views.append(view | ({"target": array.target} if array.target else {}))
        accessor = {
            "bufferView": index,
            "componentType": _COMPONENTS[rows.dtype.name],
            "count": len(rows),
            "type": _KINDS[rows.shape[1]],
        }
        limits = {"min": rows.min(0).tolist(), "max": rows.max(0).tolist()} if array.bounds else {}
        accessors.append(accessor | limits)
        blob += content + b"\0" * (-len(content) % 4)
    return views, accessors, blob


def _binary(document: Mapping[str, Any], blob: bytes) -> bytes:
    """The container: a header of 12 bytes, the JSON padded with spaces, the buffer."""
    text = json.dumps(document, allow_nan=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(blob), b"BIN\0") + blob
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks
