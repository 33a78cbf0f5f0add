"""`aign data doctor`: what it says, what it writes, and how it exits."""

import re
import shutil

import pytest

from aign.data.store import Store, commit
from pipelines import cli
from tests.inference.test_report import Page
from tests.inference.test_store_report import EVIL, path_of, person_store


@pytest.fixture
def person(tmp_path):
    person_store(str(tmp_path / "person"))
    return tmp_path / "person"


def doctor(*argv) -> int:
    """The command's exit code, as the shell gets it."""
    try:
        return cli.main(["data", "doctor", *map(str, argv)])
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else -1


def test_a_sound_store_is_0_and_has_a_page(person, tmp_path, capsys):
    assert doctor(person, "--out", tmp_path / "deep" / "page.html", "--clips", 2) == 0
    said = capsys.readouterr()
    assert re.search(r"frames\W+3\W+6\W+60\W", said.out)
    assert "sound: every byte is as it was written" in said.out
    assert "quality: 1 of 6 clips failed (" in said.out
    assert "licence CC-BY-4.0 <b>: 5 parts, 20 frames" in said.out
    assert "verify" in said.err
    assert Page((tmp_path / "deep" / "page.html").read_text()).inside("h1") == ["person"]


def test_a_sick_store_is_1_and_everything_else_is_still_told(person, tmp_path, capsys):
    gone = path_of(person, "frames", 0)
    gone.unlink()
    cut = path_of(person, "masks", 1)
    cut.write_bytes(cut.read_bytes()[:50])
    assert doctor(person, "--out", tmp_path / "page.html", "--no-verify") == 1
    said = capsys.readouterr()
    assert f"broken: frames/{gone.name} (0 walk.mp4) is missing" in said.out
    assert f"broken: masks/{cut.name} (1 walk.mp4) is truncated" in said.out
    assert "sound" not in said.out
    assert "quality: 1 of 6 clips failed (" in said.out
    assert "verify" not in said.err
    assert len(Page((tmp_path / "page.html").read_text()).all("article")) == 12


def test_no_readable_store_is_2_and_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert doctor("nowhere") == 2
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "manifest.json").write_text("{")
    assert doctor("store") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 2
    assert "no store at" in said.err
    assert "is damaged" in said.err
    assert not list(tmp_path.glob("*.html"))


def test_flags_that_cannot_be_are_one_line(person, tmp_path, capsys):
    assert doctor(person, "--clips", 1000, "--out", tmp_path / "page.html") == 2
    assert doctor(person, "--sed", 1) == 2
    assert cli.main(["data", "dcotor", str(person)]) == 2
    said = capsys.readouterr().err.splitlines()
    lines = [line for line in said if line.startswith("aign data")]
    assert "allowed: 0 to 24" in lines[0]
    assert "--seed" in lines[1]
    assert len(lines) == 3


def test_names_do_not_steer_the_terminal(tmp_path, capsys):
    url = str(tmp_path / "store")
    person_store(url, source=f"\x1b[2J[red]{EVIL}")
    assert doctor(url, "--out", tmp_path / "page.html", "--clips", 0) == 0
    said = capsys.readouterr().out
    assert "\x1b[2J" not in said
    assert "?[2J[red]</script>" in said


def test_help_says_how_it_exits(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["data", "doctor", "--help"])
    assert stop.value.code in (0, None)
    said = " ".join(capsys.readouterr().out.split())
    assert "Exits with 0 when every part is there and whole, with 1 when" in said


def test_a_store_on_s3_is_examined_alike(bucket, person, tmp_path, capsys):
    url = f"{bucket}/stores/doctor"
    manifest = person_store(url)
    assert doctor(url, "--out", tmp_path / "s3.html", "--clips", 2) == 0
    assert doctor(person, "--out", tmp_path / "here.html", "--clips", 2) == 0
    there, here = ((tmp_path / name).read_text() for name in ("s3.html", "here.html"))
    assert there.count("data:image/jpeg") == here.count("data:image/jpeg") > 0
    store = Store.open(url)
    gone = next(part for part in manifest.parts if part.table == "flow")
    store._fs.rm_file(f"{store._root}/{gone.path}")
    assert doctor(url, "--out", tmp_path / "s3.html") == 1
    assert f"{gone.path} (0 walk.mp4) is missing" in capsys.readouterr().out


def test_the_demo_motions_are_sound(demo_store, tmp_path, capsys):
    assert doctor(demo_store.url, "--out", tmp_path / "page.html") == 0
    said = capsys.readouterr().out
    assert "broken" not in said
    assert "warning" not in said
    shutil.copytree(demo_store.url, tmp_path / "copy")
    commit(str(tmp_path / "copy"), demo_store.manifest)
    assert doctor(tmp_path / "copy", "--out", tmp_path / "again.html") == 0
    pages = [(tmp_path / name).read_text().replace("copy", "store") for name in ("page.html", "again.html")]
    bodies = [page[page.index("<h2>What is wrong") :] for page in pages]
    assert bodies[0] == bodies[1], "the same store, the same page"
