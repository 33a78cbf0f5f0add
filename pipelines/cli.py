"""The command line. Only the verb that is asked for is imported, so help is quick."""

import difflib
import importlib
import os
import sys
from collections.abc import Mapping, Sequence

from aign import __version__

VERBS: Mapping[str, tuple[str, str]] = {
    "demo": ("pipelines.demo", "the whole story on the embedded data, in a few minutes"),
    "assets": ("pipelines.assets", "pull, list or verify the pinned public assets"),
    "preprocess": ("pipelines.preprocess", "bring videos, motion or a published data set into a store"),
    "data": ("pipelines.data", "look into a store (doctor), or render synthetic data sets as files"),
    "doctor": ("pipelines.doctor", "look at this machine: what is here, what it enables, what to type for the rest"),
    "train": ("pipelines.train", "train a recipe on a store"),
    "tune": ("pipelines.tune", "search for a recipe's weights and learning rates, on all processors"),
    "evaluate": ("pipelines.evaluate", "measure a model on a store under a named protocol"),
    "reproduce": ("pipelines.reproduce", "rebuild a table of the paper: train its rows, measure, draw"),
    "register": ("pipelines.register", "register a finished run in MLflow, behind its gates"),
    "models": ("pipelines.models", "list, show, compare, promote, roll back or pull registered models"),
    "adapt": ("pipelines.adapt", "adapt a motion-capture model to clips that nobody labelled"),
    "capture": ("pipelines.capture", "run a registered model on a video"),
    "serve": ("pipelines.serve", "answer with a model over HTTP, on Ray Serve"),
    "translate": ("pipelines.translate", "run a registered model of faces on photographs"),
    "submit": ("pipelines.submit", "run any of these as a job on a running cluster: aign submit -- VERB ..."),
    "jobs": ("pipelines.jobs", "list, show, follow or stop submitted jobs"),
    "export": ("pipelines.export", "write a model as one file for other programs (ONNX)"),
}
"""Verb -> the module whose main(argv) it is, and one line of help."""
OWN = ("aign", "pipelines", "infra")
INSTALL = "pip install -c constraints.txt -e ."
CLIENT_VERSION = "AIGN_CLIENT_VERSION"
"""Set in a submitted job: the version of aign that submitted it."""


def usage() -> str:
    """The text of `aign --help`."""
    width = max(map(len, VERBS))
    rows = "\n".join(f"  {verb:<{width}}  {text}" for verb, (_, text) in VERBS.items())
    return (
        f"aign {__version__}: Adversarial Inverse Graphics Networks, from unlabelled video to 3D\n\n"
        f"usage: aign VERB ...   (aign VERB --help tells more)\n\n{rows}\n"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; 0 when it worked, 2 when what the user or the system gave cannot be used, 130 when interrupted."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in ("-h", "--help", "help"):
        print(usage(), end="")
        return 0
    if args[0] in ("-V", "--version"):
        print(__version__)
        return 0
    verb = args[0]
    if verb not in VERBS:
        close = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"allowed: {', '.join(VERBS)}"
        print(f"aign: unknown command {verb!r}; {hint}", file=sys.stderr)
        return 2
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    return _run(verb, args[1:])


def _run(verb: str, args: Sequence[str]) -> int:
    """A verb with its mistakes told in one line each; anything else is a bug and keeps its traceback."""
    try:
        from aign.framework.errors import UserError

        try:
            _check_installed()
            importlib.import_module(VERBS[verb][0]).main(args)
        except (UserError, OSError) as error:  # OSError: no permission, no space, no cluster at an address
            print(f"aign {verb}: {' '.join(str(error).split())}", file=sys.stderr)
            return 2
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in OWN:
            raise
        print(f"aign {verb}: the Python package {error.name} is missing; run: {INSTALL}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        line = "" if not sys.stderr.isatty() else "\n"  # a terminal has echoed ^C
        print(f"{line}aign {verb}: interrupted; what was finished is kept, the same command goes on", file=sys.stderr)
        return 130
    return 0


def _check_installed() -> None:
    """A submitted job runs its client's code with the cluster's packages, which must be those the client was made for.

    Raises:
        UserError: another version of aign is installed here than submitted this job.
    """
    if not (client := os.environ.get(CLIENT_VERSION)):
        return
    from importlib.metadata import PackageNotFoundError, version

    from aign.framework.errors import UserError

    try:
        installed = version("aign")
    except PackageNotFoundError:
        return  # it runs from a checkout, which is the client's own
    if installed != client:
        raise UserError(
            f"this cluster has aign {installed} installed, the job was submitted by aign {client}; they must be equal"
        )
