"""A configuration as flat plain data: what is logged, and what a resumed run is compared with."""

import dataclasses
from collections.abc import Mapping
from typing import Any


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted path -> number, string, bool or None, of nested dataclasses, mappings and sequences."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        items: Any = ((f.name, getattr(config, f.name)) for f in dataclasses.fields(config))
    elif isinstance(config, Mapping):
        items = config.items()
    elif isinstance(config, list | tuple):
        return {prefix: ", ".join(map(str, config))}
    else:
        return {prefix: config}
    flat: dict[str, Any] = {}
    for name, value in items:
        flat |= flatten(value, f"{prefix}.{name}" if prefix else str(name))
    return flat
