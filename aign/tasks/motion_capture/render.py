"""P of motion capture: a body in the camera to keypoints, to a surface in the picture, and to what is visible of it."""

from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Bool, Float
from torch import Tensor

from aign.body.assets import BodyAssets
from aign.render.visibility import visible
from aign.tasks.motion_capture.factors import BodyFactors, joints, skinned
from aign.tasks.motion_capture.observation import Evidence, Observation, project_px


@dataclass(frozen=True, kw_only=True)
class Surface:
    """The body of the samples that have evidence.

    Attributes:
        vertices_px: in the stored picture.
        visible: not hidden by the body itself; a vertex beside the picture counts as long as it is less than one
            picture away, or a body outside would have nothing to be pulled by.
    """

    vertices_px: Float[Tensor, "u t v 2"]
    visible: Bool[Tensor, "u t v"]


@dataclass(frozen=True, kw_only=True)
class BodyRender:
    """What should have been observed; everything is made when it is first asked for.

    Attributes:
        z: the factors.
        seen: the observation, for its cameras.
        body: whose numbers.
    """

    z: BodyFactors
    seen: Observation
    body: BodyAssets

    @cached_property
    def joints_cam_m(self) -> Float[Tensor, "b t 24 3"]:
        """SMPL's joints in the camera."""
        return joints(self.z, self.body)

    @cached_property
    def joints_px(self) -> Float[Tensor, "b t 24 2"]:
        """The same in the stored picture."""
        return project_px(self.joints_cam_m, self.seen.intrinsics_px)

    @cached_property
    def surface(self) -> Surface:
        """The surface of the samples with evidence."""
        evidence = self.evidence
        u, t, height, width = evidence.mask.shape
        vertices = skinned(self.z.last(u), self.body).vertices_m
        intrinsics = self.seen.intrinsics_px[len(self.seen.intrinsics_px) - u :]
        beside = intrinsics + intrinsics.new_tensor((0, 0, width, height))
        seen = visible(vertices, self.body.faces, beside.repeat_interleave(t, 0), (3 * width, 3 * height))
        return Surface(
            vertices_px=project_px(vertices.reshape(u, t, -1, 3), intrinsics),
            visible=seen.reshape(u, t, -1),
        )

    @property
    def evidence(self) -> Evidence:
        """What the surface is held to."""
        assert self.seen.evidence is not None, "a term of the surface needs evidence in the batch"
        return self.seen.evidence
