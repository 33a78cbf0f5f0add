"""Where a model's package is: in a folder, at a URL, or in the registry."""

import hashlib
import os
import tempfile
from pathlib import Path

from aign.data.store.files import storage_errors
from aign.framework.errors import UserError
from aign.inference.package import CARD, WEIGHTS, package_in
from aign.registry import models
from aign.registry.packages import checked_package
from infra.patience import open_fresh
from infra.storage import is_url

PACKAGE, PULLED = "package", "pulled"


def package_folder(model: str, mlflow: Path) -> Path:
    """The package of a run or package, in a folder or at a URL, or of a registered model.

    What is elsewhere is fetched into a folder of `mlflow`, which other processes and shared nodes see too.

    Raises:
        UserError: there is no such model, or what was fetched is damaged.
    """
    if model.startswith("models:/"):
        return models.fetch(model, mlflow)
    if is_url(model):
        return _fetched(model.rstrip("/"), mlflow.absolute() / PULLED)
    return package_in(Path(model).expanduser())


def _fetched(url: str, cache: Path) -> Path:
    """A folder named by what the package holds: one that was trained again is another one."""
    fs, root = open_fresh(url)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=cache) as temporary:
        own, digest = Path(temporary) / PACKAGE, hashlib.sha256()
        own.mkdir()
        with storage_errors(f"read model {url}"):
            source = next((at for at in (f"{root}/{PACKAGE}", root) if fs.exists(f"{at}/{CARD}")), None)
            if source is None:
                raise UserError(f"{url} is no run and no package: it holds no {CARD}")
            for name in (CARD, WEIGHTS):
                fs.get_file(f"{source}/{name}", str(own / name))
                digest.update((own / name).read_bytes())
        checked_package(own)
        folder = cache / f"{Path(root).name}-{digest.hexdigest()[:12]}"
        if not folder.is_dir():  # another process may have been first
            os.replace(own, folder)
    return folder
