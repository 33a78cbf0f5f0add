"""What was measured of a version, kept as a file with its model: the tags have the number, this has all of it."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aign.framework.errors import StorageError
from aign.registry.catalogue import version_of
from aign.registry.client import client_of, told
from aign.registry.gates import Decision, Measured, Score, decide, judged_by, score_tags, scores_of
from aign.registry.tracking import Tracking

FOLDER = "measured"
MODEL_ID = "model_id"
"""Tag of a version: a version that is looked for does not say its model."""


def write_measured(folder: Path, measured: Measured) -> None:
    """Into a model's folder, before it is sent."""
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    (folder / FOLDER / f"{measured.score.key}.json").write_text(measured.to_json())


def record_measured(tracking: Tracking, name: str, version: int, measured: Measured) -> None:
    """Keep what another evaluation found of a version, so that the gate can compare: the old champion on a new store.

    Raises:
        UserError: no such version, or something else registered it.
    """
    found = version_of(tracking, name, version)
    client = client_of(tracking.uri)
    with tempfile.TemporaryDirectory() as temp, told(f"keep what was measured of {name} in {tracking.uri}"):
        write_measured(Path(temp), measured)
        client.log_model_artifacts(_model_id(found), temp)
        # The tag last: it says that the file is there.
        for key, text in score_tags(measured.score).items():
            client.set_model_version_tag(name, str(version), key, text)


def _model_id(version: Any) -> str:
    if MODEL_ID not in version.tags:
        raise StorageError(f"{version.name} version {version.version} was not registered by aign; it has no model")
    return str(version.tags[MODEL_ID])


def read_measured(tracking: Tracking, version: Any, score: Score) -> Measured:
    """What was measured of a version when it got that score.

    Raises:
        StorageError: the store fails, or the file is gone or damaged.
    """
    with tempfile.TemporaryDirectory() as temp, told(f"read what was measured of {version.name} in {tracking.uri}"):
        from mlflow.artifacts import download_artifacts

        source = client_of(tracking.uri).get_model_version_download_uri(version.name, version.version)
        uri = f"{source}/{FOLDER}/{score.key}.json"
        text = Path(download_artifacts(artifact_uri=uri, dst_path=temp, tracking_uri=tracking.uri)).read_text()
    try:
        return Measured.from_json(text)
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise StorageError(
            f"what was measured of {version.name} version {version.version} is damaged: {error}"
        ) from None


def all_measured(tracking: Tracking, version: Any) -> Sequence[Measured]:
    """Everything that was ever measured of a version, in no order."""
    return [read_measured(tracking, version, score) for score in scores_of(version.tags).values()]


def decide_versions(tracking: Tracking, candidate: Any, champion: Any | None) -> Decision:
    """`decide` on two versions, by what was measured of both alike if there is any; None: no champion."""
    found = judged_by(candidate.tags, None if champion is None else champion.tags)
    if isinstance(found, Decision):
        return found
    ours, theirs = found
    mine = Measured(score=ours, numbers={})
    if theirs is None or ours.key != theirs.key:
        return decide(mine, None if theirs is None else Measured(score=theirs, numbers={}))
    return decide(read_measured(tracking, candidate, ours), read_measured(tracking, champion, theirs))
