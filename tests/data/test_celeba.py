"""CelebA in its published layout: what is stored, and every way its files do not fit together."""

import pickle
import shutil

import cv2
import numpy as np
import pytest

from aign.data.datasets.faces import faces as faces_module
from aign.data.datasets.faces.celeba import plan
from aign.data.datasets.faces.faces import LANDMARKS, read_picture
from aign.data.datasets.job import Stored, run
from aign.data.pixels import decode_jpeg
from aign.data.store import Manifest, Quarantined, Store, commit
from aign.framework.errors import UserError
from aign.geometry.skeleton import FACE5

NAMES = ("Big_Lips", "Male", "Smiling", "Young")
CODES = (0, 0, 0, 1, 0, 2, 0)  # partition of pictures 1 to 7
MARKS = np.array([69, 109, 106, 113, 77, 142, 73, 152, 108, 154])


def picture(number, width=178, height=218):
    """Distinct, smooth and coloured."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x % 256, (y + 30 * number) % 256, np.full_like(x, 20 * number)], -1).astype(np.uint8)


def jpeg(rgb, *settings):
    return cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 75, *settings])[1].tobytes()


def attributes_of(number):
    return [1 if (number >> k) & 1 else -1 for k in range(len(NAMES))]


def write_celeba(root, flat=False):
    """The files as they come: variable spaces, counts and headers in some, none in others."""
    anno, evaluation, images = (root, root, root) if flat else (root / "Anno", root / "Eval", root / "Img")
    pictures = images / "img_align_celeba"
    for folder in (anno, evaluation, pictures):
        folder.mkdir(parents=True, exist_ok=True)
    numbers = range(1, len(CODES) + 1)
    for n in numbers:
        (pictures / f"{n:06d}.jpg").write_bytes(jpeg(picture(n)))
    lines = [f"{n:06d}.jpg " + " ".join(f"{a:2d}" for a in attributes_of(n)) + "  " for n in numbers]
    (anno / "list_attr_celeba.txt").write_text("\n".join([str(len(CODES)), " ".join(NAMES) + " ", *lines]) + "\n")
    lines = [f"{n:06d}.jpg " + "  ".join(f"{m + n:4d}" for m in MARKS) for n in numbers]
    header = " ".join(LANDMARKS)
    (anno / "list_landmarks_align_celeba.txt").write_text("\n".join([str(len(CODES)), header, *lines]) + "\n")
    lines = [f"{n:06d}.jpg    {95 * n}  71 226 313" for n in numbers]
    boxes = "\n".join([str(len(CODES)), "image_id x_1 y_1 width height", *lines])
    (anno / "list_bbox_celeba.txt").write_text(boxes + "\n")
    (anno / "identity_CelebA.txt").write_text("".join(f"{n:06d}.jpg {2880 + n % 3}\n" for n in numbers))
    codes = "".join(f"{n:06d}.jpg {code}\n" for n, code in zip(numbers, CODES, strict=True))
    (evaluation / "list_eval_partition.txt").write_text(codes)
    return root


def made(job):
    return job.clips(("faces",), Stored(url="", records={}))


def stored(jobs, url):
    """What a store holds after these jobs: (key, row) of every picture, and the records."""
    records = [record for number, job in enumerate(jobs) for record in run(job, url, number)]
    commit(url, Manifest(skeleton="face5", num_joints=5).updated(records))
    columns = ("landmarks_px", "landmarks_valid", "attributes", "identity", "face_size_px")
    clips = Store.open(url).read({"faces": columns})
    at = np.cumsum(clips.counts["attributes"])[:-1]
    rows = [{name: clips.arrays[name][i] for name in columns if name != "attributes"} for i in range(len(clips.keys))]
    for row, signs in zip(rows, np.split(clips.arrays["attributes"], at), strict=True):
        row["attributes"] = signs
    return {key.frame_start: (key, row) for key, row in zip(clips.keys, rows, strict=True)}, records


@pytest.fixture
def celeba(tmp_path):
    return write_celeba(tmp_path / "celeba")


@pytest.mark.parametrize("flat", [False, True])
def test_every_picture_arrives_with_its_labels(tmp_path, flat):
    jobs = plan(write_celeba(tmp_path / "celeba", flat))
    assert [(job.partition, len(job.names)) for job in jobs] == [("train", 5), ("val", 1), ("test", 1)]
    rows, _ = stored(jobs, str(tmp_path / "store"))
    assert sorted(rows) == [1, 2, 3, 4, 5, 6, 7]
    for number, (key, row) in rows.items():
        assert key.sequence == f"celeba/{('train', 'val', 'test')[CODES[number - 1]]}"
        assert (key.subject, key.action, key.num_frames, key.fps) == ("celeba", "face", 1, 1.0)
        assert row["attributes"].tolist() == attributes_of(number)
        np.testing.assert_array_equal(row["landmarks_px"], MARKS.reshape(5, 2) + number)
        assert row["landmarks_valid"]
        assert row["identity"] == 2880 + number % 3
        assert row["face_size_px"].tolist() == [178, 218]


def test_bytes_of_rgb_jpegs_are_stored_unchanged(celeba):
    result = made(plan(celeba)[0])
    assert result.left_out == ()
    for clip in result.tables["faces"]:
        number = clip["frame_start"]
        assert clip["face_jpeg"] == [(celeba / f"Img/img_align_celeba/{number:06d}.jpg").read_bytes()]
        assert clip["attribute_names"] == "Big_Lips Male Smiling Young"
        assert clip["partition"] == "train"


def test_other_pictures_are_coded_again(tmp_path):
    """Grey, and turned by EXIF: both come out upright with three channels."""
    upright = picture(3, 64, 48)
    (tmp_path / "grey.jpg").write_bytes(cv2.imencode(".jpg", upright[..., 1])[1].tobytes())
    data, size = read_picture(tmp_path / "grey.jpg")
    assert size == (64, 48)
    assert data != (tmp_path / "grey.jpg").read_bytes()
    assert np.abs(decode_jpeg(data).astype(int) - upright[..., 1:2]).mean() < 4

    turned = jpeg(np.rot90(upright).copy(), cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # one entry: orientation 6
    (tmp_path / "exif.jpg").write_bytes(
        turned[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + turned[2:]
    )
    data, size = read_picture(tmp_path / "exif.jpg")
    assert size == (64, 48)
    assert np.abs(decode_jpeg(data).astype(int) - upright).mean() < 4
    plain = turned[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif.replace(b"\x06", b"\x01") + turned[2:]
    (tmp_path / "upright.jpg").write_bytes(plain)
    assert read_picture(tmp_path / "upright.jpg") == (plain, (48, 64))


def test_convention_left_is_the_pictures_left(celeba):
    """FACE5 names the person's sides: the first landmark, CelebA's lefteye, is the person's right eye."""
    assert FACE5.joints == ("r_eye", "l_eye", "nose", "r_mouth", "l_mouth")
    marks = made(plan(celeba)[0]).tables["faces"][0]["landmarks_px"]
    assert marks[0, 0] < marks[2, 0] < marks[1, 0]
    assert marks[3, 0] < marks[4, 0]
    assert marks[:2, 1].max() < marks[2, 1] < marks[3:, 1].min()


