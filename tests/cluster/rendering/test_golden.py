"""What is rendered, whole, as it was read and found good; `KOALJA_GOLDEN=write` writes it anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from koalja_fn.cluster.captions import caption
from koalja_fn.cluster.gitops import installation
from koalja_fn.cluster.place import Deployed
from koalja_fn.cluster.settings import Settings
from koalja_fn.cluster.yamltext import text
from tests.cluster.rendering.circuits import (
    FULL,
    NAMES,
    PLANT,
    circuit_of,
    images_of,
    objects_of,
    versions_of,
)

GOLDEN = Path(__file__).with_name("golden")


def rendered(name: str) -> str:
    circuit = circuit_of(name)
    objects = objects_of(circuit, FULL if name == "plant" else {})
    if name == "plant":
        place = Deployed(circuit, images_of(circuit), Settings.of(FULL), versions_of(circuit), "plants")
        objects = [*installation(place, PLANT), *objects]
    return text((caption(item), item) for item in objects)


@pytest.mark.parametrize("name", NAMES)
def test_a_circuit_is_rendered_as_it_was_found_good(name: str) -> None:
    file = GOLDEN / f"{name}.yaml"
    now = rendered(name)
    if os.environ.get("KOALJA_GOLDEN") == "write":
        file.write_text(now, encoding="utf-8")
    assert now == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_read_back_is_what_was_rendered(name: str) -> None:
    circuit = circuit_of(name)
    found = list(yaml.safe_load_all(text(("", item) for item in objects_of(circuit))))
    assert found == objects_of(circuit)


def test_rendering_twice_gives_the_same() -> None:
    assert rendered("plant") == rendered("plant")
