"""DeepMimic, BVH and AMASS files become the same kind of motion; broken ones are one clear error."""

import json

import numpy as np
import pytest
import torch

from aign.body.assets import load_body
from aign.body.motion import skin_translation
from aign.body.skinning import joints_only, skin
from aign.data.datasets.motion.amass import read_amass
from aign.data.datasets.motion.bvh import bvh_world, parse_bvh, read_bvh
from aign.data.datasets.motion.deepmimic import read_deepmimic
from aign.data.motions import DEMO_MOTIONS, load_demo_motions
from aign.framework.errors import UserError
from aign.geometry.rotation import from_axis_angle
from aign.geometry.skeleton import SMPL24

J = {name: i for i, name in enumerate(SMPL24.joints)}


def joints_of(motion):
    body = load_body()
    trans = skin_translation(torch.from_numpy(motion.trans_m), body.rest_joints_m[0])
    return joints_only(body, torch.from_numpy(motion.rotmats), torch.zeros(len(trans), 10), trans).numpy()


def turn(axis, degrees):
    """Quaternion wxyz."""
    half = np.radians(degrees) / 2
    return [np.cos(half), *(np.sin(half) * np.eye(3)["xyz".index(axis)])]


# ---------------------------------------------------------------------------------------------------------- DeepMimic


def deepmimic_frame(duration=1 / 30, **given):
    """One frame; DeepMimic's axes: x forward, y up, z to the person's right."""
    still = [1.0, 0.0, 0.0, 0.0]
    order = [("chest", still), ("neck", still), ("rhip", still), ("rknee", [0.0]), ("rankle", still)]
    order += [("rshoulder", still), ("relbow", [0.0]), ("lhip", still), ("lknee", [0.0]), ("lankle", still)]
    order += [("lshoulder", still), ("lelbow", [0.0])]
    frame = [duration, *given.get("at", [0.0, 0.9, 0.0]), *given.get("root", still)]
    return frame + [x for name, rest in order for x in given.get(name, rest)]


def write_deepmimic(path, frames):
    path.write_text(json.dumps({"Loop": "wrap", "Frames": frames}))
    return path


def test_convention_deepmimic_axes(tmp_path):
    """It walks along its +x, which is our +z; its +z is the person's right, our -x."""
    frames = [deepmimic_frame(at=[0.1 * k, 0.9, 0.02 * k]) for k in range(5)]
    motion = read_deepmimic(write_deepmimic(tmp_path / "humanoid3d_go.txt", frames))
    assert motion.name == "go"
    assert motion.fps == 30.0
    joints = joints_of(motion)
    step = joints[-1, 0] - joints[0, 0]
    assert step[2] == pytest.approx(0.4, rel=0.05)
    assert step[0] == pytest.approx(-0.08, rel=0.05)
    assert joints[0, J["l_wrist"], 0] > 0.1  # left arm on our +x ...
    assert joints[0, J["l_wrist"], 1] < joints[0, J["l_shoulder"], 1] - 0.4  # ... and hanging
    assert joints[0, J["l_foot"], 2] > joints[0, J["l_ankle"], 2]


def test_convention_deepmimic_joints_bend_the_right_limb_the_right_way(tmp_path):
    frames = [deepmimic_frame(), deepmimic_frame(rknee=[-1.0], lelbow=[1.2], rhip=turn("z", 40))]
    joints = joints_of(read_deepmimic(write_deepmimic(tmp_path / "m.txt", frames)))[1]
    assert joints[J["r_knee"], 2] > joints[J["r_hip"], 2] + 0.2  # right thigh forward
    assert joints[J["r_ankle"], 2] < joints[J["r_knee"], 2]  # shin back: the knee bends as knees do
    assert joints[J["l_wrist"], 2] > joints[J["l_elbow"], 2] + 0.15  # left forearm forward
    assert abs(joints[J["l_ankle"], 2] - joints[J["l_hip"], 2]) < 0.05
    assert abs(joints[J["r_wrist"], 2] - joints[J["r_elbow"], 2]) < 0.05


