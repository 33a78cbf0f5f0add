"""Arrays of a service as JSON and back, with everything that comes from outside checked; several requests as one."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Shaped

from aign.framework.errors import UserError
from aign.inference.serving import SERVICES, Arrays, Served

Answer: TypeAlias = Arrays | UserError

_KINDS = {"f": "fiu", "u": "iu", "b": "b"}
"""Which kinds of JSON values stand for an array of a kind."""
_WORDS = {"f": "numbers", "u": "whole numbers 0 to 255", "b": "true and false"}


def parse_inputs(task: str, text: bytes) -> Arrays:
    """What a model of a task is asked, of `{"inputs": {NAME: nested lists}}`.

    Raises:
        UserError: no such JSON, names that are missing or unknown, or another type or shape.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"the request is no JSON: {error}") from None
    specs = SERVICES[task].inputs
    given = content.get("inputs") if isinstance(content, dict) else None
    if not isinstance(given, dict) or given.keys() != specs.keys():
        got = sorted(given) if isinstance(given, dict) else "no such object"
        raise UserError(f"got inputs {got}; allowed is {{'inputs': {{...}}}} with {', '.join(specs)}")
    arrays = {name: _array(name, given[name], kind, shape) for name, (kind, shape) in specs.items()}
    counts = {name: len(value) for name, value in arrays.items()}
    if len(set(counts.values())) > 1 or not min(counts.values()):
        raise UserError(f"got {counts} frames; allowed is the same number of each, at least 1")
    return arrays


def _array(name: str, value: Any, kind: str, shape: tuple[int, ...]) -> Shaped[np.ndarray, "..."]:
    wanted = np.dtype(kind)
    words = f"{_WORDS[wanted.kind]} {['n' if s < 0 else s for s in shape]}"
    try:
        array = np.asarray(value)
    except ValueError:
        raise UserError(f"{name} must be {words}; got lists of different lengths") from None
    fits = array.ndim == len(shape) and all(s in (-1, n) for s, n in zip(shape, array.shape, strict=False))
    if array.dtype.kind not in _KINDS[wanted.kind] or not fits:
        raise UserError(f"{name} must be {words}; got {array.dtype} {list(array.shape)}")
    if wanted.kind == "u" and (array.min(initial=0) < 0 or array.max(initial=0) > np.iinfo(wanted).max):
        raise UserError(f"{name} must be {words}; got {array.min()} to {array.max()}")
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which the predictor refuses
        return array.astype(wanted)


def answer_json(answer: Arrays) -> str:
    """`{"predictions": {NAME: nested lists}}`; null where nothing could be told."""
    return json.dumps({"predictions": {name: _lists(value) for name, value in answer.items()}}, allow_nan=False)


def _lists(value: Shaped[np.ndarray, "..."]) -> Any:
    if value.dtype.kind != "f" or np.isfinite(value).all():
        return value.tolist()
    told = value.astype(object)
    told[~np.isfinite(value)] = None
    return told.tolist()


def answer_all(served: Served, requests: Sequence[Arrays]) -> list[Answer]:
    """The answer of each of several requests, those that can be asked together in one pass of the network.

    A request that is refused has its own refusal; the others have their answers.
    """
    answers: dict[int, Answer] = {}
    for numbers in _alike(requests).values():
        answers |= dict(zip(numbers, _together(served, [requests[i] for i in numbers]), strict=True))
    return [answers[i] for i in range(len(requests))]


def _alike(requests: Sequence[Arrays]) -> Mapping[Any, list[int]]:
    groups: dict[Any, list[int]] = {}
    for number, given in enumerate(requests):
        groups.setdefault(tuple((n, v.shape[1:]) for n, v in sorted(given.items())), []).append(number)
    return groups


def _together(served: Served, requests: Sequence[Arrays]) -> list[Answer]:
    if served.answer_clips is None or len(requests) == 1:
        return [_alone(served, given) for given in requests]
    counts = [len(next(iter(given.values()))) for given in requests]
    joined = {name: np.concatenate([given[name] for given in requests]) for name in requests[0]}
    try:
        answer = served.answer_clips(joined, np.repeat(np.arange(len(counts)), counts))
    except UserError:  # of one of them
        return [_alone(served, given) for given in requests]
    ends = np.cumsum(counts)[:-1]
    parts = {name: np.split(value, ends) for name, value in answer.items()}
    return [{name: part[i] for name, part in parts.items()} for i in range(len(requests))]


def _alone(served: Served, given: Arrays) -> Answer:
    try:
        return served.answer(given)
    except UserError as error:
        return error
