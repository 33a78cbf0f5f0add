"""The terms of motion capture: milliseconds a sample, forward and backward, against other ways to the same numbers.

    python benchmarks/mocap_terms.py [--write]

Bodies of the embedded motions in 128 px pictures with their true masks and flow, predicted some pixels beside the
truth. All run in this process on one thread, in turns; times are CPU time, so that a busy machine changes them little.
What is nearest to 512 pixels of the mask among 6,890 vertices is found in four other ways: by all distances at once
with autograd through them, by all distances without, by scipy's k-d tree, and by OpenCV's labelled distance transform
of the vertices drawn as pixels (not exact). The last table is of use, not of speed: where descent along each form of
the segmentation term takes a body.
`--write` puts the figures into benchmarks/results/mocap_terms.md.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import machine
import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from aign.body.assets import load_body
from aign.body.skinning import skin
from aign.data.motions import load_demo_motions
from aign.geometry.rotation import from_6d, to_6d
from aign.losses.motion import consistent, motion
from aign.losses.nearest import nearest, nearest_plain
from aign.losses.points import SMOOTH, robust_distance
from aign.losses.silhouette import (
    distance_maps,
    mask_to_vertices,
    nearest_distances,
    silhouette_pixels,
    two_sided,
    vertices_to_mask,
)
from aign.losses.silhouette_variants import as_released, product_form
from aign.losses.temporal import smoothness
from aign.render.raster import Lens, project_vertices, rasterise, surface_flow
from aign.render.visibility import visible_vertices

LENS = Lens(fx=170.0, fy=170.0, cx=63.5, cy=63.5, width=128, height=128)
BATCH = 16
PIXELS = 512
ROUNDS = 9
SLOW_ROUNDS = 3
BESIDE_PX = (0.0, 2.0, 20.0, 50.0)
TARGET_MS = 0.5
DESCENT_STEPS = 60
SHIFT_M = (0.08, 0.06, 0.0)

Run = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """BATCH poses, what their pictures show, and a prediction of them."""

    six: Tensor  # [n 24 6], true rotations
    trans_m: Tensor  # [n 3]
    true_px: Tensor  # [n v 2]
    visible: Tensor  # [n v]
    mask: Tensor  # [n h w]
    distance_px: Tensor
    flow_px: Tensor  # [n h w 2]
    chosen_px: Tensor  # [n p 2]
    chosen_weight: Tensor


def project(vertices_m: Tensor) -> Tensor:
    focal, centre = vertices_m.new_tensor((LENS.fx, LENS.fy)), vertices_m.new_tensor((LENS.cx, LENS.cy))
    return focal * vertices_m[..., :2] / vertices_m[..., 2:] + centre


def poses(frames: list[int]) -> tuple[Tensor, Tensor]:
    """Upright, 3 m before the camera."""
    clip = next(m for m in load_demo_motions() if m.name == "dance_b")
    rotmats = torch.tensor(clip.rotmats[frames], dtype=torch.float32)
    rotmats[:, 0] = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ rotmats[:, 0]
    return to_6d(rotmats), torch.tensor([0.0, 0.2, 3.0]).expand(len(frames), 3)


def posed(six: Tensor, trans_m: Tensor) -> Tensor:
    return skin(load_body(), from_6d(six), torch.zeros(len(six), 10), trans_m).vertices_m


def seen(vertices_m: Tensor) -> Tensor:
    faces = load_body().faces.numpy().astype(np.int32)
    arrays = [np.ascontiguousarray(v) for v in vertices_m.detach().numpy()]
    return torch.from_numpy(np.stack([visible_vertices(project_vertices(v, LENS), faces, LENS) for v in arrays]))


def make_batch() -> Batch:
    frames = list(range(0, 6 * BATCH, 6))
    six, trans_m = poses(frames)
    vertices, moved = posed(six, trans_m), posed(*poses([f + 3 for f in frames]))
    faces = load_body().faces.numpy().astype(np.int32)
    masks, flows = [], []
    for body, then in zip(vertices, moved, strict=True):
        projected = project_vertices(body.contiguous().numpy(), LENS)
        raster = rasterise(projected, faces, LENS)
        masks.append(raster.face_id >= 0)
        flows.append(surface_flow(raster, projected, faces, then.contiguous().numpy(), LENS))
    mask = torch.from_numpy(np.stack(masks))
    chosen_px, chosen_weight = silhouette_pixels(mask, PIXELS)
    return Batch(
        six=six,
        trans_m=trans_m,
        true_px=project(vertices),
        visible=seen(vertices),
        mask=mask,
        distance_px=torch.from_numpy(distance_maps(mask.numpy())),
        flow_px=torch.from_numpy(np.stack(flows)),
        chosen_px=chosen_px,
        chosen_weight=chosen_weight,
    )


def all_distances(pixels: Tensor, points: Tensor) -> Tensor:
    """Autograd through every distance."""
    return torch.cdist(pixels, points, compute_mode="donot_use_mm_for_euclid_dist").amin(-1).mean(-1)


def gathered(index: Tensor, pixels: Tensor, points: Tensor) -> Tensor:
    gap = points.gather(1, index.unsqueeze(-1).expand(-1, -1, 2)) - pixels
    return ((gap.square().sum(-1) + SMOOTH**2).sqrt() - SMOOTH).mean(-1)


def plain(pixels: Tensor, points: Tensor) -> Tensor:
    everyone = torch.ones(points.shape[:2], dtype=torch.bool)
    return gathered(nearest_plain(pixels, points, everyone), pixels, points)


def kd_tree(pixels: Tensor, points: Tensor) -> Tensor:
    pairs = zip(points.detach().numpy(), pixels.numpy(), strict=True)
    index = np.stack([cKDTree(p).query(q)[1] for p, q in pairs])
    return gathered(torch.from_numpy(index), pixels, points)


def drawn(pixels: Tensor, points: Tensor) -> Tensor:
    """The pixel nearest to each one that some vertex was drawn in, and that vertex: not always the nearest one."""
    index = np.empty(pixels.shape[:2], np.int64)
    for i, (p, q) in enumerate(zip(points.detach().numpy(), pixels.numpy().astype(np.int64), strict=True)):
        x, y = np.clip(np.rint(p), 0, 127).astype(np.int64).T
        owner = np.full((LENS.height, LENS.width), -1)
        owner[y, x] = np.arange(len(p))
        free = (owner < 0).astype(np.uint8)
        _, labels = cv2.distanceTransformWithLabels(free, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
        of_label = np.zeros(labels.max() + 1, np.int64)
        of_label[labels[free == 0]] = owner[free == 0]
        index[i] = of_label[labels[q[:, 1], q[:, 0]]]
    return gathered(torch.from_numpy(index), pixels, points)


def ours(pixels: Tensor, points: Tensor) -> Tensor:
    return nearest_distances(pixels, points, torch.ones(points.shape[:2], dtype=torch.bool)).mean(-1)


WAYS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "**ours: grid, exact**": ours,
    "all distances, autograd through them": all_distances,
    "all distances, argmin, gather (ours on a GPU)": plain,
    "scipy cKDTree, gather": kd_tree,
    "OpenCV labelled distance transform, gather": drawn,
}


def backward(of: Callable[[Tensor], Tensor], points: Tensor) -> Run:
    def run() -> object:
        leaf = points.detach().clone().requires_grad_()
        return torch.autograd.grad(of(leaf).sum(), leaf)

    return run


def medians(runs: Mapping[str, Run], rounds: int) -> dict[str, float]:
    """Milliseconds a sample; all once before, then in turns."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(rounds + 1):
        for name, run in runs.items():
            start = time.process_time()
            run()
            if i:
                taken[name].append((time.process_time() - start) * 1e3 / BATCH)
    return {name: statistics.median(values) for name, values in taken.items()}


