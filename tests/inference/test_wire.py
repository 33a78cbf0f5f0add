"""Arrays as JSON: everything that comes from outside is checked, and several requests are answered as one by one."""

import json

import numpy as np
import pytest

from aign.framework.errors import UserError
from aign.inference.serving import SERVICES, Served, serve
from aign.inference.wire import answer_all, answer_json, parse_inputs
from tests.registry.samples import CARD, frames, make_package


def text(inputs) -> bytes:
    return json.dumps({"inputs": inputs}).encode()


@pytest.mark.parametrize("task", SERVICES)
def test_every_task_reads_what_it_asks_for(task):
    sizes = {-1: 3}
    given = {
        name: np.ones([sizes.get(n, n) for n in shape], kind) for name, (kind, shape) in SERVICES[task].inputs.items()
    }
    found = parse_inputs(task, text({name: value.tolist() for name, value in given.items()}))
    assert found.keys() == given.keys()
    for name, value in given.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([[[[300, 0, 0]]]], "picture_rgb must be whole numbers 0 to 255 .*; got 0 to 300"),
        ([[[[-1, 0, 0]]]], "got -1 to 0"),
        ([[[[1.5, 0, 0]]]], "got float64"),
        ([[[[True, False, True]]]], "got bool"),
        ([[[[1, 2]]]], r"got int64 \[1, 1, 1, 2\]"),
        ([[[["a", "b", "c"]]]], "got <U1"),
        (None, "must be whole numbers"),
        ([[[[10**30, 0, 0]]]], "got object"),
    ],
)
def test_pictures_that_are_none(value, said):
    with pytest.raises(UserError, match=said):
        parse_inputs("superresolution", text({"picture_rgb": value}))


def test_nan_becomes_null_and_nothing_else_changes():
    answer = {"a": np.float32([[1.5, np.nan], [np.inf, 2]]), "b": np.uint8([[7]])}
    assert json.loads(answer_json(answer)) == {"predictions": {"a": [[1.5, None], [None, 2.0]], "b": [[7]]}}


def test_together_is_as_alone(tmp_path):
    served = serve(make_package(tmp_path / "package"))
    asked = [{name: value[:n] for name, value in frames(6).items()} for n in (1, 3, 6)]
    bad = {**frames(2), "kp2d_conf": np.full((2, 17), 3, np.float32)}
    alone = [served.answer(given)["joints_cam_m"] for given in asked]
    for requests in (asked, [asked[0], bad, *asked[1:]]):
        answers = answer_all(served, requests)
        good = [a for a in answers if not isinstance(a, UserError)]
        assert len(good) == 3
        for got, want in zip(good, alone, strict=True):
            np.testing.assert_allclose(got["joints_cam_m"], want, rtol=1e-4, atol=1e-5)
    assert isinstance(answers[1], UserError)


def test_one_pass_for_those_that_fit_together():
    passes = []

    def answer_clips(given, clip):
        passes.append(clip.tolist())
        return {"y": given["x"] * 2}

    served = Served(card=CARD, answer=lambda given: {"y": given["x"] * 2}, answer_clips=answer_clips)
    requests = [{"x": np.full((n, side), float(n))} for n, side in ((1, 4), (2, 5), (3, 4))]
    answers = answer_all(served, requests)
    assert passes == [[0, 1, 1, 1]]
    for given, got in zip(requests, answers, strict=True):
        np.testing.assert_array_equal(got["y"], 2 * given["x"])
