"""What `aign doctor` looks at. Each check answers alone, and imports what it needs by itself: it may be missing."""

import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypeAlias

State: TypeAlias = Literal["ok", "note", "absent", "broken"]
INSTALL = "pip install -c constraints.txt -e ."
ROOT = Path(__file__).parents[1]
PYTHON = (3, 11)
LEAST_RAM_BYTES, LEAST_DISK_BYTES = 4 << 30, 2 << 30
ANSWER_SECONDS = 1.5
"""So long a cluster or a server may take."""
EXTRAS: Mapping[str, str] = {
    "onnx": "aign export --to onnx",
    "s3": "stores and runs at s3://",
    "serve": "aign serve: models over HTTP",
    "server": "an MLflow server with users and PostgreSQL",
    "tune-optuna": "aign tune RECIPE --search optuna",
}
"""What each extra of pyproject.toml enables, but those for who works on the project itself."""
GROUPS: Mapping[str, str] = {
    "pose": "people in videos: aign capture, aign preprocess VIDEOS (heavy net)",
    "pose_pip": "the same where npm is missing (full net)",
    "face": "faces in photographs: aign translate, aign preprocess PHOTOS",
    "face_judge": "a judge of age and sex that no face of ours trained",
    "pose2sim": "the demo's video, four cameras",
    "pose2sim_two_people": "a video of two people",
    "sports2d": "a video of two people outdoors",
    "motions": "the files that the embedded motions were made of",
    "backgrounds": "rendered people: aign preprocess demo-motions --dataset synthetic",
}
"""Of assets: what each enables."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the doctor's.

    Attributes:
        area: what it belongs to.
        name: what was looked at.
        state: ok; note: works, but look at it; absent: not there, and what it enables does not work; broken: there, or
            needed by all, and wrong.
        found: what there is, or what is wrong with it.
        enables: what works with it.
        remedy: what to type; "" where nothing is to be done.
    """

    area: str
    name: str
    state: State
    found: str
    enables: str = ""
    remedy: str = ""


def environment() -> Iterator[Check]:
    """Python and the packages, against what the project asks for and was tested with."""
    version, wanted = platform.python_version(), ".".join(map(str, PYTHON))
    fits = sys.version_info >= PYTHON
    found = f"{version} at {sys.executable}" + ("" if fits else f"; {wanted} or newer is needed")
    yield Check(
        area="environment", name="python", state="ok" if fits else "broken", found=found, enables="everything",
        remedy="" if fits else f"make PYTHON=python{wanted}",
    )  # fmt: skip
    project, tested = _project(), _tested()
    yield from _packages("packages", project["dependencies"], tested)
    for extra, enables in EXTRAS.items():
        yield from _packages(extra, project["extras"].get(extra, []), tested, enables)


def _project() -> dict[str, Any]:
    """Requirements of this checkout, or of the installed package where there is no checkout."""
    if (ROOT / "pyproject.toml").is_file():
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        return {"dependencies": project["dependencies"], "extras": project["optional-dependencies"]}
    lines = [line.partition(";") for line in metadata.requires("aign") or ()]
    extras = {name: [text for text, _, when in lines if f"'{name}'" in when.replace('"', "'")] for name in EXTRAS}
    return {"dependencies": [text for text, _, when in lines if "extra" not in when], "extras": extras}


def _tested() -> dict[str, str]:
    """The version of each package that the project was tested with; none where there is no checkout."""
    path = ROOT / "constraints.txt"
    lines = path.read_text().splitlines() if path.is_file() else []
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {name.lower(): version.strip() for name, version in pairs}


def _packages(name: str, needed: Sequence[str], tested: Mapping[str, str], enables: str = "") -> Iterator[Check]:
    """The packages of one list of requirements: a line for all that is well, and one for what is not."""
    from packaging.requirements import Requirement

    missing, old, other, count = [], [], [], 0
    for requirement in map(Requirement, needed):
        count += 1
        try:
            here = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            missing.append(requirement.name)
            continue
        base = here.partition("+")[0]
        if not requirement.specifier.contains(base, prereleases=True):
            old.append(f"{requirement.name} {here} (needed {requirement.specifier})")
        elif (pinned := tested.get(requirement.name.lower(), base)) != base:
            other.append(f"{requirement.name} {here} (tested {pinned})")
    command = INSTALL if not enables else INSTALL.replace("-e .", f"-e '.[{name}]'")
    what, area = enables or "everything", "environment"
    if missing or old:
        told = "; ".join(filter(None, (f"missing: {', '.join(missing)}" if missing else "", ", ".join(old))))
        state: State = "absent" if enables and not old else "broken"
        yield Check(area=area, name=name, state=state, found=told, enables=what, remedy=command)
    elif other:
        found = f"{count} there, not all as tested: {', '.join(other)}"
        yield Check(area=area, name=name, state="note", found=found, enables=what, remedy=command)
    else:
        known = "the tested versions" if tested else "new enough"
        yield Check(area=area, name=name, state="ok", found=f"{count} there, {known}", enables=what)


