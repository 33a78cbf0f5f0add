from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from aign.data.schema import KEY_TYPES, TABLES, ClipKey, Column, body_metres, rotations
from aign.data.store import codec, write_part
from aign.framework.errors import UserError
from tests.data import store_samples as samples


def write(tmp_path: Any, table: str, clip: dict[str, Any]) -> None:
    write_part(str(tmp_path), 0, {table: [clip]}, samples.provenance())


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_key_columns_are_the_fields_of_the_key() -> None:
    assert [field.name for field in fields(ClipKey)] == list(KEY_TYPES)


@pytest.mark.parametrize("table", TABLES)
def test_every_column_has_an_arrow_type_and_packing(table: str) -> None:
    names = codec.arrow_schema(table).names
    assert names == [*KEY_TYPES, *TABLES[table].columns]
    packed = {path.split(".")[0] for path in codec.parquet_options(table)["compression"]}
    assert packed == set(names)


def test_adding_a_table_is_one_entry(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from aign.data import schema

    areas = schema.Table(columns={"area_px": Column(per="frame", shape=(3,), dtype="int32", checks=(schema.positive,))})
    monkeypatch.setitem(schema.TABLES, "areas", areas)
    clip = samples.key("S1/Walking 1", "a", 4) | {"area_px": np.arange(1, 13, dtype=np.int32).reshape(4, 3)}
    (record,) = write_part(str(tmp_path), 0, {"areas": [clip]}, samples.provenance())
    assert record.frames == 4
    with pytest.raises(UserError, match=r"areas\.area_px .*frame 0.*positive"):
        write_part(str(tmp_path), 1, {"areas": [clip | {"area_px": np.zeros((4, 3), np.int32)}]}, samples.provenance())


def test_millimetres_are_refused_with_a_hint(tmp_path: Any) -> None:
    clip = samples.memory_pose(rng(), "S1/Walking 1", 5)
    clip["joints_world_m"] = clip["joints_world_m"] * 1000
    with pytest.raises(UserError, match=r"S1/Walking 1.*got a body .* looks like millimetres.*allowed is 0.2 to 4 m"):
        write(tmp_path, "memory_pose", clip)
    assert not list(tmp_path.rglob("*.parquet"))


def test_only_attributes_may_be_unknown_and_nothing_infinite(tmp_path: Any) -> None:
    face = samples.anything("faces", rng(), "S1/Face 1", "", 1)
    write(tmp_path, "faces", face | {"attributes": np.array([1, -1, np.nan, 31.5], np.float32)})
    with pytest.raises(UserError, match=r"faces\.attributes .*infinity; .*NaN for what is unknown"):
        write(tmp_path / "b", "faces", face | {"attributes": np.array([1, np.inf], np.float32)})
    with pytest.raises(UserError, match=r"landmarks_px .*NaN"):
        write(tmp_path / "c", "faces", face | {"landmarks_px": np.full((5, 2), np.nan, np.float32)})


def test_boxes_of_parts_that_are_there_enclose_something(tmp_path: Any) -> None:
    boxes = np.array([[1, 2, 3, 4], [1, 1, 5, 5], [4, 4, 4, 4]], np.float32)
    parts = samples.face_parts(rng(), "S1/Face 1", "", 1) | {"boxes_px": boxes}
    write(tmp_path, "face_parts", parts | {"boxes_valid": np.array([True, True, False])})
    with pytest.raises(UserError, match=r"face_parts\.boxes_px .*allowed are x0 < x1, y0 < y1"):
        write(tmp_path / "b", "face_parts", parts | {"boxes_valid": np.array([True, True, True])})


@pytest.mark.parametrize("scale", [0.01, 3.0])
def test_bodies_of_impossible_size_are_refused(scale: float) -> None:
    pose = samples.pose(rng(), 3)
    assert body_metres(pose, None) is None
    pose[2] *= scale
    problem = body_metres(pose, None)
    assert problem is not None
    assert problem[0] == 2


def test_joints_marked_invalid_do_not_count_as_extent() -> None:
    pose = samples.pose(rng(), 3) + np.float32(5)
    valid = np.ones((3, samples.J), bool)
    pose[1, 4] = 0.0
    valid[1, 4] = False
    assert body_metres(pose, valid) is None
    assert body_metres(pose, np.ones_like(valid)) is not None
    assert body_metres(pose * 0, np.zeros_like(valid)) is None  # nothing to judge


def test_convention_rotations_are_proper_and_row_major() -> None:
    """A row-major [9] matrix whose first row maps the world's y to the camera's x passes; its mirror image does not."""
    matrix = np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]], np.float32)
    assert rotations(matrix.reshape(1, 9), None) is None
    assert rotations((-matrix).reshape(1, 9), None) is not None
    assert rotations((matrix * 1.01).reshape(1, 9), None) is not None


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("table", "column"),
    [("keypoints", "kp2d_px"), ("keypoints", "kp2d_conf"), ("labels", "joints_cam_m"), ("keypoints", "distortion")],
)
def test_nan_is_refused_by_name(tmp_path: Any, table: str, column: str, bad: float) -> None:
    make = {"keypoints": samples.keypoints, "labels": samples.labels}[table]
    clip = make(rng(), "S9/Photo 2", "cam1", 6, 100)
    clip[column].reshape(len(clip[column]), -1)[-1, 0] = bad
    place = "clip at frame 100" if column == "distortion" else "frame 105"
    with pytest.raises(UserError, match=rf"{table}\.{column} .*'S9/Photo 2' from S9/Photo 2\.npz.*cam1, {place}.*NaN"):
        write(tmp_path, table, clip)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("kp2d_conf", np.full((6, samples.J), 1.5), r"got confidences from 1.5 to 1.5; allowed is 0\.\.1"),
        ("kp2d_px", np.ones((6, 16, 2)), r"got shape \[6, 16, 2\]; allowed is \[6, 17, 2\]"),
        ("kp2d_px", np.ones((5, 17, 2)), r"got shape \[5, 17, 2\]; allowed is \[6, 17, 2\]"),
        ("intrinsics_px", np.ones((3, 3)), r"got shape \[3, 3\]; allowed is \[4\]"),
        ("intrinsics_px", np.array([0.0, 1, 1, 1]), r"positive focal"),
        ("intrinsics_source", "guess", r"got 'guess'; allowed are 'calibration' and 'assumed'"),
        ("intrinsics_source", 3, r"got int; allowed is a string"),
        ("image_size_px", np.array([1.5, 2.0]), r"got float64 numbers; allowed is int32"),
        ("image_size_px", np.array([0, 2]), r"positive"),
        ("fps", 0.0, r"fps 0"),
        ("num_frames", 0, r"num_frames 0"),
        ("sequence", "", r"empty sequence"),
    ],
)
def test_wrong_keypoints_are_refused(tmp_path: Any, column: str, value: object, message: str) -> None:
    clip = samples.keypoints(rng(), "S1/Walking 1", "a", 6) | {column: value}
    with pytest.raises(UserError, match=message) as caught:
        write(tmp_path, "keypoints", clip)
    assert "\n" not in str(caught.value)


