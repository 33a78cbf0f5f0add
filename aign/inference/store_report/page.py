"""The page: a single HTML file that opens from disk, with its pictures inside; nothing is fetched."""

import base64
import hashlib
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from rich import filesize

from aign.data.publish import published
from aign.framework.errors import StorageError
from aign.inference.overlay import SIDE_RGB
from aign.inference.store_report import sections
from aign.inference.store_report.facts import Facts, in_order
from aign.inference.store_report.findings import Finding
from aign.inference.store_report.gallery import Gallery
from aign.inference.store_report.words import counted, duration, title


def all_findings(facts: Facts, gallery: Gallery) -> tuple[Finding, ...]:
    """What is wrong, the worst first: of the facts, and of what turned out when clips were drawn."""
    return in_order([*facts.findings, *gallery.findings])


def write_page(path: Path, facts: Facts, gallery: Gallery) -> None:
    """Write the page; it appears under its name when it is whole.

    Raises:
        StorageError: the folder cannot be made or written.
    """
    page = render_page(facts, gallery)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
    with published(path) as unfinished:
        # File names may hold bytes that are no text; they become question marks.
        unfinished.write_bytes(page.encode("utf-8", errors="replace"))


def render_page(facts: Facts, gallery: Gallery) -> str:
    """The page as text."""
    assets = files("aign.inference.store_report")
    shared = files("aign.inference") / "report_assets" / "report.css"
    script = (assets / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    sides = "".join(f"--{name}: #{r:02x}{g:02x}{b:02x}; " for name, (r, g, b) in SIDE_RGB.items())
    css = (shared.read_text(encoding="utf-8"), (assets / "page.css").read_text(encoding="utf-8"))
    findings = all_findings(facts, gallery)
    parts = (
        sections.findings(findings),
        sections.clips(gallery),
        sections.contents(facts),
        sections.quality(facts.quality),
        sections.numbers(facts),
        sections.not_here(facts),
        sections.provenance(facts),
    )
    return Template((assets / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(title(facts.url)),
        header=_header(facts, findings),
        css=f":root {{ {sides}}}\n" + "\n".join(css),
        js=script,
        script_hash=f"sha256-{digest}",
        sections="\n".join(filter(None, parts)),
    )


def _header(facts: Facts, findings: tuple[Finding, ...]) -> str:
    broken = sum(f.level == "broken" for f in findings)
    warnings = sum(f.level == "warning" for f in findings)
    state, said = "sound", "every byte is as it was written" if facts.verified else "all sizes are right"
    if warnings:
        state, said = "warning", f"{said}; {counted(warnings, 'thing')} to look at"
    if broken:
        state, said = "broken", f"{counted(broken, 'part')} broken"
    moving = [table.seconds for table in facts.tables if table.clips < table.frames]
    long = f"{duration(max(moving))} of motion" if moving else "no motion"
    size = filesize.decimal(facts.files_bytes)
    return (
        f'<p class="state {state}">{said}</p>'
        f"<p>{counted(len(facts.tables), 'table')} in {counted(len(facts.parts), 'part')}, {long}, {size}; "
        f"skeleton {escape(facts.skeleton)} ({facts.num_joints} joints), schema version {facts.schema_version}.</p>"
        f'<p class="note"><code>{escape(facts.url)}</code><br>content <code class="hash">{facts.hash}</code></p>'
    )
