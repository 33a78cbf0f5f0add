"""The site of docs/ is built as `make docs` builds it: no broken link, nothing asked of the network."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REMOTE = re.compile(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"?(https?://[^\" >]+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    pytest.importorskip("mkdocs")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_every_document_is_a_page(site):
    pages = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert [page for page in pages if not (site / page).is_file()] == []


def test_what_lies_outside_of_docs_is_there_too(site):
    assert (site / "benchmarks/results/mocap.html").is_file()
    assert "class Aign" in re.sub("<[^>]*>", "", (site / "aign/framework/aign.py.html").read_text())
    assert 'href="../benchmarks/' in (site / "decisions/0012-what-a-bias-may-cost.html").read_text()


def test_the_reference_has_the_docstrings(site):
    page = re.sub("<[^>]*>", "", (site / "api/inference.html").read_text())
    assert "Human3.6M's 17 joints" in page
    assert "fx, fy, cx, cy of the pictures" in page


def test_nothing_comes_from_the_network(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 40
    assert {link for page in pages for link in REMOTE.findall(page.read_text())} == set()


def test_no_link_or_picture_is_broken(site):
    broken = []
    for page in site.rglob("*.html"):
        for place in re.findall(r"(?:src|href)=\"([^\"#?]+)", page.read_text()):
            local = "://" not in place and not place.startswith(("mailto:", "data:", "javascript:"))
            if local and page.name != "404.html" and not (page.parent / place).exists():
                broken.append(f"{page.relative_to(site)}: {place}")
    assert broken == []
