"""The body and what a camera sees of it: skinning against smplx, visibility against Embree.

    python benchmarks/body.py [--write]

All run in this process on one thread, in turns. Bodies have SMPL's shape (6,890 vertices, 24 joints, 10 shape and 207
pose directions: the free default body with pose directions that are not zero) in random poses; visibility is that of
the default body as it is, whose surface is smooth. `--write` puts the figures into benchmarks/results/body.md.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import machine
import numpy as np
import smplx
import torch
import trimesh
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore import EmbreeDevice
from embreex.rtcore_scene import EmbreeScene
from trimesh.ray.ray_pyembree import RayMeshIntersector

from aign.body.assets import DEFAULT_BODY, BodyAssets, load_body
from aign.body.skinning import joints_only, skin
from aign.geometry.rotation import from_axis_angle
from aign.render.occlusion import visible_by_tensors
from aign.render.visibility import visible

TARGET_SKIN, TARGET_JOINTS, TARGET_VISIBLE_MS, TARGET_AGREES = 2.5, 15.0, 1.5, 0.999
BATCHES = (1, 16, 64)
ROUNDS = 15
MESHES = 32
SIDE = 128
Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
Pose = Callable[[Inputs], torch.Tensor]
Seen = Callable[[torch.Tensor, torch.Tensor], np.ndarray]


def bodies() -> tuple[BodyAssets, smplx.SMPL]:
    """The same numbers in both."""
    with np.load(DEFAULT_BODY) as file:
        arrays = {key: file[key] for key in file.files}
    arrays["posedirs"] = np.random.default_rng(0).normal(0, 2e-3, (6890, 3, 207)).astype(np.float32)
    ours = replace(load_body(), pose_dirs=torch.from_numpy(arrays["posedirs"]))
    return ours, smplx.SMPL(str(DEFAULT_BODY), data_struct=smplx.utils.Struct(**arrays))


def random_inputs(batch: int) -> Inputs:
    generator = torch.Generator().manual_seed(batch)
    angles = 0.5 * torch.randn(batch, 24, 3, generator=generator)
    given = (
        from_axis_angle(angles),
        torch.randn(batch, 10, generator=generator),
        torch.randn(batch, 3, generator=generator),
    )
    return tuple(x.requires_grad_() for x in given)  # type: ignore[return-value]


def posers(ours: BodyAssets, theirs: smplx.SMPL) -> dict[str, Pose]:
    def whole(given: Inputs) -> torch.Tensor:
        rot, betas, trans = given
        posed = theirs(global_orient=rot[:, :1], body_pose=rot[:, 1:], betas=betas, transl=trans, pose2rot=False)
        return posed.vertices

    def blend(given: Inputs) -> torch.Tensor:
        m = theirs
        numbers = m.v_template, m.shapedirs, m.posedirs, m.J_regressor, m.parents, m.lbs_weights
        return smplx.lbs.lbs(given[1], given[0], *numbers, pose2rot=False)[0]

    return {
        "smplx.SMPL.forward": whole,
        "smplx.lbs only": blend,
        "**ours, skin**": lambda given: skin(ours, *given).vertices_m,
        "**ours, joints_only**": lambda given: joints_only(ours, *given),
    }


def milliseconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - start)


def in_turns(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    for run in works.values():
        run()
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, run in works.items():
            found[name].append(milliseconds(run))
    return found


def forward(pose: Pose, given: Inputs) -> None:
    with torch.no_grad():
        pose(given)


def forward_and_back(pose: Pose, given: Inputs, pull: torch.Tensor) -> None:
    torch.autograd.grad(pose(given), given, pull, allow_unused=True)


def time_bodies(ours: BodyAssets, theirs: smplx.SMPL) -> dict[str, dict[str, list[float]]]:
    """Milliseconds of each round, by column and row of the table."""
    columns = {}
    for batch in BATCHES:
        given = random_inputs(batch)
        rows = posers(ours, theirs)
        pulls = {name: torch.randn_like(pose(given)) for name, pose in rows.items()}
        columns[f"{batch}, fwd"] = in_turns({n: partial(forward, pose, given) for n, pose in rows.items()}, ROUNDS)
        columns[f"{batch}, fwd + bwd"] = in_turns(
            {n: partial(forward_and_back, pose, given, pulls[n]) for n, pose in rows.items()}, ROUNDS
        )
    return columns


def difference_m(ours: BodyAssets, theirs: smplx.SMPL) -> float:
    given = random_inputs(16)
    whole, _, mine, _ = posers(ours, theirs).values()
    return (whole(given) - mine(given)).detach().abs().max().item()


def fronts(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Vertices with a face that looks at the camera: the others Embree need not be asked about."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    front = np.zeros(len(vertices), bool)
    front[faces[np.einsum("fi,fi->f", np.cross(b - a, c - a), a) < 0]] = True
    return front


def embree(device: EmbreeDevice, vertices_m: torch.Tensor, faces: torch.Tensor) -> np.ndarray:
    """A scene a mesh and a ray to each vertex that ends 0.1 per mille before it."""
    corners, seen = faces.int().numpy(), []
    for vertices in vertices_m.numpy():
        scene = EmbreeScene(device)
        TriangleMesh(scene, vertices, corners)
        ends = np.full(len(vertices), 1 - 1e-4, np.float32)
        seen.append(scene.run(np.zeros_like(vertices), vertices, ends, query="OCCLUDED") != 0)
    return np.stack(seen)


def through_trimesh(vertices_m: torch.Tensor, faces: torch.Tensor) -> np.ndarray:
    """The first face each ray hits; comparing it with the vertex's own is not in the time."""
    corners, first = faces.numpy(), []
    for vertices in vertices_m.numpy():
        caster = RayMeshIntersector(trimesh.Trimesh(vertices, corners, process=False))
        first.append(caster.intersects_first(np.zeros_like(vertices), vertices))
    return np.stack(first)


