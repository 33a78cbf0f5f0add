import errno
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import sys
import tarfile
import threading
import zipfile
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from aign.data import assets
from aign.data.assets import ASSETS, Asset, Package, cache
from aign.data.assets.fetch import fetch
from aign.framework.errors import UserError

MEMBERS = {"tiny/net.bin": b"net" * 100, "tiny/packed.data": b"wanted-and-more", "tiny/clip.txt": b"1 2 3\n"}
WHEEL = Package(registry="pypi", name="tiny", version="1.0", archive_bytes=1000, licence="MIT")
BALL = replace(WHEEL, registry="npm", version="1.0.0")


def asset(name: str, member: str, package: Package = WHEEL, first_bytes: int | None = None, **more: str) -> Asset:
    content = MEMBERS[member.replace("package/", "tiny/")][:first_bytes]
    fields = {
        "name": name,
        "group": "tiny",
        "package": package,
        "member": member,
        "first_bytes": first_bytes,
        "size_bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "purpose": "a test",
        "suffix": Path(member).suffix,
    }
    return Asset(**(fields | more))


TABLE = (
    asset("net", "tiny/net.bin"),
    asset("slice", "tiny/packed.data", first_bytes=6),
    asset("clip", "tiny/clip.txt", group="clips"),
)


def write_wheel(folder: Path) -> Path:
    path = folder / "tiny-1.0-py3-none-any.whl"
    info = "tiny-1.0.dist-info"
    files = {f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"}
    files |= {f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    files |= {f"{info}/RECORD": b""} | MEMBERS
    with zipfile.ZipFile(path, "w") as wheel:
        for name, content in files.items():
            wheel.writestr(name, content)
    return path


def ball_bytes() -> bytes:
    buffer = io.BytesIO()
    files = {"package/package.json": json.dumps({"name": "tiny", "version": "1.0.0"}).encode()}
    files |= {name.replace("tiny/", "package/"): content for name, content in MEMBERS.items()}
    with tarfile.open(fileobj=buffer, mode="w:gz") as ball:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            ball.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


class Fetcher:
    """Stands for the network: counts what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, package: Package, folder: Path) -> Path:
        self.asked.append(package.name)
        if package.registry == "pypi":
            return write_wheel(folder)
        (folder / "tiny-1.0.0.tgz").write_bytes(ball_bytes())
        return folder / "tiny-1.0.0.tgz"


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """An empty cache and a tiny table."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("AIGN_ASSETS", raising=False)
    monkeypatch.setattr(cache, "ASSETS", TABLE)
    return tmp_path / "cache" / "aign" / "assets"


def files(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()} if folder.exists() else set()


def test_pull_publishes_members_and_is_idempotent(home):
    fetcher = Fetcher()
    found = assets.pull(fetcher=fetcher)
    assert found == {"net": home / "net.bin", "slice": home / "slice.data", "clip": home / "clip.txt"}
    assert found["slice"].read_bytes() == b"wanted"
    assert fetcher.asked == ["tiny"]  # one download for all three
    assert files(home) == {"net.bin", "slice.data", "clip.txt"}
    assert assets.pull(fetcher=fetcher) == found
    assert fetcher.asked == ["tiny"]
    assert assets.path("net") == home / "net.bin"
    assert [(name, ok) for name, ok, _ in assets.verify()] == [("net", True), ("slice", True), ("clip", True)]


def test_a_slice_may_begin_anywhere(home, monkeypatch):
    middle = replace(TABLE[1], start_byte=7, first_bytes=3, size_bytes=3, sha256=hashlib.sha256(b"and").hexdigest())
    monkeypatch.setattr(cache, "ASSETS", (middle,))
    assert assets.pull(["slice"], Fetcher())["slice"].read_bytes() == b"and"


def test_names_and_groups(home):
    assert set(assets.pull(["clips"], Fetcher())) == {"clip"}
    assert set(assets.pull(["net", "clip", "net"], Fetcher())) == {"net", "clip"}
    assert [row.asset.name for row in assets.listing() if row.at is None] == ["slice"]
    with pytest.raises(UserError, match=r"unknown asset 'nte'; allowed: tiny, clips, net, slice, clip"):
        assets.pull(["nte"], Fetcher())
    with pytest.raises(UserError, match="aign assets pull slice"):
        assets.path("slice")
    with pytest.raises(UserError, match="unknown asset 'tiny'"):
        assets.path("tiny")


def test_damaged_cache_is_seen_and_replaced(home):
    assets.pull(fetcher=Fetcher())
    (home / "net.bin").write_bytes(b"Net" * 100)  # same size
    (home / "clip.txt").write_bytes(b"1")
    assert [(name, ok) for name, ok, _ in assets.verify()] == [("net", False), ("slice", True), ("clip", False)]
    with pytest.raises(UserError, match="has 1 bytes, 6 expected"):
        assets.path("clip")
    assets.pull(fetcher=Fetcher())
    assert all(ok for _, ok, _ in assets.verify())


def test_wrong_content_keeps_nothing(home, monkeypatch):
    wrong = replace(TABLE[1], sha256="0" * 64)
    monkeypatch.setattr(cache, "ASSETS", (TABLE[0], wrong))
    got = hashlib.sha256(b"wanted").hexdigest()
    with pytest.raises(UserError, match=f"asset slice of tiny 1.0: got 6 bytes with sha256 {got}, expected 6") as error:
        assets.pull(fetcher=Fetcher())
    assert "0" * 64 in str(error.value)
    assert files(home) == set()


def test_missing_member_and_broken_archive(home, monkeypatch):
    monkeypatch.setattr(cache, "ASSETS", (replace(TABLE[0], member="tiny/gone.bin"),))
    with pytest.raises(UserError, match=r"holds no readable tiny/gone\.bin"):
        assets.pull(fetcher=Fetcher())

    def broken(package: Package, folder: Path) -> Path:
        path = write_wheel(folder)
        path.write_bytes(path.read_bytes()[:200])
        return path

    with pytest.raises(UserError, match="holds no readable"):
        assets.pull(fetcher=broken)
    assert files(home) == set()


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_interrupted_download_leaves_nothing(home, stop):
    def stopped(package: Package, folder: Path) -> Path:
        (folder / "half.whl").write_bytes(b"half")
        raise stop

    expected = KeyboardInterrupt if isinstance(stop, KeyboardInterrupt) else UserError
    with pytest.raises(expected, match="no disk space" if expected is UserError else None):
        assets.pull(fetcher=stopped)
    assert files(home) == set()


def test_no_disk_space_is_said_before_downloading(home, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1, 1, 1500))
    fetcher = Fetcher()
    with pytest.raises(UserError, match=r"no disk space for tiny 1\.0"):
        assets.pull(fetcher=fetcher)
    assert fetcher.asked == []


def test_unwritable_cache(home):
    home.parent.mkdir(parents=True)
    home.write_text("a file where the folder should be")
    with pytest.raises(UserError, match="cannot write assets to"):
        assets.pull(fetcher=Fetcher())


def test_prefilled_folder_is_used_and_never_written(home, tmp_path, monkeypatch):
    given = tmp_path / "given"
    given.mkdir()
    (given / "net.bin").write_bytes(MEMBERS["tiny/net.bin"])
    monkeypatch.setenv("AIGN_ASSETS", str(given))
    fetcher = Fetcher()
    assert assets.pull(["net"], fetcher) == {"net": given / "net.bin"}
    assert fetcher.asked == []
    assert assets.pull(["clip"], fetcher) == {"clip": home / "clip.txt"}
    assert files(given) == {"net.bin"}
    (given / "net.bin").write_bytes(b"other")
    with pytest.raises(UserError, match=r"in AIGN_ASSETS: got 5 bytes"):
        assets.pull(["net"], fetcher)
    assert (given / "net.bin").read_bytes() == b"other"
    monkeypatch.setenv("AIGN_ASSETS", str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"AIGN_ASSETS is .* no folder"):
        assets.path("net")


def test_without_npm_the_full_net_comes_from_pip(home, monkeypatch, capsys):
    table = (
        asset("pose_detector", "package/packed.data", BALL, 6),
        asset("pose_landmark_heavy", "package/net.bin", BALL),
        asset("pose_detector_pip", "tiny/packed.data", group="pose_pip"),
        asset("pose_landmark_full", "tiny/clip.txt", group="pose_pip"),
    )
    monkeypatch.setattr(cache, "ASSETS", table)
    with pytest.raises(UserError, match="aign assets pull pose"):
        assets.pose_nets()
    monkeypatch.setenv("PATH", "")
    assert set(assets.pull(fetcher=Fetcher())) == {"pose_detector_pip", "pose_landmark_full"}
    assert capsys.readouterr().err.count("using the full BlazePose net from pip") == 1
    assert assets.pose_nets().kind == "full"
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(home.parent.parent))
    monkeypatch.setattr(cache, "ASSETS", table)
    monkeypatch.setattr(cache, "npm_present", lambda: True)
    assert set(assets.pull(fetcher=Fetcher())) == {"pose_detector", "pose_landmark_heavy"}
    assert assets.pose_nets().kind == "heavy"