def machine() -> Iterator[Check]:
    """Processors, memory and disk."""
    cores, ram = len(os.sched_getaffinity(0)), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    yield Check(
        area="machine", name="processors", state="ok", found=str(cores), enables="aign preprocess uses them all"
    )
    small = ram < LEAST_RAM_BYTES
    yield Check(
        area="machine", name="memory", state="note" if small else "ok", enables="about 4 GiB for Ray and one training",
        found=_gib(ram), remedy="use --workers 0, which needs no Ray" if small else "",
    )  # fmt: skip
    free = shutil.disk_usage(Path.cwd()).free
    full = free < LEAST_DISK_BYTES
    yield Check(
        area="machine", name="disk", state="note" if full else "ok", found=f"{_gib(free)} free in {Path.cwd()}",
        enables="stores and runs", remedy="free some, or run in another folder" if full else "",
    )  # fmt: skip


def gpu() -> Iterator[Check]:
    """Graphics cards, and whether torch can use them."""
    name, enables, tool = "cards", "aign train --gpus-per-worker 1", shutil.which("nvidia-smi")
    query = [str(tool), "--query-gpu=name,memory.total", "--format=csv,noheader"]
    said = subprocess.run(query, capture_output=True, text=True, timeout=3, check=False) if tool else None
    cards = said.stdout.strip().splitlines() if said and said.returncode == 0 else []
    if not cards:
        found = "none" if said is None else f"nvidia-smi finds none: {(said.stderr or said.stdout).strip()[:80]}"
        yield Check(
            area="gpu", name=name, state="absent", found=f"{found}; everything runs on processors", enables=enables
        )
        return
    usable = not metadata.version("torch").endswith("+cpu")
    if usable:  # only here: it takes seconds
        import torch

        usable = torch.cuda.is_available()
    remedy = "" if usable else "install torch's CUDA build: https://pytorch.org/get-started/locally"
    state: State = "ok" if usable else "note"
    told = "; ".join(cards) + ("" if usable else f"; torch {metadata.version('torch')} cannot use it")
    yield Check(area="gpu", name=name, state=state, found=told, enables=enables, remedy=remedy)


def ray(address: str | None) -> Iterator[Check]:
    """The cluster that commands would run on."""
    from infra.cluster import check_answers

    where, enables = address or os.environ.get("RAY_ADDRESS"), "all commands on this cluster"
    if not where:
        found = "no address: each command starts a local one"
        yield Check(area="ray", name="cluster", state="ok", found=found, enables="all commands on this machine")
        return
    try:
        check_answers(where, ANSWER_SECONDS)
    except OSError as error:
        remedy = "unset RAY_ADDRESS, or start it: docs/operations.md"
        yield Check(area="ray", name="cluster", state="broken", found=str(error), enables=enables, remedy=remedy)
    else:
        yield Check(area="ray", name="cluster", state="ok", found=f"{where} answers", enables=enables)


def mlflow(folder: Path) -> Iterator[Check]:
    """The store of runs and models: a server that answers, or a file that can be written."""
    from aign.framework.errors import UserError
    from aign.registry.tracking import DATABASE, SERVERS, SQLITE, Tracking, check_there

    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{folder.absolute() / DATABASE}"
    enables = "runs, aign register, models:/NAME@champion"
    state: State
    if uri.startswith(SERVERS):
        try:
            check_there(Tracking(uri=uri, experiment=""), ANSWER_SECONDS)
            state, found, remedy = "ok", f"{uri} answers", ""
        except UserError as error:
            state, found, remedy = "broken", str(error), "start it, or unset MLFLOW_TRACKING_URI"
    elif uri.startswith(f"{SQLITE}/"):
        state, found, remedy = _sqlite(Path(uri.removeprefix(SQLITE)))
    else:
        state, found = "broken", f"MLFLOW_TRACKING_URI is {uri}"
        remedy = "name http(s)://server or sqlite:////absolute/path.db, or unset it"
    yield Check(area="mlflow", name="store", state=state, found=found, enables=enables, remedy=remedy)


def _sqlite(path: Path) -> tuple[State, str, str]:
    """State, what there is, and remedy."""
    if not path.exists():
        parent = next(folder for folder in path.parents if folder.exists())
        if os.access(parent, os.W_OK):
            return "ok", f"{path} is made when it is first needed", ""
        return "broken", f"{parent} cannot be written, so {path} cannot be made", "give another --mlflow"
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=ANSWER_SECONDS)) as store:
            store.execute("SELECT count(*) FROM sqlite_master").fetchone()
            store.execute("BEGIN IMMEDIATE")
            store.rollback()
    except sqlite3.OperationalError as error:
        return "broken", f"{path} cannot be written: {error}", "mend its permissions, or wait for who has it locked"
    except sqlite3.DatabaseError as error:
        return "broken", f"{path}: {error}", "give another --mlflow, or bring the file back from a copy"
    return "ok", f"{path} can be written", ""


