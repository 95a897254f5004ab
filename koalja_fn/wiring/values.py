"""The values of attributes: durations, rates, counts, switches, texts; each way there and back."""

from __future__ import annotations

import re
from decimal import Decimal

from koalja_fn.model import Buffer, Rate

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_WORDS = {"sec": "s", "second": "s", "minute": "m", "hour": "h", "day": "d", "week": "w"}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)")
_RATE = re.compile(r"(\d+)\s*/\s*(\d+(?:\.\d+)?)?\s*([a-z]+)")
_TRUE = frozenset({"yes", "on", "true"})
_FALSE = frozenset({"no", "off", "false"})
_LONGEST = 100 * 365 * 86400.0
_DIGITS = 9
_MOST = 10**_DIGITS
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


class BadValue(ValueError):
    """A value that can't be read: what is wrong, and what would be right."""

    def __init__(self, message: str, cure: str) -> None:
        super().__init__(message)
        self.message = message
        self.cure = cure


def _unit(word: str) -> float | None:
    return _SECONDS.get(word) or _SECONDS.get(_WORDS.get(word, _WORDS.get(word[:-1], "")))


def read_duration(text: str) -> float:
    """Seconds of `500ms`, `5s`, `2m`, `1h`, `7d` or `2w`."""
    cure = "write a number with its unit: 500ms, 5s, 2m, 1h or 7d"
    found = _DURATION.fullmatch(text.lower())
    unit = _unit(found[2]) if found else None
    if found is None or unit is None:
        raise BadValue(f"'{text}' is no duration", cure)
    seconds = float(Decimal(found[1]) * Decimal(str(unit)))
    if seconds > _LONGEST:
        raise BadValue(f"'{text}' is longer than a hundred years", cure)
    return seconds


def read_positive_duration(text: str) -> float:
    """A duration above zero."""
    seconds = read_duration(text)
    if seconds <= 0:
        raise BadValue(f"'{text}' is no time at all", "write a duration above zero, such as 5s")
    return seconds


def write_duration(seconds: float) -> str:
    """The shortest exact way to write a duration."""
    exact = Decimal(repr(seconds))
    if exact < 1 and exact:
        return f"{_plain(exact * 1000)}ms"
    for unit in ("d", "h", "m"):
        size = Decimal(str(_SECONDS[unit]))
        if exact and exact % size == 0:
            return f"{_plain(exact / size)}{unit}"
    return f"{_plain(exact)}s"


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def read_rate(text: str) -> Rate:
    """`5/s`, `10/min`, `100/h`; also `1/30s`."""
    found = _RATE.fullmatch(text.lower())
    unit = _unit(found[3]) if found else None
    if found is None or unit is None:
        raise BadValue(f"'{text}' is no rate", "write a number for each unit of time: 5/s, 10/min or 1/30s")
    count = read_count(found[1])
    seconds = float(Decimal(found[2] or "1") * Decimal(str(unit)))
    if not 0 < seconds <= _LONGEST:
        raise BadValue(f"'{text}' is no rate", "write a time above zero: 5/s, 10/min or 1/30s")
    return Rate(count, seconds)


def write_rate(rate: Rate) -> str:
    """A rate as `read_rate` reads it."""
    for word, seconds in (("s", 1.0), ("min", 60.0), ("h", 3600.0), ("d", 86400.0)):
        if rate.seconds == seconds:
            return f"{rate.count}/{word}"
    return f"{rate.count}/{write_duration(rate.seconds)}"


def read_number(text: str) -> int:
    """A whole number from 0 on."""
    if not re.fullmatch(r"[0-9_]*[0-9][0-9_]*", text):
        raise BadValue(f"'{text}' is no whole number", "write a whole number such as 10")
    number = int(text.replace("_", "")) if len(text) <= 2 * _DIGITS else _MOST + 1
    if number > _MOST:
        raise BadValue(f"{text[:20]} is too large", f"write at most {_MOST}")
    return number


def read_count(text: str) -> int:
    """A whole number from 1 on."""
    number = read_number(text)
    if number < 1:
        raise BadValue("zero makes no sense here", "write 1 or more")
    return number


def read_switch(text: str) -> bool:
    """`yes`, `on`, `true`; `no`, `off`, `false`."""
    word = text.lower()
    if word not in _TRUE | _FALSE:
        raise BadValue(f"'{text}' is neither yes nor no", "write yes or no")
    return word in _TRUE


_BUFFER = re.compile(r"\[\s*(\d+)\s*(?:([/-])\s*(\d+)\s*)?\]")


def read_buffer(text: str) -> Buffer:
    """`[5]`, `[2-4]` or `[10/2]`."""
    found = _BUFFER.fullmatch(text)
    if found is None:
        raise BadValue(
            f"'{text}' is no buffer", "write [5], [2-4] (at least, at most) or [10/2] (window, slide)"
        )
    first = read_number(found[1])
    second = read_number(found[3]) if found[3] else first
    if not first or not second:
        raise BadValue(
            f"'{text}' has a zero in it", "sizes and slides count from 1; for a single value write no buffer"
        )
    if found[2] == "/":
        if second > first:
            raise BadValue(
                f"the slide {second} is larger than the window {first}: values in between would be skipped",
                f"write [{second}/{first}], or [{first}] to use each value once",
            )
        return Buffer(first, first, second)
    if found[2] == "-":
        if first > second:
            raise BadValue(f"at least {first} is more than at most {second}", f"write [{second}-{first}]")
        return Buffer(first, second, second)
    return Buffer(first, first, first)


def unquoted(text: str) -> str:
    """A text without the quotes around it, if it is one quoted string."""
    if len(text) < 2 or text[0] != text[-1] or text[0] not in "'\"":
        return text
    quote, inner = text[0], text[1:-1]
    if quote == "'":
        return text if "'" in inner else inner
    if not re.fullmatch(r'(?:[^"\\]|\\.)*', inner):
        return text
    return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), inner)


def quoted(text: str) -> str:
    """A text so that `unquoted` gives it back, with quotes only where they are needed."""
    plain = re.fullmatch(r"[^\s#'\"\\]([^#'\"\\\n\r\v\f]*[^\s#'\"\\])?", text)
    if plain:
        return text
    inner = text.replace("\\", "\\\\").replace('"', '\\"')
    for letter, control in _ESCAPES.items():
        inner = inner.replace(control, f"\\{letter}")
    return f'"{inner}"'
