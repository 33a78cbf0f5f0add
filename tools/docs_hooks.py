"""mkdocs' hooks: what the documents link to outside of docs/ becomes part of the site, so that no link is broken.

Documents link to each other, to results and to code by their places in the repository, as whoever reads them there
needs it. On the site docs/ is the root, README.md is the home page, and everything else lies under its own path.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
HOME = "index.md"
CODE = (".py", ".yaml", ".toml", "")
"""Shown as text: a browser would save them, or not know them."""
_LINK = re.compile(r"(?<=\]\()([^)\s#]+)(#[^)\s]*)?(?=\))")
_FENCE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)


def site_path(path: str) -> str:
    """Where a file of the repository lies on the site, for mkdocs: its source path."""
    if path == "README.md":
        return HOME
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if PurePosixPath(path).suffix in CODE:
        return f"{path}.md"
    return path


def repository_path(source: str) -> str:
    """Inverse of `site_path` for pages."""
    if (ROOT / "docs" / source).is_file():
        return f"docs/{source}"
    return source if (ROOT / source).is_file() else source.removesuffix(".md")


def targets(path: str, text: str) -> Iterator[tuple[str, str]]:
    """Links of a document as they are written, and the files or folders of the repository that they mean."""
    for link, _ in _LINK.findall("".join(_FENCE.split(text)[::2])):
        if "://" not in link and not link.startswith("mailto:"):
            yield link, os.path.normpath(f"{PurePosixPath(path).parent}/{link}")


def on_files(files: Files, config: Any) -> Files:
    """Add what is linked to, and what that links to."""
    todo = [f"docs/{file.src_uri}" for file in files if file.src_uri.endswith(".md")]
    while todo:
        path = todo.pop()
        for _, target in targets(path, (ROOT / path).read_text()):
            source = site_path(target)
            if not (ROOT / target).is_file() or files.get_file_from_path(source) is not None:
                continue
            if source != target and not target.startswith("docs/"):
                files.append(File.generated(config, source, content=_as_page(target)))
            else:
                files.append(File(source, str(ROOT), config.site_dir, use_directory_urls=False))
            if target.endswith(".md"):
                todo.append(target)
    return files


def _as_page(path: str) -> str:
    """A file of code as a page."""
    return f"# {path}\n\n````{PurePosixPath(path).suffix.removeprefix('.')}\n{(ROOT / path).read_text()}\n````\n"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn the repository's links into the site's; a folder is named, for the site has none."""
    source = page.file.src_uri
    path = repository_path(source)
    if site_path(path) != source or path.endswith(CODE[:-1]):
        return markdown
    parts = _FENCE.split(markdown)
    parts[::2] = [_relinked(part, path, source) for part in parts[::2]]
    return "".join(parts)


def _relinked(text: str, path: str, source: str) -> str:
    def moved(match: re.Match[str]) -> str:
        link, anchor = match[1], match[2] or ""
        target = os.path.normpath(f"{PurePosixPath(path).parent}/{link}")
        if "://" in link or link.startswith("mailto:") or not (ROOT / target).is_file():
            return match[0]
        return os.path.relpath(site_path(target), PurePosixPath(source).parent) + anchor

    text = re.sub(r"\[([^\]]+)\]\(([^)\s#]+)\)", lambda m: _unlinked(m, path), text)
    return _LINK.sub(moved, text)


def _unlinked(match: re.Match[str], path: str) -> str:
    """A link to a folder as its words, but for a folder with a page of its own."""
    target = os.path.normpath(f"{PurePosixPath(path).parent}/{match[2]}")
    if "://" in match[2] or not (ROOT / target).is_dir():
        return match[0]
    return f"[{match[1]}]({match[2].rstrip('/')}/index.md)" if (ROOT / target / HOME).is_file() else match[1]
