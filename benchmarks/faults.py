"""What is lost when something dies, and how long it takes to go on: `python benchmarks/faults.py`.

On a cluster of a head and two nodes on this machine, with runs on a real S3-compatible server (moto) and an MLflow
server, both in processes of their own: kill -9 of a preprocessing worker, a training worker, the command, the MLflow
server (which is started again a minute later) and a node; and the S3 server that answers nobody for a minute. Ends what
it started, by pid. The result is `benchmarks/results/faults.md`.
"""

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import fsspec
import psutil
import torch
from ray.cluster_utils import Cluster

from aign.data.datasets.job import run as make
from aign.data.sources import plan
from aign.data.store import Manifest, Quarantined, Store, commit
from aign.inference.package import load_package
from aign.recipes import recipe
from aign.recipes.lifting import LiftingRecipe
from aign.registry.client import client_of
from aign.registry.tracking import open_tracking
from benchmarks.machine import lines, publish
from infra.patience import patiently
from pipelines import ray_train
from pipelines.ray_hooks import RayHooks
from pipelines.ray_train import Job, train
from pipelines.run_folder import Run
from pipelines.run_place import Place, opened, place_of
from pipelines.train import run_at
from pipelines.workers import Workers
from tests.registry.server import MlflowServer, free_port

STEPS, EVERY, PAUSE_S, FAULT_AT = 160, 20, 0.15, 30
AWAY_S = 60
PATIENCE_S = 600.0
NOTES = "AIGN_FAULTS_NOTES"
COMMAND = "command-of-a-fault"
"""First argument of the command that this program starts, and kills."""


def chosen() -> LiftingRecipe:
    """The demo's, short, with a checkpoint every 20 steps."""
    demo = recipe("lifting-demo")
    assert isinstance(demo, LiftingRecipe)
    fit = dataclasses.replace(demo.fit, steps=STEPS, log_every=1, validate_every=EVERY)
    return dataclasses.replace(demo, labelled_batch=16, unlabelled_batch=16, fit=fit)


class Noted(RayHooks):
    """Writes down who takes which step and when; slow enough that something can be done to it."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """As a worker, and the note."""
        super().log(step, metrics)
        if not any(name.startswith("loss/") for name in metrics):
            return
        with Path(os.environ[NOTES]).open("a") as file:
            file.write(json.dumps([time.time(), step, self.rank, os.getpid(), self.world]) + "\n")
        time.sleep(PAUSE_S)


def noted_worker(config: dict[str, Job]) -> ray_train.Ended:
    torch.set_num_threads(1)
    job = config["job"]
    with ray_train.at_worker(job.place) as place:
        return ray_train.ended(ray_train.run(job, Noted(place, job.run_log)))


def command(store: str, runs: str, address: str, name: str, workers: str) -> None:
    """The command that is run, and killed."""
    ray_train._worker = noted_worker
    with place_of(runs, name) as place:
        run_at(chosen(), store, place, open_tracking(), Workers.parse(workers), address)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Note:
    """One step of one worker."""

    at: float
    step: int
    rank: int
    pid: int
    world: int


def notes(path: Path) -> list[Note]:
    rows = path.read_text().splitlines(keepends=True) if path.exists() else []
    names = ("at", "step", "rank", "pid", "world")
    return [Note(**dict(zip(names, json.loads(row), strict=True))) for row in rows if row.endswith("\n")]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """Of the table."""

    fault: str
    lost: str
    recovery: str
    whole_s: float
    end: str


Command: TypeAlias = subprocess.Popen[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Site:
    """What all faults share."""

    root: Path
    cluster: Cluster
    nodes: tuple[int, ...]
    s3: subprocess.Popen[bytes]
    mlflow: MlflowServer
    store: str
    runs: str
    baseline: Mapping[str, torch.Tensor]

    def start(self, name: str, workers: str = "2") -> Command:
        """Train."""
        where = [COMMAND, self.store, self.runs, self.cluster.address]
        return subprocess.Popen(
            [sys.executable, "-m", "benchmarks.faults", *where, name, workers],
            text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip

    @property
    def notes(self) -> Path:
        """Of the run that is going on: the cluster's processes were told of it when they started."""
        return Path(os.environ[NOTES])


