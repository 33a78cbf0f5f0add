"""What motion capture sees of a store: cameras, crops and labels agree; what is disturbed and what is not."""

import dataclasses

import numpy as np
import pytest
import torch

from aign.body.assets import load_body
from aign.data.loader import ClipLoader, LoaderConfig
from aign.framework.errors import UserError
from aign.geometry.rotation import from_axis_angle
from aign.geometry.skeleton import SMPL24
from aign.recipes.mocap import Shares, parts
from aign.tasks.motion_capture.clips import observed, read_clips
from aign.tasks.motion_capture.factors import BodyFactors, joints, skinned
from aign.tasks.motion_capture.feed import (
    BODY_COLUMNS,
    EVIDENCE_COLUMNS,
    PICTURE_COLUMNS,
    STILL,
    Augmentation,
    MotionCaptureFeed,
    observe,
    person_square,
)
from aign.tasks.motion_capture.nets import Encoder, EncoderConfig, upright
from aign.tasks.motion_capture.observation import KEYPOINTS, MIRRORED, Labels, Observation, concatenate, project_px
from aign.tasks.motion_capture.render import BodyRender
from aign.tasks.motion_capture.terms import TERMS

ALL = {**PICTURE_COLUMNS, **BODY_COLUMNS, **EVIDENCE_COLUMNS}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def clip(people_store):
    return next(read_clips(people_store, ALL))


@pytest.fixture(scope="module")
def seen(clip):
    return observe(clip.windows(0, 2), SMPL24, 64, load_body())


def truth(seen):
    labels = seen.labels
    return BodyFactors(rotmats=labels.rotmats, betas=labels.betas, pelvis_cam_m=labels.pelvis_cam_m)


def test_convention_labels_projected_are_the_keypoints(seen):
    found = project_px(joints(truth(seen), load_body()), seen.intrinsics_px)[:, :, list(KEYPOINTS)]
    there = seen.target_conf > 0
    assert there.float().mean() > 0.8
    assert (found - seen.target_px)[there].abs().max() < 0.02
    assert torch.equal(seen.labels.weight, torch.ones(8))


def test_convention_the_surface_lies_on_the_mask(seen):
    u, t = seen.conf.shape[:2]
    vertices = skinned(truth(seen), load_body()).vertices_m.reshape(u, t, -1, 3)
    at = project_px(vertices, seen.intrinsics_px).round().long()
    inside = ((at >= 0) & (at < 64)).all(-1)
    x, y = at.clamp(0, 63).unbind(-1)
    index = torch.arange(u)[:, None, None], torch.arange(t)[None, :, None]
    distance = seen.evidence.distance_px[index[0], index[1], y, x]
    # Fingers are thinner than a pixel here, and so miss the middle of every one now and then.
    assert distance[inside].quantile(0.99) <= 1
    assert distance[inside].mean() < 0.2


def test_convention_the_crop_shows_what_the_keypoints_say(clip):
    """A picture that holds its own pixel coordinates is cut; its values at the keypoints must be those pixels."""
    columns = clip.windows(0, 1)
    ramp = torch.arange(64, dtype=torch.uint8) * 4
    x, y = ramp.expand(64, 64), ramp.unsqueeze(1).expand(64, 64)
    columns["image_rgb"] = torch.stack((x, y, x), -1).expand(8, 1, 64, 64, 3)
    cut = observe(columns, SMPL24, 128, load_body())
    for frame, joint in ((0, 2), (5, 7)):
        at = ((cut.kp2d[frame, 0, joint] + 1) * 64 - 0.5).round().long()
        assert cut.conf[frame, 0, joint] > 0
        pixel = cut.image[frame, 0, :2, at[1], at[0]] * 255 / 4
        assert (pixel - cut.target_px[frame, 0, joint]).abs().max() < 0.6


def test_a_person_at_the_border_is_turned_back_to_the_middle(seen):
    forward = torch.tensor([0.0, 0.0, 1.0])
    ray = torch.cat((seen.centre_ray, torch.ones(8, 1)), 1)
    torch.testing.assert_close(seen.rot_crop_to_cam @ forward, ray / ray.norm(dim=1, keepdim=True))


def test_flow_of_the_evidence_is_the_motion_of_the_surface(seen):
    render = BodyRender(z=truth(seen), seen=seen, body=load_body())
    right = TERMS["motion"](seen, render.z, render)
    back = dataclasses.replace(seen.evidence, flow_px=-seen.evidence.flow_px)
    wrong = dataclasses.replace(seen, evidence=back)
    turned = TERMS["motion"](wrong, render.z, BodyRender(z=render.z, seen=wrong, body=load_body()))
    assert right.mean() < 0.01
    assert turned.mean() > 4 * right.mean()


def test_augmentation_belongs_to_the_sample_and_leaves_the_goal(clip):
    columns = clip.windows(0, 2)
    columns["sample_seed"] = torch.arange(8)
    how = Augmentation(drop=0.3, patch=1.0)
    one, again = (observe(columns, SMPL24, 64, load_body(), how) for _ in range(2))
    still = observe(columns, SMPL24, 64, load_body(), STILL)
    assert torch.equal(one.image, again.image)
    half = observe({name: value[4:] for name, value in columns.items()}, SMPL24, 64, load_body(), how)
    assert torch.equal(half.image, one.image[4:])
    assert torch.equal(half.kp2d, one.kp2d[4:])
    assert torch.equal(one.target_px, still.target_px)
    assert torch.equal(one.target_conf, still.target_conf)
    assert (one.conf == 0).float().mean() > (still.conf == 0).float().mean() + 0.1
    assert not torch.equal(one.image, still.image)
    assert one.image.min() >= 0
    assert one.image.max() <= 1


