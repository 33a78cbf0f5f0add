"""Batches of windows: the middle frame is observed and labelled, its neighbours are only seen."""

import torch

from aign.data.loader import ClipLoader, LoaderConfig
from aign.geometry.camera import Pinhole
from aign.geometry.skeleton import H36M17
from aign.recipes.lifting import lifting_demo
from aign.tasks.lifting.feed import KEYPOINT_COLUMNS, LABEL_COLUMNS, LiftingFeed
from aign.tasks.lifting.observation import Augmentation, observe
from tests.tasks.scenes import same

STILL = Augmentation(flip=0.0, drop=0.0, noise=0.0, roll_deg=0.0)
CPU = torch.device("cpu")
COLUMNS = {"keypoints": KEYPOINT_COLUMNS, "labels": LABEL_COLUMNS}


def loader(store, frames, columns=COLUMNS, batch=16):
    config = LoaderConfig(batch_size=batch, streams=4, seed=3, window_frames=frames)
    return ClipLoader(store, columns, lifting_demo().roles.labelled, config)


def test_a_sample_is_its_middle_frame_and_the_frames_round_it(demo_store):
    with loader(demo_store, 9) as given, loader(demo_store, 9) as same_again:
        feed = LiftingFeed(given, None, H36M17, STILL, CPU)
        for _ in range(3):
            seen, columns = feed.next(), next(iter(same_again))
            kp2d_px, conf = columns["kp2d_px"], columns["kp2d_conf"]
            camera = Pinhole.of(columns["intrinsics_px"], columns["distortion"])
            want, rot = observe(kp2d_px, conf, camera)
            same(seen, want, but=("joints_m", "joints_weight", "turn"))
            alone, _ = observe(kp2d_px[:, 4:5], conf[:, 4:5], camera)
            torch.testing.assert_close(seen.target2d, alone.target2d)
            torch.testing.assert_close(seen.kp2d[:, 4], seen.target2d)
            joints = columns["joints_cam_m"][:, 4]
            torch.testing.assert_close(seen.joints_m, (joints - joints[:, :1]) @ rot.mT)
            assert (seen.joints_weight == 1).all()
            assert (seen.kp2d[:, 0] != seen.kp2d[:, 8]).any()


def test_a_window_of_one_frame_is_a_single_frame(demo_store):
    with loader(demo_store, 1) as windows, loader(demo_store, None) as frames:
        feed = LiftingFeed(windows, None, H36M17, STILL, CPU)
        seen, columns = feed.next(), next(iter(frames))
        camera = Pinhole.of(columns["intrinsics_px"], columns["distortion"])
        want, _ = observe(columns["kp2d_px"].unsqueeze(1), columns["kp2d_conf"].unsqueeze(1), camera)
        same(seen, want, but=("joints_m", "joints_weight", "turn"))


def test_labelled_windows_come_first_and_the_others_have_no_label(demo_store):
    keypoints = {"keypoints": KEYPOINT_COLUMNS}
    with loader(demo_store, 3, batch=8) as one, loader(demo_store, 3, keypoints, batch=12) as other:
        seen = LiftingFeed(one, other, H36M17, Augmentation(), CPU).next()
    assert seen.kp2d.shape == (20, 3, 17, 2)
    assert seen.joints_weight.amax(1).tolist() == [1.0] * 8 + [0.0] * 12
    assert (seen.joints_m[8:] == 0).all()
