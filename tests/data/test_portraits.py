"""Portraits with prompts in their layout: labels from folders and prompts."""

import json

import cv2
import numpy as np
import pytest

from aign.data.datasets.faces import found_faces
from aign.data.datasets.faces.image_folder import LookFor
from aign.data.datasets.faces.portraits import LICENCE, plan
from aign.data.datasets.job import Stored, run
from aign.data.pixels import decode_jpeg, decode_parts
from aign.data.sources import detect
from aign.data.stages import faces as face_stage
from aign.data.stages.faces import FoundFace
from aign.data.store import Quarantined
from aign.framework.errors import UserError


def write_portraits(root, numbers=range(10)):
    for sex, noun in (("female", "woman"), ("male", "man")):
        for folder in ("128", "metadata"):
            (root / sex / folder).mkdir(parents=True)
        for n in numbers:
            picture = np.full((128, 128, 3), 20 * n + (sex == "male"), np.uint8)
            assert cv2.imwrite(str(root / sex / "128" / f"{n}.jpg"), picture)
            prompt = f"profile picture of a {20 + 7 * n}-year-old {noun} from Peru"
            data = {"model": "stability-ai/stable-diffusion-3", "prompt": prompt, "parameters": {"prompt": prompt}}
            (root / sex / "metadata" / f"{n}.json").write_text(json.dumps(data))
    return root


def rows_of(jobs, tables=("faces",)):
    made = [job.clips(tables, Stored(url="", records={})).tables for job in jobs]
    return [[row for tables in made for row in tables[table]] for table in tables]


@pytest.fixture
def root(tmp_path):
    return write_portraits(tmp_path / "portraits")


def test_sex_age_and_partition(root):
    assert detect(root) == "portraits"
    jobs = plan(root)
    assert [job.partition for job in jobs] == ["train", "val", "test"]
    (rows,) = rows_of(jobs)
    assert len(rows) == 20
    for row in rows:
        number = row["frame_start"] % 10
        male, young, age = row["attributes"]
        assert row["attribute_names"] == "Male Young age"
        assert (male, age) == (1 if row["frame_start"] >= 10 else -1, 20 + 7 * number)
        assert young == (1 if age < 40 else -1)
        assert row["partition"] == {8: "val", 9: "test"}.get(number, "train")
        assert row["face_jpeg"] == [(root / ("male" if male > 0 else "female") / "128" / f"{number}.jpg").read_bytes()]
    licence = jobs[0].provenance("faces").licence
    assert licence == LICENCE
    assert "AI-generated" in licence


def test_without_a_prompt_age_is_unknown_and_a_broken_one_is_said(root):
    (root / "female/metadata/3.json").unlink()
    (root / "male/metadata/4.json").write_text('{"prompt": "a man"}')
    (rows,) = rows_of(plan(root))
    by_number = {row["frame_start"]: row["attributes"] for row in rows}
    assert np.isnan(by_number[3][1:]).all()
    assert by_number[3][0] == -1
    assert np.isnan(by_number[14][1:]).all()
    assert by_number[14][0] == 1
    (root / "male/metadata/5.json").write_text("{")
    with pytest.raises(UserError, match=r"male/metadata/5\.json: not a portrait's JSON"):
        plan(root)


def test_a_changed_prompt_is_read_again(root):
    before = plan(root)[0].provenance("faces").hash
    file = root / "male/metadata/1.json"
    file.write_text(file.read_text().replace("27", "28"))
    assert plan(root)[0].provenance("faces").hash != before


@pytest.fixture
def net(monkeypatch):
    """A landmark net that sees a face in every picture but the darkest."""
    points = np.full((468, 2), 64.0)
    places = {face_stage._LEFT_EYE: (50, 55), face_stage._RIGHT_EYE: (78, 55), face_stage._LIPS: (64, 84)}
    for which, middle in places.items():
        turn = np.linspace(np.pi, 3 * np.pi, len(which), endpoint=False)
        points[list(which)] = np.array(middle) + np.stack((np.cos(turn), -np.sin(turn)), 1) * (9, 4)
    points[list(face_stage._NOSE)] = [(64 + 6 * np.cos(i), 70 + 5 * np.sin(i)) for i in range(len(face_stage._NOSE))]

    def find(image):
        if image.mean() < 5:
            raise UserError("no face found in a picture of 128 x 128 px")
        return FoundFace(points_px=points)

    monkeypatch.setattr(found_faces, "find_face", find)
    monkeypatch.setattr("aign.data.assets.path", lambda name: name)


def test_faces_are_looked_for_and_cut_out(root, net):
    jobs = plan(root, LookFor(stages=("aligned",), side_px=64))
    assert jobs[0].table_groups == (("faces", "face_parts"),)
    faces, parts = rows_of(jobs, ("faces", "face_parts"))
    assert len(faces) == len(parts) == 18, "two are too dark"
    for face, part in zip(faces, parts, strict=True):
        assert face["frame_start"] == part["frame_start"]
        assert decode_jpeg(face["face_jpeg"][0]).shape == (64, 64, 3)
        assert face["face_size_px"].tolist() == [64, 64]
        assert face["landmarks_valid"]
        labels = decode_parts(part["parts_png"][0])
        assert labels.shape == (64, 64)
        y, x = np.nonzero(labels == 1)
        assert part["boxes_px"][0].tolist() == [x.min() - 0.5, y.min() - 0.5, x.max() + 0.5, y.max() + 0.5]
        assert part["boxes_valid"].all()
    whole, _ = rows_of(plan(root, LookFor(stages=("landmarks",))), ("faces", "face_parts"))
    assert whole[0]["face_size_px"].tolist() == [128, 128]
    np.testing.assert_allclose(whole[0]["landmarks_px"][:2], [[50, 55], [78, 55]], atol=1e-5)
    hashes = {
        plan(root, look)[0].provenance("faces").hash
        for look in (
            None,
            LookFor(stages=("landmarks",)),
            LookFor(stages=("aligned",)),
            LookFor(stages=("aligned",), side_px=64),
        )
    }
    assert len(hashes) == 4


def test_pictures_without_a_face_are_named_and_none_at_all_is_quarantined(tmp_path, root, net):
    job = plan(root, LookFor(stages=("aligned",)))[0]
    records = run(job, str(tmp_path / "store"), 0)
    assert [r.table for r in records] == ["faces", "face_parts"]
    assert len(records[0].left_out) == 2
    assert "picture 0 of portraits/train: no face found" in records[0].left_out[0]
    dark = write_portraits(tmp_path / "dark", range(1))
    (only,) = plan(dark, LookFor(stages=("aligned",)))
    result = run(only, str(tmp_path / "store"), 1)
    assert isinstance(result, Quarantined)
    assert "none of 2 pictures can be used: picture 0" in result.error


def test_without_nets_the_plan_says_what_to_pull(root, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    monkeypatch.delenv("AIGN_ASSETS", raising=False)
    with pytest.raises(UserError, match="aign assets pull face_detector"):
        LookFor(stages=("landmarks",))
