"""The settings of a namespace: text in a ConfigMap, checked all at once."""

from __future__ import annotations

import pytest

from koalja_fn.cluster.settings import Settings, reach
from koalja_fn.errors import UsageError


def test_what_is_written_is_what_is_read() -> None:
    told = Settings.of(
        {"store": "s3://bucket/a", "broker-class": "Kafka", "sweep": "keda,ping", "places": "8"}
    )
    assert Settings.of(told.data()) == told
    assert told.sweep == "ping,keda"
    assert all(isinstance(value, str) for value in told.data().values())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("store", "bucket"),
        ("store", "s3://BUCKET"),
        ("endpoint", "localhost:4566"),
        ("queue-endpoint", "localhost:4566"),
        ("aws-identity", "me"),
        ("region", "eu west"),
        ("sweep", "cron"),
        ("sweep", ""),
        ("places", "0"),
        ("places", "many"),
        ("memory", "256 MB"),
        ("scratch", "ten"),
        ("user", "root"),
        ("user", "0"),
        ("pull-secret", "My Secret"),
        ("broker-config", "kafka"),
        ("egress", "10.0.0.1/24:5432"),
        ("egress", "10.0.0.0/24:99999"),
        ("egress", "database:5432"),
        ("colour", "red"),
    ],
)
def test_a_setting_that_makes_no_sense_is_an_error_that_names_it(name: str, value: str) -> None:
    with pytest.raises(UsageError) as error:
        Settings.of({name: value})
    assert error.value.why.startswith(f"{name}: ")


def test_all_settings_that_make_no_sense_are_said_at_once() -> None:
    with pytest.raises(UsageError) as error:
        Settings.of({"user": "root", "colour": "red"})
    assert "user: " in error.value.why
    assert "colour: there is no such setting" in error.value.why


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", ()),
        ("10.0.3.0/24:5432,10.0.4.7", (("10.0.3.0/24", 5432), ("10.0.4.7/32", None))),
        ("fd00::/8", (("fd00::/8", None),)),
        ("fd00::/8:443", (("fd00::/8", 443),)),
        ("0.0.0.0/0:443", (("0.0.0.0/0", 443),)),
    ],
)
def test_address_ranges_may_have_a_port(text: str, wanted: tuple[tuple[str, int | None], ...]) -> None:
    assert reach(text) == wanted
