"""Arguments by tyro; what it refuses is told in one line, like every other mistake of a user's."""

import functools
import io
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from typing import Any, TypeVar

import tyro

from aign.framework.errors import UserError

T = TypeVar("T")


def parse(kind: type[T], prog: str, argv: Sequence[str], description: str | None = None) -> T:
    """A dataclass from its flags.

    Raises:
        UserError: a flag is unknown (close ones are offered), missing, or its value is of another type.
    """
    return _told(lambda: tyro.cli(kind, prog=prog, description=description, args=list(argv)))


def parse_over(default: T, prog: str, argv: Sequence[str]) -> T:
    """A dataclass, flags over its defaults; tyro.MISSING in the default is a required flag."""
    config = (tyro.conf.AvoidSubcommands,)
    return _told(lambda: tyro.cli(type(default), prog=prog, default=default, args=list(argv), config=config))


def run_verb(verbs: Mapping[str, Callable[..., None]], prog: str, argv: Sequence[str], description: str) -> None:
    """Parse one of several verbs with its own flags, then run it."""
    later = {name: _later(verb) for name, verb in verbs.items()}
    call: Callable[[], None] = _told(
        lambda: tyro.extras.subcommand_cli_from_dict(later, prog=prog, description=description, args=list(argv))
    )
    call()


def _later(verb: Callable[..., None]) -> Callable[..., Callable[[], None]]:
    """The verb's signature, but a call that is still to be made: tyro would run it while its messages are kept."""

    @functools.wraps(verb)
    def bound(*args: Any, **kwargs: Any) -> Callable[[], None]:
        return functools.partial(verb, *args, **kwargs)

    return bound


def _told(parsed: Callable[[], T]) -> T:
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            return parsed()
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UserError(_unboxed(said.getvalue())) from None


def _unboxed(box: str) -> str:
    """The text of tyro's box of several lines, on one; without Unicode the box is one of dashes and spaces."""
    rows = (line.strip(" \u2502") for line in box.splitlines() if not line.startswith(("\u256d", "\u2570")))
    return "; ".join(" ".join(part.split()) for part in re.split("[\u2500-]{4,}", " ".join(rows)))