def assets() -> Iterator[Check]:
    """Which pinned files are here, and whether they are what they should be."""
    from aign.data.assets import listing, verify

    state_of = {name: why for name, _, why in verify()}
    sound = {name for name, fine, _ in verify() if fine}
    groups: dict[str, list[str]] = {}
    for row in listing():
        groups.setdefault(row.asset.group, []).append(row.asset.name)
    for group, names in groups.items():
        missing = [name for name in names if state_of[name] == "not pulled"]
        wrong = [name for name in names if name not in sound and name not in missing]
        state: State = "broken" if wrong else "absent" if missing else "ok"
        told = [f"{len(names) - len(missing) - len(wrong)} of {len(names)} files, hashes right"]
        told += [f"{name}: {state_of[name]}" for name in wrong]
        remedy = "" if state == "ok" else f"aign assets pull {group}"
        yield Check(
            area="assets", name=group, state=state, found="; ".join(told), enables=GROUPS.get(group, ""), remedy=remedy
        )


def bodies(places: Sequence[Path]) -> Iterator[Check]:
    """Body models, by what is in them."""
    from aign.body.found import DEFAULT_SHA256, SMPL, find_bodies, look

    own = look(ROOT / "aign/body/default/default_body.npz")
    fine = own is not None and own.sha256 == DEFAULT_SHA256
    yield Check(
        area="bodies", name="the free default body", state="ok" if fine else "broken",
        enables="everything (CC0-1.0, Apache-2.0)",
        found=f"sha256 {DEFAULT_SHA256[:12]}" if fine else "not the file that this package was made with",
        remedy="" if fine else f"git checkout aign/body/default, or {INSTALL}",
    )  # fmt: skip
    named = [*places, *(Path(place) for place in os.environ.get("AIGN_BODY", "").split(os.pathsep) if place)]
    for place in (place for place in named if not place.exists()):
        yield Check(
            area="bodies", name=str(place), state="broken", found="no such file or folder", remedy="--body FOLDER"
        )
    found, whole = find_bodies([place for place in named if place.exists()])
    for body in found:
        told = f"{body.path}, {body.vertices} vertices, {body.joints} joints, sha256 {body.sha256[:12]}"
        if body.sha256 == DEFAULT_SHA256:
            yield Check(area="bodies", name="a copy of the default body", state="ok", found=told)
        elif body.problem:
            yield Check(area="bodies", name=body.kind, state="broken", found=body.problem, remedy="download it again")
        elif body.kind == SMPL:
            yield _smpl(body.path, told)
        else:
            yield Check(
                area="bodies", name=body.kind, state="note", found=told, enables="nothing here: SMPL alone is read"
            )
    if named and not found:
        yield Check(area="bodies", name=SMPL, state="absent", found=f"none in {', '.join(map(str, named))}")
    if not whole:
        yield Check(
            area="bodies", name="search", state="note", found="not all was looked at", remedy="--body a smaller folder"
        )


def _smpl(path: Path, told: str) -> Check:
    """A body of SMPL's size, read as the library would."""
    from aign.body.assets import load_body
    from aign.framework.errors import UserError

    try:
        load_body(path)
    except UserError as error:
        return Check(area="bodies", name="SMPL", state="broken", found=str(error), remedy="download it again")
    enables = "load_body(path); SURREAL's exact places, as SURREAL/smpl/SMPL_FEMALE.pkl and SMPL_MALE.pkl"
    return Check(area="bodies", name="SMPL", state="ok", found=f"{told}; its licence binds you", enables=enables)


def data(place: Path) -> Iterator[Check]:
    """A data set or a store in a folder."""
    from aign.data.sources import LOADERS, detect
    from aign.data.store import Store
    from aign.framework.errors import UserError

    name = str(place)
    try:
        if (place / "manifest.json").is_file():
            store = Store.open(str(place.absolute()))
            told = f"a store of {', '.join(sorted(store.manifest.tables))}; {'; '.join(store.manifest.licences)}"
            yield Check(area="data", name=name, state="ok", found=told, enables=f"aign data doctor {place}")
            return
        kind = detect(place)
        layout = LOADERS[kind].layout
        missing = layout.missing(place)
        told = "; ".join((f"{kind}: {layout.found(place)}", *missing))
        state: State = "note" if missing else "ok"
        yield Check(area="data", name=name, state=state, found=told, enables=f"aign preprocess {place} --store URL")
    except UserError as error:
        yield Check(area="data", name=name, state="broken", found=str(error), remedy="docs/datasets.md")


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
