"""Draw docs/images/mocap-terms.png: what each term of motion capture sees of a body that is wrong on purpose.

aign preprocess demo-motions --dataset synthetic --domain target --frames 64 --clip-frames 16 --side-px 128 \
    --store STORE
python tools/mocap_terms_figure.py STORE docs/images/mocap-terms.png
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, hsv_to_rgb
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from aign.body.assets import load_body
from aign.data.publish import published
from aign.data.store import Store
from aign.geometry.rotation import from_axis_angle
from aign.geometry.skeleton import SMPL24, skeleton
from aign.losses.motion import flow_at
from aign.losses.silhouette import map_distances, nearest_distances, silhouette_pixels
from aign.tasks.motion_capture.clips import CapturedClip, read_clips
from aign.tasks.motion_capture.factors import BodyFactors
from aign.tasks.motion_capture.feed import BODY_COLUMNS, EVIDENCE_COLUMNS, PICTURE_COLUMNS, observe
from aign.tasks.motion_capture.observation import KEYPOINTS, Evidence, Observation
from aign.tasks.motion_capture.render import BodyRender
from aign.tasks.motion_capture.terms import MASK_PIXELS, TERMS

ASIDE_M, ARM_RAD = 0.08, 0.5
"""How the true body is made wrong: moved to the camera's right, and its left arm turned at the shoulder."""
FAR_PX = 1.0
"""A pixel of the mask further than this from every visible vertex is drawn: the body leaves it empty."""
MARGIN_PX = 9
FOUND, RENDERED, WRONG = "#2fd0ff", "#ffb000", "#ff2d55"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One pair of frames and the wrong body; everything in the stored picture's pixels.

    Attributes:
        seen: the pair as the terms get it.
        render: of the wrong body.
        picture: the first frame, brightened.
        square: left, right, bottom and top of what is shown: the person's surroundings.
        scores: the terms' values, by name.
    """

    seen: Observation
    render: BodyRender
    picture: np.ndarray
    square: tuple[float, float, float, float]
    scores: dict[str, float]

    @property
    def evidence(self) -> Evidence:
        """Mask and flow."""
        return self.render.evidence

    @property
    def mask(self) -> np.ndarray:
        """Of the first frame."""
        return self.evidence.mask[0, 0].numpy()

    @property
    def vertices_px(self) -> Tensor:
        """Of the first frame [v, 2]."""
        return self.render.surface.vertices_px[0, 0]

    @property
    def visible(self) -> Tensor:
        """Of the first frame [v]."""
        return self.render.surface.visible[0, 0]


def livelier(seen: Observation) -> float:
    """How far the person's pixels move in a pair: the median length of the flow that is known, pixels."""
    assert seen.evidence is not None, "the store has masks and flow"
    known = seen.evidence.flow_ok[0, 0] & seen.evidence.mask[0, 0]
    return float(seen.evidence.flow_px[0, 0][known].norm(dim=-1).median()) if known.sum() > 100 else 0.0


def wrong_body(seen: Observation) -> BodyFactors:
    """The truth, moved aside and with one arm turned."""
    truth = seen.labels
    rotmats = truth.rotmats.clone()
    arm = SMPL24.index("l_shoulder")[0]
    rotmats[:, :, arm] = rotmats[:, :, arm] @ from_axis_angle(torch.tensor((0.0, 0.0, ARM_RAD)))
    aside = truth.pelvis_cam_m.new_tensor((ASIDE_M, 0.0, 0.0))
    return BodyFactors(rotmats=rotmats, betas=truth.betas, pelvis_cam_m=truth.pelvis_cam_m + aside)


def scene(store: Store) -> Scene:
    """The pair of consecutive frames of the store in which the person moves most."""
    body, source = load_body(), skeleton(store.manifest.skeleton)

    def pair(clip: CapturedClip, first: int) -> tuple[Observation, np.ndarray]:
        batch = {name: value[first : first + 1] for name, value in clip.windows(0, 2).items()}
        return observe(batch, source, 128, body), batch["image_rgb"][0, 0].numpy()

    columns = {**PICTURE_COLUMNS, **BODY_COLUMNS, **EVIDENCE_COLUMNS}
    pairs = (pair(clip, i) for clip in read_clips(store, columns) for i in range(clip.key.num_frames - 1))
    seen, rgb = max(pairs, key=lambda one: livelier(one[0]))
    z = wrong_body(seen)
    render = BodyRender(z=z, seen=seen, body=body)
    places = torch.cat((render.surface.vertices_px[0, 0], seen.target_px[0, 0]))
    low, high = places.amin(0) - MARGIN_PX, places.amax(0) + MARGIN_PX
    middle, half = (low + high) / 2, float((high - low).max()) / 2
    x, y = middle.tolist()
    names = ("keypoints", "segmentation", "motion", "segmentation_product")
    return Scene(
        seen=seen,
        render=render,
        square=(x - half, x + half, y + half, y - half),
        scores={name: float(TERMS[name](seen, z, render)) for name in names},
        picture=brightened(rgb),
    )


