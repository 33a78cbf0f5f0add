"""CMU's asf/amc: against a plain forward kinematics, against BVH, and every way the files are broken."""

import time

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from aign.data.datasets.motion.asf_amc import asf_world, parse_amc, parse_asf
from aign.data.datasets.motion.bvh import read_bvh
from aign.data.datasets.motion.cmu_motion import FPS, read_amc
from aign.framework.errors import UserError
from tests.data.cmu_samples import BONES, amc_text, asf_text, random_frames, write

UNIT_M = 0.056444


def turn(degrees, order):
    """Elementary matrices written out, the first angle first."""
    full = np.eye(3)
    for angle, axis in zip(np.radians(degrees), order, strict=True):
        c, s = np.cos(angle), np.sin(angle)
        step = {"x": [[1, 0, 0], [0, c, -s], [0, s, c]], "y": [[c, 0, s], [0, 1, 0], [-s, 0, c]]}
        step["z"] = [[c, -s, 0], [s, c, 0], [0, 0, 1]]
        full = np.array(step[axis]) @ full
    return full


def plain_kinematics(frame):
    """End point of every bone, in the file's units: R = R_parent C M C^-1, end = start + R direction length."""
    rotations = {"root": turn(frame["root"][3:], "xyz")}
    ends = {"root": np.array(frame["root"][:3])}
    for name, parent, direction, length, axis, dofs in BONES:
        own = turn(axis, "xyz")
        local = turn(frame.get(name, ()), [d[1] for d in dofs.split()])
        rotations[name] = rotations[parent] @ own @ local @ np.linalg.inv(own)
        ends[name] = ends[parent] + rotations[name] @ np.array(direction) * length
    return rotations, ends


def test_joints_are_those_of_a_plain_forward_kinematics_in_metres(tmp_path):
    frames = random_frames(3)
    path = write(tmp_path / "01", frames)
    asf = parse_asf(tmp_path / "01" / "01.asf")
    rotations, ends_m = asf_world(asf, parse_amc(path, asf))
    assert len(asf.bones) == 31
    for t, frame in enumerate(frames):
        rotations_there, ends_there = plain_kinematics(frame)
        for i, bone in enumerate(asf.bones):
            np.testing.assert_allclose(rotations[t, i], rotations_there[bone.name], atol=1e-5)
            np.testing.assert_allclose(ends_m[t, i], UNIT_M * ends_there[bone.name], atol=1e-4)


def test_convention_units_and_axes(tmp_path):
    """One unit is 0.056444 m; y is up; a positive rx of the femur, about the tilted leg's x, brings the knee back."""
    still = {"root": [0, 17.0, 3.0, 0, 0, 0]} | {b[0]: [0.0] * len(b[5].split()) for b in BONES if b[5]}
    path = write(tmp_path / "01", [still, still | {"lfemur": [40.0, 0, 0]}, still | {"root": [0, 17, 3, 0, 90, 0]}])
    asf = parse_asf(tmp_path / "01" / "01.asf")
    _, ends_m = asf_world(asf, parse_amc(path, asf))
    at = {bone.name: i for i, bone in enumerate(asf.bones)}
    np.testing.assert_allclose(ends_m[0, 0], [0, 17 * UNIT_M, 3 * UNIT_M], atol=1e-5)
    thigh_m = ends_m[0, at["lfemur"]] - ends_m[0, at["lhipjoint"]]
    np.testing.assert_allclose(thigh_m, 7.2 * UNIT_M * np.array([0.342, -0.9397, 0]), atol=1e-5)
    assert ends_m[1, at["lfemur"], 2] < ends_m[0, at["lfemur"], 2] - 0.2
    np.testing.assert_allclose(ends_m[1, at["rfemur"]], ends_m[0, at["rfemur"]])
    # A quarter turn about y: what was ahead (+z) is now at +x.
    toe = ends_m[0, at["ltoes"]] - ends_m[0, 0]
    np.testing.assert_allclose(ends_m[2, at["ltoes"]] - ends_m[2, 0], [toe[2], toe[1], -toe[0]], atol=1e-5)


def test_radians_and_other_units_are_honoured(tmp_path):
    frame = random_frames(1)[0]
    path = write(tmp_path / "01", [frame])
    asf = parse_asf(tmp_path / "01" / "01.asf")
    want = asf_world(asf, parse_amc(path, asf))
    in_radians = {n: [*v[:3], *np.radians(v[3:])] if n == "root" else np.radians(v) for n, v in frame.items()}
    text = amc_text([in_radians]).replace(":DEGREES", ":RADIANS")
    got = asf_world(asf, parse_amc(write(tmp_path / "02", text), asf))
    np.testing.assert_allclose(got[1], want[1], atol=1e-4)
    inches = parse_asf(
        write(tmp_path / "03", [frame], asf_text().replace("length 0.45", "length 1.0")).with_name("01.asf")
    )
    np.testing.assert_allclose(asf_world(inches, parse_amc(path, inches))[1], want[1] * 0.45, atol=1e-6)