def test_boxes_of_the_unaligned_pictures_are_not_used(celeba):
    """Trap 19: list_bbox is in the frame of the original pictures, hundreds of pixels outside the aligned ones."""
    before = plan(celeba)
    want = made(before[0]).tables["faces"]
    (celeba / "Anno/list_bbox_celeba.txt").write_text("not even a table")
    (celeba / "Anno/list_landmarks_celeba.txt").write_text("nor this")
    after = plan(celeba)
    assert [job.provenance("faces").hash for job in after] == [job.provenance("faces").hash for job in before]
    got = made(after[0]).tables["faces"]
    assert [row["face_jpeg"] for row in got] == [row["face_jpeg"] for row in want]


def test_landmarks_of_the_unaligned_pictures_are_refused(celeba):
    path = celeba / "Anno/list_landmarks_align_celeba.txt"
    head, names, *lines = path.read_text().splitlines()
    far = [line.split()[0] + " 165 184 244 176 196 249 194 271 266 260" for line in lines]
    path.write_text("\n".join([head, names, *far]))
    with pytest.raises(UserError, match=r"landmarks of 5 of 5 pictures lie outside .*aligned"):
        made(plan(celeba)[0])
    path.write_text("\n".join([head, names, *lines[:-5], far[2], *lines[-4:]]))
    result = made(plan(celeba)[0])
    assert [clip["landmarks_valid"] for clip in result.tables["faces"]] == [True, True, False, True, True]
    assert result.tables["faces"][2]["landmarks_px"].tolist() == [[0, 0]] * 5
    assert result.left_out == ("landmarks of 1 pictures lie outside of them, so they are unknown: 000003.jpg",)


