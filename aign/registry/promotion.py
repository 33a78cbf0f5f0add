"""The alias `champion`: it moves only for a reason, and every move is written down."""

import json
from typing import Any

from aign.framework.errors import UserError
from aign.registry.catalogue import CHALLENGER, CHAMPION, champion_of, model_of, version_of, versions_of
from aign.registry.clean_check import clean_refusal
from aign.registry.client import client_of, told
from aign.registry.evidence import decide_versions
from aign.registry.gates import Decision
from aign.registry.history import (
    Move,
    Ruling,
    former_champion,
    history_tag,
    read_history,
    read_rulings,
    ruling_tag,
)
from aign.registry.licences import LicencePolicy, licence_refusal
from aign.registry.tracking import Tracking

POLICY = "licence_policy"
"""Tag of a registered model: the licence policy that all its champions fit."""


def promote(tracking: Tracking, name: str, version: int, force: bool = False) -> Decision:
    """Make a version champion if the gates allow it.

    The gates: measured better than the champion, beyond luck, on the same test clips under the same protocol; licences
    that the registered model's policy accepts; finite weights, and the same answers in a clean process.

    Args:
        tracking: where.
        name: of the registered model.
        version: its number.
        force: although it was not measured better; the other gates are kept.

    Raises:
        UserError: no such model or version.
    """
    candidate, champion = version_of(tracking, name, version), champion_of(tracking, name)
    if champion is not None and int(champion.version) == version:
        return Decision(promote=False, reason=f"version {version} is the champion already")
    decision = decide_versions(tracking, candidate, champion)
    if force and not decision.promote:
        decision = Decision(promote=True, reason=f"forced, although: {decision.reason}")
    if decision.promote and (refusal := _unfit(tracking, candidate)):
        decision = Decision(promote=False, reason=refusal)
    ruling = Ruling(promote=decision.promote, reason=decision.reason)
    with told(f"write to {name} in {tracking.uri}"):
        key, text = ruling_tag(ruling, read_rulings(candidate.tags))
        client_of(tracking.uri).set_model_version_tag(name, str(version), key, text)
    if decision.promote:
        move(tracking, name, Move(alias=CHAMPION, version=version, back=False, reason=decision.reason))
    return decision


def _unfit(tracking: Tracking, candidate: Any) -> str | None:
    """What no measurement makes good; the quick question first."""
    model = model_of(tracking, candidate.name)
    licences = json.loads(candidate.tags.get("licences", "[]"))
    policy: LicencePolicy = model.tags.get(POLICY, "any")
    if refusal := licence_refusal(policy, licences):
        return f"{refusal}; register it under another name with --license-policy any"
    with told(f"find {candidate.name} in {tracking.uri}"):
        source = client_of(tracking.uri).get_model_version_download_uri(candidate.name, candidate.version)
    return clean_refusal(tracking, candidate.name, int(candidate.version), source)


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
    move(tracking, name, Move(alias=CHAMPION, version=version, back=True, reason=f"rolled back from version {now}"))
    return version


def move(tracking: Tracking, name: str, step: Move) -> None:
    """Move an alias and write it down; who becomes champion is no challenger any more."""
    client = client_of(tracking.uri)
    with told(f"move the {step.alias} of {name} in {tracking.uri}"):
        model = client.get_registered_model(name)
        # The alias first: killed in between, the history lacks a move, which roll_back survives; the other way round
        # it would hold one that never was.
        client.set_registered_model_alias(name, step.alias, str(step.version))
        client.set_registered_model_tag(name, *history_tag(step, read_history(model.tags)))
        if step.alias == CHAMPION and int(model.aliases.get(CHALLENGER, 0)) == step.version:
            client.delete_registered_model_alias(name, CHALLENGER)
