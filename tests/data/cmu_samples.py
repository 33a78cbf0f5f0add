"""CMU's asf/amc files as a test writes them: 31 bones in round numbers, with the real ones' degrees of freedom."""

import numpy as np


def _both(bones):
    """Left and right of each: names, and x mirrored."""
    for name, parent, direction, length, axis, dofs in bones:
        for side, sign in (("l", 1), ("r", -1)):
            above = parent if parent in ("root", "thorax") else side + parent
            mirrored = (axis[0], sign * axis[1], sign * axis[2])
            yield side + name, above, (sign * direction[0], *direction[1:]), length, mirrored, dofs


# name, parent, direction, length, axis, dof: CMU's 31 bones with their degrees of freedom, in round numbers.
BONES = [
    *_both(
        [
            ("hipjoint", "root", (0.6, -0.7, 0.387), 2.3, (0, 0, 0), ""),
            ("femur", "hipjoint", (0.342, -0.9397, 0), 7.2, (0, 0, 20), "rx ry rz"),
            ("tibia", "femur", (0.342, -0.9397, 0), 7.5, (0, 0, 20), "rx"),
            ("foot", "tibia", (0.07, -0.18, 0.98), 2.3, (-90, 7, 20), "rx rz"),
            ("toes", "foot", (0, 0, 1), 1.2, (-90, 0, 20), "rx"),
        ]
    ),
    ("lowerback", "root", (0.01, 0.99, -0.1), 2.0, (0, 0, 0), "rx ry rz"),
    ("upperback", "lowerback", (0.03, 0.99, -0.02), 2.0, (0, 0, 0), "rx ry rz"),
    ("thorax", "upperback", (0, 1, 0), 2.1, (0, 0, 0), "rx ry rz"),
    ("lowerneck", "thorax", (0, 1, 0.1), 1.8, (0, 0, 0), "rx ry rz"),
    ("upperneck", "lowerneck", (0, 1, -0.1), 1.7, (0, 0, 0), "rx ry rz"),
    ("head", "upperneck", (0, 1, 0), 1.8, (0, 0, 0), "rx ry rz"),
    *_both(
        [
            ("clavicle", "thorax", (0.94, 0.33, -0.08), 3.5, (0, 0, 0), "ry rz"),
            ("humerus", "clavicle", (1, 0, 0), 5.0, (180, 30, 90), "rx ry rz"),
            ("radius", "humerus", (1, 0, 0), 3.5, (180, 30, 90), "rx"),
            ("wrist", "radius", (1, 0, 0), 1.7, (180, 30, 90), "ry"),
            ("hand", "wrist", (1, 0, 0), 0.7, (180, 30, 90), "rx rz"),
            ("fingers", "hand", (1, 0, 0), 0.6, (180, 30, 90), "rx"),
            ("thumb", "wrist", (0.7, 0, 0.7), 0.8, (-90, -45, 0), "rx rz"),
        ]
    ),
]
HEAD = """# made by a test
:version 1.10
:name VICON
:units
  mass 1.0
  length 0.45
  angle deg
:documentation
   .ast/.asf automatically generated
   by nobody
:root
   order TX TY TZ RX RY RZ
   axis XYZ
   position 0 0 0
   orientation 0 0 0
:bonedata
"""


def asf_text(bones=BONES):
    text = HEAD
    for number, (name, _, direction, length, axis, dofs) in enumerate(bones, start=1):
        text += f"  begin\n     id {number} \n     name {name}\n     direction {' '.join(map(str, direction))}\n"
        text += f"     length {length}\n     axis {' '.join(map(str, axis))}  XYZ\n"
        if dofs:
            text += f"    dof {dofs}\n    limits (-160.0 20.0)\n" + "           (-70.0 70.0)\n" * dofs.count(" ")
        text += "  end\n"
    children = {}
    for name, parent, *_ in bones:
        children.setdefault(parent, []).append(name)
    return text + ":hierarchy\n  begin\n" + "".join(f"    {p} {' '.join(c)}\n" for p, c in children.items()) + "  end\n"


def amc_text(frames, first=1, bones=BONES):
    lines = ["#!OML:ASF F:\\VICON\\USERDATA\\x.ASF", ":FULLY-SPECIFIED", ":DEGREES"]
    for number, frame in enumerate(frames, start=first):
        lines.append(str(number))
        for name in ("root", *(b[0] for b in bones if b[5])):
            lines.append(f"{name} {' '.join(f'{x:.6g}' for x in frame[name])}")
    return "\n".join(lines) + "\n"


def random_frames(count, seed=0):
    rng = np.random.default_rng(seed)
    sizes = {"root": 6} | {b[0]: len(b[5].split()) for b in BONES if b[5]}
    frames = [{name: rng.uniform(-40, 40, n) for name, n in sizes.items()} for _ in range(count)]
    return frames


def write(folder, frames, asf=None, name="01_01"):
    """subjects/01/01.asf and 01_01.amc."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "01.asf").write_text(asf_text() if asf is None else asf)
    (folder / f"{name}.amc").write_text(frames if isinstance(frames, str) else amc_text(frames))
    return folder / f"{name}.amc"