def test_jobs_are_of_bounded_size_and_small(celeba, monkeypatch):
    monkeypatch.setattr("aign.data.datasets.faces.celeba.PICTURES_PER_JOB", 2)
    jobs = plan(celeba)
    assert faces_module.PICTURES_PER_JOB == 4096
    assert [job.names for job in jobs[:3]] == [
        ("000001.jpg", "000002.jpg"),
        ("000003.jpg", "000005.jpg"),
        ("000007.jpg",),
    ]
    assert len({job.source for job in jobs}) == len({job.provenance("faces").hash for job in jobs}) == len(jobs)
    assert all(len(pickle.dumps(job)) < 2000 for job in jobs)
    assert pickle.loads(pickle.dumps(jobs[0])) == jobs[0]


def test_a_changed_annotation_or_picture_makes_other_parts(celeba):
    before = plan(celeba)[0].provenance("faces").hash
    path = celeba / "Img/img_align_celeba/000001.jpg"
    path.write_bytes(jpeg(picture(9)))
    changed = plan(celeba)[0].provenance("faces").hash
    assert changed != before
    assert plan(celeba)[0].provenance("faces").hash == changed
    identities = celeba / "Anno/identity_CelebA.txt"
    identities.write_text(identities.read_text().replace("2881", "2889", 1))
    assert plan(celeba)[0].provenance("faces").hash != changed


