"""What was measured of a method that makes faces, with the audit of everything it changed beside its target."""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aign.evaluation.paired import Units
from aign.framework.errors import UserError


@dataclass(frozen=True, kw_only=True)
class FaceReport:
    """Numbers by name; the unit stands at the end of the name, rates are fractions and points are hundredths.

    Attributes:
        method: see `aign.evaluation.report.Provenance`, as `data` and `store_hash`.
        protocol: id of the protocol.
        protocol_hash: its hash.
        headline_name: the number that the protocol is about, or the faithfulness where there is no target.
        bias: that the method was trained for, as it was asked for; "": none.
        side_px: of the pictures.
        judge: which network judged, on what it was trained.
        judge_facts: how good the judge itself is on held-out pictures; accuracies, correlations and IoU.
        numbers: by name.
        counts: how many pictures each number is of.
        num_pictures: pictures that were measured.
        audit: by attribute: mean of truth, before and after as the judge reads them, and the change in standard
            deviations of the truth; of the target too.
        groups: by group ("Male=+1"): change of every attribute in standard deviations, and "count".
        units: of each picture, what is a mean over pictures: faithfulness, closeness to the truth and the target's
            points; empty in reports of before there were any.
    """

    method: str
    data: str
    store_hash: str
    protocol: str
    protocol_hash: str
    headline_name: str
    bias: str
    side_px: int
    judge: str
    judge_facts: Mapping[str, float]
    numbers: Mapping[str, float]
    counts: Mapping[str, int]
    num_pictures: int
    audit: Mapping[str, Mapping[str, float]]
    groups: Mapping[str, Mapping[str, float]]
    units: Units = field(default_factory=dict)

    @property
    def headline(self) -> float:
        """The one number."""
        return self.numbers[self.headline_name]

    def to_json(self) -> str:
        """One JSON object; what is not known is left out, so no value is NaN."""
        return json.dumps(dataclasses.asdict(self), indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "FaceReport":
        """Inverse of `to_json`.

        Raises:
            UserError: not such a report.
        """
        try:
            data: dict[str, Any] = json.loads(text)
            report = cls(**data)
        except (json.JSONDecodeError, TypeError) as error:
            raise UserError(
                f"got text that is no report of faces ({error}); allowed is FaceReport.to_json()"
            ) from error
        if report.headline_name not in report.numbers:
            raise UserError(f"got a report of faces without its headline {report.headline_name!r}")
        return report


def known(values: Mapping[str, float]) -> dict[str, float]:
    """Those that are numbers, as Python's own."""
    return {name: float(value) for name, value in values.items() if math.isfinite(value)}
