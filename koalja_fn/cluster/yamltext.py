"""Objects as YAML for people: stable order, a comment before each, and text that stays text.

YAML has many readers, and they disagree on what `no`, `1e3`, `0o17`, `12:30` or `1_000` are. So a text that
is not plainly one is put in double quotes; several lines are written as lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from koalja_fn.cluster.kinds import Object
from koalja_fn.errors import UsageError

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9._/-]*( [A-Za-z0-9._/-]+)*")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"})


def text(documents: Iterable[tuple[str, Object]], head: str = "") -> str:
    """The documents with their comments, and a comment at the top.

    Raises:
        UsageError: PyYAML is not there.
    """
    parts = [_comment(head)] if head else []
    parts += [f"---\n{_comment(comment)}{dump(item)}" for comment, item in documents]
    return "".join(parts)


def dump(item: Any) -> str:
    """One object; its keys stay in their order."""
    try:
        import yaml
    except ImportError as error:
        raise UsageError(
            "YAML can't be written",
            why="PyYAML is not installed",
            cure="pip install 'koalja-fn[cluster]', or -o json",
        ) from error

    base = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # five times as fast, where libyaml is there

    class Dumper(base):  # type: ignore[misc, valid-type]
        """Quotes what may be misread, and writes equal parts twice instead of pointing at them."""

        def ignore_aliases(self, _data: Any) -> bool:
            return True

    def written(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=_style(value))

    Dumper.add_representer(str, written)
    found: str = yaml.dump(
        item, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1 << 30, default_flow_style=False
    )
    return found


def _style(value: str) -> str | None:
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return None
    lines = value.split("\n")
    readable = all(line == line.rstrip() and line.isprintable() for line in lines)
    return "|" if len(lines) > 1 and readable and not value.startswith((" ", "\n")) else '"'


def _comment(words: str) -> str:
    return "".join(f"# {line}\n" if line else "#\n" for line in words.splitlines())
