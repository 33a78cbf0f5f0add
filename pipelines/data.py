"""`aign data`: the doctor, and synthetic people in published layouts."""

from collections.abc import Callable, Sequence
from pathlib import Path

import tyro
from rich import filesize
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from aign.data.store import Store
from aign.inference.page import write_page
from aign.inference.store_report.facts import Facts, gather
from aign.inference.store_report.findings import Finding
from aign.inference.store_report.gallery import Gallery, draw_gallery
from aign.inference.store_report.page import all_findings, store_page
from aign.inference.store_report.words import duration, shortened
from infra.storage import absolute
from pipelines.arguments import run_verb
from pipelines.render import render

SICK = 1
_LINES = 20
_STYLES = {"broken": "bold red", "warning": "yellow", "note": ""}


def doctor(
    store: tyro.conf.Positional[str],
    out: Path = Path("report.html"),
    seed: int = 0,
    clips: int = 12,
    verify: bool = True,
) -> None:
    """Say what is in a store and what is wrong with it, here and on a page with pictures of clips.

    Exits with 0 when every part is there and whole, with 1 when parts are missing or broken (everything else is still
    looked at), and with 2 when there is no readable store at all.

    Args:
        store: folder or fsspec URL of the store.
        out: the page to write.
        seed: of the random choice of clips.
        clips: how many clips at random, and as many of the worst; 0 to 24.
        verify: compare every byte with the manifest; without it only names and sizes.
    """
    opened = Store.open(absolute(store))
    facts = gather(opened, verify)
    gallery = draw_gallery(opened, facts, clips, seed)
    write_page(out, store_page(facts, gallery))
    found = all_findings(facts, gallery)
    _tell(Console(), facts, gallery, found, out)
    if any(f.level == "broken" for f in found):
        raise SystemExit(SICK)


def _tell(console: Console, facts: Facts, gallery: Gallery, found: Sequence[Finding], out: Path) -> None:
    console.print(_plain(f"{facts.url}  content {facts.hash[:12]}  {facts.skeleton}, {facts.num_joints} joints"))
    table = Table("table", *(_right(name) for name in ("parts", "clips", "frames", "time", "size", "B/frame")))
    for t in facts.tables:
        sizes = (duration(t.seconds), filesize.decimal(t.bytes), f"{t.bytes / max(1, t.frames):,.0f}")
        table.add_row(t.name, f"{t.parts:,}", f"{t.clips:,}", f"{t.frames:,}", *sizes)
    console.print(table)
    for tally in facts.tallies:
        named = ", ".join(f"{name} {frames:,}" for name, _, frames in tally.rows[:6])
        rest = f" and {len(tally.rows) - 6} more" if len(tally.rows) > 6 else ""
        console.print(_plain(f"frames by {tally.title}: {named}{rest}"), soft_wrap=True)
    for licence in facts.licences:
        told = f"licence {licence.tag or 'none'}: {licence.parts} parts, {licence.frames:,} frames"
        console.print(_plain(told), soft_wrap=True)
    if facts.quality is not None:
        reasons = ", ".join(f"{kind} {count}" for kind, count in facts.quality.reasons.items())
        told = f"quality: {len(facts.quality.dropped)} of {len(facts.quality.verdicts)} clips failed"
        console.print(_plain(told + (f" ({reasons})" if reasons else "")), soft_wrap=True)
    for finding in found[:_LINES]:
        line = f"{finding.level}: {finding.what}" + (f"; {finding.remedy}" if finding.remedy else "")
        console.print(_plain(shortened(line), _STYLES[finding.level]), soft_wrap=True)
    if len(found) > _LINES:
        console.print(_plain(f"and {len(found) - _LINES} more on the page"))
    whole = "every byte is as it was written" if facts.verified else "all sizes are right; --verify compares every byte"
    if not any(f.level == "broken" for f in found):
        console.print(_plain(f"sound: {whole}", "green"), soft_wrap=True)
    console.print(_plain(f"{len(gallery.random)} random and {len(gallery.worst)} worst clips: {out}"), soft_wrap=True)


def _right(name: str) -> Column:
    return Column(name, justify="right")


def _plain(text: str, style: str = "") -> Text:
    """Text of a store for a terminal: no markup, and nothing in a name that would steer the terminal."""
    return Text("".join(c if c.isprintable() else "?" for c in text), style=style)


def main(argv: Sequence[str]) -> None:
    """Parse and run."""
    verbs: dict[str, Callable[..., None]] = {"doctor": doctor, "render": render}
    run_verb(verbs, "aign data", argv, __doc__ or "")
