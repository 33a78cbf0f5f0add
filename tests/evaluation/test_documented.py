"""docs/evaluation.md explains every protocol that there is, and no other."""

import re
from pathlib import Path

from aign.evaluation.mocap import measure_bodies
from aign.evaluation.mocap_table import COLUMNS
from aign.evaluation.pose import METRICS
from aign.evaluation.protocol import ALIASES, PROTOCOLS, resolve
from aign.evaluation.published import DETECTED_2D, GROUND_TRUTH_2D, NIPS17_MESH

from .mocap_fixtures import WHO, estimate, rows, truth

TEXT = (Path(__file__).parents[2] / "docs/evaluation.md").read_text()


def table(name: str) -> list[list[str]]:
    """The rows of a marked table without its head."""
    found = re.search(rf"<!-- {name}:begin -->\n(.*?)\n<!-- {name}:end -->", TEXT, re.DOTALL)
    assert found is not None
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()]
    return lines[2:]


def test_every_protocol_is_documented_once_with_its_hash_and_headline() -> None:
    rows = table("protocols")
    assert [row[0] for row in rows] == [f"`{name}`" for name in PROTOCOLS], "in the order of the code"
    for (_, digest, what, joints, headline), protocol in zip(rows, PROTOCOLS.values(), strict=True):
        assert digest == f"`{protocol.hash}`"
        assert what
        assert joints.startswith(f"J{len(protocol.joints)}")
        mean = "Avg/act" if protocol.aggregation == "actions" else "Avg/frm"
        first = f"{METRICS[protocol.headline][0]}, {mean}"
        assert headline.startswith(first) or (protocol.id == "aign-iccv17-15" and headline == "the same")
        told = re.search(r"(\d+) views", what)
        assert told is None or int(told[1]) == protocol.num_views, protocol.id


def test_every_alias_is_documented_once() -> None:
    assert {row[0].strip("`"): row[1].strip("`") for row in table("aliases")} == dict(ALIASES)


def test_the_slides_averages_are_quoted_right() -> None:
    true, detected = ({row.method: row.average for row in t.rows} for t in (GROUND_TRUTH_2D, DETECTED_2D))
    for name, said in (("3Dinterpr [33]", "3D interpreter"), ("Forward2Dto3D", "Forward2Dto3D")):
        assert f"| {said}, slides | true, detected 2D | - | {true[name]}, {detected[name]} |" in TEXT
    assert f"| true 2D | - | {true['AIGN']} |" in TEXT
    assert f"| detected 2D | - | {detected['AIGN']} |" in TEXT


def test_every_number_of_bodies_is_explained() -> None:
    bodies = TEXT[TEXT.index("## Bodies") : TEXT.index("## Why the literature")]
    names = set(measure_bodies(estimate(), truth(), rows(), resolve("aign-nips17-mesh24/pelvis"), WHO).numbers)
    for name in (names | set(COLUMNS)) - {"flip_rate", "mpjpe_root_mm"}:
        assert f"`{name}`" in bodies, name
    for row in NIPS17_MESH:
        assert str(row.per_joint_mm or row.surface_mm) in bodies
