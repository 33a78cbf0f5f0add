"""What a registry holds: models, versions and aliases, and one clear line for what it does not hold."""

import re
from collections.abc import Callable
from typing import Any, Literal

from aign.framework.errors import UserError
from aign.registry.client import client_of, told
from aign.registry.tracking import Tracking

CHAMPION: Literal["champion"] = "champion"
CHALLENGER: Literal["challenger"] = "challenger"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d{1,9}|latest))")


def check_name(name: str) -> None:
    """Refuse names that would not survive in a models:/ URI or a path."""
    if not _NAME.fullmatch(name):
        raise UserError(
            f"got model name {name!r}; allowed are 1 to 100 letters, digits and . _ -, a letter or digit first"
        )


def all_models(tracking: Tracking) -> list[Any]:
    """Every registered model with its aliases, by name."""
    with told(f"list models of {tracking.uri}"):
        return sorted(_paged(client_of(tracking.uri).search_registered_models), key=lambda m: str(m.name))


def model_of(tracking: Tracking, name: str) -> Any:
    """A registered model.

    Raises:
        UserError: there is none of that name; the message lists those there are.
    """
    models = {m.name: m for m in all_models(tracking)}
    if name not in models:
        raise UserError(f"no model {name!r} in {tracking.uri}; there are {sorted(models)}")
    # Asked for alone, since a search may leave aliases and tags out.
    with told(f"read {name} from {tracking.uri}"):
        return client_of(tracking.uri).get_registered_model(name)


def versions_of(tracking: Tracking, name: str) -> list[Any]:
    """The versions of a model, newest first."""
    with told(f"list versions of {name} in {tracking.uri}"):
        found = _paged(client_of(tracking.uri).search_model_versions, filter_string=f"name='{name}'")
    return sorted(found, key=lambda v: -int(v.version))


def version_of(tracking: Tracking, name: str, version: int) -> Any:
    """One version.

    Raises:
        UserError: no such model or version.
    """
    model_of(tracking, name)
    versions = {int(v.version): v for v in versions_of(tracking, name)}
    if version not in versions:
        raise UserError(f"{name} has no version {version}; it has {sorted(versions)}")
    return versions[version]


def champion_of(tracking: Tracking, name: str) -> Any:
    """The champion's version, None if there is none."""
    version = model_of(tracking, name).aliases.get(CHAMPION)
    return None if version is None else version_of(tracking, name, int(version))


def resolve_uri(tracking: Tracking, uri: str) -> tuple[str, int]:
    """Name and version number of models:/NAME@alias, models:/NAME/3 or models:/NAME/latest.

    Raises:
        UserError: another form, or no such model, version or alias.
    """
    match = _URI.fullmatch(uri)
    if match is None or not _NAME.fullmatch(match["name"]):
        raise UserError(f"got model {uri!r}; allowed are models:/NAME@champion, models:/NAME/3 and models:/NAME/latest")
    name, alias, version = match["name"], match["alias"], match["version"]
    aliases = {a: int(v) for a, v in model_of(tracking, name).aliases.items()}
    if alias is not None:
        if alias not in aliases:
            raise UserError(f"{name} has no alias {alias!r}; it has {aliases}")
        return name, aliases[alias]
    if version == "latest":
        versions = versions_of(tracking, name)
        if not versions:
            raise UserError(f"{name} has no versions")
        return name, int(versions[0].version)
    return name, int(version_of(tracking, name, int(version)).version)


def _paged(search: Callable[..., Any], **query: str) -> list[Any]:
    found, token = [], None
    while True:
        page = search(**query, page_token=token)
        found.extend(page)
        token = page.token
        if not token:
            return found
