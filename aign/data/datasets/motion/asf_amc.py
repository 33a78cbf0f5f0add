"""Acclaim motion files: a skeleton (.asf), and motions (.amc) of it (protocols 3.5 h)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from aign.framework.errors import UserError
from aign.geometry.rotation import from_axis_angle

INCH_M = 0.0254
ROOT = "root"
_DOFS = {f"{kind}{axis}": (kind, "xyz".index(axis)) for kind in "tr" for axis in "xyz"}


@dataclass(frozen=True, kw_only=True)
class Bone:
    """A bone of the skeleton.

    Attributes:
        name: as in the file.
        parent: index of the bone at whose end this one starts; -1 at the root.
        offset_m: from start to end in the rest pose, world axes; of the root: its place in the rest pose.
        axes: rotation of its own axes, in which its degrees of freedom turn, in the rest pose.
        dofs: (t or r, axis 0..2) of each of its numbers in a frame.
    """

    name: str
    parent: int
    offset_m: Float[np.ndarray, " 3"]
    axes: Float[np.ndarray, "3 3"]
    dofs: tuple[tuple[str, int], ...]


@dataclass(frozen=True, kw_only=True)
class Asf:
    """A skeleton: the root first, parents before children.

    Attributes:
        bones: all of them.
        unit_m: metres in one of the file's units of length.
        degrees: whether its angles are degrees; else radians.
    """

    bones: tuple[Bone, ...]
    unit_m: float
    degrees: bool


def parse_asf(path: Path | str) -> Asf:
    """Parse a skeleton.

    Raises:
        UserError: not an .asf, truncated, or its bones do not hang together.
    """
    path = Path(path)
    try:
        sections = _sections(_text(path))
        units = {words[0]: words[1] for words in sections["units"] if len(words) > 1}
        unit_m = INCH_M / float(units["length"])
        degrees = _is_degrees(units["angle"])
        blocks = {block["name"][0]: block for block in _blocks(sections["bonedata"])}
        blocks[ROOT] = {words[0]: words[1:] for words in sections["root"] if words}
        parents = _parents(sections["hierarchy"], blocks)
        order = _from_root(parents)
        bones = tuple(
            Bone(
                name=name,
                parent=order.index(parents[name]) if name != ROOT else -1,
                offset_m=_offset(blocks[name]) * unit_m,
                axes=_bone_axes(blocks[name], degrees),
                dofs=tuple(_DOFS[word.lower()] for word in blocks[name].get("dof", blocks[name].get("order", ()))),
            )
            for name in order
        )
    except KeyError as error:
        raise UserError(f"{path}: not a complete .asf skeleton: {error.args[0]!r} is missing or unknown") from error
    except (ValueError, IndexError) as error:
        raise UserError(f"{path}: not a well-formed .asf skeleton ({error})") from error
    if not all(np.isfinite(bone.offset_m).all() and np.isfinite(bone.axes).all() for bone in bones):
        raise UserError(f"{path}: a bone has a number that is not finite")
    return Asf(bones=bones, unit_m=unit_m, degrees=degrees)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error})") from error


def _is_degrees(word: str) -> bool:
    return {"deg": True, "degrees": True, "rad": False, "radians": False}[word.lower()]


def _sections(text: str) -> dict[str, list[list[str]]]:
    """Lines of words under each `:keyword`."""
    found: dict[str, list[list[str]]] = {}
    lines: list[list[str]] = []
    for line in text.splitlines():
        words = line.split("#", 1)[0].split()
        if words and words[0].startswith(":"):
            lines = found.setdefault(words[0][1:].lower(), [])
            words = words[1:]
        if words:
            lines.append(words)
    return found


def _blocks(lines: Sequence[Sequence[str]]) -> Iterator[dict[str, Sequence[str]]]:
    """What stands between each `begin` and `end`, by first word."""
    block: dict[str, Sequence[str]] | None = None
    for words in lines:
        if words[0] == "begin":
            block = {}
        elif block is None:
            raise ValueError(f"{words[0]!r} stands outside begin and end")
        elif words[0] == "end":
            yield block
            block = None
        else:
            block[words[0]] = words[1:]
    if block is not None:
        raise ValueError("a bone is not closed with 'end'")


def _parents(lines: Sequence[Sequence[str]], blocks: Mapping[str, object]) -> dict[str, str]:
    """Child -> parent."""
    parents: dict[str, str] = {}
    for parent, *children in lines:
        if parent in ("begin", "end"):
            continue
        for name in (parent, *children):
            if name not in blocks:
                raise ValueError(f"the hierarchy names {name!r}, which is not in the bone data")
        for child in children:
            if child in parents or child == ROOT:
                raise ValueError(f"{child!r} has two parents")
            parents[child] = parent
    return parents


def _from_root(parents: Mapping[str, str]) -> list[str]:
    order = [ROOT]
    for name in order:  # it grows while it is walked
        order += [child for child, parent in parents.items() if parent == name]
    if len(order) != len(parents) + 1:
        raise ValueError(f"{', '.join(sorted(set(parents) - set(order)))} do not hang on the root")
    return order


def _offset(block: Mapping[str, Sequence[str]]) -> Float[np.ndarray, " 3"]:
    if "position" in block:
        return _three(block["position"])
    return np.asarray(_three(block["direction"]) * float(block["length"][0]))


def _bone_axes(block: Mapping[str, Sequence[str]], degrees: bool) -> Float[np.ndarray, "3 3"]:
    """C of a bone: its own angles, or the root's `orientation` in the order of its `axis`."""
    *angles, order = block["axis"] if "orientation" not in block else (*block["orientation"], *block["axis"])
    values = _three(angles)
    turns = np.radians(values) if degrees else values
    if sorted(order.upper()) != ["X", "Y", "Z"]:
        raise ValueError(f"axis order {order!r}; XYZ is needed")
    return np.asarray(_turn(turns[None], ["XYZ".index(axis) for axis in order.upper()])[0])


