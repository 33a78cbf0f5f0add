"""The page of a store, with its pictures inside."""

from html import escape
from importlib.resources import files

from rich import filesize

from aign.inference.page import Page
from aign.inference.store_report import sections
from aign.inference.store_report.facts import Facts, in_order
from aign.inference.store_report.findings import Finding
from aign.inference.store_report.gallery import Gallery
from aign.inference.store_report.words import counted, duration, title


def all_findings(facts: Facts, gallery: Gallery) -> tuple[Finding, ...]:
    """What is wrong, the worst first: of the facts, and of what turned out when clips were drawn."""
    return in_order([*facts.findings, *gallery.findings])


def store_page(facts: Facts, gallery: Gallery) -> Page:
    """The page of a store; `aign.inference.page.write_page` writes it."""
    assets = files("aign.inference.store_report")
    findings = all_findings(facts, gallery)
    return Page(
        title=title(facts.url),
        kicker="aign data doctor",
        header_html=_header(facts, findings),
        sections_html=(
            sections.findings(findings),
            sections.clips(gallery),
            sections.contents(facts),
            sections.quality(facts.quality),
            sections.numbers(facts),
            sections.not_here(facts),
            sections.provenance(facts),
        ),
        css=(assets / "page.css").read_text(encoding="utf-8"),
        script=(assets / "page.js").read_text(encoding="utf-8"),
        foot_html=(assets / "dialog.html").read_text(encoding="utf-8"),
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
