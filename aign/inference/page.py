"""The shell of every page: one look, one policy, one file that opens from disk.

A page is a single file with its style and its script inside. Nothing is fetched, and its Content-Security-Policy lets
nothing be: no script but ours runs, whatever a text holds.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path, PurePosixPath
from string import Template
from typing import Any
from urllib.parse import quote

from aign.data.publish import published
from aign.framework.errors import StorageError
from aign.inference.overlay import SIDE_RGB

EMBEDDED = "img-src data:"
"""Policy of a page whose pictures are inside."""
BESIDE = "img-src 'self' file: data:; media-src 'self' file:"
"""Policy of a page whose pictures and videos lie beside it."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A term and what it means: a command and what it does, a file and what it is, a licence and what it covers."""

    term: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Page:
    """What a page is made of. Fields named html are trusted: every text in them is escaped already.

    Attributes:
        title: heading, as text.
        header_html: under the heading.
        sections_html: of `section`; empty ones are left out.
        kicker: over the heading, as text.
        css: beside the shared style.
        script: the only one that runs; none if empty.
        foot_html: after the sections: `data` for the script, a dialog.
        shown: which pictures and videos may be shown, as directives of a Content-Security-Policy.
    """

    title: str
    header_html: str
    sections_html: tuple[str, ...]
    kicker: str = "Adversarial Inverse Graphics Networks"
    css: str = ""
    script: str = ""
    foot_html: str = ""
    shown: str = EMBEDDED


def render_page(page: Page) -> str:
    """The page as text."""
    digest = base64.b64encode(hashlib.sha256(page.script.encode()).digest()).decode()
    sides = "".join(f"--{name}: #{r:02x}{g:02x}{b:02x}; " for name, (r, g, b) in SIDE_RGB.items())
    return Template(asset("page.html")).substitute(
        title=escape(page.title),
        kicker=escape(page.kicker),
        header=page.header_html,
        sections="\n".join(filter(None, page.sections_html)),
        css=f":root {{ {sides}}}\n{asset('page.css')}\n{page.css}",
        foot="\n".join(filter(None, (page.foot_html, f"<script>{page.script}</script>" if page.script else ""))),
        shown=page.shown,
        script_source=f"'sha256-{digest}'" if page.script else "'none'",
    )


def write_page(path: Path, page: Page) -> Path:
    """Write a page; its folder is made, and it appears under its name when it is whole.

    Raises:
        StorageError: the folder cannot be made or written.
    """
    text = render_page(page)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
    with published(path) as unfinished:
        # File names may hold bytes that are no text; they become question marks.
        unfinished.write_bytes(text.encode("utf-8", errors="replace"))
    return path


def asset(name: str) -> str:
    """The text of a file that pages are made of."""
    return (files("aign.inference") / "report_assets" / name).read_text(encoding="utf-8")


def data(name: str, content: Any) -> str:
    """JSON for the script to find by its id; it cannot end its own <script>."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{text}</script>'


def section(title: str, body_html: str) -> str:
    """A heading and what is under it; nothing if that is nothing."""
    return f"<section>\n<h2>{escape(title)}</h2>\n{body_html}\n</section>" if body_html else ""


def paragraphs(texts: Sequence[str]) -> str:
    """One each."""
    return "\n".join(f"<p>{escape(text)}</p>" for text in texts)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], note: str = "") -> str:
    """A table of texts, numbers in its second and later columns."""
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(text)}</td>" for text in row) + "</tr>" for row in rows)
    below = f'<p class="note text">{escape(note)}</p>' if note else ""
    return (
        f'<div class="scroll"><table class="plain"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>{below}"
    )


def definitions(entries: Sequence[Entry], folder: Path | None = None) -> str:
    """Terms and texts; a term that is a path inside the folder becomes a link."""
    rows = "".join(f"<dt>{_term(e.term, folder)}</dt><dd>{escape(e.text)}</dd>" for e in entries)
    kind = "origin" if folder is None else "files"
    return f'<dl class="{kind}">{rows}</dl>' if rows else ""


def _term(term: str, folder: Path | None) -> str:
    path = PurePosixPath(term)
    if folder is None or path.is_absolute() or ".." in path.parts or not (folder / path).exists():
        return escape(term)
    return f'<a href="{escape(quote(str(path)))}">{escape(term)}</a>'