def test_other_bad_input(tmp_path: Any) -> None:
    memory = samples.memory_pose(rng(), "S1/Walking 1", 4)
    with pytest.raises(UserError, match="this table allows none"):
        write(tmp_path, "memory_pose", memory | {"camera": "a"})
    with pytest.raises(UserError, match=r"allowed is \[C >= 1, 9\]"):
        write(tmp_path, "memory_pose", memory | {"rig_rot_world_to_cam": np.zeros((0, 9))})
    with pytest.raises(UserError, match="determinant -1"):
        write(tmp_path, "memory_pose", memory | {"rig_rot_world_to_cam": -np.eye(3).reshape(1, 9)})
    with pytest.raises(UserError, match=r"lacks \['joints_world_m'\] and has unknown \['joints_world_mm'\]"):
        write(tmp_path, "memory_pose", {k.replace("world_m", "world_mm"): v for k, v in memory.items()})
    with pytest.raises(UserError, match="got table 'poses'; allowed are frames, keypoints"):
        write(tmp_path, "poses", memory)
    picture = samples.pictures(rng(), "S1/Walking 1", "a", 3)
    with pytest.raises(UserError, match="allowed are JPEG"):
        write(tmp_path, "frames", picture | {"image_jpeg": [b"\xff\xd8\xff", b"PNG", b"\xff\xd8\xff"]})
    with pytest.raises(UserError, match="got 2 items; allowed are 3"):
        write(tmp_path, "frames", picture | {"image_jpeg": picture["image_jpeg"][:2]})
    assert not list(tmp_path.rglob("*.parquet"))
