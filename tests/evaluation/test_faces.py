"""Methods that make faces, measured with a judge that can be followed by hand."""

import dataclasses

import numpy as np
import pytest

from aign.evaluation.faces import measure_faces
from aign.evaluation.faces_image import CAP_DB
from aign.evaluation.faces_protocol import FACE_PROTOCOLS, resolve_faces
from aign.evaluation.faces_report import FaceReport
from aign.evaluation.faces_view import FaceView, groups_of, read_faces, view_of
from aign.evaluation.protocol import PROTOCOLS
from aign.framework.errors import UserError
from aign.tasks.faces.bias import Bias, parse_bias
from tests.evaluation.faces_samples import NAMES, WHO, colour_judge, drawn, face_rows
from tests.tasks.toy_faces import toy_store

SR = resolve_faces("faces/superresolution-4x")
FILL = resolve_faces("faces/inpainting")
FACES = drawn(24)


def view(bias: str = "sex=female", **other: object) -> FaceView:
    made = view_of(FACES, face_rows(24), SR, judge=colour_judge(), target=parse_bias(bias))
    return dataclasses.replace(made, **other)


def hole() -> np.ndarray:
    found = np.zeros((24, 64, 64), bool)
    found[:, 35:55, 20:44] = True
    return found


def reddened(images: np.ndarray) -> np.ndarray:
    """Everybody a woman, in the eyes of the judge."""
    return np.ascontiguousarray(np.where(images[..., [2]] > images[..., [0]], images[..., ::-1], images))


def test_the_truth_is_faithful_and_changes_nothing_but_what_bicubic_lost():
    seen = view()
    report = measure_faces(FACES.images, seen, SR, WHO)
    assert report.numbers["faithful_psnr_db"] > 55, "the input is its own rounded mean"
    assert report.numbers["psnr_db"] == CAP_DB
    assert report.numbers["ssim"] == pytest.approx(1)
    assert report.numbers["target_points"] == 0
    assert report.numbers["identity_distance"] == pytest.approx(0, abs=1e-6)
    assert report.headline_name == "target_points"


def test_everybody_made_a_woman():
    report = measure_faces(reddened(FACES.images), view(), SR, WHO)
    men = int((FACES.attributes[:, 0] > 0).sum())
    assert report.numbers["target_rate"] == 1
    assert report.numbers["target_rate_before"] == 0, "those who are women already are not asked"
    assert report.numbers["target_points"] == 100
    assert report.numbers["target_points_from_truth"] == 100
    assert report.counts["target_points"] == men
    assert report.numbers["target_rate_all_before"] == pytest.approx(1 - men / 24)
    assert report.audit["Male"]["change_sd"] == pytest.approx(-2 * men / 24)
    assert report.numbers["target_change_sd"] == pytest.approx(2 * men / 24), "towards the target is up"
    assert report.groups["Male=+1"]["count"] == men
    assert report.groups["Male=+1"]["Male"] == -2
    assert report.groups["Male=-1"]["Male"] == 0
    drift = abs(report.audit["age"]["change_sd"])
    assert report.numbers["drift_sd"] == pytest.approx(drift)
    assert report.numbers["target_per_drift"] == pytest.approx(report.numbers["target_change_sd"] / drift)
    assert report.audit["Male"]["judge_accuracy_truth"] == 1, "the judge itself is judged on these pictures"


def test_the_other_way_is_no_gain():
    men = np.ascontiguousarray(
        np.where(FACES.images[..., [2]] < FACES.images[..., [0]], FACES.images[..., ::-1], FACES.images)
    )
    report = measure_faces(men, view(), SR, WHO)
    assert report.numbers["target_points"] <= 0
    assert report.numbers["target_change_sd"] < 0


def test_realism_is_against_those_who_have_the_target():
    women = FACES.attributes[:, 0] < 0
    report = measure_faces(FACES.images, view(), SR, WHO)
    assert report.counts["fid"] == women.sum()
    every = measure_faces(FACES.images, view(bias=""), SR, WHO)
    assert every.counts["fid"] == 24
    assert every.numbers["fid"] == pytest.approx(0, abs=1e-6)
    own = measure_faces(reddened(FACES.images), view(), SR, WHO)
    assert own.numbers["fid"] < report.numbers["fid"], "women are more like women than everybody is"
    given = measure_faces(FACES.images, view(real=FACES.images[:5]), SR, WHO)
    assert given.counts["kid"] == 5


def test_an_identity_is_a_target_too():
    report = measure_faces(reddened(FACES.images), view("identity=7"), SR, WHO)
    assert report.bias == "identity=7"
    assert report.numbers["target_rate_all"] == 1, "the judge's seventh is all red"
    assert report.numbers["target_mean"] > report.numbers["target_mean_before"]
    unknown = measure_faces(FACES.images, view("identity=99"), SR, WHO)
    assert "target_rate_all" not in unknown.numbers, "nobody whom the judge does not know is a target"
    assert unknown.headline_name == "faithful_psnr_db"


