"""CloudEvents in and out. Each trap of the library has a test of its own here."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koalja_fn import events
from koalja_fn.errors import Refused
from koalja_fn.events.attributes import microseconds, moment
from koalja_fn.model import AnnotatedValue

STRUCTURED = {"Content-Type": "application/cloudevents+json"}
BATCH = {"Content-Type": "application/cloudevents-batch+json"}
BINARY = {"Ce-Specversion": "1.0", "Ce-Id": "1", "Ce-Source": "/s", "Ce-Type": "t"}
BASE = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}


def structured(text: str | None = None, **members: object) -> events.Event:
    body = text if text is not None else json.dumps({**BASE, **members})
    return events.read(STRUCTURED, body.encode("utf-8", "surrogatepass"))[0]


def refused(headers: dict[str, str], body: bytes = b"") -> Refused:
    with pytest.raises(Refused) as caught:
        events.read(headers, body)
    return caught.value


# --- modes


def test_binary_mode_keeps_the_body_byte_for_byte():
    body = b'{"x": 1.10, broken \xff'
    event = events.read({**BINARY, "Content-Type": "application/json"}, body)[0]
    assert (event.payload, event.type, event.id, event.source) == (body, "application/json", "1", "/s")
    assert dict(event.attributes) == {"type": "t"}


def test_octets_that_happen_to_be_text_stay_bytes():
    assert events.read({**BINARY, "Content-Type": "application/octet-stream"}, b"abc")[0].payload == b"abc"


def test_a_spooled_body_stays_where_it_is(tmp_path: Path):
    path = tmp_path / "body"
    path.write_bytes(b"x" * 100_000)
    assert events.read(BINARY, path)[0].payload == path
    assert events.read({}, path)[0].payload == path


def test_content_type_decides_before_stray_headers():
    event = events.read({**STRUCTURED, "Ce-Stray": "x", "ce-id": "other"}, json.dumps(BASE).encode())[0]
    assert event.id == "1"


def test_no_event_is_a_raw_payload_with_its_type():
    event = events.read({"Content-Type": "text/csv; header=present"}, b"a,b\n")[0]
    assert event == events.Event(b"a,b\n", type="text/csv; header=present")


def test_the_type_that_curl_invents_is_no_type():
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert events.read(headers, b"a")[0].type == events.UNTYPED
    assert events.read(headers, b"a", untyped="text/csv")[0].type == "text/csv"


@pytest.mark.parametrize(
    "kind", ["application/cloudevents+xml", "application/cloudevents-batch+avro", "application/cloudevents"]
)
def test_other_formats_of_cloudevents_are_415(kind: str):
    assert refused({"Content-Type": kind}).http_status == 415


def test_other_charsets_and_encodings_are_415():
    assert (
        refused({"Content-Type": "application/cloudevents+json; charset=latin-1"}, b"{}").http_status == 415
    )
    assert refused({**BINARY, "Content-Encoding": "gzip"}, b"x").http_status == 415
    assert events.read(
        {"Content-Type": 'Application/CloudEvents+JSON; charset="UTF-8"'}, json.dumps(BASE).encode()
    )


def test_a_batch_gives_its_events_in_order():
    body = json.dumps([{**BASE, "id": str(n), "data": n} for n in range(3)]).encode()
    assert [(e.id, e.payload) for e in events.read(BATCH, body)] == [("0", b"0"), ("1", b"1"), ("2", b"2")]
    assert events.read(BATCH, b" [ ] ") == []


def test_a_batch_with_one_bad_event_is_refused_as_a_whole_and_says_which():
    body = json.dumps([BASE, {**BASE, "specversion": "0.3"}]).encode()
    assert "event 2 of the batch" in refused(BATCH, body).what


def test_a_batch_above_the_limit_is_413():
    body = json.dumps([BASE] * 4).encode()
    with pytest.raises(Refused) as caught:
        events.read(BATCH, body, events.Limits(batch=3))
    assert caught.value.http_status == 413
    with pytest.raises(Refused) as caught:
        events.read(BATCH, body, events.Limits(document=10))
    assert caught.value.http_status == 413


# --- payloads of the JSON modes


@pytest.mark.parametrize(
    "text",
    [
        "1e5",
        "1.10",
        "123456789012345678901234567890",
        "9" * 5000,
        '{"b":1,  "a":[ ]}',
        '"\\u00e9 \\ud800"',
        "true",
        "-0.0",
    ],
)
def test_json_data_keep_their_exact_text(text: str):
    event = structured(json.dumps(BASE)[:-1] + f', "data":{text} }}')
    assert (event.payload, event.type) == (text.encode(), "application/json")


def test_a_string_that_is_not_json_is_its_text():
    assert structured(datacontenttype="text/plain", data="a\u00e9\n").payload == "a\u00e9\n".encode()
    assert structured(datacontenttype="application/vnd.x+json", data="a").payload == b'"a"'
    assert structured(datacontenttype="text/xml", data={"a": 1}).payload == b'{"a": 1}'


def test_data_base64_is_decoded_and_must_be_valid():
    event = structured(datacontenttype="image/png", data_base64=base64.b64encode(b"\x00\xff").decode())
    assert (event.payload, event.type) == (b"\x00\xff", "image/png")
    for bad in ("?", "YQ", 5, {}):
        assert "base64" in refused(STRUCTURED, json.dumps({**BASE, "data_base64": bad}).encode()).what
    assert (
        "one of them"
        in refused(STRUCTURED, json.dumps({**BASE, "data": 1, "data_base64": "YQ=="}).encode()).why
    )


def test_no_data_are_an_empty_payload():
    assert structured().payload == b""
    assert structured(data=None).payload == b""
    assert events.read(BINARY, b"")[0].payload == b""


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"nul",
        b'{"a"}',
        b'{"a":}',
        b'{"a":1,}',
        b'{"a":NaN}',
        b"{} x",
        b"\xff",
        b'{"id":"1","id":"2"}',
        b'{"data":' + b"[" * 100_000,
        b'{"a":"\x01"}',
        b"{a:1}",
        b'{"a" 1}',
        b'{"a":1 "b":2}',
        b'"text"',
        b"\xef\xbb\xbf{}",
    ],
)
def test_what_is_not_json_is_400(body: bytes):
    for headers, text in ((STRUCTURED, body), (BATCH, b"[" + body + b"]" if body else b"")):
        assert refused(headers, text).http_status == 400


def test_an_array_in_structured_mode_is_told_from_bad_json():
    """`jq` finds nothing wrong with it: the Content-Type is."""
    error = refused(STRUCTURED, b" [" + json.dumps(BASE).encode() + b"]")
    assert error.http_status == 400
    assert "application/cloudevents-batch+json" in error.cure


def test_a_lone_surrogate_in_a_text_is_400():
    assert (
        refused(STRUCTURED, b'{"specversion":"1.0","id":"\\ud800","source":"/s","type":"t"}').http_status
        == 400
    )
    body = json.dumps({**BASE, "datacontenttype": "text/plain", "data": "\ud800"}).encode()
    assert refused(STRUCTURED, body).http_status == 400


# --- attributes


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type"])
def test_required_attributes_are_never_invented(name: str):
    headers = {k: v for k, v in BINARY.items() if k != f"Ce-{name.capitalize()}"}
    assert name in refused(headers, b"x").what
    for value in ("", None, 5, True, [], {}):
        assert refused(STRUCTURED, json.dumps({**BASE, name: value}).encode()).http_status == 400


def test_the_event_is_not_changed_and_no_time_is_invented():
    headers = dict(BINARY)
    event = events.read(headers, b"x")[0]
    assert headers == BINARY
    assert event.created is None
    assert "time" not in event.attributes


@pytest.mark.parametrize("version", ["0.3", "1.1", "1", " 1.0", "x"])
def test_only_version_one_is_read(version: str):
    assert "version" in refused({**BINARY, "Ce-Specversion": version}).what


@pytest.mark.parametrize("name", ["My-Attr", "a_b", "ab\n", "é", "A", "x" * 65, "", "data-x"])
def test_attribute_names_are_checked(name: str):
    assert "name" in refused({**BINARY, f"ce-{name}": "x"}).what if name != "A" else True
    assert refused(STRUCTURED, json.dumps({**BASE, name: "x"}).encode()).http_status == 400


def test_extension_values_become_text():
    assert dict(structured(num=12, yes=True, no=False, nil=None, txt="x").attributes) == {
        "type": "t",
        "num": "12",
        "yes": "true",
        "no": "false",
        "txt": "x",
    }
    for bad in (1.5, [], {}):
        assert "JSON type" in refused(STRUCTURED, json.dumps({**BASE, "x": bad}).encode()).what


@pytest.mark.parametrize("bad", ["a\x00", "\x1f", "\x7f", "\x85", "\ufffe"])
def test_control_characters_in_values_are_refused(bad: str):
    assert "characters" in refused(STRUCTURED, json.dumps({**BASE, "x": bad}).encode()).what


def test_quoted_and_escaped_header_values():
    def value(text: str) -> str:
        return str(events.read({**BINARY, "Ce-X": text}, b"")[0].attributes["x"])

    assert value('"a \\"q\\" b"') == 'a "q" b'
    assert value("a%20b%C3%A9") == "a b\u00e9"
    assert value('"%41"') == "A"
    assert value("50%") == "50%"
    assert value("\u00e9".encode().decode("latin-1")) == "\u00e9"
    for bad in ("%C0%A0", "%ff", "\xff", '"open', '"a"b'):
        assert refused({**BINARY, "Ce-X": bad}).http_status == 400


@pytest.mark.parametrize(
    ("text", "micro"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:01.000001+00:00", 1_000_001),
        ("2026-01-31T12:00:00.123456789z", None),
        ("1970-01-01T01:00:00+01:00", 0),
        ("2016-12-31T23:59:60Z", 1_483_228_799_999_999),
    ],
)
def test_times(text: str, micro: int | None):
    event = structured(time=text)
    assert event.created is not None
    assert micro is None or event.created == micro


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-01-31",
        "2026-01-31T12:00:00",
        "2026-13-01T00:00:00Z",
        "0001-01-01T00:00:00+10:00",
        "20260131T120000Z",
    ],
)
def test_bad_times_are_400(text: str):
    assert "time" in refused(STRUCTURED, json.dumps({**BASE, "time": text}).encode()).what


def test_limits_on_attributes_are_431_in_headers_and_400_in_bodies():
    many = {f"x{n}": "v" for n in range(100)}
    assert refused({**BINARY, **{f"ce-{n}": v for n, v in many.items()}}).http_status == 431
    assert refused(STRUCTURED, json.dumps({**BASE, **many}).encode()).http_status == 400
    assert refused({**BINARY, "ce-x": "v" * 5000}).http_status == 431
    assert refused({**BINARY, **{f"ce-x{n}": "v" * 4000 for n in range(5)}}).http_status == 431


def test_a_dataref_is_never_fetched():
    assert "dataref" in refused({**BINARY, "ce-dataref": "http://169.254.169.254/"}).what
    assert events.read({**BINARY, "ce-dataref": "s3://b/k"}, b"x")[0].attributes["dataref"] == "s3://b/k"
    assert (
        "dataref" in refused(STRUCTURED, json.dumps({**BASE, "dataref": "file:///etc/passwd"}).encode()).what
    )


def test_a_name_is_no_path():
    assert events.read({**BINARY, "ce-koaljaname": "a%20b.csv"}, b"")[0].name == "a b.csv"
    for bad in ("../x", "a/b", "..", "."):
        assert "name" in refused({**BINARY, "ce-koaljaname": bad}).what


@pytest.mark.parametrize("kind", ["text", "text/plain; é", "a/b\x01", "/", "a/" + "b" * 300])
def test_what_is_no_media_type_is_400(kind: str):
    assert refused({**BINARY, "Content-Type": kind}).http_status == 400
    assert refused({"Content-Type": kind}).http_status == 400


def test_sequence_goes_its_own_way():
    event = structured(sequence="0012", sequencetype="Integer", subject="s")
    assert event.sequence == "0012"
    assert dict(event.attributes) == {"type": "t", "sequencetype": "Integer", "subject": "s"}


# --- three modes, one meaning

texts = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), min_size=1, max_size=20
).filter(lambda t: events.attributes._FORBIDDEN.search(t) is None)
times = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001
names = st.from_regex(r"x[a-z0-9]{1,15}", fullmatch=True)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@st.composite
def some_events(draw: st.DrawFn) -> events.Event:
    attributes = {"type": draw(texts), **draw(st.dictionaries(names, texts, max_size=3))}
    created = draw(st.none() | times)
    return events.Event(
        draw(st.binary(max_size=50)),
        draw(texts),
        draw(texts),
        draw(st.sampled_from(["text/plain", "a/b; c=d", "application/json"])),
        None if created is None else microseconds(created),
        draw(st.just("") | texts.filter(lambda t: "/" not in t and t not in (".", ".."))),
        draw(st.just("") | texts),
        attributes,
    )


@given(some_events())
def test_the_three_modes_mean_the_same(event: events.Event):
    headers = events.binary_headers(event)
    batch = events.batch_body([event])
    assert events.read(headers, event.payload) == [event]
    assert events.read(BATCH, batch) == [event]
    assert events.read(STRUCTURED, batch.strip()[1:-1]) == [event]


@given(values)
def test_json_data_mean_the_same_in_three_modes(value: object):
    text = json.dumps(value).encode()
    kind = "application/json"
    document = b'{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"%b","data":%b}' % (
        kind.encode(),
        text,
    )
    expected = events.read({**BINARY, "Content-Type": kind}, text if value is not None else b"")
    assert events.read(STRUCTURED, document) == expected
    assert events.read(BATCH, b"[%b]" % document) == expected


@given(
    st.dictionaries(
        st.sampled_from([*BINARY, *STRUCTURED, "ce-time", "ce-x", "Content-Encoding", "Ce-Dataref"]),
        st.text(st.characters(max_codepoint=255), max_size=20),
    ),
    st.binary(max_size=60),
)
def test_whatever_comes_is_read_or_refused(headers: dict[str, str], body: bytes):
    for extra in ({}, STRUCTURED, BATCH, BINARY):
        try:
            events.read({**headers, **extra}, body)
        except Refused as error:
            status = error.http_status
        else:
            status = 400
        assert 400 <= status < 500


@given(
    st.recursive(
        values, lambda inner: st.dictionaries(st.sampled_from([*BASE, "data", "data_base64", "time"]), inner)
    )
)
def test_whatever_json_comes_is_read_or_refused(value: object):
    for headers in (STRUCTURED, BATCH):
        try:
            events.read(headers, json.dumps(value).encode())
        except Refused as error:
            status = error.http_status
        else:
            status = 400
        assert status == 400


def test_the_library_reads_what_we_write():
    from cloudevents.core.bindings.http import HTTPMessage, from_http_event

    event = events.Event(b"x", "/a b", "50% \u00e9", "text/plain", 1, "", "", {"type": "t"})
    read = from_http_event(HTTPMessage(events.binary_headers(event), b"x"))
    assert (read.get_id(), read.get_source(), read.get_type()) == ("50% \u00e9", "/a b", "t")


# --- annotated values

wild = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
plain = st.from_regex(r"[a-z][a-z0-9-]{0,10}", fullmatch=True)
numbers = st.integers(0, 2**62)
annotated = st.builds(
    AnnotatedValue,
    id=st.text("0123456789abcdef", min_size=1),
    circuit=plain | wild.filter(bool),
    wire=plain | wild.filter(bool),
    position=numbers,
    source=plain | wild,
    created=st.integers(-(2**62), 2**62),
    arrived=numbers,
    digest=st.just("sha256:00") | wild,
    size=numbers,
    type=st.sampled_from(["text/plain; charset=utf-8", "application/cloudevents+json", "", "é"]) | wild,
    name=wild,
    snapshot=wild,
    version=wild,
    region=wild,
    key=wild,
    index=numbers,
    hops=numbers,
    ghost=st.booleans(),
    event_source=wild,
    event_id=wild,
    sequence=wild,
    attributes=st.dictionaries(wild, wild, max_size=3),
)


@given(annotated, st.sampled_from(["", "s3://bucket/key", "s3://b/a b%20é"]))
def test_a_value_survives_its_event(value: AnnotatedValue, dataref: str):
    headers, body = events.to_event(value, dataref)
    assert body == b""
    assert events.from_av_event(
        {k.upper(): v for k, v in headers.items()} | {"ce-knativearrivaltime": "x"}
    ) == (value, dataref)


@given(annotated)
def test_attributes_are_safe_on_every_broker(value: AnnotatedValue):
    safe = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~:/?#@!$&'()*+,;=-")
    headers, _ = events.to_event(value)
    for name, text in headers.items():
        if name.startswith("ce-"):
            assert set(text) <= safe
            assert name[3:].isalnum()
            assert name.islower()
            assert len(name) <= 23


def test_the_event_of_a_tasks_output_is_as_documented():
    value = AnnotatedValue(
        "ab12",
        "weather",
        "mean",
        4,
        "average",
        1_700_000_000_123_456,
        1_700_000_000_200_000,
        "sha256:00",
        7,
        "application/json",
        snapshot="cd",
        attributes={"traceparent": "00-aa-bb-01"},
    )
    headers, _ = events.to_event(value, "file:///objects/00")
    assert headers["ce-type"] == "dev.koalja.value.v1"
    assert headers["ce-source"] == "/circuits/weather/tasks/average"
    assert headers["ce-subject"] == "mean"
    assert headers["ce-time"] == "2023-11-14T22:13:20.123456Z"
    assert headers["ce-dataref"] == "file:///objects/00"
    assert headers["ce-koaljawire"] == "mean"
    assert headers["ce-traceparent"] == "00-aa-bb-01"
    assert headers["content-type"] == "application/json"


def test_a_value_from_outside_names_its_wire_as_source():
    value = AnnotatedValue("ab", "weather", "wind", 0, "/sensor 7", 0, 0, "sha256:00", 1, "text/plain")
    headers, _ = events.to_event(value)
    assert headers["ce-source"] == "/circuits/weather/wires/wind"
    assert events.from_av_event(headers)[0].source == "/sensor 7"


def test_foreign_and_damaged_events_are_no_values():
    good, _ = events.to_event(AnnotatedValue("a", "c", "w", 0, "s", 0, 0, "d", 1, "text/plain"))
    for change in (
        {"ce-type": "x"},
        {"ce-koaljaposition": "x"},
        {"ce-time": "x"},
        {"ce-koaljadigest": "b64:?"},
        {"ce-koaljaattributes": "[]"},
    ):
        with pytest.raises(Refused):
            events.from_av_event({**good, **change})
    with pytest.raises(Refused):
        events.from_av_event({k: v for k, v in good.items() if k != "ce-koaljawire"})


def test_microseconds_are_exact():
    instant = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    assert microseconds(instant) == (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert moment("9999-12-31T23:59:59.999999Z") == instant


def test_the_import_is_cheap():
    code = (
        "import sys, koalja_fn.events;"
        "print(*[m for m in ('cloudevents', 'pydantic', 'flask', 'dateutil') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@given(
    st.dictionaries(
        st.sampled_from(["subject", "dataschema", "data", "x", "a1", "sequence", "id"]),
        st.sampled_from(["", "1", "x y", "data"]),
    )
)
def test_the_library_would_have_refused_just_as_much(more: dict[str, str]) -> None:
    """It is asked only where it refuses: what is taken without it, it takes, too."""
    from cloudevents.core.exceptions import CloudEventValidationError
    from cloudevents.core.v1.event import CloudEvent

    texts = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", **more}
    try:
        CloudEvent(dict(texts), None)
        right = True
    except CloudEventValidationError:
        right = False
    headers = {f"ce-{name}": text for name, text in texts.items()}
    try:
        events.read(headers, b"")
        taken = True
    except Refused:
        taken = False
    assert taken is right


def test_an_event_that_is_in_order_does_not_need_the_library() -> None:
    code = (
        "import sys; from koalja_fn import events;"
        f"e = {BINARY | {'ce-time': '2026-01-31T12:00:00Z'}};"
        "assert len(events.read(e, b'x')) == 1;"
        "sys.exit('cloudevents' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
