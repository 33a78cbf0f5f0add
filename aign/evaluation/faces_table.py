"""One table of methods that make faces: a row a method and bias, a section for what is of the same pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aign.evaluation.faces_report import FaceReport
from aign.evaluation.mocap_table import DASH, Column, Group, MocapTable, Row
from aign.evaluation.summary import Spread, spread
from aign.framework.errors import UserError

COLUMNS: Mapping[str, Column] = {
    "faithful_psnr_db": Column(
        head="faithful dB", meaning="PSNR of P of the output against the input", more_is_better=True
    ),
    "psnr_db": Column(head="PSNR dB", meaning="of the output against the true picture", more_is_better=True),
    "hole_psnr_db": Column(head="hole dB", meaning="the same inside of the mask", more_is_better=True),
    "ssim": Column(head="SSIM", meaning="against the true picture", digits=3, more_is_better=True),
    "target_rate": Column(
        head="target %",
        meaning="outputs that the judge says have the target, of people who do not have it",
        factor=100.0,
        more_is_better=True,
    ),
    "target_points": Column(
        head="points", meaning="that share less the share of what was there before", more_is_better=True
    ),
    "target_points_from_truth": Column(
        head="from truth", meaning="that share less the share of the true pictures", more_is_better=True
    ),
    "target_change_sd": Column(
        head="target SD", meaning="change of the target, in its standard deviations", digits=2, more_is_better=True
    ),
    "lips_area_change": Column(
        head="lip area %", meaning="change of the area of lips, as a small net finds them", factor=100.0
    ),
    "nose_area_change": Column(head="nose area %", meaning="the same of the nose", factor=100.0),
    "drift_sd": Column(head="drift SD", meaning="mean change of all other attributes", digits=2),
    "target_per_drift": Column(
        head="target/drift", meaning="the target's change by that drift", more_is_better=True
    ),
    "identity_distance": Column(head="identity", meaning="cosine distance from the true picture's embedding", digits=3),
    "fid": Column(head="FID", meaning="on the judge's features, against true pictures with the target", digits=2),
    "kid": Column(head="KID x1000", meaning="unbiased, of the same features and pictures", factor=1000.0, digits=2),
}  # fmt: skip
"""What is shown, in order; other numbers of a report stay in its file."""
NO_BEST = ("lips_area_change", "nose_area_change")
"""More is neither better nor worse where it is not the target."""


@dataclass(frozen=True, kw_only=True)
class FaceTable(MocapTable):
    """As a table of motion capture, whose renderers draw it too, with other columns."""

    @property
    def heads(self) -> tuple[str, ...]:
        """Of all columns but the first."""
        return tuple(COLUMNS[name].head for name in self.names)

    def texts(self, row: Row) -> tuple[str, ...]:
        """Cells of a row but the first."""
        return tuple(_cell(row.cells.get(name), COLUMNS[name]) for name in self.names)

    def best(self, group: Group, row: Row) -> tuple[bool, ...]:
        """Which cells of a row are the best of their column."""
        return tuple(_is_best(group, row, name) for name in self.names)


def face_table(reports: Sequence[FaceReport]) -> FaceTable:
    """One row per method and bias; several reports of one are its seeds.

    Raises:
        UserError: no report.
    """
    if not reports:
        raise UserError("got no report; a table needs at least one")
    found: dict[str, list[FaceReport]] = {}
    for r in reports:
        found.setdefault(_label(r), []).append(r)
    groups = tuple(Group(label=label, rows=_rows(of), measured=True) for label, of in found.items())
    names = tuple(n for n in COLUMNS if any(n in row.cells for group in groups for row in group.rows))
    return FaceTable(
        title="Faces: what was asked for, and what came with it",
        names=names,
        groups=groups,
        notes=(_legend(names), *_judges(reports), *_counts(reports)),
    )


def _label(r: FaceReport) -> str:
    where = f"{r.data}; protocol {r.protocol} ({r.protocol_hash}); store {r.store_hash[:12]}"
    return f"measured here: {where}; {r.num_pictures} pictures of {r.side_px} px"


def row_name(r: FaceReport) -> str:
    """Method and bias."""
    return f"{r.method}, judged by {r.bias}" if r.bias else r.method


def _rows(reports: Sequence[FaceReport]) -> tuple[Row, ...]:
    methods: dict[str, list[FaceReport]] = {}
    for r in reports:
        methods.setdefault(row_name(r), []).append(r)
    rows = []
    for name, seeds in methods.items():
        shared = [n for n in COLUMNS if all(n in r.numbers for r in seeds)]
        cells = {n: spread([r.numbers[n] for r in seeds]) for n in shared}
        rows.append(Row(method=name, seeds=len(seeds), cells=cells))
    return tuple(rows)


def _is_best(group: Group, row: Row, name: str) -> bool:
    """Whether no other row has a better mean, where there is a choice."""
    means = [r.cells[name].mean for r in group.rows if name in r.cells]
    if len(means) < 2 or name not in row.cells or name in NO_BEST:
        return False
    return row.cells[name].mean == (max(means) if COLUMNS[name].more_is_better else min(means))


def _cell(value: Spread | None, column: Column) -> str:
    if value is None:
        return DASH
    deviation = "" if value.deviation is None else f" +- {value.deviation * column.factor:.{column.digits}f}"
    return f"{value.mean * column.factor:.{column.digits}f}{deviation}"


def _legend(names: Sequence[str]) -> str:
    return "; ".join(f"{COLUMNS[n].head}: {COLUMNS[n].meaning}" for n in names) + ". +- is the spread over seeds."


def judge_in_words(r: FaceReport) -> str:
    """Who judged, and how good that judge is itself."""
    if not r.judge:
        return "No judge: nothing is said of what the pictures show."
    facts = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in r.judge_facts.items())
    return f"Judge: {r.judge}; on pictures held out from its training: {facts}."


def _judges(reports: Sequence[FaceReport]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(judge_in_words(r) for r in reports))


def _counts(reports: Sequence[FaceReport]) -> tuple[str, ...]:
    """Of how many pictures the numbers are that are not of all."""
    notes = []
    for name in ("target_points", "fid", "kid"):
        counts = {row_name(r): r.counts[name] for r in reports if name in r.counts}
        if counts:
            told = "; ".join(f"{who} {count}" for who, count in counts.items())
            one = set(counts.values())
            few = f"{one.pop()} pictures" if len(one) == 1 else told
            spreads = [f"{1000 * r.numbers['kid_deviation']:.2f}" for r in reports if "kid_deviation" in r.numbers]
            more = f", its spread over random subsets {', '.join(spreads)}" if name == "kid" and spreads else ""
            notes.append(f"{COLUMNS[name].head} of {few}{more}.")
    return tuple(notes)
