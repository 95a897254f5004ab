"""The express way beside the application: the same offers, the same answers, and no wrong neighbours."""

from __future__ import annotations

import json
from dataclasses import astuple
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from standin import MemoryIntake

from koalja_fn.engine.arriving import Offer
from koalja_fn.local.serving import Express, entry, told
from koalja_fn.web import Head

EVENT = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
RIGHT = {"host": "127.0.0.1:80", **EVENT, "content-type": "text/plain"}


def head(fields: dict[str, str], body: bytes, target: str = "/demo/in", method: str = "POST") -> Head:
    return Head(method, target, 1, {**fields, "content-length": str(len(body))}, len(body))


def plain(offer: Offer) -> tuple[object, ...]:
    """An offer as it can be compared."""
    return tuple(dict(value) if isinstance(value, dict) else value for value in astuple(offer))


def test_an_event_is_taken(tmp_path: Path) -> None:
    intake = MemoryIntake()
    express = Express(intake, told=told)
    offer = express.take(head(RIGHT, b"x"), b"x")
    assert offer is not None
    assert plain(offer) == ("in", b"x", "/s", "1", "text/plain", None, "", "", {"type": "t"})
    (answer,) = express.settle([offer])
    assert answer is not None
    accepted = json.loads(answer.body)["accepted"]
    assert accepted == [{"id": accepted[0]["id"], "wire": "in", "position": 1, "duplicate": False}]
    again = express.settle([offer])[0]
    assert again is not None
    assert json.loads(again.body)["accepted"][0]["duplicate"] is True


def test_what_is_special_is_left_to_the_application() -> None:
    express = Express(MemoryIntake(), told=told)
    for fields in (
        {**RIGHT, "origin": "http://127.0.0.1:80"},
        {**RIGHT, "host": "evil.example"},
        {**EVENT, "content-type": "text/plain"},
        {**RIGHT, "idempotency-key": "k"},
        {**RIGHT, "content-encoding": "gzip"},
        {**RIGHT, "ce-koaljaghost": "true"},
        {**RIGHT, "ce-id": ""},
        {**RIGHT, "ce-time": "now"},
        {"host": "localhost", "content-type": "application/cloudevents-batch+json"},
    ):
        assert express.take(head(fields, b"[]"), b"[]") is None, fields
    assert express.take(head(RIGHT, b"x", method="PUT"), b"x") is None
    assert express.take(head(RIGHT, b"x", target="/demo/nowhere"), b"x") is None
    assert express.take(head(RIGHT, b"x", target="/demo/in?x=1"), b"x") is None
    large = b"x" * 20_000
    assert express.take(head(RIGHT, large), large) is None


NAMES = (
    *("ce-specversion", "ce-id", "ce-source", "ce-type", "ce-time", "ce-subject", "ce-dataschema", "ce-data"),
    *("ce-x", "ce-koaljaname", "ce-sequence", "ce-datacontenttype", "ce-dataref", "ce-koaljaghost"),
    *("content-type", "host", "origin", "prefer", "x"),
)
TEXTS = (
    *(
        "1.0",
        "1",
        "/s",
        "t",
        "",
        "true",
        "2026-01-31T12:00:00Z",
        "text/plain",
        "application/json",
        "localhost",
    ),
    *("%41", "%ff", '"q"', "a/b", "é", "application/cloudevents+json", "application/cloudevents-batch+json"),
)
names = st.sampled_from(NAMES)
texts = st.sampled_from(TEXTS) | st.text(
    st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=8
)
document = json.dumps({"specversion": "1.0", "id": "7", "source": "/s", "type": "t", "data": [1]}).encode()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(
    changed=st.dictionaries(names, texts, max_size=4),
    dropped=st.sets(st.sampled_from(list(RIGHT)), max_size=1),
    body=st.binary(max_size=20) | st.just(document) | st.just(b"[" + document + b"]"),
)
@example(changed={"ce-data": "x"}, dropped=set(), body=b"")
@example(changed={"ce-subject": ""}, dropped=set(), body=b"")
def test_what_is_taken_is_what_the_application_takes(
    tmp_path: Path, changed: dict[str, str], dropped: set[str], body: bytes
) -> None:
    fields = {name: text.strip() for name, text in {**RIGHT, **changed}.items() if name not in dropped}
    fast, slow = MemoryIntake(), MemoryIntake()
    express = Express(fast, told=told)
    offer = express.take(head(fields, body), body)
    if offer is None:
        return
    (answer,) = express.settle([offer])
    assert answer is not None
    environ = {
        "HTTP_" + n.upper().replace("-", "_"): text for n, text in fields.items() if n != "content-type"
    }
    environ["CONTENT_LENGTH"] = str(len(body))
    if "content-type" in fields:
        environ["CONTENT_TYPE"] = fields["content-type"]
    client = entry(slow, spool=tmp_path).test_client()
    said = client.post("/demo/in", data=body, environ_overrides=environ)
    assert [plain(o) for o in fast.offers] == [plain(o) for o in slow.offers]
    if offer.event_id:  # else an id is drawn
        assert (answer.status, answer.body, answer.type) == (said.status_code, said.data, said.mimetype)
