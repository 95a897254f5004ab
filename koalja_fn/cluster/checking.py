"""What a cluster lacks for circuits: one finding for each thing that was looked at, with the fix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from koalja_fn.cluster.client import Cluster
from koalja_fn.cluster.conditions import condition
from koalja_fn.cluster.console import circuits, console_of, settings_of
from koalja_fn.cluster.deleting import stale_subscribers
from koalja_fn.cluster.kinds import (
    BROKER,
    CHANNEL,
    DEFINITION,
    DEPLOYMENT,
    NAMESPACE,
    PING_SOURCE,
    SCALED_JOB,
    SECRET,
    SERVICE,
    TRIGGER,
    Kind,
    Object,
    name_of,
)
from koalja_fn.cluster.settings import MULTI_TENANT, REGISTRY_SECRET, Settings
from koalja_fn.cluster.telling import Teller
from koalja_fn.errors import ClusterError, KoaljaError

T = TypeVar("T")
_SERVING, _EVENTING, _KEDA = "knative-serving", "knative-eventing", "keda"
_SERVING_PARTS = ("controller", "webhook", "activator", "autoscaler")
_BROKER_PARTS = (
    "mt-broker-controller",
    "mt-broker-ingress",
    "mt-broker-filter",
    "imc-controller",
    "imc-dispatcher",
)
_INSTALL = "https://knative.dev/docs/install"
_VERSION = "app.kubernetes.io/version"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `needed` is false for what circuits can do without."""

    what: str
    ok: bool
    found: str
    cure: str = ""
    needed: bool = True


def look(cluster: Cluster, namespace: str, teller: Teller) -> Iterator[Finding]:
    """Look at everything; later findings go on where earlier ones are bad, as far as that makes sense."""
    yield _kinds(cluster, "Knative Serving", SERVICE, f"{_INSTALL}/yaml-install/serving")
    yield from _running(
        cluster, _SERVING, "Knative Serving", ("controller", "webhook", "activator", "autoscaler")
    )
    yield _ingress(cluster)
    yield _kinds(cluster, "Knative Eventing", BROKER, f"{_INSTALL}/yaml-install/eventing")
    yield from _running(cluster, _EVENTING, "Knative Eventing", ("eventing-controller", "eventing-webhook"))
    settings, finding = _settings(cluster, namespace)
    yield from _broker_class(cluster, settings)
    yield _ping(cluster)
    yield from _keda(cluster)
    yield finding
    if settings is None:
        return
    yield _registry_secret(cluster, namespace)
    yield _store(settings)
    yield _images(settings)
    for circuit in circuits(cluster, namespace):
        yield from _circuit(cluster, namespace, circuit, teller)


def _kinds(cluster: Cluster, what: str, kind: Kind, cure: str) -> Finding:
    served = _ask(lambda: cluster.serves(kind, "default"))
    if served is not True:
        return Finding(what, False, f"the cluster has no {kind.crd}", f"install it: {cure}")
    definition = _ask(lambda: cluster.get(DEFINITION, "", kind.crd))
    version = _version(definition if isinstance(definition, dict) else None)
    return Finding(what, True, f"{kind.version} is served" + (f", version {version}" if version else ""))


def _version(definition: Object | None) -> str:
    return str(((definition or {}).get("metadata", {}).get("labels") or {}).get(_VERSION, ""))


def _running(cluster: Cluster, namespace: str, what: str, names: tuple[str, ...]) -> Iterator[Finding]:
    """Whether the parts that every apply goes through are up."""
    found = _ask(lambda: cluster.list(DEPLOYMENT, namespace, {}))
    if isinstance(found, KoaljaError):
        yield Finding(f"{what}: pods", True, "may not be looked at", needed=False)
        return
    there = {name_of(one): one for one in found}
    missing = [name for name in names if name not in there]
    down = [name for name in names if name in there and not _up(there[name])]
    bad = ", ".join([*(f"{n} is missing" for n in missing), *(f"{n} is not up" for n in down)])
    yield Finding(
        f"{what}: pods",
        not bad,
        bad or f"{', '.join(names)} are up",
        f"kubectl get pods -n {namespace} tells why",
    )