def measure_visibility() -> tuple[dict[str, list[float]], dict[str, float]]:
    """Milliseconds a mesh, by method, and the share of vertices on which ours agrees with Embree."""
    body = load_body()
    with torch.no_grad():
        vertices = skin(body, *random_inputs(MESHES)).vertices_m.contiguous()
    vertices = vertices - vertices.mean(1, keepdim=True) + torch.tensor([0.0, 0.0, 3.0])
    lens = torch.tensor([[0.9 * SIDE, 0.9 * SIDE, (SIDE - 1) / 2, (SIDE - 1) / 2]]).repeat(MESHES, 1)
    device, faces, size = EmbreeDevice(), body.faces, (SIDE, SIDE)
    works: dict[str, Callable[[], object]] = {
        "**ours, `visible`**": lambda: visible(vertices, faces, lens, size),
        "ours, plain torch (the form for accelerators)": lambda: visible_by_tensors(vertices, faces, lens, size),
        "embreex: build, OCCLUDED": lambda: embree(device, vertices, faces),
        "trimesh.ray (embreex): build, first hit": lambda: through_trimesh(vertices, faces),
    }
    found = {name: [t / MESHES for t in times] for name, times in in_turns(works, max(3, ROUNDS // 3)).items()}
    wanted = embree(device, vertices, faces) & np.stack([fronts(v, faces.numpy()) for v in vertices.numpy()])
    agrees = {
        "**ours, `visible`**": visible(vertices, faces, lens, size).numpy(),
        "ours, plain torch (the form for accelerators)": visible_by_tensors(vertices, faces, lens, size).numpy(),
    }
    return found, {name: float((seen == wanted).mean()) for name, seen in agrees.items()}


def ratio(times: dict[str, list[float]], name: str) -> float:
    """How many times faster than smplx, median over rounds."""
    return statistics.median(a / b for a, b in zip(times["smplx.SMPL.forward"], times[name], strict=True))


def cell(times: list[float], digits: int = 1) -> str:
    return f"{statistics.median(times):.{digits}f} ({min(times):.{digits}f})"


def as_markdown(
    columns: dict[str, dict[str, list[float]]],
    apart_m: float,
    seen: dict[str, list[float]],
    agrees: dict[str, float],
) -> str:
    last = columns[f"{BATCHES[-1]}, fwd + bwd"]
    lines = [
        "# Body: skinning against smplx, visibility against Embree",
        "",
        f"| ms a batch, median (best) of {ROUNDS} rounds; batch: | " + " | ".join(columns) + " |",
        "|:--|" + "--:|" * len(columns),
    ]
    for name in last:
        cells = [cell(times[name], 2) for times in columns.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for name in ("**ours, skin**", "**ours, joints_only**"):
        cells = [f"{ratio(times, name):.1f}x" for times in columns.values()]
        lines.append(f"| smplx.SMPL.forward / {name.replace('**', '')} | {' | '.join(cells)} |")
    lines += [
        "",
        f"Forward and backward at batch {BATCHES[-1]}: {ratio(last, '**ours, skin**'):.2f}x smplx.SMPL.forward (target "
        f"{TARGET_SKIN}x), joints alone {ratio(last, '**ours, joints_only**'):.0f}x (target {TARGET_JOINTS:.0f}x); "
        f"ratios are medians over rounds. Vertices are at most {1000 * apart_m:.1e} mm from smplx's.",
        "",
        "| visibility of 6,890 vertices | ms a mesh, median (best) | agrees with Embree |",
        "|:--|--:|--:|",
    ]
    for name, times in seen.items():
        lines.append(f"| {name} | {cell(times, 2)} | {f'{agrees[name]:.3%}' if name in agrees else ''} |")
    lines += [
        "",
        f"Target: at most {TARGET_VISIBLE_MS} ms and at least {TARGET_AGREES:.1%}. {MESHES} random poses, the whole "
        f"body in a picture of {SIDE} px. Embree's rays end 0.1 per mille before the vertex; vertices without a face "
        "that looks at the camera count as hidden.",
        "",
        "Float32, one thread, same process, in turns.",
        "",
        *machine.lines("python benchmarks/body.py --write", "torch", "smplx", "numba", "embreex", "trimesh"),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/body.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    ours, theirs = bodies()
    columns = time_bodies(ours, theirs)
    text = as_markdown(columns, difference_m(ours, theirs), *measure_visibility())
    print(text)
    if arguments.write:
        machine.publish("body.md", text)


if __name__ == "__main__":
    main()
