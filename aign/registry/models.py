"""Registered models: versions that say what they are worth, and the alias `champion` that moves only for a reason.

A version's tags hold its scores; the registered model's tags hold the history of its champion.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aign.framework.errors import UserError
from aign.inference.package import ModelCard
from aign.inference.serving import Arrays
from aign.registry.catalogue import (
    CHALLENGER,
    CHAMPION,
    all_models,
    champion_of,
    check_name,
    model_of,
    resolve_uri,
    version_of,
    versions_of,
)
from aign.registry.client import client_of, told
from aign.registry.gates import Decision, Score, decide_versions, own_score, own_tags, score_tags
from aign.registry.history import Move, former_champion, history_tag, read_history
from aign.registry.packages import checked_package, download, try_example, upload
from aign.registry.tracking import RUN_TAG, Tracking


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
        run_id: of the training.
        created: when.
    """

    name: str
    version: int
    aliases: tuple[str, ...]
    score: Score | None
    licences: tuple[str, ...]
    recipe: str
    run_id: str
    created: datetime


def register(tracking: Tracking, run_id: str, package: Path, name: str, score: Score, example: Arrays) -> Registered:
    """Add a version to a registered model; it becomes champion if the gate says so, else challenger.

    Args:
        tracking: where.
        run_id: of the training that made it.
        package: folder of `aign.inference.package.save_package`.
        name: of the registered model, made on first use.
        score: what the gate compares.
        example: real frames, as its service takes them; the model must answer them before anything is written.

    Raises:
        UserError: the package is damaged or holds anything but its two files, the model answers nonsense, or the
            store fails.
    """
    check_name(name)
    served = checked_package(package)
    try_example(served, example)
    client = client_of(tracking.uri)
    with told(f"register {name} in {tracking.uri}"):
        run = client.get_run(run_id)
        tags = {"run": run.data.tags.get(RUN_TAG, run_id), **_lineage(served.card), **own_tags(score)}
        model = upload(tracking, run_id, package, example, tags)
        if name not in {m.name for m in all_models(tracking)}:
            client.create_registered_model(name)
        made = client.create_model_version(name, model.source, run_id, tags, model_id=model.model_id)
        version = int(made.version)
        client.set_registered_model_alias(name, CHALLENGER, str(version))
    decision = promote(tracking, name, version)
    return Registered(version=version, promoted=decision.promote, reason=decision.reason)


def record_score(tracking: Tracking, name: str, version: int, score: Score) -> None:
    """Tag a version with what another evaluation found, so that the gate can compare: the old champion on a new store.

    Raises:
        UserError: no such version.
    """
    version_of(tracking, name, version)
    with told(f"tag {name} in {tracking.uri}"):
        for key, text in score_tags(score).items():
            client_of(tracking.uri).set_model_version_tag(name, str(version), key, text)


def promote(tracking: Tracking, name: str, version: int, force: bool = False) -> Decision:
    """Make a version champion if the gate allows it, or in any case with `force`.

    Raises:
        UserError: no such model or version.
    """
    candidate, champion = version_of(tracking, name, version), champion_of(tracking, name)
    if champion is not None and int(champion.version) == version:
        return Decision(promote=False, reason=f"version {version} is the champion already")
    decision = decide_versions(candidate.tags, None if champion is None else champion.tags)
    if force and not decision.promote:
        decision = Decision(promote=True, reason=f"forced, although: {decision.reason}")
    if decision.promote:
        _move(tracking, name, Move(version=version, back=False, reason=decision.reason))
    return decision


def roll_back(tracking: Tracking, name: str) -> int:
    """Give the alias back to the version that was champion before; called again, one further back.

    Returns:
        The champion's version now.

    Raises:
        UserError: no such model, or it had no other champion.
    """
    champion = champion_of(tracking, name)
    now = None if champion is None else int(champion.version)
    there = {int(v.version) for v in versions_of(tracking, name)}
    version = former_champion(read_history(model_of(tracking, name).tags), now, there)
    if version is None:
        raise UserError(f"{name} had no champion before version {now}; its versions are {sorted(there)}")
    _move(tracking, name, Move(version=version, back=True, reason=f"rolled back from version {now}"))
    return version


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


def _lineage(card: ModelCard) -> dict[str, str]:
    return {
        "task": card.task,
        "recipe": card.recipe,
        "licences": json.dumps(card.licences),
        "trained_on": card.store_hash,
        "aign_version": card.version,
    }


def _move(tracking: Tracking, name: str, move: Move) -> None:
    client = client_of(tracking.uri)
    with told(f"move the champion of {name} in {tracking.uri}"):
        model = client.get_registered_model(name)
        # The alias first: killed in between, the history lacks a move, which roll_back survives; the other way round
        # it would hold one that never was.
        client.set_registered_model_alias(name, CHAMPION, str(move.version))
        client.set_registered_model_tag(name, *history_tag(move, read_history(model.tags)))
        if int(model.aliases.get(CHALLENGER, 0)) == move.version:
            client.delete_registered_model_alias(name, CHALLENGER)


def _row(version: Any, aliases: dict[str, Any]) -> ModelRow:
    return ModelRow(
        name=version.name,
        version=int(version.version),
        aliases=tuple(sorted(a for a, v in aliases.items() if int(v) == int(version.version))),
        score=own_score(version.tags),
        licences=tuple(json.loads(version.tags.get("licences", "[]"))),
        recipe=version.tags.get("recipe", ""),
        run_id=version.run_id or "",
        created=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC),
    )