def _up(deployment: Object) -> bool:
    wanted = (deployment.get("spec") or {}).get("replicas", 1)
    there = int((deployment.get("status") or {}).get("availableReplicas") or 0)
    return there >= min(1, int(wanted))


_LAYERS = {
    "net-kourier-controller": "Kourier",
    "net-istio-controller": "Istio",
    "net-contour-controller": "Contour",
    "net-gateway-api-controller": "Gateway API",
}


def _ingress(cluster: Cluster) -> Finding:
    found = _ask(lambda: cluster.list(DEPLOYMENT, _SERVING, {}))
    if isinstance(found, KoaljaError):
        return Finding("network layer", True, "may not be looked at", needed=False)
    layers = [_LAYERS[name_of(one)] for one in found if name_of(one) in _LAYERS and _up(one)]
    return Finding(
        "network layer",
        bool(layers),
        ", ".join(layers) or "neither Kourier nor Istio, Contour or Gateway API",
        "install Kourier: https://knative.dev/docs/install/yaml-install/serving/install-serving-with-yaml",
    )


def _broker_class(cluster: Cluster, settings: Settings | None) -> Iterator[Finding]:
    chosen = settings.broker_class if settings else MULTI_TENANT
    if chosen != MULTI_TENANT:
        yield Finding("broker class", True, f"{chosen}: see that its controller is installed", needed=False)
        return
    if settings is None or settings.in_memory:
        served = _ask(lambda: cluster.serves(CHANNEL, "default")) is True
        yield Finding(
            "broker class",
            served,
            f"{chosen} on the in-memory channel" if served else "the cluster has no InMemoryChannel",
            "install the in-memory channel and the MT broker, or koalja-fn install --broker-class Kafka",
        )
        yield from _running(
            cluster,
            _EVENTING,
            "broker class",
            (
                "mt-broker-controller",
                "mt-broker-ingress",
                "mt-broker-filter",
                "imc-controller",
                "imc-dispatcher",
            ),
        )


def _ping(cluster: Cluster) -> Finding:
    served = _ask(lambda: cluster.serves(PING_SOURCE, "default")) is True
    adapter = _ask(lambda: cluster.get(DEPLOYMENT, _EVENTING, "pingsource-mt-adapter"))
    ok = served and adapter is not None
    found = "its adapter is there" if ok else "its adapter is not installed"
    return Finding(
        "PingSource", ok, found, "the sweep goes by KEDA then: koalja-fn install --sweep keda", needed=False
    )


def _keda(cluster: Cluster) -> Iterator[Finding]:
    if _ask(lambda: cluster.serves(SCALED_JOB, "default")) is not True:
        yield Finding(
            "KEDA",
            False,
            f"the cluster has no {SCALED_JOB.crd}",
            "install it for `mode = job` and quick sweeps: https://keda.sh/docs/latest/deploy",
            needed=False,
        )
        return
    found = _ask(lambda: cluster.list(DEPLOYMENT, "", {"app": "keda-operator"}))
    if isinstance(found, KoaljaError):
        yield Finding("KEDA", True, f"{SCALED_JOB.version} is served")
        return
    up = any(_up(one) for one in found)
    yield Finding(
        "KEDA", up, "its operator is up" if up else "its operator is not up", "kubectl get pods -n keda"
    )


def _settings(cluster: Cluster, namespace: str) -> tuple[Settings | None, Finding]:
    what = f"namespace {namespace}"
    install = f"koalja-fn install -n {namespace} --store s3://BUCKET --images REGISTRY/PREFIX"
    try:
        if cluster.get(NAMESPACE, "", namespace) is None:
            return None, Finding(what, False, "is not there", install)
        settings = settings_of(cluster, namespace)
    except ClusterError as error:
        return None, Finding(what, False, error.why or error.what, error.cure or install)
    except KoaljaError as error:
        return None, Finding(what, False, error.why or error.what, error.cure or install)
    return settings, Finding(what, True, "has its settings")