def wait_for(there: Callable[[], object], process: Command | None = None) -> None:
    until = time.monotonic() + PATIENCE_S
    while not there():
        if process is not None and process.poll() is not None:
            raise RuntimeError(process.communicate()[1])
        if time.monotonic() > until:
            raise TimeoutError("nothing happened")
        time.sleep(0.05)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that happens; to a run it happens at step 30, and `happens` gives the command that ends it."""

    what: str
    name: str
    measure: "Callable[[Site, Fault], Row]"
    happens: Callable[[Site, Command], Command]
    workers: str = "2"


def trained(site: Site, fault: Fault) -> Row:
    site.notes.unlink(missing_ok=True)
    started = time.monotonic()
    process = site.start(fault.name, fault.workers)
    wait_for(lambda: any(note.step >= FAULT_AT for note in notes(site.notes)), process)
    began = time.time()
    process = fault.happens(site, process)
    told = process.communicate(timeout=PATIENCE_S)[1]
    if process.returncode:
        raise RuntimeError(told)
    whole_s = time.monotonic() - started
    first = [note for note in notes(site.notes) if note.rank == 0]
    pairs = list(itertools.pairwise(first))
    again = next(((a.step - b.step + 1, b) for a, b in pairs if b.step <= a.step), None)
    if again is None:
        lost = "nothing: training went on"
        recovery = f"{max(b.at - a.at for a, b in pairs if b.at > began):.1f} s, the longest time between two steps"
    else:
        lost = f"{again[0]} steps, done again"
        recovery = f"{again[1].at - began:.0f} s to the next step, on {again[1].world} worker(s)"
    return Row(fault=fault.what, lost=lost, recovery=recovery, whole_s=whole_s, end=verdict(site, fault.name))


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_package(run.package)[0].state_dict()


def verdict(site: Site, name: str) -> str:
    """Whether the run ended as an undisturbed one."""
    with opened(f"{site.runs}/{name}") as run:
        got = weights(run)
        steps = [json.loads(row) for row in (run.folder / "metrics.jsonl").read_text().splitlines()]
        run_id = run.run_id
    against, want = "one process without Ray", site.baseline
    if name != UNDISTURBED:
        with opened(f"{site.runs}/{UNDISTURBED}") as run:
            against, want = "the undisturbed run", weights(run)
    gap = max(float((got[key] - value).abs().max()) for key, value in want.items())
    logged = [row["step"] for row in steps if "loss/supervised" in row] == list(range(1, STEPS + 1))
    client = client_of(open_tracking().uri)
    history = [m.step for m in client.get_metric_history(run_id, "loss/supervised")]
    runs = [run for run in client.search_runs(["1"]) if run.info.run_name == name]
    tracked = history == list(range(1, STEPS + 1)) and len(runs) == 1
    return f"weights within {gap:.0e} of {against}; each step logged once: {logged}; one MLflow run: {tracked}"


def nothing(site: Site, process: Command) -> Command:
    return process


def kill_worker(site: Site, process: Command) -> Command:
    os.kill(next(note.pid for note in reversed(notes(site.notes)) if note.rank == 1), signal.SIGKILL)
    return process


def kill_command(site: Site, process: Command) -> Command:
    process.kill()
    process.communicate()
    return site.start("command", "2")


def stop_s3(site: Site, process: Command) -> Command:
    """Stopped and not killed: it keeps what it holds in memory. Connections hang, which is worse than to be refused."""
    site.s3.send_signal(signal.SIGSTOP)
    time.sleep(AWAY_S)
    site.s3.send_signal(signal.SIGCONT)
    return process


def kill_mlflow(site: Site, process: Command) -> Command:
    site.mlflow.kill()
    time.sleep(AWAY_S)
    site.mlflow.start()
    return process


def kill_node(site: Site, process: Command) -> Command:
    """The raylet that a worker is a child of, and is not the head's."""
    pids = {note.pid for note in notes(site.notes)[-4:]}
    parents = {parent.pid for pid in pids if psutil.pid_exists(pid) for parent in psutil.Process(pid).parents()}
    os.kill(next(raylet for raylet in site.nodes if raylet in parents), signal.SIGKILL)
    return process


def tasks(site: Site) -> list[psutil.Process]:
    """Workers of the cluster that have something to do."""
    children = [child for raylet in site.nodes for child in psutil.Process(raylet).children()]
    return [child for child in children if "".join(child.cmdline()).startswith("ray::_work")]


def kill_task(site: Site, process: Command) -> Command:
    tasks(site)[0].kill()
    return process


def preprocess(site: Site, store: Path, disturbed: bool) -> float:
    """Seconds."""
    began = time.monotonic()
    script = "from pipelines.cli import main; import sys; sys.exit(main())"
    arguments = ["preprocess", "demo-motions", "--store", str(store), "--address", site.cluster.address]
    process = subprocess.Popen([sys.executable, "-c", script, *arguments], text=True, stderr=subprocess.PIPE)
    if disturbed:
        wait_for(lambda: len(list(store.glob("*/part-*.parquet"))) >= 6 and tasks(site), process)
        kill_task(site, process)
    told = process.communicate(timeout=PATIENCE_S)[1]
    if process.returncode:
        raise RuntimeError(told)
    return time.monotonic() - began


def preprocessed(site: Site, fault: Fault) -> Row:
    """A worker dies while it makes parts of a store."""
    preprocess(site, site.root / "first", disturbed=False)  # the cluster's first workers start
    whole, broken = (preprocess(site, site.root / name, name == "broken") for name in ("plain", "broken"))
    same = Store.open(str(site.root / "plain")).hash == Store.open(str(site.root / "broken")).hash
    return Row(
        fault=fault.what,
        lost="its task in flight, done again",
        recovery=f"{broken - whole:+.0f} s on a job of {whole:.0f} s",
        whole_s=broken,
        end=f"the store's hash equals that of an undisturbed run: {same}",
    )


