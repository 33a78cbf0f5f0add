"""`aign demo`, short: the whole story, and every file that it promises."""

import json

import numpy as np
import pytest

from aign.data import assets
from aign.data.stages.decode import probe
from pipelines import cli
from tests.pipelines.samples import leftovers

CAMERAS = tuple(f"pose2sim_cam{number:02d}" for number in (1, 2, 3, 4))


@pytest.mark.network
@pytest.mark.ray
@pytest.mark.timeout(600)
def test_demo_runs_through(ray_cluster, tmp_path, capsys, monkeypatch):
    assets.pull(["pose", "pose2sim"])
    monkeypatch.chdir(tmp_path)
    # Two Ray workers have tests of their own; starting them three times would take a minute.
    assert cli.main(["demo", "--steps", "20", "--out", "demo", "--workers", "0"]) == 0
    out, said = tmp_path / "demo", capsys.readouterr().out
    page = (out / "index.html").read_text()
    files = tuple(f"{camera}.{ending}" for camera in CAMERAS for ending in ("mp4", "npz"))
    promised = ("index.html", "lifted.png", "curves.png", "table.md", *files)
    for name in promised:
        assert (out / name).stat().st_size > 0, name
    for name in (*promised[1:3], *(f"{c}.mp4" for c in CAMERAS)):
        assert name in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    table = (out / "table.md").read_text()
    for method in ("Forward2Dto3D", "3D interpreter style", "AIGN", "mean pose", "nearest memory pose"):
        assert method in table
        assert method in said
    assert probe(out / "pose2sim_cam01.mp4").codec == "h264"
    with np.load(out / "pose2sim_cam01.npz", allow_pickle=False) as content:
        assert np.isfinite(content["joints_cam_m"]).any()
    for name in ("lifting-demo", "lifting-demo-forward", "lifting-demo-interpreter"):
        assert json.loads((out / "runs" / name / "run.json").read_text())["run_id"]
    assert not leftovers(out)
    assert sum(line.strip().startswith("aign ") for line in said.splitlines()) == 3, "three commands to try next"
    assert str(out / "index.html") in said
