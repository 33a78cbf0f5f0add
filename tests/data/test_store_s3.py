"""The store on a real S3-compatible server, started here."""

from typing import Any

import fsspec
import numpy as np
import pytest

from aign.data.loader import ClipLoader, LoaderConfig
from aign.data.store import Store, check_disjoint, commit, find_manifest, find_part, writing
from aign.data.store.files import storage_errors
from aign.framework.errors import UserError
from tests.data import store_samples as samples


def test_write_commit_read_verify(bucket: str, tmp_path: Any) -> None:
    url = f"{bucket}/stores/one"
    assert find_manifest(url) is None
    with writing(url):
        manifest = samples.pair_store(url)
    local = samples.pair_store(str(tmp_path))
    assert manifest.hash == local.hash
    store = Store.open(url)
    store.verify()
    columns = {"keypoints": ("kp2d_px", "intrinsics_px"), "labels": ("joints_cam_m",)}
    here, there = Store.open(str(tmp_path)).read(columns), store.read(columns)
    assert here.keys == there.keys
    for name, values in here.arrays.items():
        np.testing.assert_array_equal(values, there.arrays[name])
    assert set(find_part(url, 0, ("keypoints", "frames"), samples.provenance("s0", seed=0))) == {"keypoints"}
    check_disjoint(store.sequences(("labels",)), ["S9/Eating 1"])


def test_loader(bucket: str, tmp_path: Any) -> None:
    columns = {"keypoints": ("kp2d_px",), "labels": ("joints_cam_m",)}
    config = LoaderConfig(batch_size=64, streams=4, mix=2)
    batches = []
    for url in (f"{bucket}/stores/two", str(tmp_path)):
        samples.pair_store(url)
        with ClipLoader(Store.open(url), columns, None, config) as loader:
            stream = iter(loader)
            batches.append([next(stream) for _ in range(loader.steps_per_epoch + 2)])
    for remote, local in zip(*batches, strict=True):
        assert all((remote[name] == local[name]).all() for name in local)


def test_lock_is_exclusive(bucket: str) -> None:
    url = f"{bucket}/stores/three"
    with writing(url):
        with (
            pytest.raises(UserError, match=r"written by process .* remove motion-\d+/stores/three/\.lock"),
            writing(url),
        ):
            pass
        samples.pair_store(url, parts=1)
    with writing(url):
        pass


def test_damage_and_missing_bucket(bucket: str) -> None:
    url = f"{bucket}/stores/four"
    manifest = samples.pair_store(url, parts=2)
    fs, _ = fsspec.core.url_to_fs(url)
    victim = manifest.parts[0]
    fs.pipe_file(f"{url}/{victim.path}", fs.cat_file(f"{url}/{victim.path}")[:-50])
    with pytest.raises(UserError, match=f"1 of 4 parts .*{victim.path}"):
        Store.open(url).verify()
    with pytest.raises(UserError, match=f"{victim.path} is damaged"):
        Store.open(url).read({"keypoints": ("kp2d_px",)})
    with pytest.raises(UserError, match="cannot write nosuchbucket") as caught:
        commit("s3://nosuchbucket/store", manifest)
    assert "\n" not in str(caught.value)


def test_errors_of_the_s3_client_itself() -> None:
    exceptions = pytest.importorskip("botocore.exceptions")
    with pytest.raises(UserError, match="cannot read it: Unable to locate credentials"), storage_errors("read it"):
        raise exceptions.NoCredentialsError
    with pytest.raises(ZeroDivisionError), storage_errors("read it"):
        raise ZeroDivisionError
