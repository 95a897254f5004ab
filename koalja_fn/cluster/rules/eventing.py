"""Rules of Knative Eventing. The schemas let anything pass in `delivery`: here nothing unknown does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from koalja_fn.cluster.kinds import Object
from koalja_fn.cluster.rules.finding import Finding, at

_CLASSES = ("MTChannelBasedBroker", "Kafka", "KafkaNamespaced", "RabbitMQBroker")
_CLASS = "eventing.knative.dev/broker.class"
_ATTRIBUTE = re.compile(r"[a-z][a-z0-9]*")
_PERIOD = re.compile(
    r"P(?=.)(\d+Y)?(\d+M)?(\d+W)?(\d+D)?(T(?=.)(\d+(\.\d+)?H)?(\d+(\.\d+)?M)?(\d+(\.\d+)?S)?)?"
)
_DELIVERY = ("retry", "backoffPolicy", "backoffDelay", "timeout", "deadLetterSink", "format", "retryAfterMax")
_DIALECTS = ("exact", "prefix", "suffix", "all", "any", "not", "cesql")
_CRON = re.compile(r"[\d*/,A-Za-z?-]+")


def broker(item: Object) -> Iterator[Finding]:
    """Rules for a Broker. That neither class nor config can be changed is seen by who compares."""
    kind = (at(item, "metadata.annotations") or {}).get(_CLASS)
    if kind not in _CLASSES:
        near = next((known for known in _CLASSES if known.lower() == str(kind).lower()), "")
        text = f"{kind!r} is no class of Brokers" + (f"; {near} is meant, case counts" if near else "")
        yield Finding("broker-class", f"metadata.annotations[{_CLASS}]", text)
    yield from _delivery(at(item, "spec.delivery"), "spec.delivery")


def channel(item: Object) -> Iterator[Finding]:
    """Rules for a channel."""
    yield from _delivery(at(item, "spec.delivery"), "spec.delivery")


def trigger(item: Object) -> Iterator[Finding]:
    """Rules for a Trigger."""
    spec = item.get("spec") or {}
    if bool(spec.get("broker")) == bool(spec.get("brokerRef")):
        yield Finding("broker-ref", "spec.broker", "exactly one of broker and brokerRef is wanted")
    if at(spec, "brokerRef.namespace"):
        yield Finding("cross-namespace", "spec.brokerRef.namespace", "is off by default")
    yield from _destination(spec.get("subscriber"), "spec.subscriber")
    yield from _delivery(spec.get("delivery"), "spec.delivery")
    yield from _attributes(at(spec, "filter.attributes") or {}, "spec.filter.attributes")
    for name in at(spec, "filter") or {}:
        if name != "attributes":
            yield Finding("filter", f"spec.filter.{name}", "a filter has attributes only")
    if "filters" in spec:
        yield from _filters(spec["filters"], "spec.filters")
        if spec.get("filter"):
            yield Finding("filter-twice", "spec.filters", "advice: they are taken in place of filter")
    depends = (at(item, "metadata.annotations") or {}).get("knative.dev/dependency")
    if depends is not None and not _is_reference(depends):
        where = "metadata.annotations[knative.dev/dependency]"
        yield Finding("dependency", where, "is no reference to an object, as JSON")


def ping_source(item: Object) -> Iterator[Finding]:
    """Rules for a PingSource."""
    spec = item.get("spec") or {}
    schedule = str(spec.get("schedule", ""))
    words = schedule.split()
    if "@every" in schedule:
        yield Finding("schedule", "spec.schedule", "@every is not supported; write it as cron does")
    elif not schedule.startswith("@") and not (
        len(words) in (5, 6) and all(_CRON.fullmatch(word) for word in words)
    ):
        yield Finding("schedule", "spec.schedule", f"{schedule!r} has not the five fields of cron")
    if spec.get("data") and spec.get("dataBase64"):
        yield Finding("data-twice", "spec.data", "only one of data and dataBase64 is wanted")
    yield from _destination(spec.get("sink"), "spec.sink")


def event_policy(_item: Object) -> Iterator[Finding]:
    """An EventPolicy is refused where authentication is off, as it is by default."""
    yield Finding("event-policy", "kind", "is refused while authentication-oidc is off, its default")


def _delivery(found: Any, path: str) -> Iterator[Finding]:
    if found is None:
        return
    for name in found:
        if name not in _DELIVERY:
            yield Finding("delivery-unknown", f"{path}.{name}", "there is no such field")
    retry = found.get("retry")
    if retry is not None and (not isinstance(retry, int) or retry < 0):
        yield Finding("retry", f"{path}.retry", f"{retry!r} is no number from 0")
    if found.get("backoffPolicy", "linear") not in ("linear", "exponential"):
        yield Finding("backoff-policy", f"{path}.backoffPolicy", "is neither linear nor exponential")
    if found.get("format", "binary") not in ("binary", "json"):
        yield Finding("format", f"{path}.format", "is neither binary nor json")
    for name in ("backoffDelay", "timeout"):
        period = found.get(name)
        if period is not None and (not isinstance(period, str) or not _PERIOD.fullmatch(period)):
            yield Finding("period", f"{path}.{name}", f"{period!r} is no ISO 8601 period, such as PT1S")
    if found.get("timeout") is not None:
        yield Finding(
            "delivery-timeout",
            f"{path}.timeout",
            "advice: it makes duplicates; the program runs on meanwhile",
        )
    if "retryAfterMax" in found:
        yield Finding("retry-after", f"{path}.retryAfterMax", "is off by default (delivery-retryafter)")
    if found.get("deadLetterSink") is not None:
        yield from _destination(found["deadLetterSink"], f"{path}.deadLetterSink")


def _destination(found: Any, path: str) -> Iterator[Finding]:
    """Where events go: an object, an address, or a path at an object."""
    ref, uri = at(found, "ref"), at(found, "uri")
    if not ref and not uri:
        yield Finding("destination", path, "neither ref nor uri is there")
    elif ref and uri and "://" in uri:
        yield Finding("destination", f"{path}.uri", "beside a ref only a path is allowed")
    elif not ref and "://" not in uri:
        yield Finding("destination", f"{path}.uri", "without a ref it is an address with its scheme")
    for name in ("apiVersion", "kind", "name"):
        if ref and not ref.get(name):
            yield Finding("reference", f"{path}.ref.{name}", "is missing")


def _filters(found: Any, path: str) -> Iterator[Finding]:
    if not isinstance(found, list):
        yield Finding("filters-list", path, "is a list: a hyphen before each")
        return
    for number, one in enumerate(found):
        yield from _dialect(one, f"{path}[{number}]")


def _dialect(found: Any, path: str) -> Iterator[Finding]:
    present = [name for name in found if found[name]]
    for name in found:
        if name not in _DIALECTS:
            yield Finding("dialect-unknown", f"{path}.{name}", f"there are {', '.join(_DIALECTS)}")
    if len(present) != 1:
        yield Finding("dialects", path, f"exactly one dialect is wanted, here are {len(present)}")
    for name in ("exact", "prefix", "suffix"):
        yield from _attributes(found.get(name) or {}, f"{path}.{name}")
    for name in ("all", "any"):
        if name in found:
            yield from _filters(found[name], f"{path}.{name}")
    if found.get("not"):
        yield from _dialect(found["not"], f"{path}.not")


def _attributes(found: dict[str, Any], path: str) -> Iterator[Finding]:
    for name, value in found.items():
        if not _ATTRIBUTE.fullmatch(name):
            yield Finding(
                "attribute-name", f"{path}.{name}", "only lower-case letters and digits, a letter first"
            )
        if not isinstance(value, str):
            yield Finding("text", f"{path}.{name}", f"{value!r} must be text: put it in quotes")
        elif re.search(r"[^A-Za-z0-9._~:/?#@!$&'()*+,;=-]", value):
            yield Finding(
                "attribute-value", f"{path}.{name}", "advice: Brokers compare bytes; senders may escape these"
            )


def _is_reference(text: str) -> bool:
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return isinstance(found, dict) and all(found.get(name) for name in ("apiVersion", "kind", "name"))