def brightened(rgb: np.ndarray) -> np.ndarray:
    """A dark picture for the eye: stretched to its 99th percentile, gamma 2, half of its colour."""
    light = np.clip(rgb / max(float(np.percentile(rgb, 99)), 1.0), 0, 1) ** 0.5
    return np.asarray(0.5 * light + 0.5 * light.mean(-1, keepdims=True))


def keypoints(axis: Any, of: Scene) -> None:
    """What was found, what is rendered, and the way between them."""
    axis.imshow(of.picture)
    found = of.seen.target_px[0, 0].numpy()
    rendered = of.render.joints_px[0, 0, list(KEYPOINTS)].numpy()
    axis.plot(*np.stack((found, rendered)).transpose(2, 0, 1), color="white", lw=1.4)
    axis.plot(*found.T, "o", color=FOUND, ms=5.5, mec="black", mew=0.6, label="found")
    axis.plot(*rendered.T, "s", color=RENDERED, ms=5, mec="black", mew=0.6, label="rendered")
    axis.legend(**LEGEND)
    axis.set_title(f"keypoints: found to rendered ({of.scores['keypoints']:.3f})")


def segmentation(axis: Any, of: Scene) -> None:
    """Distance to the mask with the visible vertices outside of it, and the pixels of the mask that are left empty."""
    distance = np.where(of.mask, np.nan, of.evidence.distance_px[0, 0].numpy())
    axis.imshow(np.where(of.mask[..., None], 0.55, 0.0).repeat(3, -1))
    drawn = axis.imshow(distance, cmap="Blues_r", vmin=0, vmax=25)
    bar(axis, drawn, "pixels to the mask")
    shown = of.vertices_px[of.visible]
    far = map_distances(shown[None], of.evidence.distance_px[:, 0])[0] > 0.5
    axis.plot(*shown[far].numpy().T, ".", color=WRONG, ms=4, label="visible vertices outside of the mask")
    pixels, weight = silhouette_pixels(of.evidence.mask[:, 0], MASK_PIXELS)
    empty = nearest_distances(pixels, of.vertices_px[None], of.visible[None])[0] > FAR_PX
    left = pixels[0][empty & (weight[0] > 0)].numpy()
    axis.plot(*left.T, "s", color=RENDERED, ms=2.6, label="mask pixels far from every visible vertex")
    axis.legend(**LEGEND)
    axis.set_title(f"segmentation: from both sides ({of.scores['segmentation']:.3f})")


def motion(axis: Any, of: Scene) -> None:
    """The picture's motion as colour, and the surface's as arrows that tell how far the two are apart."""
    flow, ok = of.evidence.flow_px[:, 0], of.evidence.flow_ok[:, 0]
    axis.imshow(coloured(flow[0].numpy(), ok[0].numpy()))
    moved = of.render.surface.vertices_px[0, 1] - of.vertices_px
    there, known = flow_at(of.vertices_px[None], flow, ok)
    gap = (moved - there[0]).norm(dim=-1)
    places = np.flatnonzero((of.visible & (known[0] > 0)).numpy())
    places = places[np.random.default_rng(0).permutation(len(places))[:ARROWS]]
    x, y, u, v = torch.cat((of.vertices_px, moved), -1)[places].numpy().T
    arrows = axis.quiver(
        x, y, u, v, gap[places].numpy(), cmap=GAP, angles="xy", scale_units="xy", scale=0.7, width=0.007
    )
    arrows.set_clim(0, 5)
    bar(axis, arrows, "pixels from the flow (5: or more)")
    axis.set_title(f"motion: arrows of the mesh on the flow ({of.scores['motion']:.3f})")


