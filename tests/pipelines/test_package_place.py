"""Models at a URL: fetched once, checked, and used as those in a folder are."""

import fsspec
import pytest
import torch

from aign.framework.errors import UserError
from aign.inference.package import ModelCard, load_package, save_package
from aign.tasks.lifting import LifterConfig, build_lifter
from pipelines import cli
from pipelines.package_place import package_folder
from tests.pipelines.samples import leftovers


def packaged(folder, seed):
    """A small model that nobody trained."""
    torch.manual_seed(seed)
    config = LifterConfig(components=3, width=16, blocks=1)
    card = ModelCard(
        network=config, recipe="one", store_hash="s", sequences={}, licences=("MIT",), protocol="p", metrics={}
    )
    save_package(folder, build_lifter(config, 0.3 * torch.randn(50, 17, 3)), card)
    return folder


def put(url, folder):
    fs, root = fsspec.core.url_to_fs(url)
    for path in folder.iterdir():
        fs.put_file(str(path), f"{root}/{path.name}")


def test_a_run_or_package_at_a_url_is_measured_as_one_in_a_folder(bucket, demo_store, tmp_path, capsys):
    here = packaged(tmp_path / "run" / "package", 0)
    put(f"{bucket}/runs/one/package", here)
    flags = ("--store", demo_store.url, "--test.sequences", "demo/backflip", "--mlflow", str(tmp_path / "mlflow"))
    models = (str(here.parent), f"{bucket}/runs/one", f"{bucket}/runs/one/package/")
    assert cli.main(["evaluate", *models, *flags, "--out", str(tmp_path / "out")]) == 0, capsys.readouterr().err
    reports = [path.read_text() for path in sorted((tmp_path / "out").glob("*.json"))]
    assert len(reports) == 3
    assert reports[1:] == [reports[0]] * 2
    assert not leftovers(tmp_path / "mlflow")


def test_another_model_at_the_same_url_is_another_one(bucket, tmp_path):
    folders = []
    for seed in (0, 1):
        want = load_package(packaged(tmp_path / str(seed), seed))[0].state_dict()
        put(f"{bucket}/runs/again/package", tmp_path / str(seed))
        folders.append(package_folder(f"{bucket}/runs/again", tmp_path))
        for name, value in load_package(folders[-1])[0].state_dict().items():
            assert torch.equal(value, want[name])
    assert folders[0] != folders[1]
    assert package_folder(f"{bucket}/runs/again", tmp_path) == folders[1]


def test_what_is_no_sound_package_is_one_line_and_is_not_kept(bucket, tmp_path):
    with pytest.raises(UserError, match=f"{bucket}/runs/nothing is no run and no package: it holds no model.json"):
        package_folder(f"{bucket}/runs/nothing", tmp_path)
    folder = packaged(tmp_path / "cut", 0)
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-8])
    put(f"{bucket}/runs/cut/package", folder)
    with pytest.raises(UserError, match="does not hold this model") as error:
        package_folder(f"{bucket}/runs/cut", tmp_path)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "pulled").iterdir())
