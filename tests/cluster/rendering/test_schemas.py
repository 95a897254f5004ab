"""Each object fits typed models made from the real schemas, and nothing of it is unknown to them."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from tests.cluster.rendering.circuits import FULL, NAMES, circuit_of, objects_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # generated models have fields called `name`, as their base class has
    from cloudcoil.models.keda.v1alpha1 import ScaledJob, TriggerAuthentication
    from cloudcoil.models.knative_eventing.eventing.v1 import Broker, Trigger
    from cloudcoil.models.knative_eventing.sources.v1 import PingSource
    from cloudcoil.models.knative_serving.serving.v1 import Service

MODELS: dict[str, Any] = {
    model.__name__: model
    for model in (Service, Broker, Trigger, PingSource, ScaledJob, TriggerAuthentication)
}
BUILT_IN = {"NetworkPolicy"}


def lost(before: Any, after: Any, path: str = "") -> list[str]:
    """The fields that a model dropped or changed: it does not know them, or takes them for something else."""
    if isinstance(before, dict):
        if not isinstance(after, dict):
            return [path]
        return [one for key in before for one in lost(before[key], after.get(key), f"{path}.{key}")]
    if isinstance(before, list):
        if not isinstance(after, list) or len(before) != len(after):
            return [path]
        return [
            one
            for number, (b, a) in enumerate(zip(before, after, strict=True))
            for one in lost(b, a, f"{path}[{number}]")
        ]
    return [] if before == after else [f"{path}: {before!r} became {after!r}"]


@pytest.mark.parametrize("name", NAMES)
def test_each_object_fits_the_schema_of_its_kind(name: str) -> None:
    for item in objects_of(circuit_of(name), FULL):
        if item["kind"] in BUILT_IN:
            continue
        if item["kind"] == "InMemoryChannel":  # has no model; its delivery is the same that a Broker has
            item = {**item, "kind": "Broker", "apiVersion": "eventing.knative.dev/v1"}
        model = MODELS[item["kind"]].model_validate(item)
        told = model.model_dump(by_alias=True, mode="json", exclude_unset=True)
        assert lost(item, told) == [], item["metadata"]["name"]


def test_a_field_that_no_schema_has_is_noticed() -> None:
    item = next(one for one in objects_of(circuit_of("weather")) if one["kind"] == "Service")
    item["spec"]["template"]["spec"]["timeoutSecond"] = 1
    told = Service.model_validate(item).model_dump(by_alias=True, mode="json", exclude_unset=True)
    assert lost(item, told)
