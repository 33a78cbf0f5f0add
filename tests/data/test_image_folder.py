"""A folder of pictures with a CSV of attributes: how a table may be written, and how not."""

import pickle

import cv2
import numpy as np
import pytest

from aign.data.datasets.faces.face_table import read_table
from aign.data.datasets.faces.faces import LANDMARKS
from aign.data.datasets.faces.image_folder import LookFor, plan
from aign.data.datasets.job import Stored, run
from aign.data.pixels import decode_jpeg
from aign.data.store import Manifest, Quarantined, Store, commit
from aign.framework.errors import UserError


def picture(width, height, shade):
    y, x = np.mgrid[:height, :width]
    return np.stack([(2 * x) % 256, (2 * y) % 256, np.full_like(x, shade)], -1).astype(np.uint8)


def write_picture(path, width=40, height=60, shade=90):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture(width, height, shade)[..., ::-1])


def write_folder(root, table, names=("a.jpg", "b.png", "c.jpg"), **how):
    root.mkdir(exist_ok=True)
    for name in names:
        write_picture(root / name)
    (root / "attributes.csv").write_text(table, **({"encoding": "utf-8"} | how))
    return root


def rows_of(job):
    return job.clips(("faces",), Stored(url="", records={})).tables["faces"]


TABLE = "file,Male,Smiling\na.jpg,1,-1\nb.png,-1,-1\nc.jpg,1,1\n"


def test_pictures_of_any_size_and_kind_reach_the_store(tmp_path):
    root = write_folder(tmp_path / "faces", TABLE)
    write_picture(root / "b.png", 31, 17, 200)
    (job,) = plan(root)
    (record,) = run(job, str(tmp_path / "store"), 0)
    commit(str(tmp_path / "store"), Manifest(skeleton="face5", num_joints=5).updated([record]))
    clips = Store.open(str(tmp_path / "store")).read({"faces": ("face_size_px", "attributes", "landmarks_valid")})
    assert [(k.sequence, k.subject, k.frame_start) for k in clips.keys] == [("faces/all", "faces", i) for i in range(3)]
    assert clips.arrays["face_size_px"].tolist() == [[40, 60], [31, 17], [40, 60]]
    assert clips.arrays["attributes"].reshape(3, 2).tolist() == [[1, -1], [-1, -1], [1, 1]]
    assert not clips.arrays["landmarks_valid"].any()
    made = rows_of(job)
    assert made[0]["face_jpeg"] == [(root / "a.jpg").read_bytes()]
    assert np.abs(decode_jpeg(made[1]["face_jpeg"][0]).astype(int) - picture(31, 17, 200)).mean() < 3


@pytest.mark.parametrize(
    ("yes", "no"), [("1", "-1"), ("1", "0"), ("true", "False"), ("YES", "no"), ("1.0", "0.0"), ("1.0", "-1.0")]
)
def test_every_way_to_say_yes_and_no(tmp_path, yes, no):
    root = write_folder(tmp_path, f"file,Young\na.jpg,{yes}\nb.png,{no}\nc.jpg, {yes} \n")
    assert [row["attributes"].tolist() for row in rows_of(plan(root)[0])] == [[1], [-1], [1]]


def test_numbers_stay_and_empty_cells_are_unknown(tmp_path):
    root = write_folder(tmp_path / "in", "file,Male,age,lips\na.jpg,1,31,0.25\nb.png,,n/a,-1.5\nc.jpg,0,52.5,\n")
    (job,) = plan(root)
    (record,) = run(job, str(tmp_path / "store"), 0)
    commit(str(tmp_path / "store"), Manifest(skeleton="face5", num_joints=5).updated([record]))
    read = Store.open(str(tmp_path / "store")).read({"faces": ("attributes", "attribute_names")}).arrays
    want = np.array([[1, 31, 0.25], [np.nan, np.nan, -1.5], [-1, 52.5, np.nan]], np.float32)
    np.testing.assert_array_equal(read["attributes"].reshape(3, 3), want)
    assert read["attributes"].dtype == np.float32
    assert set(read["attribute_names"]) == {"Male age lips"}


def test_the_licence_is_taken_from_its_column(tmp_path):
    root = write_folder(tmp_path, "file,Male,licence\na.jpg,1,CC0-1.0\nb.png,0,CC0-1.0\nc.jpg,0,CC-BY-4.0\n")
    assert plan(root)[0].provenance("faces").licence == "CC0-1.0, CC-BY-4.0"
    assert plan(write_folder(tmp_path, TABLE))[0].provenance("faces").licence == "licence of the pictures' owner"
    assert read_table(root / "attributes.csv").attribute_names == ("Male", "Smiling")


@pytest.mark.parametrize(
    ("stages", "side_px", "message"),
    [
        (("landmark",), None, r"got stages \['landmark'\]; of pictures landmarks and aligned are allowed"),
        (("landmarks",), 64, "--side-px is for pictures that are cut out; add --stages aligned"),
        (("aligned",), 8, "8 px; 32 to 512"),
    ],
)
def test_stages_that_are_none_are_refused(stages, side_px, message):
    with pytest.raises(UserError, match=message):
        LookFor(stages=stages, side_px=side_px)