def test_bones_that_the_motion_does_not_name_do_not_turn(tmp_path):
    frames = [{k: v for k, v in frame.items() if k not in ("rfingers", "lthumb")} for frame in random_frames(2)]
    kept = [b if b[0] in frames[0] else (*b[:5], "") for b in BONES]
    (tmp_path / "01").mkdir()
    path = write(tmp_path / "01", amc_text(frames, bones=kept))
    asf = parse_asf(tmp_path / "01" / "01.asf")
    rotations, _ = asf_world(asf, parse_amc(path, asf))
    names = [bone.name for bone in asf.bones]
    np.testing.assert_allclose(rotations[:, names.index("rfingers")], rotations[:, names.index("rhand")], atol=1e-12)
    assert np.abs(rotations[:, names.index("rhand")] - rotations[:, names.index("rwrist")]).max() > 0.1


# ------------------------------------------------------------------------------------------------------- against BVH

BVH_NAMES = {"root": "Hips", "lowerback": "LowerBack", "upperback": "Spine", "thorax": "Spine1", "lowerneck": "Neck"}
BVH_NAMES |= {"upperneck": "Neck1", "head": "Head"}
_SIDE = {"femur": "UpLeg", "tibia": "Leg", "foot": "Foot", "toes": "ToeBase", "clavicle": "Shoulder"}
_SIDE |= {"humerus": "Arm", "radius": "ForeArm", "wrist": "Hand", "hand": "FingerBase", "hipjoint": "HipJoint"}
for _short, _long in (("l", "Left"), ("r", "Right")):
    BVH_NAMES |= {_short + bone: _long + joint for bone, joint in _SIDE.items()}


def write_bvh(path, frames):
    """The same motion as BVH: joints where bones start, rotations about the world's axes in the rest pose."""
    offsets = {"root": np.zeros(3)} | {b[0]: np.array(b[2]) * b[3] for b in BONES}
    parents = {b[0]: b[1] for b in BONES}
    lines, order = ["HIERARCHY"], []

    def visit(name, depth):
        order.append(name)
        start = offsets[parents[name]] if name != "root" else offsets["root"]
        lines.append(f"{'ROOT' if name == 'root' else 'JOINT'} {BVH_NAMES.get(name, name)}")
        lines.append("{\nOFFSET " + " ".join(f"{x:.9f}" for x in start))
        lines.append(f"CHANNELS {6 if name == 'root' else 3} {'Xposition Yposition Zposition ' * (name == 'root')}")
        lines.append("Zrotation Yrotation Xrotation")
        children = [child for child, parent in parents.items() if parent == name]
        for child in children:
            visit(child, depth + 1)
        if not children:
            lines.append("End Site\n{\nOFFSET " + " ".join(f"{x:.9f}" for x in offsets[name]) + "\n}")
        lines.append("}")

    visit("root", 0)
    lines += ["MOTION", f"Frames: {len(frames)}", "Frame Time: 0.0083333"]
    for frame in frames:
        rotations, _ = plain_kinematics(frame)
        row = list(frame["root"][:3])
        for name in order:
            local = rotations[name] if name == "root" else rotations[parents[name]].T @ rotations[name]
            row += Rotation.from_matrix(local).as_euler("ZYX", degrees=True).tolist()
        lines.append(" ".join(f"{x:.9f}" for x in row))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_same_motion_in_bvh_and_in_asf_amc_agrees(tmp_path):
    frames = random_frames(6, seed=4)
    a = read_amc(write(tmp_path / "01", frames))
    b = read_bvh(write_bvh(tmp_path / "01_01.bvh", frames))
    assert a.name == b.name == "01_01"
    assert a.fps == b.fps == FPS == 120
    np.testing.assert_allclose(a.rotmats, b.rotmats, atol=2e-5)
    np.testing.assert_allclose(a.trans_m, b.trans_m, atol=2e-4)
    assert "01.asf, 01_01.amc" in a.source
    assert "120 frames per second assumed" in a.source


def test_ten_thousand_lines_are_parsed_fast(tmp_path):
    """5,000 frames in a second on one core: here 1,000 in a third, so that a busy machine does not fail it."""
    path = write(tmp_path / "01", random_frames(20) * 50)
    asf = parse_asf(tmp_path / "01" / "01.asf")
    seconds = []
    for _ in range(3):
        began = time.process_time()
        assert len(parse_amc(path, asf)["root"]) == 1000
        seconds.append(time.process_time() - began)
    assert min(seconds) < 0.33


# ------------------------------------------------------------------------------------------------------------- finding


