"""Ghosts as CloudEvents over HTTP: `koaljaghost` on an event to the entry of a running circuit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from koalja_fn.local.display import Plain
from koalja_fn.local.serving import entry
from koalja_fn.local.session import session_of
from koalja_fn.local.workplace import open_workplace

from .conftest import Folder, told

WIRING = "(a) first (b)\n    run = touch {out.b}\n(b) second (c)\n    run = cat {b}\n"
GHOST = {
    "ce-specversion": "1.0",
    "ce-type": "t",
    "ce-source": "/s",
    "ce-id": "1",
    "ce-koaljaghost": "true",
    "Content-Type": "text/csv",
}


@pytest.fixture
def home(folder: Folder) -> Path:
    return folder(WIRING)


@pytest.fixture
def client(home: Path) -> Iterator[FlaskClient]:
    with open_workplace(home) as workplace:
        session = session_of(workplace, Plain())
        app = entry(session.intake, spool=workplace.state / "spool", hosts=None, ghosts=session.ghosts)
        yield app.test_client()


def accepted(client: FlaskClient, headers: dict[str, str], body: bytes = b"") -> list[dict[str, Any]]:
    answer = client.post(
        "/c/a", headers=headers, data=body, environ_overrides={"CONTENT_LENGTH": str(len(body))}
    )
    assert answer.status_code == 202, answer.text
    return list(json.loads(answer.text)["accepted"])


def test_a_ghost_walks_in_binary_structured_and_batch_mode(client: FlaskClient, home: Path) -> None:
    (binary,) = accepted(client, {**GHOST, "ce-koaljasize": "12", "ce-koaljaname": "x.csv"})
    event = {"specversion": "1.0", "type": "t", "source": "/s", "id": "2", "koaljaghost": True}
    structured = {"Content-Type": "application/cloudevents+json"}
    (one,) = accepted(client, structured, json.dumps(event).encode())
    batch = {"Content-Type": "application/cloudevents-batch+json"}
    several = accepted(client, batch, json.dumps([event, {**event, "id": "3"}]).encode())
    assert [each["duplicate"] for each in (binary, one, *several)] == [False, False, True, False]
    assert told("trace", "-C", home, binary["walk"])["value"] == {
        "type": "text/csv",
        "size": 12,
        "name": "x.csv",
    }
    assert set(told("trace", "-C", home, one["walk"])["ghosts"]) == {"a", "b", "c"}
    assert {row["values"] for row in told("list", "-C", home, "wires")["wires"]} == {0}


def test_a_ghost_with_a_payload_is_refused_and_is_no_value_either(client: FlaskClient, home: Path) -> None:
    answer = client.post("/c/a", headers=GHOST, data=b"data")
    assert answer.status_code == 400
    assert "no payload" in answer.text
    assert told("list", "-C", home, "ghosts")["ghosts"] == []
    assert told("list", "-C", home, "values")["values"] == []


def test_ghosts_and_values_do_not_come_in_one_batch(client: FlaskClient, home: Path) -> None:
    event = {"specversion": "1.0", "type": "t", "source": "/s", "id": "2"}
    body = json.dumps([event, {**event, "id": "3", "koaljaghost": "true"}]).encode()
    answer = client.post("/c/a", headers={"Content-Type": "application/cloudevents-batch+json"}, data=body)
    assert answer.status_code == 400
    assert told("list", "-C", home, "values")["values"] == []


def test_an_event_that_says_it_is_no_ghost_is_a_value(client: FlaskClient, home: Path) -> None:
    (one,) = accepted(client, {**GHOST, "ce-koaljaghost": "false"}, b"data")
    assert "walk" not in one
    assert len(told("list", "-C", home, "values")["values"]) == 1
