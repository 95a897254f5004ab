"""Place the values of a snapshot as files, and turn the command into an argument list."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from koalja_fn.model import AnnotatedValue
from koalja_fn.program.argv import Files, Template, template
from koalja_fn.program.contract import Job
from koalja_fn.program.naming import ending, told_type
from koalja_fn.program.scratch import SMALL_INPUT, Slot
from koalja_fn.store import Store


class Inputs:
    """The input files of one call. `linked` are those that are payloads themselves, not copies."""

    def __init__(self, job: Job, slot: Slot) -> None:
        self._job = job
        self._slot = slot
        self.paths: dict[str, list[str]] = {}
        self.linked: list[AnnotatedValue] = []
        names = tuple(name for name, _ in job.inputs)
        self.template: Template = template(job.command, names, job.outputs)

    def place(self, store: Store) -> None:
        """Make all files, read-only: `WIRE.0001.json`, counted from 1 within their input."""
        for name, values in self._job.inputs:
            paths = self.paths[name] = []
            for number, value in enumerate(values, 1):
                file = f"{value.wire}.{number:04d}{ending(value.type, value.name)}"
                paths.append(self._placed(store, value, file))
        self._slot.drop_left()

    def _placed(self, store: Store, value: AnnotatedValue, file: str) -> str:
        if value.size <= SMALL_INPUT:
            return self._slot.write_input(file, store.read(value.digest))
        path = f"{self._slot.placed}/{file}"
        if file in self._slot.left:
            del self._slot.left[file]
            os.unlink(path)  # noqa: PTH108
        if store.place(value.digest, Path(path)):
            self.linked.append(value)
        return path

    def changed(self, store: Store) -> list[str]:
        """Names of the input files through which the program wrote to the payload itself."""
        return [value.wire for value in self.linked if not store.intact(value.digest)]

    def argv(self) -> list[str]:
        """Return the argument list.

        Raises:
            Unfilled: A placeholder asks for what is not there.
        """
        types = dict(self._job.types)
        outputs = {
            wire: f"{self._slot.out}/{wire}{_out_ending(types.get(wire))}" for wire in self._job.outputs
        }
        return self.template.fill(Files(self.paths, outputs, self._list, self._snapshot))

    def _list(self, name: str) -> str:
        path = f"{self._slot.path}/{name}.list"
        _write(path, "".join(f"{line}\n" for line in self.paths[name]))
        return path

    def _snapshot(self) -> str:
        path = f"{self._slot.path}/snapshot.json"
        _write(path, json.dumps(self._described(), indent=1, ensure_ascii=False) + "\n")
        return path

    def _described(self) -> Mapping[str, Any]:
        job = self._job
        return {
            "snapshot": job.snapshot_id,
            "circuit": job.circuit,
            "task": job.task,
            "inputs": {
                name: [
                    _annotations(value) | {"file": path}
                    for value, path in zip(values, self.paths[name], strict=True)
                ]
                for name, values in job.inputs
            },
            "outputs": list(job.outputs),
        }


def _annotations(value: AnnotatedValue) -> dict[str, Any]:
    return {
        "id": value.id,
        "wire": value.wire,
        "position": value.position + 1,
        "source": value.source,
        "created": value.created,
        "arrived": value.arrived,
        "digest": value.digest,
        "size": value.size,
        "type": value.type,
        "name": value.name,
        "snapshot": value.snapshot,
        "version": value.version,
        "region": value.region,
        "key": value.key,
        "hops": value.hops,
        "attributes": dict(value.attributes),
    }


def _out_ending(kind: str | None) -> str:
    """An ending for `{out.WIRE}` where the wiring tells its type: some programs go by the name."""
    if not kind:
        return ""
    tail = ending(kind)
    return tail if told_type(f"x{tail}") == kind else ""


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
