"""Rules for all objects: names, labels, text that has to be text, and what is not ours to send."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from koalja_fn.cluster.kinds import Object
from koalja_fn.cluster.rules.finding import Finding, at

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_NOT_OURS = ("resourceVersion", "uid", "generation", "managedFields", "creationTimestamp")
_OF_SERVER = ("serving.knative.dev/creator", "serving.knative.dev/lastModifier")


def item(item: Object) -> Iterator[Finding]:
    """Rules for any object."""
    name = at(item, "metadata.name")
    if not isinstance(name, str) or not _LABEL.fullmatch(name):
        yield Finding(
            "name",
            "metadata.name",
            f"{name!r} is no DNS label of at most 63 lower-case letters, digits and hyphens",
        )
    if "status" in item:
        yield Finding("status", "status", "is the cluster's to write")
    for field in _NOT_OURS:
        if at(item, f"metadata.{field}") is not None:
            yield Finding("server-field", f"metadata.{field}", "is the cluster's to write")
    yield from metadata(item.get("metadata"), "metadata")


def metadata(found: Any, path: str) -> Iterator[Finding]:
    """Rules for labels and annotations, of an object or of a template."""
    for name, value in (at(found, "labels") or {}).items():
        if not isinstance(value, str) or not _LABEL_VALUE.fullmatch(value):
            yield Finding("label", f"{path}.labels[{name}]", f"{value!r} can't be a label's value")
    for name, value in (at(found, "annotations") or {}).items():
        if not isinstance(value, str):
            yield Finding("text", f"{path}.annotations[{name}]", f"{value!r} must be text: put it in quotes")
        if name in _OF_SERVER:
            yield Finding("server-field", f"{path}.annotations[{name}]", "is the cluster's to write")


def environment(container: Any, path: str) -> Iterator[Finding]:
    """Rules for a container's variables."""
    for one in container.get("env") or ():
        where = f"{path}.env[{one.get('name')}]"
        if "value" in one and not isinstance(one["value"], str):
            yield Finding("text", where, f"{one['value']!r} must be text: put it in quotes")
        if "value" in one and "valueFrom" in one:
            yield Finding("env-twice", where, "has both a value and a place to take it from")