def _three(words: Sequence[str]) -> Float[np.ndarray, " 3"]:
    if len(words) != 3:
        raise ValueError(f"got {' '.join(words)!r} where three numbers are needed")
    return np.array([float(word) for word in words])


def _turn(angles_rad: Float[np.ndarray, "t n"], axes: Sequence[int]) -> Float[np.ndarray, "t 3 3"]:
    """The first angle turns first: for x, y, z this is Rz Ry Rx."""
    turned = np.broadcast_to(np.eye(3), (len(angles_rad), 3, 3))
    for column, axis in enumerate(axes):
        step = from_axis_angle(torch.from_numpy(angles_rad[:, column, None] * np.eye(3)[axis])).numpy()
        turned = step @ turned
    return np.array(turned)


def parse_amc(path: Path | str, asf: Asf) -> dict[str, Float[np.ndarray, "t n"]]:
    """The frames of a motion: for every bone it names, its degrees of freedom in the skeleton's order.

    Every frame has the same lines, so the words are split at once and taken by columns.

    Returns:
        By bone name: metres and radians.

    Raises:
        UserError: not an .amc, truncated, of another skeleton, or with numbers that are not finite.
    """
    path = Path(path)
    lines = _text(path).splitlines()
    starts = list(islice((i for i, line in enumerate(lines) if line.strip().isdigit()), 2))
    if not starts:
        raise UserError(f"{path}: no frame in it; an .amc has a frame number, then 'root' and the bones, a line each")
    keywords = {word.lower() for line in lines[: starts[0]] for word in line.split() if word.startswith(":")}
    degrees = ":radians" not in keywords and (":degrees" in keywords or asf.degrees)
    layout = [line.split() for line in lines[starts[0] + 1 : starts[1] if len(starts) > 1 else None] if line.strip()]
    bones = {bone.name: bone for bone in asf.bones}
    _check_layout(layout, bones, path)
    words = " ".join(lines[starts[0] :]).split()
    width = 1 + sum(map(len, layout))
    frames, surplus = divmod(len(words), width)
    _check_frames(words[: frames * width], layout, path)
    if surplus:
        raise UserError(f"{path}: frame {frames + 1} has {surplus} words, {width} are needed; it is cut off")
    motion, column = {}, 1
    for name, *numbers in layout:
        picked = [words[column + 1 + i :: width] for i in range(len(numbers))]
        motion[name] = _numbers(name, picked, path)
        for i, (kind, _) in enumerate(bones[name].dofs):
            motion[name][:, i] *= asf.unit_m if kind == "t" else np.pi / 180 if degrees else 1.0
        column += 1 + len(numbers)
    return motion


