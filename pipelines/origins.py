"""Licences of what a command is about to use, told before it begins."""

from collections.abc import Mapping, Sequence

from aign.data.datasets.job import Job
from aign.data.store import Store


def of_store(store: Store, what: str = "store") -> Mapping[str, tuple[str, ...]]:
    """Licences of a store's data."""
    return {f"{what} {store.url}": store.manifest.licences}


def of_jobs(source: str, jobs: Sequence[Job]) -> Mapping[str, tuple[str, ...]]:
    """Licences that a source will have in its store.

    Raises:
        UserError: a source cannot be read.
    """
    tables = ((job, table) for job in jobs for group in job.table_groups for table in group)
    return {source: tuple(dict.fromkeys(job.provenance(table).licence for job, table in tables))}