def test_nobody_seen_is_a_square_and_not_a_number_less():
    square = person_square(torch.zeros(1, 2, 16, 2), torch.zeros(1, 2, 16))
    assert square.isfinite().all()
    assert (square[0, 2:] > square[0, :2]).all()


def test_evidence_belongs_to_the_last_samples(people_store):
    def loader(columns):
        return ClipLoader(people_store, columns, None, LoaderConfig(batch_size=4, streams=2, mix=1, window_frames=2))

    labelled = loader({**PICTURE_COLUMNS, **BODY_COLUMNS})
    unlabelled = loader({**PICTURE_COLUMNS, **EVIDENCE_COLUMNS})
    feed = MotionCaptureFeed((labelled, SMPL24), (unlabelled, SMPL24), 32, load_body(), STILL, CPU)
    batch = feed.next()
    assert batch.labels.weight.tolist() == [1.0] * 4 + [0.0] * 4
    assert len(batch.evidence.mask) == 4
    state = feed.state_dict()
    expected = feed.next()
    feed.load_state_dict(state)
    got = feed.next()
    assert torch.equal(got.image, expected.image)
    assert torch.equal(got.evidence.flow_px, expected.evidence.flow_px)
    assert batch.part(slice(2, 6)).evidence is None
    with pytest.raises(AssertionError, match="last samples"):
        concatenate(batch, batch)
    feed.close()


def test_windows_of_a_clip_keep_to_it(clip):
    columns = clip.windows(-1, 3)
    frames = columns["kp2d_px"][:, :, 0, 0].numpy()
    flat = clip.columns["kp2d_px"][:, 0, 0, 0].numpy()
    np.testing.assert_array_equal(frames[0], flat[[0, 0, 1]])
    np.testing.assert_array_equal(frames[-1], flat[[-2, -1, -1]])
    assert len(observed(clip, 3, SMPL24, 32, load_body()).conf) == 8


def test_parts_share_nobody(people_store):
    shared = parts(people_store, Shares(validation=0.2, test=0.2))
    found = [set(part.sequences) for part in vars(shared).values()]
    assert sum(map(len, found)) == len(set().union(*found)) >= 60
    assert shared == parts(people_store, Shares(validation=0.2, test=0.2))
    for bad in (Shares(validation=0.0), Shares(validation=0.6, test=0.6)):
        with pytest.raises(UserError, match="allowed: positive, below 1"):
            parts(people_store, bad)
    with pytest.raises(UserError, match="selects no clip"):
        parts(people_store, dataclasses.replace(Shares(), actions=("juggle",)))


def test_convention_a_turned_and_mirrored_crop_is_told_of_in_the_same_camera(clip):
    """The pixel under a shown keypoint is the picture's pixel of the keypoint whose name it took."""
    columns = clip.windows(0, 1)
    ramp = torch.arange(64, dtype=torch.uint8) * 4
    x, y = ramp.expand(64, 64), ramp.unsqueeze(1).expand(64, 64)
    columns["image_rgb"] = torch.stack((x, y, x), -1).expand(8, 1, 64, 64, 3)
    columns["sample_seed"] = torch.arange(8)
    how = dataclasses.replace(STILL, flip=0.5, roll_deg=40.0)
    cut = observe(columns, SMPL24, 128, load_body(), how)
    assert 0 < cut.mirrored.sum() < 8
    assert cut.roll_rad.abs().max() > 0.3
    for frame in range(8):
        for joint in (2, 7, 12):
            source = MIRRORED[joint] if cut.mirrored[frame] else joint
            x, y = ((cut.kp2d[frame, 0, joint] + 1) * 64 - 0.5).round().long().tolist()
            if cut.conf[frame, 0, joint] > 0 and 0 <= x < 128 and 0 <= y < 128:
                pixel = cut.image[frame, 0, :2, y, x] * 255 / 4
                assert (pixel - cut.target_px[frame, 0, source]).abs().max() < 0.7


def test_an_encoder_says_the_same_of_a_turned_and_mirrored_person():
    """Of a network that always says the mean, only the camera changes: the body turns with the crop."""
    flat = torch.tensor([1.0, 0, 0, 0, 1, 0]).expand(24, 6)
    net = Encoder(EncoderConfig(side_px=32, channels=8, width=32), upright(flat))
    torch.nn.init.zeros_(net.head.last.weight)
    still = blank(roll=0.0, mirrored=False)
    turned, other = net(blank(roll=0.5, mirrored=False)), net(blank(roll=0.5, mirrored=True))
    spin = from_axis_angle(torch.tensor([0.0, 0.0, 0.5]))
    torch.testing.assert_close(turned.rotmats[0, 0, 0], spin @ net(still).rotmats[0, 0, 0])
    torch.testing.assert_close(other.rotmats, turned.rotmats)  # the mean is its own mirror image


def blank(roll: float, mirrored: bool) -> Observation:
    return Observation(
        image=torch.rand(1, 1, 3, 32, 32),
        kp2d=torch.zeros(1, 1, 16, 2),
        conf=torch.zeros(1, 1, 16),
        target_px=torch.zeros(1, 1, 16, 2),
        target_conf=torch.zeros(1, 1, 16),
        intrinsics_px=torch.tensor([[100.0, 100.0, 50.0, 50.0]]),
        crop_xyxy_px=torch.tensor([[20.0, 20.0, 80.0, 80.0]]),
        roll_rad=torch.tensor([roll]),
        mirrored=torch.tensor([mirrored]),
        labels=Labels(
            rotmats=torch.eye(3).expand(1, 1, 24, 3, 3),
            betas=torch.zeros(1, 10),
            pelvis_cam_m=torch.zeros(1, 1, 3),
            weight=torch.zeros(1),
        ),
    )
