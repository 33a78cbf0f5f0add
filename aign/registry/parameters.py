"""A configuration as MLflow's parameters."""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

MAX_PARAM = 500
"""Characters kept of a parameter: what every MLflow server takes; the whole is in config.json."""


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested configuration as parameters with dotted names, values cut at MAX_PARAM characters.

    Mappings, dataclasses and sequences that hold any of these are walked; a sequence of plain values is one value.
    """
    flat = {}
    for key, value in _leaves(config, prefix):
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        flat[re.sub(r"[^\w. -]", "_", key, flags=re.ASCII)] = (
            text if len(text) <= MAX_PARAM else f"{text[: MAX_PARAM - 3]}..."
        )
    return flat


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping) and (value or not name):
        children = [(str(k), v) for k, v in value.items()]
    elif isinstance(value, list | tuple) and any(_nested(v) for v in value):
        children = [(str(i), v) for i, v in enumerate(value)]
    else:
        yield name, value
        return
    for key, child in children:
        yield from _leaves(child, f"{name}.{key}" if name else key)


def _nested(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple) or dataclasses.is_dataclass(value)
