"""The panoramas; where no package index is reachable, the tests that need them are skipped with the reason."""

import pytest

from aign.data import assets
from aign.data.synthetic.backgrounds import check_pulled
from aign.framework.errors import UserError


@pytest.fixture(scope="session")
def panoramas() -> None:
    """All panoramas on this machine."""
    try:
        check_pulled()
    except UserError:
        try:
            assets.pull(["backgrounds"])
        except UserError as error:
            pytest.skip(f"no panoramas: {error}")