UNDISTURBED = "nothing"
FAULTS = (
    Fault(what="nothing", name=UNDISTURBED, measure=trained, happens=nothing),
    Fault(what="kill -9 of a preprocessing worker", name="preprocess", measure=preprocessed, happens=kill_task),
    Fault(what="kill -9 of a training worker", name="worker", measure=trained, happens=kill_worker),
    Fault(what="kill -9 of the command, started again", name="command", measure=trained, happens=kill_command),
    Fault(what=f"kill -9 of the MLflow server, back after {AWAY_S} s", name="mlflow", measure=trained,
          happens=kill_mlflow),
    Fault(what=f"the S3 server answers nobody for {AWAY_S} s", name="s3", measure=trained, happens=stop_s3),
    Fault(what="kill -9 of a node (its raylet), `--workers 1:2`", name="node", measure=trained, happens=kill_node,
          workers="1:2"),
)  # fmt: skip


def raylet(node: Any) -> int:
    """Its pid."""
    found = (p.process for many in node.all_processes.values() for p in many)
    return next(process.pid for process in found if "raylet" in str(process.args))


@contextmanager
def s3_server() -> Iterator[subprocess.Popen[bytes]]:
    """With a bucket `faults`; whom this process starts knows its address."""
    port = str(free_port())
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", port]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        s3 = fsspec.filesystem("s3")
        patiently(lambda: s3.mkdir("faults"))
        yield server
    finally:
        server.kill()
        server.wait()


@contextmanager
def mlflow_server(root: Path) -> Iterator[MlflowServer]:
    """Whom this process starts knows its address."""
    server = MlflowServer(folder=root, backend=f"sqlite:///{root}/mlflow.db", artifacts=str(root / "artifacts"))
    server.start()
    try:
        server.wait()
        os.environ["MLFLOW_TRACKING_URI"] = server.uri
        yield server
    finally:
        server.kill()


@contextmanager
def prepared(root: Path) -> Iterator[Site]:
    """Servers, cluster, store, and the run that nothing happens to."""
    os.environ |= {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0", NOTES: str(root / "notes")}
    torch.set_num_threads(1)
    job = Job(
        recipe=chosen(),
        store_url=build(str(root / "store")),
        place=Place(folder=root / "alone"),
        workers=Workers.fixed(0),
    )
    baseline = train(job).generator
    with s3_server() as s3, mlflow_server(root) as mlflow:
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        try:
            nodes = tuple(raylet(cluster.add_node(num_cpus=1)) for _ in range(2))
            cluster.wait_for_nodes()
            yield Site(
                root=root, cluster=cluster, nodes=nodes, s3=s3, mlflow=mlflow, store=job.store_url,
                runs="s3://faults/runs", baseline=baseline,
            )  # fmt: skip
        finally:
            cluster.shutdown()


def build(url: str) -> str:
    """The store of the embedded motions, made in this process."""
    results = [make(job, url, number) for number, job in enumerate(plan("demo-motions"))]
    records = [record for result in results if not isinstance(result, Quarantined) for record in result]
    commit(url, Manifest(skeleton="h36m17", num_joints=17).updated(records))
    return url


def report(rows: Sequence[Row]) -> str:
    return "\n".join(
        [
            "# What is lost when something dies",
            "",
            "A head and two nodes of one CPU each, on one machine of two cores that others use too; runs on a",
            f"real S3-compatible server and in a real MLflow server. A run of {STEPS} steps with a checkpoint every",
            f"{EVERY}, disturbed once, at step {FAULT_AT}. Times hold the notice that something died, the start of new",
            "workers (importing torch) and the reading of the checkpoint; a command's holds its start too.",
            "",
            "| what happens | lost | time to recover | from start to end | how it ended |",
            "|:--|:--|:--|--:|:--|",
            *(f"| {r.fault} | {r.lost} | {r.recovery} | {r.whole_s:.0f} s | {r.end} |" for r in rows),
            "",
            *lines("python -m benchmarks.faults", "ray", "torch", "mlflow", "moto"),
        ]
    )


def main(names: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as folder, prepared(Path(folder)) as site:
        rows = []
        for fault in FAULTS:
            if not names or fault.name in (*names, UNDISTURBED):
                rows.append(fault.measure(site, fault))
                print(f"{time.strftime('%T')} {rows[-1]}", file=sys.stderr, flush=True)
    text = report(rows)
    if not names:
        publish("faults.md", text)
    print(text)


if __name__ == "__main__":
    command(*sys.argv[2:]) if sys.argv[1:2] == [COMMAND] else main(sys.argv[1:])