def test_a_spreadsheets_csv_is_read(tmp_path):
    """A mark at the start, semicolons, quotes, CRLF, an empty last line, a space in a name."""
    text = '\ufeffImage ID;Big Lips;identity\r\n"a.jpg";yes;7\r\nb.png;no;\r\nsub\\c.jpg;no;9\r\n\r\n'
    root = write_folder(tmp_path, text, names=("a.jpg", "b.png", "sub/c.jpg"), newline="")
    rows = rows_of(plan(root)[0])
    assert [row["attribute_names"] for row in rows] == ["Big_Lips"] * 3
    assert [row["identity"] for row in rows] == [7, -1, 9]


def test_identity_partition_and_landmarks_are_taken(tmp_path):
    header = f"Male,partition,path,identity,{','.join(LANDMARKS)}"
    marks = "10,20,30,20,20,30,12,40,28,40.5"
    lines = [f"1,train,a.jpg,3,{marks}", f"0,val,b.png,-1,{',' * 9}", f"0,train,c.jpg,3,{marks}"]
    jobs = plan(write_folder(tmp_path, "\n".join([header, *lines])))
    assert [job.partition for job in jobs] == ["train", "val"]
    train, val = (rows_of(job) for job in jobs)
    assert [row["frame_start"] for row in train] == [0, 2]
    assert train[1]["landmarks_px"].tolist() == [[10, 20], [30, 20], [20, 30], [12, 40], [28, 40.5]]
    assert train[1]["landmarks_valid"]
    assert not val[0]["landmarks_valid"]
    assert [row["attributes"].tolist() for row in train + val] == [[1], [-1], [-1]]
    assert {row["partition"] for row in train} == {"train"}
    assert train[0]["sequence"] == f"{tmp_path.name}/train"
    codes = write_folder(tmp_path, "file,x,partition\na.jpg,1,0\nb.png,0,1\nc.jpg,0,2\n")
    assert [job.partition for job in plan(codes)] == ["train", "val", "test"]


def test_jobs_are_bounded_and_together_everything(tmp_path, monkeypatch):
    monkeypatch.setattr("aign.data.datasets.faces.image_folder.PICTURES_PER_JOB", 2)
    parts = ["train", "test", "train", "test", "train", "all"]
    names = [f"{i}.jpg" for i in range(6)]
    table = "file,x,partition\n" + "".join(
        f"{n},{i % 2},{p}\n" for i, (n, p) in enumerate(zip(names, parts, strict=True))
    )
    jobs = plan(write_folder(tmp_path, table, names=names))
    assert [(job.partition, [r["frame_start"] for r in rows_of(job)]) for job in jobs] == [
        ("train", [0, 2]),
        ("train", [4]),
        ("test", [1, 3]),
        ("all", [5]),
    ]
    assert len({job.source for job in jobs}) == len({job.provenance("faces").hash for job in jobs}) == 4
    assert pickle.loads(pickle.dumps(jobs[0])) == jobs[0]


def test_missing_broken_and_unnamed_pictures_are_listed_and_the_rest_goes_on(tmp_path):
    root = write_folder(tmp_path / "in", TABLE + "d.jpg,1,1\ne.png,1,1\n", names=("a.jpg", "b.png", "e.png", "new.jpg"))
    (root / "b.png").write_bytes((root / "b.png").read_bytes()[:-20])
    (root / "e.png").write_bytes(b"not a picture")
    (record,) = run(plan(root)[0], str(tmp_path / "store"), 0)
    assert [span.frame_start for group in record.row_groups for span in group.clips] == [0]
    assert record.left_out == (
        f"b.png ({(root / 'b.png').stat().st_size} bytes) is not a whole JPEG or PNG picture",
        "e.png (13 bytes) is not a whole JPEG or PNG picture",
        "2 pictures are not there: c.jpg, d.jpg",
        "1 pictures have no row in attributes.csv: new.jpg",
    )


def test_pictures_that_are_too_large_are_left_out(tmp_path):
    root = write_folder(tmp_path, TABLE)
    write_picture(root / "a.jpg", 5000, 8)
    write_picture(root / "b.png", 5000, 8)
    whole = cv2.imencode(".png", picture(8, 8, 0))[1].tobytes()
    promising = whole[:16] + b"\x7f\xff\xff\xff\x7f\xff\xff\xff" + whole[24:]
    (root / "c.jpg").write_bytes(promising)
    with pytest.raises(UserError, match=r"none of 3 .*a.jpg: .*5000.*b.png has 5000 x 8 px; at most 4096.*c.jpg \("):
        rows_of(plan(root)[0])