def test_deepmimic_chest_bends_the_spine_in_two_halves(tmp_path):
    frames = [deepmimic_frame(chest=turn("z", -60))]  # about the right side: bow forward
    motion = read_deepmimic(write_deepmimic(tmp_path / "m.txt", frames * 2))
    half = from_axis_angle(torch.tensor([np.radians(30.0), 0.0, 0.0])).numpy()
    np.testing.assert_allclose(motion.rotmats[0, J["spine1"]], half, atol=1e-5)
    np.testing.assert_allclose(motion.rotmats[0, J["spine2"]], half, atol=1e-5)
    assert joints_of(motion)[0, J["head"], 2] > 0.3


def test_deepmimic_gap_in_time_is_filled(tmp_path):
    durations = [0.1, 0.1, 0.2, 0.1, 0.1, 0.0]
    at = np.cumsum([0.0, *durations[:-1]])
    frames = [deepmimic_frame(d, at=[t, 0.9, 0.0]) for d, t in zip(durations, at, strict=True)]
    motion = read_deepmimic(write_deepmimic(tmp_path / "m.txt", frames))
    assert len(motion.trans_m) == 7
    np.testing.assert_allclose(np.diff(motion.trans_m[:, 2]), np.diff(motion.trans_m[:, 2]).mean(), atol=1e-4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"Loop": "wrap", "Frames": [[0.1, 2', "not a complete DeepMimic file"),
        ("[1, 2]", "no 'Frames' list"),
        ('{"Frames": []}', "no 'Frames' list"),
        (json.dumps({"Frames": [[0.1] * 20]}), r"\[20\] numbers; the humanoid's have 44"),
        (json.dumps({"Frames": [deepmimic_frame(), deepmimic_frame()[:-1]]}), r"\[43, 44\] numbers"),
        (json.dumps({"Frames": [deepmimic_frame(), deepmimic_frame(rknee=[float("nan")])]}), "frame 1 .*not finite"),
        (json.dumps({"Frames": [deepmimic_frame(rknee=["x"])]}), "other than numbers"),
        (json.dumps({"Frames": [deepmimic_frame(rhip=[0.0, 0.0, 0.0, 0.0])]}), "quaternion has length 0"),
        (json.dumps({"Frames": [deepmimic_frame(0.0)] * 3}), "positive durations"),
    ],
)
def test_broken_deepmimic_files(tmp_path, text, message):
    path = tmp_path / "m.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_deepmimic(path)


def test_missing_files_are_named(tmp_path):
    for read, name in ((read_deepmimic, "a.txt"), (read_bvh, "a.bvh"), (read_amass, "a.npz")):
        with pytest.raises(UserError, match=name.replace(".", r"\.")):
            read(tmp_path / name)


# ----------------------------------------------------------------------------------------------------------------- BVH


def chain(*links):
    """(name, offset), (name, offset), ... -> one bone below the other."""
    return (*links[0], [chain(*links[1:])] if len(links) > 1 else [])


def leg(side, sign):
    bones = [(f"{side[0]}HipJoint", (0, 0, 0)), (f"{side}UpLeg", (1.4 * sign, -1.8, 0.8))]
    bones += [(f"{side}Leg", (2.4 * sign, -6.7, 0)), (f"{side}Foot", (2.6 * sign, -7, 0))]
    return chain(*bones, (f"{side}ToeBase", (0.15 * sign, -0.4, 2.3)))


def arm(side, sign):
    bones = [(f"{side}Shoulder", (0, 0, 0)), (f"{side}Arm", (3.3 * sign, 1.2, 0)), (f"{side}ForeArm", (5 * sign, 0, 0))]
    return chain(*bones, (f"{side}Hand", (3.5 * sign, 0, 0)), (f"{side}FingerBase", (0, 0, 0)))


NECK = chain(("Neck", (0, 0, 0)), ("Neck1", (0, 1.7, 0)), ("Head", (0, 1.7, 0)))
CHEST = ("Spine1", (0, 2, 0), [NECK, arm("Left", 1), arm("Right", -1)])
TRUNK = ("LowerBack", (0, 0, 0), [("Spine", (0, 2, 0), [CHEST])])
CMU_TREE = ("Hips", (0, 0, 0), [leg("Left", 1), leg("Right", -1), TRUNK])
SAME_AXES = np.eye(3)


def write_bvh(path, frames, tree=CMU_TREE, order="ZYX", axes=SAME_AXES, scale=1.0, rename=lambda name: name):
    """frames: one dict a frame, joint name -> three angles in channel order (degrees); "at" -> root position."""
    names, lines = [], ["HIERARCHY"]

    def emit(node, depth):
        name, offset, children = node
        names.append(name)
        pad = "\t" * depth
        place = " ".join(f"{x:.6f}" for x in axes @ np.array(offset, float) * scale)
        lines.append(f"{pad}{'ROOT' if depth == 0 else 'JOINT'} {rename(name)}")
        lines.extend([f"{pad}{{", f"{pad}\tOFFSET {place}"])
        turns = " ".join(f"{a}rotation" for a in order)
        lines.append(f"{pad}\tCHANNELS " + (f"6 Xposition Yposition Zposition {turns}" if depth == 0 else f"3 {turns}"))
        for child in children:
            emit(child, depth + 1)
        if not children:
            lines.extend([f"{pad}\tEnd Site", f"{pad}\t{{", f"{pad}\t\tOFFSET 0 0 1", f"{pad}\t}}"])
        lines.append(f"{pad}}}")

    emit(tree, 0)
    lines.extend(["MOTION", f"Frames: {len(frames)}", "Frame Time: .0083333"])
    for frame in frames:
        at = axes @ np.array(frame.get("at", (0, 17, 0)), float) * scale
        row = [*at, *(x for name in names for x in frame.get(name, (0, 0, 0)))]
        lines.append(" ".join(f"{x:.6f}" for x in row))
    path.write_text("\n".join(lines) + "\n")
    return path


WIGGLE = dict.fromkeys(("Hips", "LowerBack", "Spine", "Spine1", "Neck", "Neck1", "Head"), (1.0, 2.0, 3.0))
WIGGLE |= {f"{s}{p}": (2.0, 1.0, 1.0) for s in ("Left", "Right") for p in ("UpLeg", "Leg", "Foot", "ToeBase", "Arm")}
WIGGLE |= {f"{s}{p}": (2.0, 1.0, 1.0) for s in ("Left", "Right") for p in ("ForeArm", "Hand", "Shoulder")}


def test_bvh_rotations_multiply_in_channel_order(tmp_path):
    """Against rotations written out by hand."""
    path = write_bvh(tmp_path / "m.bvh", [{"Hips": (30.0, 40.0, 50.0), "LowerBack": (10.0, 20.0, -30.0)}], order="ZYX")
    bvh = parse_bvh(path)
    rotations, positions = bvh_world(bvh)

    def by_hand(z, y, x):
        z, y, x = np.radians([z, y, x])
        about_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
        about_y = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
        about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
        return about_z @ about_y @ about_x

    index = {j.name: i for i, j in enumerate(bvh.joints)}
    hips, back = by_hand(30, 40, 50), by_hand(30, 40, 50) @ by_hand(10, 20, -30)
    np.testing.assert_allclose(rotations[0, index["Spine"]], back, atol=1e-12)
    np.testing.assert_allclose(positions[0, index["Spine"]], np.array([0, 17, 0]) + back @ [0, 2, 0], atol=1e-9)
    np.testing.assert_allclose(positions[0, index["LeftUpLeg"]], [0, 17, 0] + hips @ [1.4, -1.8, 0.8], atol=1e-9)
    assert np.linalg.norm(bvh.joints[index["LeftToeBase_end"]].offset) == 1.0


def test_cmu_bvh_stands_and_walks_in_our_axes(tmp_path):
    """CMU's splayed rest legs come down straight when turned by 17 degrees; units come from the leg length."""
    legs = {"LeftUpLeg": (-20.0, 0.0, 0.0), "RightUpLeg": (20.0, 0.0, 0.0)}
    arms = {"LeftArm": (-80.0, 0.0, 0.0), "RightArm": (80.0, 0.0, 0.0)}
    frames = [legs | arms | WIGGLE | legs | arms | {"at": (0, 17, 2.0 * k)} for k in range(3)]
    motion = read_bvh(write_bvh(tmp_path / "01_01.bvh", frames))
    assert motion.fps == 120.0
    joints = joints_of(motion)[0]
    assert len(motion.rotmats) == 3
    for side, sign in (("l", 1), ("r", -1)):
        assert sign * joints[J[f"{side}_wrist"], 0] > 0
        assert joints[J[f"{side}_wrist"], 1] < joints[J[f"{side}_shoulder"], 1] - 0.4
        leg = joints[J[f"{side}_ankle"]] - joints[J[f"{side}_hip"]]
        assert leg[1] / np.linalg.norm(leg) < -0.98
    assert joints[J["head"], 1] > joints[0, 1] + 0.5
    # 2 file units are 2 x (our leg length / theirs) metres.
    theirs = np.linalg.norm([2.4, -6.7]) + np.linalg.norm([2.6, -7])
    step = motion.trans_m[1, 2] - motion.trans_m[0, 2]
    assert step == pytest.approx(2.0 * 0.83 / theirs, rel=0.05)


def test_t_pose_first_frame_is_dropped_only_when_it_is_one(tmp_path):
    t_pose = {"LeftUpLeg": (-17.0, 0.0, 0.0), "RightUpLeg": (17.0, 0.0, 0.0), "LeftArm": (-5.0, 0.0, 0.0)}
    moving = [WIGGLE | {"at": (0, 17, k)} for k in range(3)]
    assert len(read_bvh(write_bvh(tmp_path / "a.bvh", [t_pose, *moving])).rotmats) == 3
    assert len(read_bvh(write_bvh(tmp_path / "b.bvh", moving)).rotmats) == 3
    assert len(read_bvh(write_bvh(tmp_path / "c.bvh", [t_pose, t_pose])).rotmats) == 2
    assert len(read_bvh(write_bvh(tmp_path / "d.bvh", [t_pose])).rotmats) == 1


def test_bvh_in_other_axes_units_orders_and_names_is_the_same_motion(tmp_path):
    """The same pose, once y up in CMU's units, once z up in centimetres with Mixamo's prefix."""
    z_up = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # ours -> z up, facing -y
    bend = {"at": (1.0, 17.0, 3.0), "LeftArm": (-60.0, 0.0, 0.0), "RightLeg": (0.0, 0.0, 50.0)}
    # Turning about y in our axes is turning about z there, about z is about -y, about x stays.
    other = {"at": (1.0, 17.0, 3.0), "LeftArm": (0.0, 60.0, 0.0), "RightLeg": (0.0, 0.0, 50.0)}
    a = read_bvh(write_bvh(tmp_path / "a.bvh", [bend]))
    b = read_bvh(
        write_bvh(
            tmp_path / "b.bvh", [other], axes=z_up, scale=5.6, rename=lambda name: f"mixamorig:{name}", order="ZYX"
        )
    )
    np.testing.assert_allclose(a.rotmats, b.rotmats, atol=1e-5)
    np.testing.assert_allclose(a.trans_m, b.trans_m, atol=1e-4)
    shin = joints_of(a)[0, J["r_ankle"]] - joints_of(a)[0, J["r_knee"]]
    assert shin[2] < -0.2  # a positive turn about x sends the shin back


def test_biovision_names_mean_other_joints(tmp_path):
    """LeftShoulder is the upper arm there, the collar bone in CMU's files."""
    words = {"UpLeg": "Hip", "Leg": "Knee", "Foot": "Ankle", "ToeBase": "Toes", "Shoulder": "Collar", "Arm": "Shoulder"}
    words |= {"ForeArm": "Elbow", "Hand": "Wrist"}
    names = {f"{s}{a}": f"{s}{b}" for s in ("Left", "Right") for a, b in words.items()}
    names |= {"LowerBack": "Ab", "Spine": "Chest", "Spine1": "Chest2", "Neck": "NeckBase", "Neck1": "Neck"}
    frames = [{"LeftArm": (-70.0, 0.0, 0.0), "LeftForeArm": (0.0, -40.0, 0.0)}]
    cmu = read_bvh(write_bvh(tmp_path / "a.bvh", frames))
    biovision = read_bvh(write_bvh(tmp_path / "b.bvh", frames, rename=lambda name: names.get(name, name)))
    np.testing.assert_allclose(cmu.rotmats, biovision.rotmats, atol=1e-6)


def test_broken_bvh_files(tmp_path):
    path = write_bvh(tmp_path / "m.bvh", [WIGGLE, WIGGLE])
    text = path.read_text()
    rows = text.splitlines()

    def refused(changed, message):
        path.write_text(changed)
        with pytest.raises(UserError, match=message):
            read_bvh(path)

    refused("", "HIERARCHY and MOTION")
    refused(text[: len(text) // 4], "HIERARCHY and MOTION")
    refused(text[:-40], "motion values, 2 frames x")
    refused(text.replace("Frames: 2", "Frames: 3"), "motion values, 3 frames x")
    refused(text.replace("Frames: 2", "Frames: two"), "well-formed")
    refused(text.replace("Frame Time: .0083333", "Frame Time: 0"), "frame time is 0")
    refused(text.replace("Zrotation", "Wrotation"), "unknown channel 'Wrotation'")
    refused(text.replace("{", "[", 1), "unexpected")
    refused(text.replace("}\nMOTION", "MOTION"), "not closed")
    refused("\n".join([*rows[:-1], rows[-1].replace("1.000000", "nan", 1)]), "frame 1 has a number that is not finite")
    refused(text.replace("LeftForeArm", "Tail"), "no joint named leftforearm .*Tail")
    refused(text.replace("OFFSET 0.000000 1.700000 0.000000", "OFFSET 9 -9.0 0"), "does not stand upright")


def test_bvh_with_a_frame_more_than_announced_is_read(tmp_path):
    path = write_bvh(tmp_path / "m.bvh", [WIGGLE, WIGGLE, WIGGLE])
    path.write_text(path.read_text().replace("Frames: 3", "Frames: 2"))
    assert len(read_bvh(path).rotmats) == 2


# --------------------------------------------------------------------------------------------------------------- AMASS


def amass(width=156, frames=6, **changes):
    rng = np.random.default_rng(0)
    content = {"poses": 0.2 * rng.standard_normal((frames, width)), "trans": rng.standard_normal((frames, 3))}
    content |= {"betas": np.zeros(16), "gender": np.array(b"female"), "mocap_framerate": np.array(120.0)}
    return {k: v for k, v in (content | changes).items() if v is not None}


def test_both_amass_releases_are_read(tmp_path):
    np.savez(tmp_path / "a_poses.npz", **amass())
    smplx_release = amass(165, gender=np.array("male"), mocap_framerate=None, mocap_frame_rate=np.array(60.0))
    smplx_release["poses"][:, :156] = amass()["poses"]
    np.savez(tmp_path / "a_stageii.npz", surface_model_type=np.array("smplx"), **smplx_release)
    a, b = read_amass(tmp_path / "a_poses.npz"), read_amass(tmp_path / "a_stageii.npz")
    assert (a.fps, b.fps) == (120.0, 60.0)
    assert a.source == "AMASS SMPL+H a_poses.npz (female)", "the gender may be bytes"
    assert b.source == "AMASS SMPL-X a_stageii.npz (male)"
    np.testing.assert_array_equal(a.rotmats, b.rotmats)
    np.testing.assert_array_equal(a.rotmats[:, 22:], np.tile(np.eye(3), (6, 2, 1, 1)))
    body = from_axis_angle(torch.from_numpy(amass()["poses"][:, 3:66]).view(6, 21, 3)).numpy()
    np.testing.assert_allclose(a.rotmats[:, 1:22], body, atol=1e-6)


def test_convention_amass_z_up_becomes_y_up(tmp_path):
    """AMASS people stand upright with a root turned 90 degrees about x; the pelvis keeps its place in the world."""
    poses = np.zeros((2, 156))
    poses[:, 0] = np.pi / 2
    trans = np.array([[0.0, 0.0, 1.2], [0.0, -1.0, 1.2]])
    np.savez(tmp_path / "a.npz", **amass(poses=poses, trans=trans))
    motion = read_amass(tmp_path / "a.npz")
    np.testing.assert_allclose(motion.rotmats[0, 0], np.eye(3), atol=1e-6)
    np.testing.assert_allclose(motion.trans_m[1] - motion.trans_m[0], [0, 0, 1], atol=1e-6)  # -y there is forward
    pelvis = trans[0] + [
        -0.0018,
        -0.2233,
        0.0282,
    ]  # the joint in z-up axes: transl is added to the unturned rest pelvis
    np.testing.assert_allclose(motion.trans_m[0], [pelvis[0], pelvis[2], -pelvis[1]], atol=1e-6)
    assert joints_of(motion)[0, J["head"], 1] > motion.trans_m[0, 1] + 0.5


def test_convention_each_amass_release_has_its_own_origin(tmp_path):
    """`trans` moves a template whose pelvis is 22 cm below the origin in SMPL+H and 35 cm in SMPL-X."""
    for width, pelvis in ((156, [-0.0018, -0.2233, 0.0282]), (165, [0.0031, -0.3514, 0.0120])):
        np.savez(tmp_path / "a.npz", **amass(width, trans=np.zeros((6, 3))))
        x, y, z = pelvis
        np.testing.assert_allclose(read_amass(tmp_path / "a.npz").trans_m, np.tile([x, z, -y], (6, 1)), atol=1e-6)


@pytest.mark.parametrize("gender", [np.array("male"), np.array(b"male"), np.array("male", object), np.array(["male"])])
def test_amass_gender_in_every_form(tmp_path, gender):
    np.savez(tmp_path / "a.npz", **amass(gender=gender))
    assert read_amass(tmp_path / "a.npz").source == "AMASS SMPL+H a.npz (male)"


def test_amass_shape_files_are_no_motions(tmp_path):
    np.savez(tmp_path / "shape.npz", betas=np.zeros(16), gender=np.array("female"))
    with pytest.raises(UserError, match=r"no poses in it \(got betas, gender\)"):
        read_amass(tmp_path / "shape.npz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"poses": None}, "no poses in it"),
        ({"poses": np.zeros((6, 72))}, r"poses has shape \(6, 72\)"),
        ({"poses": np.zeros((0, 156)), "trans": np.zeros((0, 3))}, "poses has shape"),
        ({"trans": np.zeros((5, 3))}, r"trans has shape \(5, 3\)"),
        ({"trans": np.full((6, 3), 900.0)}, "metres"),
        ({"poses": np.where(np.arange(156) == 7, np.nan, np.zeros((6, 156)))}, "not finite in frame 0"),
        ({"mocap_framerate": None}, "no frame rate"),
        ({"mocap_framerate": np.array(0.0)}, "mocap_framerate is 0"),
        ({"poses": np.full((6, 156), "x")}, "numbers are needed"),
    ],
)
def test_broken_amass_files(tmp_path, changes, message):
    np.savez(tmp_path / "a.npz", **amass(**changes))
    with pytest.raises(UserError, match=message):
        read_amass(tmp_path / "a.npz")


def test_truncated_amass_file(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **amass())
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UserError, match=r"a\.npz"):
        read_amass(path)


# ------------------------------------------------------------------------------------------------------ embedded clips


def test_embedded_clips_are_whole():
    clips = load_demo_motions()
    assert DEMO_MOTIONS.stat().st_size < 1e6
    assert len(clips) == len({c.name for c in clips}) == 20
    assert sum(len(c.trans_m) for c in clips) == 1810
    assert 35 < sum(len(c.trans_m) / c.fps for c in clips) < 45
    for clip in clips:
        np.testing.assert_allclose(np.linalg.det(clip.rotmats), 1, atol=1e-5)
        assert np.isfinite(clip.trans_m).all()


def test_embedded_feet_stand_on_the_floor():
    body = load_body()
    for clip in load_demo_motions():
        pick = slice(None, None, 4)
        trans = skin_translation(torch.from_numpy(clip.trans_m[pick]), body.rest_joints_m[0])
        lowest = skin(body, torch.from_numpy(clip.rotmats[pick]), torch.zeros(len(trans), 10), trans).vertices_m[..., 1]
        assert -0.2 < float(lowest.min()) < 0.04, clip.name


def test_embedded_walks_go_upright_where_they_face_with_knees_forward():
    clips = {c.name: c for c in load_demo_motions()}
    for name in ("walk", "run", "0walk_forward"):
        joints = joints_of(clips[name])
        forward = clips[name].rotmats[:, 0, :, 2].mean(0) * [1, 0, 1]  # runners lean
        forward /= np.linalg.norm(forward)
        step = joints[-1, 0] - joints[0, 0]
        assert step @ forward / np.linalg.norm(step) > 0.95, name
        assert (joints[:, J["head"], 1] - joints[:, 0, 1] > 0.45).all()
        for side, other in (("l", "r"), ("r", "l")):
            hip, knee, ankle = (joints[:, J[f"{side}_{part}"]] for part in ("hip", "knee", "ankle"))
            bend = (knee - 0.5 * (hip + ankle)) @ forward
            assert bend.mean() > 0.01, name
            across = hip - joints[:, J[f"{other}_hip"]]
            assert (across[:, 0] * (1 if side == "l" else -1)).mean() > 0.1
