"""One local Ray for the whole session."""

import pytest

from infra.cluster import cluster


@pytest.fixture(scope="session")
def ray_cluster():
    with cluster():
        yield