def test_only_broken_pictures_are_quarantined(tmp_path):
    root = write_folder(tmp_path / "in", "file,Male\na.jpg,1\n", names=("a.jpg",))
    (root / "a.jpg").write_bytes((root / "a.jpg").read_bytes()[:200])
    result = run(plan(root)[0], str(tmp_path / "store"), 0)
    assert isinstance(result, Quarantined)
    assert "none of 1 pictures can be used: a.jpg" in result.error


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "has 0 lines"),
        ("file,Male\n", "has 1 lines"),
        ("Male,Young\n1,0\n", "one of file, filename, image, path, image_id is needed"),
        ("file,path,Male\na.jpg,a.jpg,1\n", "one of file, filename"),
        ("file\na.jpg\n", "has no attribute; beside 'file'"),
        ("file,Male,male\na.jpg,1,0\n", "each needs a name of its own"),
        ("file,Male,\na.jpg,1,0\n", "each needs a name of its own"),
        ("file,Male\na.jpg,1,0\n", "line 2: 3 cells, the header has 2"),
        ('file,Male\n"a.jpg,1\n', "not a well-formed CSV"),
        ("file,Male,age\na.jpg,1,\nb.png,0,\n", "age is empty in every row"),
        ("file,Male\na.jpg,1\nb.png,0\nc.jpg,-1\n", "Male has 0 and -1, which both mean no"),
        ("file,sex\na.jpg,man\nb.png,woman\n", "sex has man, woman; write a column man with yes and no"),
        ("file,age\na.jpg,31\nb.png,inf\nc.jpg,52\n", "age has 31, 52, inf; an attribute is yes or no, or a number"),
        ("file,hair\na.jpg,red\nb.png,grey\nc.jpg,black\n", "hair has black, grey, red; an attribute is yes or no"),
        ("file,Male\na.jpg,1\nb.png,0\na.jpg,1\n", "lines 2 and 4 are both of a.jpg"),
        ("file,Male\na.jpg,1\n./a.jpg,0\n", "lines 2 and 3 are both of a.jpg"),
        ("file,Male\n../a.jpg,1\n", "line 2: got '../a.jpg'; a picture inside"),
        ("file,Male\n/etc/a.jpg,1\n", "line 2: got '/etc/a.jpg'"),
        ("file,Male\n,1\n", "line 2: got ''"),
        ("file,Male\nz.jpg,1\n", "names z.jpg, of which none is in"),
        ("file,Male,identity\na.jpg,1,Tom\n", "line 2: identity is 'Tom'; a whole number"),
        ("file,Male,partition\na.jpg,1,dev\n", "line 2: partition is 'dev'; allowed: train, val, test, all"),
        ("file,Male,nose_x,nose_y\na.jpg,1,3,4\n", "has 2 of the landmark columns; all of lefteye_x"),
        (f"file,Male,{','.join(LANDMARKS)}\na.jpg,1,1,2,3,4,5,6,7,8,9,x\n", "line 2: a landmark is no number"),
        (f"file,Male,{','.join(LANDMARKS)}\na.jpg,1,1,2,3,4,5,6,7,8,9,nan\n", "line 2: a landmark is not finite"),
        (f"file,Male,{','.join(LANDMARKS)}\na.jpg,1,1,2,3,4,5,6,7,8,9,\n", "line 2: a landmark is no number"),
    ],
)
def test_tables_that_cannot_be_used_say_why(tmp_path, table, message):
    with pytest.raises(UserError, match=message) as error:
        plan(write_folder(tmp_path, table))
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_the_table_is_found_or_asked_for(tmp_path):
    root = write_folder(tmp_path, TABLE)
    (root / "other.csv").write_text("nothing")
    assert plan(root)[0].table.name == "attributes.csv"
    (root / "attributes.csv").rename(root / "labels.CSV")
    with pytest.raises(UserError, match=r"has labels.CSV, other.csv; attributes.csv is needed"):
        plan(root)
    (root / "other.csv").unlink()
    assert plan(root)[0].table.name == "labels.CSV"
    (root / "labels.CSV").unlink()
    with pytest.raises(UserError, match=r"has no CSV; attributes.csv is needed"):
        plan(root)
    with pytest.raises(UserError, match="no picture in"):
        plan(write_folder(tmp_path / "empty", TABLE, names=()))


def test_another_encoding_is_said(tmp_path):
    with pytest.raises(UserError, match=r"is not UTF-8 .*save it as CSV UTF-8"):
        plan(write_folder(tmp_path, "file,B\u00e4rtig\na.jpg,1\n", encoding="latin-1"))


def test_a_changed_table_is_read_again(tmp_path):
    root = write_folder(tmp_path, TABLE)
    before = plan(root)[0].provenance("faces").hash
    assert read_table(root / "attributes.csv").faces[0].attributes.tolist() == [1, -1]
    (root / "attributes.csv").write_text(TABLE.replace("a.jpg,1,-1", "a.jpg,-1,1"))
    assert read_table(root / "attributes.csv").faces[0].attributes.tolist() == [-1, 1]
    assert plan(root)[0].provenance("faces").hash != before
