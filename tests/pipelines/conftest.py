"""One local Ray for the whole session; no check in a clean process where it is not what is tested."""

import pytest

from aign.registry import promotion
from infra.cluster import cluster


@pytest.fixture(scope="session")
def ray_cluster():
    with cluster():
        yield


@pytest.fixture(autouse=True)
def quick_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    """That check takes seconds for each model; tests/registry has it."""
    monkeypatch.setattr(promotion, "clean_refusal", lambda *_: None)
