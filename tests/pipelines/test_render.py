"""`aign data render`: files that the loaders of the real data sets read."""

import pytest

from aign.data import assets
from aign.data.sources import recognise
from pipelines import cli


@pytest.mark.network
@pytest.mark.parametrize(("layout", "kind", "frames"), [("surreal", "surreal", 3), ("h36m", "h36m", 2)])
def test_rendered_files_are_recognised_as_the_data_set_they_imitate(layout, kind, frames, tmp_path):
    assets.pull(["backgrounds"])
    out = tmp_path / "out"
    assert cli.main(["data", "render", str(out), "--layout", layout, "--clips", "1", "--frames", str(frames)]) == 0
    source = recognise(str(out))
    assert (source.kind, len(source.jobs)) == (kind, 1)


@pytest.mark.parametrize("clips", ["0", "31"])
def test_more_takes_than_the_layout_has_are_refused(clips, tmp_path, capsys):
    assert cli.main(["data", "render", str(tmp_path), "--layout", "h36m", "--clips", clips]) == 2
    assert f"got {clips} clips; allowed are at least 1, and at most 30" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
