"""What KubeRay's custom resources may hold, from its published field reference (ray.io/v1, KubeRay 1.6 and 1.7).

No package index ships the definitions themselves, so this is our reading of the documentation, not the operator's own
check: of the fields that the manifests use, and of their neighbours that are easily mistaken for them. What is a type
of Kubernetes (pod templates) is checked against Kubernetes' own schema beside this.
"""

from collections.abc import Mapping, Sequence
from typing import Any

TEXT, WHOLE, NUMBER, FLAG = (
    {"type": "string"},
    {"type": "integer", "minimum": 0},
    {"type": "number"},
    {"type": "boolean"},
)
TEXTS = {"type": "object", "additionalProperties": TEXT}
OPEN = {"type": "object"}


def closed(required: Sequence[str] = (), **properties: Mapping[str, Any]) -> dict[str, Any]:
    """An object that may hold these and nothing else."""
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": properties}


def one_of(*values: str) -> dict[str, Any]:
    return {"enum": list(values)}


AUTOSCALER = closed(
    resources=OPEN,
    image=TEXT,
    imagePullPolicy=TEXT,
    securityContext=OPEN,
    idleTimeoutSeconds=WHOLE,
    upscalingMode=one_of("Default", "Aggressive", "Conservative"),
    version=one_of("v1", "v2"),
    env={"type": "array"},
    envFrom={"type": "array"},
    volumeMounts={"type": "array"},
)
HEAD = closed(
    ("template",),
    template=OPEN,
    headService=OPEN,
    enableIngress=FLAG,
    rayStartParams=TEXTS,
    serviceType=one_of("ClusterIP", "NodePort", "LoadBalancer"),
)
WORKERS = closed(
    ("groupName", "template"),
    suspend=FLAG,
    groupName=TEXT,
    replicas=WHOLE,
    minReplicas=WHOLE,
    maxReplicas=WHOLE,
    idleTimeoutSeconds=WHOLE,
    rayStartParams=TEXTS,
    template=OPEN,
    scaleStrategy=OPEN,
    numOfHosts=WHOLE,
)
CLUSTER = closed(
    ("headGroupSpec", "rayVersion"),
    suspend=FLAG,
    managedBy=TEXT,
    authOptions=closed(mode=one_of("disabled", "token"), secretName=TEXT, enableK8sTokenAuth=FLAG),
    autoscalerOptions=AUTOSCALER,
    headServiceAnnotations=TEXTS,
    enableInTreeAutoscaling=FLAG,
    gcsFaultToleranceOptions=OPEN,
    headGroupSpec=HEAD,
    rayVersion=TEXT,
    workerGroupSpecs={"type": "array", "items": WORKERS},
)
JOB = closed(
    ("entrypoint",),
    activeDeadlineSeconds=WHOLE,
    backoffLimit=WHOLE,
    rayClusterSpec=CLUSTER,
    submitterPodTemplate=OPEN,
    metadata=TEXTS,
    clusterSelector=TEXTS,
    submitterConfig=closed(backoffLimit=WHOLE),
    managedBy=TEXT,
    deletionStrategy=OPEN,
    entrypoint=TEXT,
    runtimeEnvYAML=TEXT,
    jobId=TEXT,
    submissionMode=one_of("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
    entrypointResources=TEXT,
    entrypointNumCpus=NUMBER,
    entrypointNumGpus=NUMBER,
    ttlSecondsAfterFinished=WHOLE,
    shutdownAfterJobFinishes=FLAG,
    suspend=FLAG,
)
SERVICE = closed(
    ("serveConfigV2", "rayClusterConfig"),
    serveService=OPEN,
    upgradeStrategy=OPEN,
    serveConfigV2=TEXT,
    rayClusterConfig=CLUSTER,
    excludeHeadPodFromServeSvc=FLAG,
)
SPECS: Mapping[str, Mapping[str, Any]] = {"RayCluster": CLUSTER, "RayJob": JOB, "RayService": SERVICE}


def resource(kind: str) -> dict[str, Any]:
    """A whole custom resource."""
    return closed(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"const": "ray.io/v1"},
        kind={"const": kind},
        metadata={"type": "object", "required": ["name"]},
        spec=SPECS[kind],
    )
