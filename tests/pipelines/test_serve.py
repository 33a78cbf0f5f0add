"""A model behind HTTP answers what it answers in this process, and says what is wrong with a request."""

import json
import math
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from aign.framework.errors import UserError
from aign.inference.predictor import LiftingPredictor
from pipelines import cli
from pipelines.serve import Arguments, serving
from tests.registry.samples import frames, make_package
from tests.registry.server import free_port


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return make_package(tmp_path_factory.mktemp("served") / "package")


@pytest.fixture(scope="module")
def url(ray_cluster, package):
    with serving(Arguments(model=str(package), port=free_port(), batch=8, wait_ms=50)) as found:
        yield found


def ask(url, body, path="/invocations"):
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url + path, data=data), timeout=120) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def listed(given):
    return {"inputs": {name: value.tolist() for name, value in given.items()}}


@pytest.mark.ray
def test_it_answers_as_the_predictor_does_alone_and_together(url, package):
    predictor = LiftingPredictor.of(package)
    clips = [{name: value[:n] for name, value in frames(12).items()} for n in range(1, 13)]
    with ThreadPoolExecutor(len(clips)) as pool:
        replies = list(pool.map(lambda clip: ask(url, listed(clip)), clips))
    for clip, (status, reply) in zip(clips, replies, strict=True):
        assert status == 200, reply
        np.testing.assert_allclose(
            np.float32(reply["predictions"]["joints_cam_m"]), predictor.predict(**clip), rtol=1e-4, atol=1e-5
        )


@pytest.mark.ray
def test_what_was_not_seen_is_null(url):
    unseen = {**frames(2), "kp2d_conf": np.zeros((2, 17), np.float32)}
    status, reply = ask(url, listed(unseen))
    assert status == 200
    assert reply["predictions"]["joints_cam_m"][1][16] == [None, None, None]


@pytest.mark.ray
def test_it_says_what_it_is(url):
    assert ask(url, None, "/health") == (200, {"status": "ok", "model": "lifting-demo"})
    status, about = ask(url, None, "/")
    assert (status, about["task"]) == (200, "lifting")
    assert about["inputs"]["kp2d_px"] == ["float32", [-1, 17, 2]]


def changed(**changes):
    return {"inputs": {**listed(frames())["inputs"], **changes}}


BAD = [
    (b"{", "is no JSON"),
    (b"\xff\xfe", "is no JSON"),
    (b"[" * 100_000, "is no JSON"),
    (b"[1]", "got inputs no such object; allowed is {'inputs': {...}} with kp2d_px, kp2d_conf, intrinsics_px"),
    ({"inputs": {"kp2d_px": []}}, "got inputs ['kp2d_px']"),
    (changed(more=[1]), "'more'"),
    (changed(kp2d_px=[[[1, 2]] * 16] * 4), "kp2d_px must be numbers ['n', 17, 2]; got int64 [4, 16, 2]"),
    (changed(kp2d_px=[[1], [2, 3]]), "got lists of different lengths"),
    (changed(kp2d_px="text"), "must be numbers"),
    (changed(kp2d_conf=[[2.0] * 17] * 4), "kp2d_conf must lie in 0..1; got 2"),
    (changed(kp2d_conf=[[0.5] * 17] * 3), "allowed is the same number of each"),
    (changed(kp2d_px=[[[math.inf, 0]] * 17] * 4), "kp2d_px must be finite"),
    (changed(kp2d_px=[[[1e300, 0]] * 17] * 4), "kp2d_px must be finite"),
    (changed(kp2d_px=[], kp2d_conf=[], intrinsics_px=[]), "got float64 [0]"),
]


@pytest.mark.ray
def test_bad_requests_are_told_and_hurt_nobody_else(url, package):
    want = LiftingPredictor.of(package).predict(**frames())
    with ThreadPoolExecutor(16) as pool:
        good = [pool.submit(ask, url, listed(frames())) for _ in range(4)]
        replies = list(pool.map(lambda case: ask(url, case[0]), BAD))
        good += [pool.submit(ask, url, listed(frames())) for _ in range(4)]
    for (_, said), (status, reply) in zip(BAD, replies, strict=True):
        assert status == 400, reply
        assert said in reply["error"]
        assert "\n" not in reply["error"]
    for status, reply in (future.result() for future in good):
        assert status == 200
        np.testing.assert_allclose(reply["predictions"]["joints_cam_m"], want, rtol=1e-4, atol=1e-5)
    status, reply = ask(url, b"x", "/predict")
    assert (status, reply["error"]) == (404, "got POST /predict; allowed are POST /invocations, GET /health and GET /")


@pytest.mark.ray
def test_a_port_that_is_taken(url, package, capsys):
    port = url.rpartition(":")[2]
    assert cli.main(["serve", str(package), "--port", port]) == 2
    said = capsys.readouterr().err
    assert f"cannot listen on 127.0.0.1:{port}" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(("flags", "said"), [({"batch": 0}, "at least 1"), ({"port": 10**6}, "give another --port")])
def test_numbers_out_of_range(package, flags, said):
    with pytest.raises(UserError, match=said), serving(Arguments(model=str(package), **flags)):
        pass


def test_no_such_model(tmp_path):
    with pytest.raises(UserError, match="is not a packaged model"), serving(Arguments(model=str(tmp_path))):
        pass
