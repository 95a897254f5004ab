"""`config/metadata.toml` of an image, byte for byte as the lifecycle writes it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from koalja_fn.pack.building import Contribution, Process
from koalja_fn.pack.labels import about, process_of

_ESCAPED = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}
"""What Go's JSON writes of letters that a web page could mistake; commands go through it."""


def metadata_toml(contributions: Sequence[Contribution], processes: Sequence[Process], default: str) -> bytes:
    """What the launcher reads: buildpacks in their order, labels, processes and slices."""
    lines = [f"buildpack-default-process-type = {_string(default)}"] if default else []
    for one in contributions:
        _table(lines, "buildpacks", {**about(one.buildpack), "api": one.buildpack.api_text}, last="homepage")
    for one in contributions:
        for key, value in one.labels:
            _table(lines, "labels", {"key": key, "value": value})
    for process in processes:
        told = process_of(process)
        told["buildpack-id"] = process.buildpack
        for name in ("working-dir", "exec-env"):
            if name in told:
                told[name] = told.pop(name)  # to the end
        _table(lines, "processes", told)
    for one in contributions:
        for paths in one.slices:
            _table(lines, "slices", {"paths": list(paths)})
    return ("\n".join(lines).lstrip("\n") + "\n").encode()


def _table(lines: list[str], name: str, fields: Mapping[str, Any], last: str = "") -> None:
    lines += ["", f"[[{name}]]"]
    for key in sorted(fields, key=lambda field: field == last):
        if fields[key] is not None:
            lines.append(f"  {key} = {_value(key, fields[key])}")


def _value(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        words = [_string(one) for one in value]
        return "[" + ", ".join(word.translate(_ESCAPED) if key == "command" else word for word in words) + "]"
    return _string(value)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