def term_lines(batch: Batch) -> list[str]:
    points = batch.true_px + 2 * torch.randn(BATCH, 1, 2)
    weight, ok = batch.visible.float(), torch.ones_like(batch.mask)
    joints, clip_m = points[:, :24], torch.randn(BATCH, 16, 24, 3)
    chosen, chosen_weight = batch.chosen_px, batch.chosen_weight
    runs = {
        "keypoints: `robust_distance`, 24 joints": backward(
            lambda p: robust_distance(p, joints + 3, weight[:, :24], 10.0), joints
        ),
        "`vertices_to_mask`": backward(lambda p: vertices_to_mask(p, weight, batch.distance_px), points),
        "`mask_to_vertices`": backward(lambda p: mask_to_vertices(chosen, chosen_weight, p, weight), points),
        "segmentation: `two_sided`, with choosing the pixels": backward(
            lambda p: two_sided(p, weight, batch.mask, batch.distance_px, PIXELS), points
        ),
        "motion: `motion`, both frames": backward(
            lambda p: motion(p, p.flip(1), batch.visible, batch.flow_px, ok), points
        ),
        "`smoothness`, 16 frames of 24 joints": backward(smoothness, clip_m),
        "the paper's `product_form`, 128 px": backward(lambda p: product_form(p, batch.mask), points),
        "the program's `as_released`, 64 px": backward(lambda p: as_released(p, batch.mask), points),
        "once a batch: `distance_maps`": lambda: distance_maps(batch.mask.numpy()),
        "once a batch: `consistent`": lambda: consistent(batch.flow_px, ok, -batch.flow_px, ok),
    }
    rows = [f"| {name} | {ms:.3f} |" for name, ms in medians(runs, ROUNDS).items()]
    return ["## Each term", "", "| | ms a sample |", "|:--|--:|", *rows, ""]


