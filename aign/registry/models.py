"""Registered models: versions that say what they are worth, who may be what, and why.

A version's tags hold its scores and what the gates said of it; its model's files hold all that was measured; the
registered model's tags hold the history of its aliases.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from aign.framework.errors import UserError
from aign.inference.package import ModelCard
from aign.inference.serving import Arrays
from aign.registry.catalogue import (
    CHALLENGER,
    all_models,
    check_name,
    model_of,
    resolve_uri,
    version_of,
    versions_of,
)
from aign.registry.client import client_of, told
from aign.registry.description import described
from aign.registry.evidence import MODEL_ID, all_measured, write_measured
from aign.registry.gates import Measured, Score, own_score, own_tags, scores_of
from aign.registry.history import Move, Ruling, read_history, read_rulings
from aign.registry.licences import LicencePolicy, policy_of
from aign.registry.packages import checked_package, download, try_example, upload
from aign.registry.promotion import POLICY, move, promote
from aign.registry.tracking import RUN_TAG, Tracking, open_tracking


@dataclass(frozen=True, kw_only=True)
class Registered:
    """What became of a model that was registered."""

    version: int
    promoted: bool
    reason: str


@dataclass(frozen=True, kw_only=True)
class ModelRow:
    """One version in a listing.

    Attributes:
        name: of the registered model.
        version: its number.
        aliases: that point to it.
        score: it was registered with; None where something else registered it.
        licences: of all it was trained on.
        recipe: name of the recipe.
        task: of the model; "" where something else registered it.
        compared: keys of all scores it has.
        run_id: of the training.
        created: when.
    """

    name: str
    version: int
    aliases: tuple[str, ...]
    score: Score | None
    licences: tuple[str, ...]
    recipe: str
    task: str
    compared: frozenset[str]
    run_id: str
    created: datetime


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Everything of a version.

    Attributes:
        row: as in a listing.
        policy: licence policy of the registered model.
        description: card, intended use and limits, in Markdown.
        measured: all that was ever measured of it.
        rulings: what the gates said of it, oldest first.
        moves: of the registered model's aliases, oldest first.
    """

    row: ModelRow
    policy: str
    description: str
    measured: tuple[Measured, ...]
    rulings: tuple[Ruling, ...]
    moves: tuple[Move, ...]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What is registered.

    Attributes:
        run_id: of the training that made it.
        package: folder of `aign.inference.package.save_package`.
        measured: what the gate compares, and all numbers beside it.
        example: real frames, as its service takes them; the model must answer them before anything is written.
    """

    run_id: str
    package: Path
    measured: Measured
    example: Arrays


def register(tracking: Tracking, candidate: Candidate, name: str, policy: LicencePolicy | None = None) -> Registered:
    """Add a version to a registered model; it becomes champion if the gates say so, else challenger.

    Args:
        tracking: where.
        candidate: what.
        name: of the registered model, made on first use.
        policy: which licences its champions may have; None: the registered model's, or for a new one the strictest
            that this version fits. It never changes.

    Raises:
        UserError: the package is damaged or holds anything but its two files, the model answers nonsense, the
            registered model has another policy, or the store fails.
    """
    check_name(name)
    served = checked_package(candidate.package)
    try_example(served, candidate.example)
    client, run_id, measured = client_of(tracking.uri), candidate.run_id, candidate.measured
    with told(f"register {name} in {tracking.uri}"):
        run = client.get_run(run_id)
        known = {m.name for m in all_models(tracking)}
        if name in known:
            _check_policy(name, model_of(tracking, name).tags.get(POLICY, "any"), policy)
        tags = {"run": run.data.tags.get(RUN_TAG, run_id), **_lineage(served.card), **own_tags(measured.score)}
        beside = partial(write_measured, measured=measured)
        model = upload(tracking, run_id, candidate.package, candidate.example, tags, beside)
        if name not in known:
            client.create_registered_model(name, tags={POLICY: policy or policy_of(served.card.licences)})
        made = client.create_model_version(
            name,
            model.source,
            run_id,
            tags | {MODEL_ID: model.model_id},
            description=described(served.card),
            model_id=model.model_id,
        )
        version = int(made.version)
    reason = f"registered from run {tags['run']}, waits for the gates"
    move(tracking, name, Move(alias=CHALLENGER, version=version, back=False, reason=reason))
    decision = promote(tracking, name, version)
    return Registered(version=version, promoted=decision.promote, reason=decision.reason)


def _check_policy(name: str, policy: str, asked: LicencePolicy | None) -> None:
    if asked is not None and asked != policy:
        raise UserError(
            f"got --license-policy {asked}; {name} has {policy}, and one name never mixes two: give another --name"
        )


def list_models(tracking: Tracking) -> list[ModelRow]:
    """Every version of every registered model, by name, newest first."""
    rows = []
    for model in all_models(tracking):
        # Asked for alone: a search may leave the aliases out.
        aliases = model_of(tracking, model.name).aliases
        rows += [_row(version, aliases) for version in versions_of(tracking, model.name)]
    return rows


def pull(tracking: Tracking, uri: str, cache: Path) -> Path:
    """Fetch a registered model's package; the code that MLflow keeps beside it is neither fetched nor run.

    Args:
        tracking: where.
        uri: models:/NAME@champion, models:/NAME/3 or models:/NAME/latest.
        cache: receives a folder for each version, which is kept.

    Returns:
        The package's folder, checked.

    Raises:
        UserError: there is no such model, version or alias (the message lists those there are), or the package is
            damaged.
    """
    name, version = resolve_uri(tracking, uri)
    with told(f"find {uri} in {tracking.uri}"):
        source = client_of(tracking.uri).get_model_version_download_uri(name, str(version))
    # The source is part of the name: another registry's version 3 is another model.
    digest = hashlib.sha256(f"{tracking.uri} {source}".encode()).hexdigest()[:8]
    folder = cache.absolute() / f"{name}-v{version}-{digest}"
    if not folder.is_dir():
        return download(tracking, source, folder)
    checked_package(folder)
    return folder


def fetch(uri: str, folder: Path) -> Path:
    """`pull` by who knows only where MLflow's folder is; the entry point of models:/ in pyproject.toml.

    Args:
        uri: as `pull` takes it.
        folder: of the embedded MLflow store, which keeps the package; MLFLOW_TRACKING_URI wins.

    Raises:
        UserError: what `pull` and `open_tracking` raise.
    """
    return pull(open_tracking(folder), uri, folder / "pulled")


def show(tracking: Tracking, uri: str) -> Shown:
    """Everything of a version.

    Raises:
        UserError: there is no such model, version or alias.
    """
    name, number = resolve_uri(tracking, uri)
    model, version = model_of(tracking, name), version_of(tracking, name, number)
    return Shown(
        row=_row(version, model.aliases),
        policy=model.tags.get(POLICY, "any"),
        description=version.description or "",
        measured=tuple(all_measured(tracking, version)),
        rulings=tuple(read_rulings(version.tags)),
        moves=tuple(read_history(model.tags)),
    )


def _lineage(card: ModelCard) -> dict[str, str]:
    return {
        "task": card.task,
        "recipe": card.recipe,
        "licences": json.dumps(card.licences),
        "trained_on": card.store_hash,
        "aign_version": card.version,
    }


def _row(version: Any, aliases: dict[str, Any]) -> ModelRow:
    return ModelRow(
        name=version.name,
        version=int(version.version),
        aliases=tuple(sorted(a for a, v in aliases.items() if int(v) == int(version.version))),
        score=own_score(version.tags),
        licences=tuple(json.loads(version.tags.get("licences", "[]"))),
        recipe=version.tags.get("recipe", ""),
        task=version.tags.get("task", ""),
        compared=frozenset(scores_of(version.tags)),
        run_id=version.run_id or "",
        created=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
    )