def visibility(axis: Any, of: Scene) -> None:
    """Which vertices the camera sees: the others have no say in segmentation and motion."""
    axis.imshow(np.full_like(of.picture, 0.1))
    points, visible = of.vertices_px.numpy(), of.visible.numpy()
    axis.plot(*points[~visible].T, ".", color=RENDERED, ms=2.4, mew=0, label=f"{(~visible).sum()} vertices hidden")
    axis.plot(*points[visible].T, ".", color=FOUND, ms=1.6, mew=0, label=f"{visible.sum()} vertices visible")
    axis.legend(**LEGEND)
    axis.set_title("visibility: who has a say")


def product(axis: Any, of: Scene) -> None:
    """S^M (x) C^I, the half of the paper's product form that should pull vertices back into the mask."""
    height, width = of.mask.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixels = torch.stack((x, y), -1).float().flatten(0, 1)[None]
    everyone = torch.ones_like(of.visible)[None]
    distance = nearest_distances(pixels, of.vertices_px[None], everyone)[0].reshape(height, width)
    near = distance < 0.5
    occupied = distance.clamp_max(0.5) + 0.5 * near
    drawn = axis.imshow((near * occupied * of.evidence.distance_px[0, 0]).numpy(), cmap="magma")
    bar(axis, drawn, "S^M times C^I, where S^M > 1/2")
    axis.contour(of.mask, [0.5], colors="white", linewidths=1)
    axis.plot([], [], color="white", label="the mask's edge")
    axis.legend(**LEGEND)
    axis.set_title(f"for comparison: product form ({of.scores['segmentation_product']:.1f} px)")


def slope(axis: Any, _: Scene) -> None:
    """S^M over the distance to the nearest vertex: as published it grows where it should fall."""
    axis.set_aspect("auto")
    distance = np.linspace(0, 1.2, 1201)
    paper = np.minimum(distance, 0.5) + 0.5 * (distance < 0.5)
    released = np.where(distance < 0.5, distance + 0.5, 0)
    axis.plot(distance, paper, color="#0060c0", lw=3, label="paper's S^M")
    axis.plot(distance, released, color=WRONG, lw=1.5, ls="--", label="released code's S^M")
    axis.set(xlabel="from a pixel's centre to the nearest vertex, pixels", xlim=(0, 1.2), ylim=(-0.05, 1.35))
    axis.legend(loc="upper right", fontsize=8)
    axis.set_title("product form: S^M grows with the distance")


ARROWS = 90
GAP = LinearSegmentedColormap.from_list("gap", ("black", "#c00000", "#ff9000"))
LEGEND: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, -0.17), "fontsize": 8, "frameon": True,
                          "facecolor": "#404040", "labelcolor": "white", "markerscale": 2.0}  # fmt: skip
PANELS = ((keypoints, segmentation, motion), (visibility, product, slope))


def bar(axis: Any, drawn: Any, label: str) -> None:
    """The scale of a panel's colours."""
    made = axis.figure.colorbar(drawn, ax=axis, fraction=0.046, pad=0.02)
    made.ax.tick_params(labelsize=7)
    made.set_label(label, fontsize=8)


def coloured(flow_px: np.ndarray, ok: np.ndarray) -> np.ndarray:
    """Direction as hue and length as strength; white stands still, grey is not known."""
    angle = np.arctan2(flow_px[..., 1], flow_px[..., 0]) / (2 * np.pi) % 1
    length = np.linalg.norm(np.where(ok[..., None], flow_px, 0), axis=-1)
    rgb = hsv_to_rgb(np.stack((angle, 0.8 * np.clip(length / max(length.max(), 1e-6), 0, 1), np.ones_like(angle)), -1))
    return np.where(ok[..., None], rgb, 0.6)


def main() -> None:
    """Draw the store and into the file that the command line names."""
    if len(sys.argv) != 3:
        raise SystemExit("usage: python tools/mocap_terms_figure.py STORE PNG")
    of = scene(Store.open(sys.argv[1]))
    figure = Figure(figsize=(12.6, 8.4), dpi=90, facecolor="white", layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3)
    for row, panels in zip(axes, PANELS, strict=True):
        for axis, panel in zip(row, panels, strict=True):
            panel(axis, of)
            axis.title.set_fontsize(10)
            if panel is not slope:
                left, right, bottom, top = of.square
                axis.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[], facecolor="#202020")
    with published(Path(sys.argv[2])) as unfinished:
        canvas.draw()
        picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
        picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            unfinished, format="png", optimize=True
        )


if __name__ == "__main__":
    main()