def way_lines(batch: Batch) -> list[str]:
    points = batch.true_px + 2 * torch.randn(BATCH, 1, 2)
    runs = {name: backward(lambda p, way=way: way(batch.chosen_px, p), points) for name, way in WAYS.items()}
    exact = all_distances(batch.chosen_px, points)
    took = medians(runs, SLOW_ROUNDS)
    rows = []
    for name, way in WAYS.items():
        off = float((way(batch.chosen_px, points) / exact - 1).abs().max())
        ratio = took[name] / next(iter(took.values()))
        rows.append(f"| {name} | {took[name]:.3f} | {ratio:.1f}x | {100 * off:.4f} % |")
    beside = []
    everyone = torch.ones_like(batch.visible)
    for by in BESIDE_PX:
        moved = batch.true_px + torch.tensor([by, 0.0])
        ms = medians({"": lambda p=moved: nearest(batch.chosen_px, p, everyone)}, ROUNDS)[""]
        beside.append(f"{by:.0f} px: {ms:.3f}")
    return [
        f"## Nearest of 6,890 vertices to {PIXELS} pixels of the mask",
        "",
        "| forward and backward | ms a sample | of ours | loss off by, largest of the batch |",
        "|:--|--:|--:|--:|",
        *rows,
        "",
        f"The search alone, by how far the body lies beside its mask: {'; '.join(beside)} ms. Target: {TARGET_MS} ms.",
        "",
    ]


def descent_lines(batch: Batch) -> list[str]:
    forms: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
        "`two_sided`, visible vertices": lambda p, visible: two_sided(
            p, visible.float(), batch.mask, batch.distance_px, PIXELS
        ),
        "`two_sided`, all vertices": lambda p, visible: two_sided(
            p, torch.ones_like(visible, dtype=torch.float32), batch.mask, batch.distance_px, PIXELS
        ),
        "`product_form`": lambda p, _: product_form(p, batch.mask),
        "`as_released`": lambda p, _: as_released(p, batch.mask),
    }

    def error(trans_m: Tensor, six: Tensor) -> float:
        return float((project(posed(six, trans_m)) - batch.true_px).norm(dim=-1).mean())

    start = batch.trans_m + torch.tensor(SHIFT_M)
    rows = [f"| start | {error(start, batch.six):.2f} |"]
    for name, form in forms.items():
        six, trans_m = batch.six.clone().requires_grad_(), start.clone().requires_grad_()
        optimizer = torch.optim.Adam([six, trans_m], lr=0.01)
        for step in range(DESCENT_STEPS):
            optimizer.param_groups[0]["lr"] = 0.01 * (1 - step / DESCENT_STEPS)
            optimizer.zero_grad()
            vertices = posed(six, trans_m)
            form(project(vertices), seen(vertices)).sum().backward()
            optimizer.step()
        rows.append(f"| {name} | {error(trans_m.detach(), six.detach()):.2f} |")
    return [
        "## What each form does alone",
        "",
        f"Mean vertex error in px of {BATCH} bodies that start 10 cm beside the truth, after {DESCENT_STEPS} steps of "
        "Adam on all rotations and the translation.",
        "",
        "| | px |",
        "|:--|--:|",
        *rows,
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/mocap_terms.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.manual_seed(0)
    batch = make_batch()
    text = "\n".join(
        [
            "# The terms of motion capture",
            "",
            f"Forward and backward, {BATCH} samples of 6,890 vertices and 128 x 128 px, {PIXELS} pixels of each mask; "
            f"one thread, same process, in turns, CPU time, median of {ROUNDS} rounds ({SLOW_ROUNDS} where all "
            "distances are made).",
            "",
            *term_lines(batch),
            *way_lines(batch),
            *descent_lines(batch),
            *machine.lines(
                "python benchmarks/mocap_terms.py --write", "torch", "numpy", "numba", "scipy", "opencv-python-headless"
            ),
        ]
    )
    print(text)
    if arguments.write:
        machine.publish("mocap_terms.md", text)


if __name__ == "__main__":
    main()