def test_pip_itself(home, tmp_path, monkeypatch, capsys):
    """The real client, served from a folder."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    write_wheel(shelf)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    assert assets.pull(["net"])["net"].read_bytes() == MEMBERS["tiny/net.bin"]
    assert len(capsys.readouterr().err.strip().splitlines()) == 2  # one line at the start, one at the end
    folder = tmp_path / "download"
    folder.mkdir()
    with pytest.raises(UserError, match=r"does not have tiny 2\.0 from pypi"):
        fetch(replace(WHEEL, version="2.0"), folder)


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_npm_itself(home, tmp_path, monkeypatch):
    """The real client against a registry of one package."""

    class Registry(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            here = f"http://127.0.0.1:{self.server.server_port}"
            one = {"name": "tiny", "version": "1.0.0", "dist": {"tarball": f"{here}/t.tgz"}}
            about = {"name": "tiny", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": one}}
            known = {"/tiny": json.dumps(about).encode(), "/t.tgz": ball_bytes()}
            self.send_response(200 if self.path in known else 404)
            self.end_headers()
            self.wfile.write(known.get(self.path, b"{}"))

        def log_message(self, *args: object) -> None:
            pass

    monkeypatch.setattr(cache, "ASSETS", (asset("net", "package/net.bin", BALL),))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name in ("HTTP_PROXY", "http_proxy", "npm_config_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("npm_config_fetch_retries", "0")
        assert assets.pull(["net"])["net"].read_bytes() == MEMBERS["tiny/net.bin"]
        for i, wrong in enumerate((replace(BALL, version="9.0.0"), replace(BALL, name="gone"))):
            folder = tmp_path / str(i)
            folder.mkdir()
            with pytest.raises(UserError, match=f"does not have {wrong.name} {wrong.version} from npm"):
                fetch(wrong, folder)
        server.shutdown()
    folder = tmp_path / "off"
    folder.mkdir()
    with pytest.raises(UserError, match="no network"):
        fetch(BALL, folder)


def test_no_pip(tmp_path, monkeypatch):
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\necho 'No module named pip' >&2\nexit 1\n")
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(UserError, match=r"has no pip .* ensurepip") as error:
        fetch(WHEEL, tmp_path)
    assert "\n" not in str(error.value)


def test_table_is_sound():
    assert len({a.name for a in ASSETS}) == len(ASSETS)
    assert len({a.file_name for a in ASSETS}) == len(ASSETS)
    assert sum(a.group == "motions" for a in ASSETS) == 20
    assert sum(a.group == "pose2sim" for a in ASSETS) == 5
    for a in ASSETS:
        assert re.fullmatch("[0-9a-f]{64}", a.sha256)
        assert a.size_bytes > 0
        assert a.package.licence
        assert a.purpose
        assert os.sep not in a.file_name


@pytest.mark.network
def test_real_package(tmp_path, monkeypatch):
    """The real wheel with a real asset, into an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("AIGN_ASSETS", raising=False)
    found = assets.pull(["pose_landmark_full"])
    assert found["pose_landmark_full"].stat().st_size == 6440512
    assert [name for name, ok, _ in assets.verify() if ok] == ["pose_landmark_full"]
