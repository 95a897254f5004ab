"""What the cluster's webhooks and controllers refuse, said before it is asked: no cluster is needed.

A port of the rules that schemas do not have (Knative's and KEDA's validation code, and what was seen on a
real cluster), with some of our own that spare surprises: those are called advice where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from koalja_fn.cluster.kinds import Object, title
from koalja_fn.cluster.rules import common, eventing, keda, serving
from koalja_fn.cluster.rules.finding import Finding
from koalja_fn.errors import UsageError

__all__ = ["Finding", "check", "findings"]

_BY_KIND: dict[str, Callable[[Object], Iterator[Finding]]] = {
    "serving.knative.dev/v1 Service": serving.service,
    "eventing.knative.dev/v1 Broker": eventing.broker,
    "eventing.knative.dev/v1 Trigger": eventing.trigger,
    "eventing.knative.dev/v1alpha1 EventPolicy": eventing.event_policy,
    "messaging.knative.dev/v1 InMemoryChannel": eventing.channel,
    "sources.knative.dev/v1 PingSource": eventing.ping_source,
    "keda.sh/v1alpha1 ScaledJob": keda.scaled_job,
}


def findings(item: Object) -> list[Finding]:
    """What is wrong with an object; empty where nothing is."""
    of_kind = _BY_KIND.get(f"{item.get('apiVersion')} {item.get('kind')}")
    return [*common.item(item), *(of_kind(item) if of_kind else ())]


def check(items: Iterable[Object]) -> None:
    """See that a cluster would take these objects.

    Raises:
        UsageError: It would not; all that is wrong is named.
    """
    found = [f"{title(item)}: {one}" for item in items for one in findings(item)]
    if found:
        raise UsageError(
            "a cluster would refuse what would be deployed",
            why="; ".join(found),
            cure="mend the settings of the namespace (ConfigMap koalja-settings), or the names in the wiring",
        )
