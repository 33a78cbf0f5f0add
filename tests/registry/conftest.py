"""An empty MLflow store, made once and copied, since its tables take seconds to make."""

import shutil
from pathlib import Path

import pytest

from aign.registry import promotion
from aign.registry.tracking import Tracking, find_run, open_tracking, start_run
from tests.registry.samples import CONFIG, FACTS, make_package


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check in a clean process takes seconds; test_promotion.py has it."""
    monkeypatch.setattr(promotion, "clean_refusal", lambda *_: None)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from aign.framework.errors import UserError

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        tracking = open_tracking(tmp_path_factory.mktemp("mlflow"), experiment="unused")
    with pytest.raises(UserError, match="there are \\[\\]"):
        find_run(tracking, "nothing")
    return Path(tracking.uri.removeprefix("sqlite:///"))


@pytest.fixture
def tracking(tmp_path: Path, empty_database: Path) -> Tracking:
    folder = tmp_path / "ml flow"  # a space, as users have them
    folder.mkdir()
    shutil.copy(empty_database, folder)
    return open_tracking(folder, experiment="lifting")


@pytest.fixture
def run_id(tracking: Tracking) -> str:
    return start_run(tracking, "demo", CONFIG, FACTS)


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_package(tmp_path_factory.mktemp("made") / "package")
