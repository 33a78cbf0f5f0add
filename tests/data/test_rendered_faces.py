"""Rendered faces as jobs of a store: counts, partitions, labels, same bytes."""

import pickle

import numpy as np
import pytest

from aign.data.datasets.faces import rendered_faces
from aign.data.datasets.faces.rendered_faces import ATTRIBUTES, FaceOptions, partition_of, plan
from aign.data.datasets.job import Stored, run
from aign.data.pixels import decode_jpeg, decode_parts
from aign.data.sources import SourceOptions, recognise
from aign.data.store import Manifest, Store, commit
from aign.data.synthetic.faces.people import draw_person, draw_sitting
from aign.data.synthetic.faces.render import render_face
from aign.framework.errors import UserError

OPTIONS = FaceOptions(frames=84, side_px=32, seed=3)
BOTH = ("faces", "face_parts")


@pytest.fixture(scope="module")
def tables():
    (job,) = plan(OPTIONS)
    return job.clips(BOTH, Stored(url="", records={})).tables


def value(row, name):
    return float(row["attributes"][row["attribute_names"].split().index(name)])


def test_demo_faces_is_recognised_by_its_name():
    source = recognise("demo-faces", options=SourceOptions(frames=1000, seed=7))
    assert source.kind == "rendered-faces"
    assert {(job.options.side_px, job.options.seed) for job in source.jobs} == {(64, 7)}
    assert "8 pictures a person" in source.found
    assert source.missing == []
    (job,) = recognise("demo-faces", options=SourceOptions(frames=10, side_px=128)).jobs
    assert job.options.side_px == 128
    with pytest.raises(UserError, match=r"--keypoints is for .*; demo-faces is read as rendered-faces"):
        recognise("demo-faces", options=SourceOptions(keypoints="detector"))


@pytest.mark.parametrize(
    ("bad", "message"),
    [({"frames": 0}, "0 rendered"), ({"side_px": 16}, "16 px; 32 to 512"), ({"seed": -1}, "seed -1")],
)
def test_bad_options(bad, message):
    with pytest.raises(UserError, match=message):
        FaceOptions(**bad)


def test_exactly_the_pictures_that_were_asked_for(tables):
    assert len(tables["faces"]) == len(tables["face_parts"]) == OPTIONS.frames
    assert sorted(row["frame_start"] for row in tables["faces"]) == list(range(OPTIONS.frames))
    jobs = plan(FaceOptions(frames=1003))
    pictures = [job.provenance("faces").stages[0].params["pictures"] for job in jobs]
    assert sum(pictures) == 1003
    assert len({job.source for job in jobs}) == len({job.provenance("faces").hash for job in jobs}) == len(jobs) == 4
    assert pickle.loads(pickle.dumps(jobs[0])) == jobs[0]


def test_nobody_is_in_two_partitions_and_everybody_stays_the_same(tables):
    by_identity = {}
    for row in tables["faces"]:
        by_identity.setdefault(row["identity"], []).append(row)
        assert row["partition"] == partition_of(row["identity"])
        assert row["sequence"] == f"rendered-3/{row['partition']}"
    assert set(map(partition_of, by_identity)) == {"train", "val", "test"}
    for rows in by_identity.values():
        for name in ("Male", "age", "lips", "nose", "african", "Gray_Hair", "hair_length"):
            assert len({value(row, name) for row in rows}) == 1
    assert len({value(row, "light") for row in tables["faces"]}) == OPTIONS.frames


def test_labels_are_those_of_the_picture(tables):
    for face, part in list(zip(tables["faces"], tables["face_parts"], strict=True))[::9]:
        number, identity = face["frame_start"], face["identity"]
        person, sitting = draw_person(3, identity), draw_sitting(3, identity, number % 8)
        rendered = render_face(person, sitting, 32)
        assert np.abs(decode_jpeg(face["face_jpeg"][0]).astype(int) - rendered.rgb).mean() < 4
        assert (decode_parts(part["parts_png"][0]) == rendered.parts).all()
        assert (part["boxes_px"] == rendered.boxes_px).all()
        assert value(face, "Male") == (1 if person.male else -1)
        assert value(face, "Young") == (1 if person.age < 40 else -1)
        assert value(face, "Smiling") == (1 if sitting.smiling else -1)
        assert value(face, "age") == pytest.approx(person.age, abs=1e-4)
        assert value(face, "lip_area") == pytest.approx(rendered.lip_area, abs=1e-6)
        assert sum(value(face, name) for name in ("african", "asian", "caucasian")) == pytest.approx(1, abs=1e-5)
        assert abs(value(face, "light")) <= 1
    assert len(ATTRIBUTES) == len(set(ATTRIBUTES)) == len(tables["faces"][0]["attributes"])


def test_two_runs_are_the_same_bytes_and_a_repeated_one_does_nothing(tmp_path, monkeypatch):
    options = FaceOptions(frames=20, side_px=32, seed=3)
    (job,) = plan(options)
    first, second = (run(job, str(tmp_path / name), 0) for name in "ab")
    assert [r.sha256 for r in first] == [r.sha256 for r in second]
    monkeypatch.setattr(rendered_faces, "render_face", lambda *_: pytest.fail("it was there already"))
    assert [r.sha256 for r in run(job, str(tmp_path / "a"), 0)] == [r.sha256 for r in first]
    commit(str(tmp_path / "a"), Manifest(skeleton="face5", num_joints=5).updated(first))
    clips = Store.open(str(tmp_path / "a")).read({"faces": ("attributes", "identity"), "face_parts": ("boxes_px",)})
    assert clips.arrays["attributes"].dtype == np.float32
    assert clips.arrays["boxes_px"].shape == (20, 3, 4)


def test_a_picture_does_not_depend_on_how_many_are_made(tables):
    (job,) = plan(FaceOptions(frames=9, side_px=32, seed=3))
    few = {row["frame_start"]: row for row in job.clips(("faces",), Stored(url="", records={})).tables["faces"]}
    for row in tables["faces"]:
        if row["frame_start"] in few:
            assert few[row["frame_start"]]["face_jpeg"] == row["face_jpeg"]
