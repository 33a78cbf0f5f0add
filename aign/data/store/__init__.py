"""The columnar store: Parquet parts and one manifest on any fsspec URL."""

from aign.data.store.lock import writing
from aign.data.store.manifest import Manifest, Quarantined, commit, find_manifest, read_manifest
from aign.data.store.reader import Clips, Selected, Store
from aign.data.store.records import ClipSpan, PartRecord, Provenance, RowGroup, Stage
from aign.data.store.selection import Selection, check_disjoint
from aign.data.store.statistics import Moments
from aign.data.store.writer import find_part, write_part

__all__ = [
    "ClipSpan",
    "Clips",
    "Manifest",
    "Moments",
    "PartRecord",
    "Provenance",
    "Quarantined",
    "RowGroup",
    "Selected",
    "Selection",
    "Stage",
    "Store",
    "check_disjoint",
    "commit",
    "find_manifest",
    "find_part",
    "read_manifest",
    "write_part",
    "writing",
]
