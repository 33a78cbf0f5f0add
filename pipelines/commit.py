"""Which code this is: written into every run."""

import os
import subprocess
from pathlib import Path

VARIABLE = "AIGN_COMMIT"
"""Tells a submitted job, whose upload has no .git, the commit that it was submitted from."""


def commit() -> str:
    """The commit of the code, "" outside a checkout."""
    if told := os.environ.get(VARIABLE):
        return told
    where = Path(__file__).parent
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=where, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
