"""What all of a circuit's objects have in common: their namespace, their labels, the settings behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from koalja_fn.cluster import names
from koalja_fn.cluster.kinds import LABEL_CIRCUIT, LABEL_MANAGER, LABEL_PART, LABEL_TASK, MANAGER
from koalja_fn.cluster.settings import MULTI_TENANT, Settings
from koalja_fn.errors import UsageError
from koalja_fn.model import Circuit, Task

VERSION = "koalja.dev/version"
"""Annotation: the digest of the code that an image holds."""

_INGRESSES = {
    MULTI_TENANT: "http://broker-ingress.knative-eventing.svc.cluster.local/{namespace}/{name}",
    "Kafka": "http://kafka-broker-ingress.knative-eventing.svc.cluster.local/{namespace}/{name}",
    "KafkaNamespaced": "http://kafka-broker-ingress.{namespace}.svc.cluster.local/{namespace}/{name}",
    "RabbitMQBroker": "http://{name}-broker-ingress.{namespace}.svc.cluster.local",
}


@dataclass(frozen=True, slots=True)
class Deployed:
    """A circuit in a namespace: its images, the versions of its code, its Broker's address."""

    circuit: Circuit
    images: Mapping[str, str]
    settings: Settings
    versions: Mapping[str, str] = field(default_factory=dict)
    namespace: str = "default"
    broker: str = ""

    @classmethod
    def bare(cls, circuit: str, images: Mapping[str, str], settings: Settings, namespace: str) -> Deployed:
        """A circuit of which only the name is known."""
        return cls(Circuit(circuit, (), {}), images, settings, {}, namespace)

    @property
    def services(self) -> tuple[Task, ...]:
        """Tasks that are rung: all but jobs, and but those that offer a service."""
        return tuple(t for t in self.circuit.tasks if t.mode == "service" and not t.service)

    @property
    def offering(self) -> tuple[Task, ...]:
        """Tasks that offer a service: a long-running program each, rung as others are, and asked besides."""
        return tuple(t for t in self.circuit.tasks if t.service)

    @property
    def rung(self) -> tuple[Task, ...]:
        """Tasks that have a Knative Service, whose Triggers ring it."""
        return (*self.services, *self.offering)

    @property
    def jobs(self) -> tuple[Task, ...]:
        """Tasks that run as jobs."""
        return tuple(t for t in self.circuit.tasks if t.mode == "job" and not t.service)

    def image(self, key: str) -> str:
        """The image of a task, or of the entry.

        Raises:
            UsageError: There is none.
        """
        if not self.images.get(key):
            raise UsageError(
                f"no image is known for {key} of circuit {self.circuit.name}",
                cure="koalja-fn deploy packs it; for render: --images PREFIX",
            )
        return self.images[key]

    def labels(self, part: str, task: str = "") -> dict[str, str]:
        """The labels of an object, and of the pods that come of it."""
        found = {LABEL_MANAGER: MANAGER, LABEL_CIRCUIT: self.circuit.name}
        if task:
            found[LABEL_TASK] = task
        return found | {LABEL_PART: part}

    def metadata(
        self, name: str, part: str, task: str = "", annotations: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The metadata of an object."""
        found: dict[str, Any] = {
            "name": name,
            "namespace": self.namespace,
            "labels": self.labels(part, task),
        }
        if annotations:
            found["annotations"] = dict(annotations)
        return found

    def template(self, part: str, task: str = "", annotations: Mapping[str, str] | None = None) -> Any:
        """The metadata of a pod's template: labels, and what the annotations and the code's version say."""
        notes = dict(annotations or {})
        if self.versions.get(task):
            notes[VERSION] = self.versions[task]
        return {"labels": self.labels(part, task), **({"annotations": notes} if notes else {})}


def well_known_address(settings: Settings, namespace: str, name: str) -> str:
    """Where Brokers of a class listen by default; the truth is in a Broker's status."""
    usual = _INGRESSES.get(settings.broker_class, _INGRESSES[MULTI_TENANT])
    return usual.format(namespace=namespace, name=name)


def service_address(place: Deployed, task: str) -> str:
    """Where a service is asked from inside the cluster."""
    return f"http://{names.task(place.circuit.name, task)}.{place.namespace}.svc.cluster.local"


def entry_reference(place: Deployed) -> dict[str, str]:
    """The entry, as Triggers and sources refer to it."""
    return service_reference(place, names.entry(place.circuit.name))


def service_reference(place: Deployed, name: str) -> dict[str, str]:
    """A Knative Service of the circuit, as Triggers and sources refer to it."""
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "name": name,
        "namespace": place.namespace,
    }