def _registry_secret(cluster: Cluster, namespace: str) -> Finding:
    found = _ask(lambda: cluster.get(SECRET, namespace, REGISTRY_SECRET))
    cure = f"KOALJA_REGISTRY=postgresql://… koalja-fn install -n {namespace}"
    if isinstance(found, KoaljaError):
        return Finding("registry", True, f"Secret {REGISTRY_SECRET} may not be looked at", needed=False)
    there = found is not None
    return Finding("registry", there, f"Secret {REGISTRY_SECRET} is {'' if there else 'not '}there", cure)


def _store(settings: Settings) -> Finding:
    return Finding(
        "store", bool(settings.store), settings.store or "none", "koalja-fn install --store s3://BUCKET"
    )


def _images(settings: Settings) -> Finding:
    """Whether images can be pushed from here; whether nodes can pull them is seen when a pod starts."""
    what = "image registry"
    if not settings.images:
        return Finding(what, False, "none is set", "koalja-fn install --images REGISTRY/PREFIX")
    from koalja_fn.pack.oci.client import RegistryClient
    from koalja_fn.pack.oci.reference import Reference

    try:
        name = Reference.parse(f"{settings.images.rstrip('/')}/probe")
        with RegistryClient() as client:
            client.place(name).digest_of(name.which)
    except KoaljaError as error:
        return Finding(
            what, False, f"{settings.images}: {error.what}", error.cure or "log in to the registry"
        )
    return Finding(what, True, f"{settings.images} answers")


def _circuit(cluster: Cluster, namespace: str, circuit: str, teller: Teller) -> Iterator[Finding]:
    """The parts of a deployed circuit, and what its pods can reach."""
    labels = {"koalja.dev/circuit": circuit}
    bad = [
        f"{kind} {name_of(item)}: {condition(item, 'Ready').text or 'not ready'}"
        for kind in (CHANNEL, BROKER, SERVICE, TRIGGER, SCALED_JOB)
        for item in cluster.list(kind, namespace, labels)
        if condition(item, "Ready").status != "True"
    ]
    cure = f"koalja-fn deploy DIR -n {namespace} waits for them and tells the cause"
    yield Finding(f"circuit {circuit}", not bad, "; ".join(bad) or "all its parts are ready", cure)
    stale = stale_subscribers(cluster, namespace, circuit)
    if stale:
        yield Finding(
            f"circuit {circuit}: channel",
            False,
            f"{len(stale)} subscribers that are gone hold up each event: {', '.join(stale[:3])}",
            f"koalja-fn delete {circuit} --keep-data -n {namespace}, then koalja-fn deploy again",
        )
    yield from _reaches(cluster, namespace, circuit, teller)


def _reaches(cluster: Cluster, namespace: str, circuit: str, teller: Teller) -> Iterator[Finding]:
    try:
        ended = console_of(cluster, namespace, circuit, teller).probe()
    except KoaljaError as error:
        yield Finding(f"circuit {circuit}: console", False, error.what, error.cure)
        return
    said = (ended.out + ended.err).decode("utf-8", "replace").strip()
    told = dict(line.split(" ", 1) for line in said.splitlines() if line.startswith(("registry ", "store ")))
    yield from _told(circuit, namespace, told, said if ended.status and not told else "")


def _told(circuit: str, namespace: str, told: Mapping[str, str], trouble: str) -> Iterator[Finding]:
    for part, cure in (
        ("registry", f"KOALJA_REGISTRY=… koalja-fn install -n {namespace}, or open the network to it"),
        ("store", f"koalja-fn install -n {namespace} --store … --aws-keys, or open the network to it"),
    ):
        found = told.get(part, trouble or "nothing was told")
        yield Finding(
            f"circuit {circuit}: {part}",
            found == "ok",
            "can be used from its pods" if found == "ok" else found,
            cure,
        )


def _ask(question: Callable[[], T]) -> T | KoaljaError:
    try:
        return question()
    except KoaljaError as error:
        return error