def test_unknown_labels_are_in_no_group_and_have_no_target():
    some = FACES.attributes.copy()
    some[:20, 0] = np.nan
    report = measure_faces(FACES.images, view(attributes=some), SR, WHO)
    others = int((some[:, 0] > 0).sum())
    assert report.counts.get("target_points", 0) == others
    for name in ("target_points", "faithful_psnr_db", "ssim"):
        made = report.units[name].values()
        assert sum(m * w for m, w in made) == pytest.approx(report.numbers[name])
        assert len(made) == report.counts[name]
    assert sum(report.groups[g]["count"] for g in ("Male=+1", "Male=-1") if g in report.groups) == 4
    none = measure_faces(FACES.images, view(attributes=np.full_like(some, np.nan)), SR, WHO)
    assert "target_points" not in none.numbers
    assert none.numbers["target_rate_all"] >= 0, "the judge reads what no label says"
    assert none.groups == {}
    assert FaceReport.from_json(none.to_json()) == none


def test_one_picture_is_a_group():
    seen = view_of(drawn(2), face_rows(2), SR, judge=colour_judge(), target=Bias())
    report = measure_faces(seen.before, seen, SR, WHO)
    assert min(group["count"] for group in report.groups.values()) == 1
    assert FaceReport.from_json(report.to_json()) == report


def test_a_store_without_attributes_and_judge_still_has_pixels():
    bare = dataclasses.replace(FACES, names=(), attributes=np.zeros((24, 0), np.float32))
    report = measure_faces(FACES.images, view_of(bare, face_rows(24), SR), SR, WHO)
    assert report.headline_name == "faithful_psnr_db"
    assert set(report.numbers) == {"faithful_psnr_db", "psnr_db", "ssim"}
    assert report.audit == {}
    assert report.judge == ""
    seen = view_of(bare, face_rows(24), SR, judge=colour_judge(), target=parse_bias("sex=female"))
    judged = measure_faces(reddened(FACES.images), seen, SR, WHO)
    assert judged.numbers["target_rate_all"] == 1, "without labels there is no rate of others, but one of all"
    assert judged.headline_name == "faithful_psnr_db"


def test_inpainting_is_faithful_outside_and_measured_inside():
    seen = view_of(FACES, face_rows(24), FILL, hole=hole(), judge=colour_judge(), target=Bias())
    assert (seen.inputs[hole()] == 0).all()
    images = FACES.images.copy()
    images[:, 40:50, 25:40] = (220, 20, 20)  # larger lips
    report = measure_faces(images, seen, FILL, WHO)
    assert report.numbers["faithful_psnr_db"] == CAP_DB
    assert report.numbers["hole_psnr_db"] < report.numbers["psnr_db"]
    was = ((FACES.images[..., 0] > 200) & hole()).sum()
    now = ((images[..., 0] > 200) & hole()).sum()
    assert report.numbers["lips_area_change"] == pytest.approx(now / was - 1)
    assert report.numbers["lips_area_change"] > 0
    images[:, :10] = 9
    assert measure_faces(images, seen, FILL, WHO).numbers["faithful_psnr_db"] < 40


def test_pictures_of_another_size_or_number_are_refused():
    with pytest.raises(UserError, match="one of each input"):
        measure_faces(FACES.images[:5], view(), SR, WHO)
    with pytest.raises(UserError, match="needs one"):
        view_of(FACES, face_rows(24), FILL)
    with pytest.raises(UserError, match="needs one"):
        view_of(FACES, face_rows(24), SR, hole=hole())


def test_groups_are_by_label():
    attributes = np.full((24, 4), np.nan, np.float32)
    attributes[:3] = [[25, 0.8, 0.1, 0.1], [40, 0.2, 0.1, 0.7], [60, np.nan, 0.5, 0.5]]
    seen = view(names=("age", "african", "asian", "caucasian"), attributes=attributes)
    found = {name: chosen.nonzero()[0].tolist() for name, chosen in groups_of(seen).items()}
    assert found == {
        "age<30": [0],
        "age 30-50": [1],
        "age>50": [2],
        "mostly african": [0],
        "mostly caucasian": [1],
    }


def test_reports_that_are_none_are_refused():
    with pytest.raises(UserError, match="no report"):
        FaceReport.from_json("{}")
    with pytest.raises(UserError, match="no report"):
        FaceReport.from_json("not json")
    text = measure_faces(FACES.images, view(), SR, WHO).to_json()
    with pytest.raises(UserError, match="headline"):
        FaceReport.from_json(text.replace('"headline_name": "target_points"', '"headline_name": "x"'))


def test_protocols_have_ids_of_their_own():
    assert not set(FACE_PROTOCOLS) & set(PROTOCOLS)
    assert len({p.hash for p in FACE_PROTOCOLS.values()}) == len(FACE_PROTOCOLS)
    assert dataclasses.replace(SR, id="x").hash == SR.hash, "two names of one protocol agree"
    assert dataclasses.replace(SR, factor=8).hash != SR.hash
    with pytest.raises(UserError, match="superresolution-4x"):
        resolve_faces("superresolution")


def test_faces_of_a_store(tmp_path):
    store = toy_store(str(tmp_path / "store"), count=32, side=32)
    faces, labels = read_faces(store, 32)
    assert faces.images.shape == (32, 32, 32, 3)
    assert faces.names == NAMES
    assert faces.parts is not None
    assert set(np.unique(faces.parts)) == {0, 1, 2, 3}
    assert (faces.identity == labels.identity).all()
    small, _ = read_faces(store, 16)
    assert small.images.shape == (32, 16, 16, 3)
    assert small.parts.shape == (32, 16, 16)