def _check_layout(layout: Sequence[Sequence[str]], bones: Mapping[str, Bone], path: Path) -> None:
    names = [words[0] for words in layout]
    if ROOT not in names or len(set(names)) < len(names):
        raise UserError(f"{path}: its first frame has the bones {' '.join(names)}; root is needed, and each bone once")
    for name, *numbers in layout:
        if name not in bones:
            raise UserError(f"{path}: bone {name!r} is not in the skeleton, which has {', '.join(bones)}")
        if len(numbers) != len(bones[name].dofs):
            raise UserError(f"{path}: {name} has {len(numbers)} numbers; its skeleton gives it {len(bones[name].dofs)}")


def _check_frames(words: Sequence[str], layout: Sequence[Sequence[str]], path: Path) -> None:
    """Every frame must have the first one's bones, and the number after that of the frame before."""
    width = 1 + sum(map(len, layout))
    frames = len(words) // width
    wanted = {0: [str(int(words[0]) + i) for i in range(frames)]}
    column = 1
    for name, *numbers in layout:
        wanted[column] = [name] * frames
        column += 1 + len(numbers)
    bad = [
        (next(i for i in range(frames) if words[c::width][i] != names[i]), c)
        for c, names in wanted.items()
        if words[c::width] != names
    ]
    if bad:
        frame, column = min(bad)
        got, want = words[frame * width + column], wanted[column][frame]
        raise UserError(
            f"{path}: frame {frame + 1} has {got!r} where {want!r} is needed; all frames have the same lines"
        )


def _numbers(name: str, columns: Sequence[Sequence[str]], path: Path) -> Float[np.ndarray, "t n"]:
    try:
        values = np.array([[*map(float, column)] for column in columns]).T
    except ValueError as error:
        raise UserError(f"{path}: {name} has something other than numbers ({error})") from error
    if not np.isfinite(values).all():
        frame = int(np.argwhere(~np.isfinite(values))[0, 0])
        raise UserError(f"{path}: frame {frame + 1} has a number that is not finite")
    return np.ascontiguousarray(values)


def asf_world(
    asf: Asf, motion: Mapping[str, Float[np.ndarray, "t n"]]
) -> tuple[Float[np.ndarray, "t b 3 3"], Float[np.ndarray, "t b 3"]]:
    """World rotation away from the rest pose, and end point in metres, of every bone.

    Convention: y up; R = R_parent C M C^-1 with C the bone's own axes and M its degrees of freedom, the first turning
    first (x, y, z: Rz Ry Rx); a bone that the motion does not name does not turn; end = parent's end + R offset.
    """
    frames = len(motion[ROOT])
    rotations = np.empty((frames, len(asf.bones), 3, 3))
    ends = np.empty((frames, len(asf.bones), 3))
    for i, bone in enumerate(asf.bones):
        given = motion.get(bone.name, np.zeros((frames, len(bone.dofs))))
        turning = [c for c, (kind, _) in enumerate(bone.dofs) if kind == "r"]
        local = bone.axes @ _turn(given[:, turning], [bone.dofs[c][1] for c in turning]) @ bone.axes.T
        offset = np.tile(bone.offset_m, (frames, 1))
        for column, (kind, axis) in enumerate(bone.dofs):
            if kind == "t":
                offset[:, axis] += given[:, column]
        if bone.parent < 0:
            rotations[:, i], ends[:, i] = local, offset
        else:
            rotations[:, i] = rotations[:, bone.parent] @ local
            ends[:, i] = ends[:, bone.parent] + np.einsum("tij,tj->ti", rotations[:, i], offset)
    return rotations, ends
