"""Every attribute of tasks and wires: how its value is read and written, and what it means.

The one table from which the checks, the writer and the user's documentation speak.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from koalja_fn.model import Policy
from koalja_fn.wiring.names import did_you_mean, is_label, normalised
from koalja_fn.wiring.values import (
    BadValue,
    quoted,
    read_count,
    read_duration,
    read_number,
    read_positive_duration,
    read_rate,
    read_switch,
    unquoted,
    write_duration,
    write_rate,
)

FORMER_POLICIES = {
    "allnew": "all-new",
    "swapnew4old": "swap",
    "swap-new-for-old": "swap",
    "zip": "all-new",
    "combine-latest": "swap",
    "latest": "swap",
}
FORMER_ATTRIBUTES = {
    "requiredsequencelength": "write the buffer at the input: x[5]",
    "minsequencelength": "write the buffer at the input, at least and at most: x[2-4]",
    "maxsequencelength": "write the buffer at the input, at least and at most: x[2-4]",
    "slide": "write the window and its slide at the input: x[10/2]",
    "mergeinto": "merge wires into one input, (a + b) as readings, or write policy = merge",
    "snapshotpolicy": "the attribute is called policy: all-new, swap, merge or align",
    "executor": "write the command in a run line: run = ./program {input}",
    "command": "the attribute is called run",
    "cmd": "the attribute is called run",
    "window": "write the window at the input: x[10/2]",
    "buffer": "write the buffer at the input: x[5]",
    "schedule": "write every = 1h",
    "retry": "the attribute is called retries",
    "env": "name the variable: env.NAME = value",
    "parallel": "the attribute is called concurrency",
    "source": "write from = PATTERN under `wire NAME`",
    "sink": "write to = PATTERN under `wire NAME`",
}


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute: its field in the model, how to read and write it, and words for people."""

    field: str
    read: Callable[[str], Any]
    write: Callable[[Any], str]
    values: str
    default: str
    meaning: str


