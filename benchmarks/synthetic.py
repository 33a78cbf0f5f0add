"""The synthetic human factory: frames per second per core, bare rasteriser and everything, against other renderers.

    python benchmarks/synthetic.py [--write]

All run in this process on one thread, in turns, on the same posed bodies. A frame's cost is the CPU time of the thread,
so that neighbours on the machine are not counted. Peers: embree through trimesh (a ray per pixel) and a painter's
algorithm on cv2.fillConvexPoly; both make less (no flow, no shading). `--write` puts the figures into
benchmarks/results/synthetic.md.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import cv2
import machine
import numpy as np
import torch
import trimesh
from trimesh.ray.ray_pyembree import RayMeshIntersector

from aign.body.assets import load_body
from aign.data.datasets.job import Stored
from aign.data.datasets.synthetic import TABLES, SyntheticClips, SyntheticOptions, plan
from aign.data.synthetic.factory import default_surface, render_clip
from aign.data.synthetic.scene import Scene
from aign.render.raster import Lens, front_faces, project_vertices, rasterise, surface_flow, surface_points
from aign.render.visibility import visible_vertices

TARGET_FPS = 300.0
SIDES = (128, 256)
FRAMES = 480
PEER_FRAMES = 12
ROUNDS = 5
Work = Callable[[], object]


def bodies(scenes: list[Scene], frames: int) -> list[tuple[np.ndarray, np.ndarray, Lens]]:
    """Vertices now and in the next frame, and the camera, of some frames spread over the scenes."""
    found = []
    for scene in scenes:
        vertices = render_clip(scene).vertices_cam_m
        found += [
            (vertices[t], vertices[min(t + 1, len(vertices) - 1)], scene.lens) for t in range(0, len(vertices), 6)
        ]
    return found[:frames]


def raster_only(frames: list[tuple[np.ndarray, np.ndarray, Lens]], faces: np.ndarray) -> None:
    for vertices, _, lens in frames:
        projected = project_vertices(vertices, lens)
        rasterise(projected, faces[front_faces(projected, faces)], lens)


def raster_flow(frames: list[tuple[np.ndarray, np.ndarray, Lens]], faces: np.ndarray) -> None:
    for vertices, moved, lens in frames:
        projected = project_vertices(vertices, lens)
        front = faces[front_faces(projected, faces)]
        raster = rasterise(projected, front, lens)
        surface_points(raster, projected, front)
        surface_flow(raster, projected, front, moved, lens)


def visibility(frames: list[tuple[np.ndarray, np.ndarray, Lens]], faces: np.ndarray) -> None:
    for vertices, _, lens in frames:
        visible_vertices(project_vertices(vertices, lens), faces, lens)


def embree(frames: list[tuple[np.ndarray, np.ndarray, Lens]], faces: np.ndarray) -> None:
    for vertices, _, lens in frames:
        x, y = np.meshgrid((np.arange(lens.width) - lens.cx) / lens.fx, (np.arange(lens.height) - lens.cy) / lens.fy)
        rays = np.stack((x, y, np.ones_like(x)), -1).reshape(-1, 3)
        caster = RayMeshIntersector(trimesh.Trimesh(vertices, faces, process=False))
        caster.intersects_first(np.zeros_like(rays), rays)


def painter(frames: list[tuple[np.ndarray, np.ndarray, Lens]], faces: np.ndarray) -> None:
    for vertices, _, lens in frames:
        projected = project_vertices(vertices, lens)
        front = faces[front_faces(projected, faces)]
        corners = np.rint(projected.points_px[front] * 16).astype(np.int32)
        picture = np.zeros((lens.height, lens.width), np.int32)
        for face in np.argsort(projected.inverse_m[front].mean(1)):
            cv2.fillConvexPoly(picture, corners[face], int(face) + 1, shift=4)


def factory(job: SyntheticClips) -> None:
    for scene, _ in job.scenes():
        render_clip(scene)


def per_second(run: Work, frames: int) -> float:
    start = time.thread_time()
    run()
    return frames / (time.thread_time() - start)


def measure(side: int) -> dict[str, tuple[float, float]]:
    options = SyntheticOptions(frames=FRAMES, side_px=side)
    (job,) = plan(options)
    scenes = [scene for scene, _ in job.scenes()]
    faces = default_surface().faces
    some = bodies(scenes, 80)
    few = some[:: len(some) // PEER_FRAMES][:PEER_FRAMES]
    nothing = Stored(url="", records={})
    works: dict[str, tuple[Work, int]] = {
        "rasteriser: face, depth": (lambda: raster_only(some, faces), len(some)),
        "rasteriser: face, depth, place on the face, flow": (lambda: raster_flow(some, faces), len(some)),
        "visible vertices": (lambda: visibility(some, faces), len(some)),
        "**factory, all outputs as arrays**": (lambda: factory(job), FRAMES),
        "factory, all tables encoded": (lambda: job.clips(TABLES, nothing), FRAMES),
        "peer: embree rays (trimesh): face only": (lambda: embree(few, faces), len(few)),
        "peer: cv2.fillConvexPoly painter: face only": (lambda: painter(few, faces), len(few)),
    }
    found: dict[str, list[float]] = {name: [] for name in works}
    for work, _ in works.values():
        work()
    for _ in range(ROUNDS):
        for name, (work, frames) in works.items():
            found[name].append(per_second(work, frames))
    return {name: (statistics.median(values), max(values)) for name, values in found.items()}


def row_bytes(side: int) -> dict[str, float]:
    """Mean bytes of a frame in each table of pictures."""
    (job,) = plan(SyntheticOptions(frames=200, side_px=side))
    made = job.clips(TABLES, Stored(url="", records={})).tables
    sizes = {}
    for table, clips in made.items():
        encoded = [data for clip in clips for value in clip.values() if isinstance(value, list) for data in value]
        if encoded:
            sizes[table] = sum(map(len, encoded)) / 200
    return sizes


def as_markdown(results: dict[int, dict[str, tuple[float, float]]], sizes: dict[str, float]) -> str:
    lines = [
        "# The synthetic human factory",
        "",
        f"| frames per second per core, median (best) of {ROUNDS} | {' | '.join(f'{side} px' for side in SIDES)} |",
        "|:--|" + "--:|" * len(SIDES),
    ]
    for name in results[SIDES[0]]:
        cells = [f"{results[side][name][0]:,.0f} ({results[side][name][1]:,.0f})" for side in SIDES]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    total = ", ".join(f"{table} {size / 1000:.1f}" for table, size in sizes.items())
    return "\n".join(
        [
            *lines,
            "",
            f"Target: at least {TARGET_FPS:.0f} frames per second per core at 256 px with all outputs (picture, mask, "
            "parts, depth, flow both ways, joints, pose, shape, visible vertices), from drawing the scene to arrays: "
            "skinning, clothes, light, background, shading, smoothed rims, shadow and noise are counted.",
            f"{FRAMES} frames of {len(load_body().faces):,} triangles, clips of the embedded motions; CPU time of one "
            f"thread, same process, in turns; peers on {PEER_FRAMES} of the frames, building their trees counted. "
            "Neighbours on the machine still slow a thread through shared caches and hyper-threads.",
            f"Stored kB per frame at {SIDES[-1]} px: {total}.",
            "",
            *machine.lines("python benchmarks/synthetic.py --write", "numba", "torch", "numpy", "trimesh"),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/synthetic.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    text = as_markdown({side: measure(side) for side in SIDES}, row_bytes(SIDES[-1]))
    print(text)
    if arguments.write:
        machine.publish("synthetic.md", text)


if __name__ == "__main__":
    main()