def test_bad_pictures_are_named_and_the_rest_goes_on(celeba, tmp_path):
    folder = celeba / "Img/img_align_celeba"
    whole = (folder / "000002.jpg").read_bytes()
    (folder / "000002.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "000003.jpg").write_bytes(b"")
    (folder / "000005.jpg").unlink()
    rows, records = stored(plan(celeba), str(tmp_path / "store"))
    assert sorted(rows) == [1, 4, 6, 7]
    left_out = next(r for r in records if "train" in r.row_groups[0].sequence).left_out
    assert len(left_out) == 3
    assert left_out[0].startswith("000002.jpg")
    assert left_out[1].startswith("000003.jpg (0 bytes)")
    assert left_out[2] == "1 pictures are not there: 000005.jpg"


def test_a_part_without_any_usable_picture_is_quarantined(celeba, tmp_path):
    (celeba / "Img/img_align_celeba/000004.jpg").write_bytes(b"\xff\xd8\xffnonsense")
    result = run(plan(celeba)[1], str(tmp_path / "store"), 0)
    assert isinstance(result, Quarantined)
    assert "none of 1 pictures can be used" in result.error
    assert "000004.jpg" in result.error


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("Anno/list_attr_celeba.txt", lambda t: t.replace("7\n", "8\n", 1), "announces 8 pictures and has 7"),
        ("Anno/list_attr_celeba.txt", lambda t: t[: len(t) // 2], "announces 7 pictures and has"),
        ("Anno/list_attr_celeba.txt", lambda t: "".join(t.splitlines(True)[1:]), "begins with 'Big_Lips"),
        ("Anno/list_attr_celeba.txt", lambda t: "", "begins with 'nothing'"),
        ("Anno/list_attr_celeba.txt", lambda t: t.replace("000003", "000333"), "no attributes for 1 .*000003.jpg"),
        ("Anno/list_attr_celeba.txt", lambda t: t.replace("000003", "000002"), "two lines for 000002.jpg"),
        ("Anno/list_attr_celeba.txt", lambda t: t.replace("000003.jpg", "x.jpg"), "no attributes for 1 .*000003"),
        ("Anno/list_attr_celeba.txt", lambda t: t.replace("000003.jpg  1", "000003.jpg 0"), "-1, 0, 1.; allowed"),
        ("Anno/list_attr_celeba.txt", lambda t: t.replace("000003.jpg  1", "000003.jpg   "), "lines of 000003"),
        ("Anno/list_attr_celeba.txt", lambda t: t.replace("000003.jpg  1", "000003.jpg yes"), "other than whole"),
        ("Anno/list_landmarks_align_celeba.txt", lambda t: t.replace("nose_x nose_y", "nose_y nose_x"), "has the col"),
        ("Anno/list_landmarks_align_celeba.txt", lambda t: t.replace("000003", "000333"), "no line for 1 .*000003"),
        ("Anno/identity_CelebA.txt", lambda t: t.replace("000003", "000333"), "no line for 1 .*000003.jpg"),
        ("Anno/identity_CelebA.txt", lambda t: "image_id identity\n" + t, "line 'image_id identity'.* no header"),
        ("Eval/list_eval_partition.txt", lambda t: t.replace("jpg 2", "jpg 3"), "partition 3 for 000006.jpg; allo"),
        ("Eval/list_eval_partition.txt", lambda t: t.replace("jpg 2", "jpg test"), "line '000006.jpg test'"),
        ("Eval/list_eval_partition.txt", lambda t: "7\n" + t, "line '7'"),
        ("Eval/list_eval_partition.txt", lambda t: t.replace("000006.jpg 2\n", ""), "no line for 1 .*000006.jpg"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit_together_are_refused(celeba, name, change, message):
    text = (celeba / name).read_text()
    assert change(text) != text
    (celeba / name).write_text(change(text))
    with pytest.raises(UserError, match=message) as error:
        [made(job) for job in plan(celeba)]
    assert name.rpartition("/")[2] in str(error.value)
    assert "\n" not in str(error.value)


def test_optional_files_may_be_missing(celeba):
    for name in ("Anno/list_landmarks_align_celeba.txt", "Anno/identity_CelebA.txt", "Eval/list_eval_partition.txt"):
        (celeba / name).unlink()
    (job,) = plan(celeba)
    assert job.partition == "all"
    for row in made(job).tables["faces"]:
        assert not row["landmarks_valid"]
        assert row["landmarks_px"].tolist() == [[0, 0]] * 5
        assert row["identity"] == -1


def test_what_is_missing_is_named(celeba):
    (celeba / "Anno/list_attr_celeba.txt").rename(celeba / "x.txt")
    with pytest.raises(UserError, match=r"no list_attr_celeba.txt in .*Anno"):
        plan(celeba)
    (celeba / "x.txt").rename(celeba / "Anno/list_attr_celeba.txt")
    (celeba / "Img/img_align_celeba/000003.jpg").rename(celeba / "Img/img_align_celeba/face.jpg")
    text = (celeba / "Anno/list_attr_celeba.txt").read_text()
    (celeba / "Anno/list_attr_celeba.txt").write_text(text.replace("000003.jpg", "face.jpg"))
    with pytest.raises(UserError, match=r"names face.jpg; CelebA's pictures are numbered"):
        plan(celeba)
    shutil.rmtree(celeba / "Img/img_align_celeba")
    with pytest.raises(UserError, match=r"no pictures in .*extract img_align_celeba.zip"):
        plan(celeba)
    (celeba / "Img/img_align_celeba.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"img_align_celeba.zip is still packed; extract it"):
        plan(celeba)