def _choice(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.lower() in words:
            return text.lower()
        cure = did_you_mean(text, words) or f"write {' or '.join(words)}"
        raise BadValue(f"'{text}' is not one of {', '.join(words)}", cure)

    return read


def _policy(text: str) -> Policy:
    word = normalised(text)
    if word in list(Policy):
        return Policy(word)
    former = FORMER_POLICIES.get(word)
    if former:
        raise BadValue(f"there is no policy '{text}'", f"that policy is called {former}: policy = {former}")
    if word in ("slidingwindow", "sliding-window", "window"):
        raise BadValue(f"there is no policy '{text}'", "write the window at the input: x[10/2]")
    cure = did_you_mean(text, list(Policy)) or "write all-new, swap, merge or align"
    raise BadValue(f"there is no policy '{text}'", cure)


def _text(text: str) -> str:
    bare = unquoted(text)
    if not bare:
        raise BadValue("the value is empty", "write a value after the equals sign, or drop the line")
    return bare


def _run(text: str) -> str:
    if not text:
        raise BadValue("the run line is empty", "write a command, such as run = ./program {input}")
    return text


def _timeout(text: str) -> float | None:
    return None if text.lower() == "none" else read_positive_duration(text)


def _keep(text: str) -> float | None:
    return None if text.lower() in ("forever", "none") else read_positive_duration(text)


def _label(text: str) -> str:
    bare = _text(text)
    if not is_label(bare):
        raise BadValue(f"'{bare}' is no name", "use letters, digits and hyphens, at most 63")
    return bare


def _media_type(text: str) -> str:
    bare = _text(text)
    if not re.fullmatch(r"[\w.+!#$&^-]+/[\w.+!#$&^*-]+(\s*;\s*[\w.-]+=(\"[^\"]*\"|[\w.+-]+))*", bare):
        raise BadValue(f"'{bare}' is no media type", "write one such as application/json or text/csv")
    return bare


def _address(text: str) -> str:
    bare = _text(text)
    if not re.fullmatch(r"https?://[^\s/]+(/\S*)?", bare):
        raise BadValue(f"'{bare}' is no address", "write one that starts with https:// or http://")
    return bare


def _align(text: str) -> str:
    bare = _text(text)
    if not re.fullmatch(r"[\w.-]+", bare):
        raise BadValue(
            f"'{bare}' can't be an attribute's name", "name one attribute of the values: align = station"
        )
    return bare


def _order(text: str) -> bool:
    return _choice("strict", "any")(text) == "strict"


def _switch_word(value: bool) -> str:
    return "yes" if value else "no"


def _duration_or(word: str) -> Callable[[float | None], str]:
    return lambda value: word if value is None else write_duration(value)


TASK: dict[str, Attribute] = {
    "policy": Attribute("policy", _policy, str, "`all-new`, `swap`, `merge`, `align`", "`all-new`",
                        "how the windows of several inputs come together"),
    "align": Attribute("align", _align, quoted, "an attribute's name", "the value's key",
                       "under `policy = align`: the attribute whose values must agree"),
    "run": Attribute("run", _run, str, "a command", "found by the task's name", "the command to run"),
    "rate": Attribute("rate", read_rate, write_rate, "`5/s`, `10/min`, `1/30s`", "no limit",
                      "at most so many snapshots"),
    "within": Attribute("within", read_positive_duration, write_duration, "a duration", "no limit",
                        "how long an elastic window, an alignment or a gap is waited for"),
    "retries": Attribute("retries", read_number, str, "a number", "`3`", "attempts after a failed one"),
    "backoff": Attribute("backoff", read_duration, write_duration, "a duration", "`1s`",
                         "the pause before the first retry; it doubles"),
    "timeout": Attribute("timeout", _timeout, _duration_or("none"), "a duration or `none`", "`10m`",
                         "how long one attempt may take"),
    "order": Attribute("strict", _order, lambda v: "strict" if v else "any", "`strict`, `any`", "`any`",
                       "`strict`: one snapshot at a time, and a dead letter stops the task"),
    "start": Attribute("start", _choice("beginning", "now"), str, "`beginning`, `now`", "`now`",
                       "where an input that is added later starts to read"),
    "cache": Attribute("cache", read_switch, _switch_word, "`on`, `off`", "off for `run`",
                       "answer from recorded outputs where nothing changed"),
    "on-update": Attribute("on_update", _choice("recompute", "ignore"), str, "`recompute`, `ignore`",
                           "`ignore`", "what a new version of the code does to old results"),
    "warm": Attribute("warm", read_switch, _switch_word, "`yes`, `no`", "`yes`",
                      "start Python programs from a prepared process"),
    "region": Attribute("region", _label, str, "a name", "none", "where the task runs"),
    "scale": Attribute("scale", read_count, str, "a number", "none", "how many pods may share the task"),
    "concurrency": Attribute("concurrency", read_count, str, "a number", "`1`",
                             "how many snapshots may run at once; above 1 the order of outputs is given up"),
    "every": Attribute("every", read_positive_duration, write_duration, "a duration", "never",
                       "for a task without inputs: when to run"),
    "mode": Attribute("mode", _choice("service", "job"), str, "`service`, `job`", "`service`",
                      "`job`: long or heavy, one pod for each snapshot"),
    "max-hops": Attribute("max_hops", read_count, str, "a number", "`1000`",
                          "how far a value may have come, so that a loop ends"),
    "backlog": Attribute("backlog", read_count, str, "a number", "no limit",
                         "how many values may wait before senders are held back"),
}  # fmt: skip

WIRE: dict[str, Attribute] = {
    "type": Attribute("type", _media_type, quoted, "a media type", "as sent", "what kind of data it carries"),
    "keep": Attribute("keep", _keep, _duration_or("forever"), "a duration or `forever`", "`forever`",
                      "how long payloads are kept after their last need"),
    "confined": Attribute("confined", _label, str, "a region", "none", "the region its payloads stay in"),
    "accept": Attribute("accept", _text, quoted, "event types", "all", "which foreign events enter here"),
    "identity": Attribute("identity", _choice("id", "content", "none"), str, "`id`, `content`, `none`",
                          "`id`", "what makes two events from outside the same value"),
    "from": Attribute("source", _text, quoted, "file patterns, a queue", "none",
                      "files, or messages, that become values"),
    "to": Attribute("sink", _text, quoted, "a file pattern, a bucket", "none",
                    "where each value is also written"),
    "at": Attribute("at", _address, quoted, "an http address", "none", "an outside service to ask"),
}  # fmt: skip

ENV = re.compile(r"env\.(.*)")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read_env(name: str, text: str) -> tuple[str, str]:
    """An environment variable: its name and value.

    Raises:
        BadValue: The name can't be used.
    """
    if not ENV_NAME.fullmatch(name):
        raise BadValue(f"'{name}' is no name of a variable", "use letters, digits and _, no digit first")
    if name.startswith("KOALJA_"):
        raise BadValue(f"{name} is set by koalja-fn itself", "choose a name that doesn't start with KOALJA_")
    value = unquoted(text)
    if "\0" in value:
        raise BadValue(f"{name} has a NUL character in it", "leave it out")
    return name, value


def cure_for_unknown(
    key: str, known: dict[str, Attribute], others: dict[str, Attribute], elsewhere: str
) -> str:
    """What to write in place of an attribute that does not exist here."""
    former = FORMER_ATTRIBUTES.get(normalised(key).replace("-", ""))
    if former:
        return former
    if key in others:
        return f"`{key}` belongs {elsewhere}"
    return did_you_mean(key, known) or f"there are {', '.join(known)}"
