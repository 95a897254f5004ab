"""The kinds of Kubernetes objects that are dealt with here: where the API serves them, and in which order.

Nothing is discovered: the kinds are few, and a cluster that lacks one is told of by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from koalja_fn.errors import ClusterError

Object = dict[str, Any]
"""An object of the API as JSON has it: finished manifests and what the API answers (any field may occur)."""

LABEL_CIRCUIT = "koalja.dev/circuit"
LABEL_TASK = "koalja.dev/task"
LABEL_PART = "koalja.dev/part"
LABEL_MANAGER = "app.kubernetes.io/managed-by"
MANAGER = "koalja-fn"


class Stage(IntEnum):
    """What has to stand before what: each stage is applied and Ready before the next is begun."""

    GROUND = 0
    CHANNEL = 1
    BROKER = 2
    SERVICE = 3
    TRIGGER = 4
    SCALED = 5


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind: `version` is its apiVersion; `waited` says that it has a condition Ready worth waiting for."""

    version: str
    name: str
    plural: str
    stage: Stage = Stage.GROUND
    waited: bool = False
    namespaced: bool = True

    def path(self, namespace: str, name: str = "") -> str:
        """Where the API serves it."""
        root = f"/apis/{self.version}" if "/" in self.version else f"/api/{self.version}"
        inside = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{root}{inside}/{self.plural}" + (f"/{name}" if name else "")

    @property
    def crd(self) -> str:
        """The name of its definition, where it is not built in."""
        return f"{self.plural}.{self.version.partition('/')[0]}"

    def __str__(self) -> str:
        return self.name


NAMESPACE = Kind("v1", "Namespace", "namespaces", namespaced=False)
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
SECRET = Kind("v1", "Secret", "secrets")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
TRIGGER_AUTHENTICATION = Kind("keda.sh/v1alpha1", "TriggerAuthentication", "triggerauthentications")
CHANNEL = Kind("messaging.knative.dev/v1", "InMemoryChannel", "inmemorychannels", Stage.CHANNEL, waited=True)
BROKER = Kind("eventing.knative.dev/v1", "Broker", "brokers", Stage.BROKER, waited=True)
SERVICE = Kind("serving.knative.dev/v1", "Service", "services", Stage.SERVICE, waited=True)
TRIGGER = Kind("eventing.knative.dev/v1", "Trigger", "triggers", Stage.TRIGGER, waited=True)
SCALED_JOB = Kind("keda.sh/v1alpha1", "ScaledJob", "scaledjobs", Stage.SCALED, waited=True)
PING_SOURCE = Kind("sources.knative.dev/v1", "PingSource", "pingsources", Stage.SCALED, waited=True)

# What is only looked at, or made outside of a circuit's plan.
CONFIGURATION = Kind("serving.knative.dev/v1", "Configuration", "configurations")
REVISION = Kind("serving.knative.dev/v1", "Revision", "revisions")
ROUTE = Kind("serving.knative.dev/v1", "Route", "routes")
SUBSCRIPTION = Kind("messaging.knative.dev/v1", "Subscription", "subscriptions")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
STATEFUL_SET = Kind("apps/v1", "StatefulSet", "statefulsets")
CLUSTER_SERVICE = Kind("v1", "Service", "services")
POD = Kind("v1", "Pod", "pods")
JOB = Kind("batch/v1", "Job", "jobs")
EVENT = Kind("v1", "Event", "events")
DEFINITION = Kind(
    "apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False
)

APPLIED = (
    NAMESPACE,
    SERVICE_ACCOUNT,
    CONFIG_MAP,
    SECRET,
    NETWORK_POLICY,
    TRIGGER_AUTHENTICATION,
    CHANNEL,
    BROKER,
    SERVICE,
    TRIGGER,
    SCALED_JOB,
    PING_SOURCE,
    STATEFUL_SET,
    CLUSTER_SERVICE,
    POD,
)
"""All kinds that are ever applied."""

OWNED = (
    PING_SOURCE,
    SCALED_JOB,
    TRIGGER,
    SERVICE,
    BROKER,
    CHANNEL,
    TRIGGER_AUTHENTICATION,
    NETWORK_POLICY,
    CONFIG_MAP,
    SECRET,
    SERVICE_ACCOUNT,
)
"""The kinds of which a circuit may have objects, in the order in which they are taken away."""

_KNOWN: Mapping[tuple[str, str], Kind] = {(kind.version, kind.name): kind for kind in APPLIED}


def kind_of(item: Object) -> Kind:
    """The kind of an object.

    Raises:
        ClusterError: It is none of ours.
    """
    key = (str(item.get("apiVersion", "")), str(item.get("kind", "")))
    if key not in _KNOWN:
        raise ClusterError(
            f"{key[1] or 'an object without a kind'} of {key[0] or 'no version'} is not applied"
        )
    return _KNOWN[key]


def name_of(item: Object) -> str:
    """The name of an object."""
    return str(item["metadata"]["name"])


def labels_of(item: Object) -> dict[str, str]:
    """The labels of an object."""
    return dict(item.get("metadata", {}).get("labels") or {})


def title(item: Object) -> str:
    """An object for people: `Service weather--average`."""
    return f"{item.get('kind', 'object')} {name_of(item)}"


def of_circuit(circuit: str) -> dict[str, str]:
    """The labels of all that is a circuit's."""
    return {LABEL_MANAGER: MANAGER, LABEL_CIRCUIT: circuit}