def test_the_skeleton_is_found_beside_the_motion(tmp_path):
    frames = random_frames(1)
    path = write(tmp_path / "s", frames)
    (tmp_path / "s" / "02.asf").write_text("broken")
    assert len(read_amc(path).rotmats) == 1
    walk = write(tmp_path / "s", frames, name="walk")
    with pytest.raises(UserError, match=r"no walk.asf beside it.* has 01.asf, 02.asf"):
        read_amc(walk)
    (tmp_path / "s" / "02.asf").unlink()
    assert len(read_amc(walk).rotmats) == 1
    (tmp_path / "s" / "01.asf").unlink()
    with pytest.raises(UserError, match=r"no 01.asf beside it.* has no .asf"):
        read_amc(path)
    with pytest.raises(UserError, match="nowhere"):
        read_amc(tmp_path / "nowhere" / "01_01.amc")


# -------------------------------------------------------------------------------------------------------------- broken

FRAMES = random_frames(3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: "", "no frame in it"),
        (lambda t: t[:-40], r"frame 3 has \d+ words, \d+ are needed; it is cut off"),
        (lambda t: t.rsplit("\n", 20)[0] + "\n", "frame 3 has .* it is cut off"),
        (lambda t: t.replace("lowerback", "spine"), "bone 'spine' is not in the skeleton, which has root, "),
        (lambda t: t.replace("\nltibia ", "\nltibia 1 ", 1), "ltibia has 2 numbers; its skeleton gives it 1"),
        (lambda t: t.replace("\n2\n", "\n3\n"), "frame 2 has '3' where '2' is needed"),
        (lambda t: t[::-1].replace("sutemuhl"[::-1], "x")[::-1].replace("\nhead", "\nneck", 2), "'neck' is not in"),
        (lambda t: "head".join(t.rsplit("thorax", 1)), "frame 3 has 'head' where 'thorax' is needed"),
        (lambda t: t.replace("root ", "root nan ", 1).replace(" ", "  "), "root has 7 numbers"),
        (lambda t: t.replace("\nltibia ", "\nltibia nan\nltibia ", 1), "each bone once"),
        (lambda t: t.replace("root", "rump"), "root is needed"),
        (lambda t: t.replace(f"ltibia {FRAMES[1]['ltibia'][0]:.6g}", "ltibia inf"), "frame 2 has a number that is"),
        (lambda t: t.replace(f"ltibia {FRAMES[1]['ltibia'][0]:.6g}", "ltibia x"), "ltibia has something other"),
    ],
)  # fmt: skip
def test_broken_motions(tmp_path, change, message):
    text = amc_text(FRAMES)
    assert change(text) != text
    path = write(tmp_path / "01", change(text))
    with pytest.raises(UserError, match=message) as error:
        read_amc(path)
    assert "01_01.amc" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: "", "'units' is missing"),
        (lambda t: t.partition(":hierarchy")[0], "'hierarchy' is missing"),
        (lambda t: t[: t.index("lfoot")], "not closed with 'end'|'hierarchy' is missing"),
        (lambda t: t.replace("length 0.45", "mass 2"), "'length' is missing"),
        (lambda t: t.replace("angle deg", "angle grad"), "'grad' is missing or unknown"),
        (lambda t: t.replace("dof rx ry rz", "dof rx ry rw", 1), "'rw' is missing or unknown"),
        (lambda t: t.replace("direction 0.6", "direction x", 1), "could not convert"),
        (lambda t: t.replace("direction 0.6", "direction", 1), "three numbers are needed"),
        (lambda t: t.replace("XYZ\n    dof", "XYY\n    dof", 1), "axis order 'XYY'; XYZ is needed"),
        (lambda t: t.replace("direction 0.6", "direction nan", 1), "not finite"),
        (lambda t: t.replace("    lowerback upperback\n", ""), "do not hang on the root"),
        (
            lambda t: t.replace("    lowerback upperback\n", "    lowerback tail\n"),
            "names 'tail', which is not in the b",
        ),
        (lambda t: t.replace("    lowerback upperback\n", "    lowerback upperback head\n"), "'head' has two parents"),
        (lambda t: t.replace("lfemur", "lthigh"), "no bone named lfemur .*got root"),
        (lambda t: t.replace("length 0.45", "length 0.0045"), r"legs of 82.97 m; 0.4 to 1.4"),
        (lambda t: t.replace("length 0.45", "length 45"), r"legs of 0.00\d+ m"),
        (lambda t: t.replace("length 3.5", "length 0"), "a limb has no length"),
    ],
)
def test_broken_skeletons(tmp_path, change, message):
    text = asf_text()
    assert change(text) != text
    named = amc_text(FRAMES).replace("lfemur", "lthigh") if "lfemur" in message else amc_text(FRAMES)
    path = write(tmp_path / "01", named, change(text))
    with pytest.raises(UserError, match=message) as error:
        read_amc(path)
    assert "01.asf" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_skeleton_in_other_axes_is_refused(tmp_path):
    """Lying on its back: z up."""
    lying = [(n, p, (d[0], -d[2], d[1]), *rest) for n, p, d, *rest in BONES]
    with pytest.raises(UserError, match="does not stand upright on y"):
        read_amc(write(tmp_path / "01", FRAMES, asf_text(lying)))
