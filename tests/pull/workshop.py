"""A folder in which tests make things: wiring, sources, and programs that count how often they ran."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from koalja_fn.program.cancel import Cancel
from koalja_fn.pull.asking import Answer, Options, ask
from koalja_fn.pull.make import with_paths


class Workshop:
    """A circuit's folder; `ran` tells which programs ran since one asked last."""

    def __init__(self, folder: Path, wiring: str = "") -> None:
        self.folder = folder
        self.said: list[str] = []
        self.log = folder.parent / f"{folder.name}.log"
        folder.mkdir(parents=True, exist_ok=True)
        self.log.write_text("")
        if wiring:
            self.wire(wiring)

    def wire(self, text: str) -> None:
        (self.folder / "w.koalja").write_text(text)

    def source(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def program(self, name: str, body: str) -> Path:
        """A shell program that notes its task each time it runs."""
        path = self.folder / name
        path.write_text(f'#!/bin/sh\necho "$KOALJA_TASK" >> {self.log}\n{body}\n')
        path.chmod(0o755)
        return path

    def make(self, *wires: str, jobs: int = 2, stop: Cancel | None = None, **options: Any) -> Answer:
        flag = stop or Cancel()
        try:
            options = {"told": self.said.append, **options}
            return ask(self.folder, wires, Options(jobs, **options), flag)
        finally:
            if stop is None:
                flag.close()

    def texts(self, answer: Answer, wire: str) -> list[str]:
        values = answer.wires[wire]
        with_paths(self.folder, values)
        return [Path(value["path"]).read_text() for value in values]

    def ran(self) -> list[str]:
        """Tasks whose programs ran since the last call, sorted."""
        found = sorted(self.log.read_text().split())
        self.log.write_text("")
        return found


def whys(answer: Answer) -> dict[str, str]:
    """Why each task was run, or would be; its first snapshot's reason."""
    found: dict[str, str] = {}
    for task, _, why in answer.made:
        found.setdefault(task, why)
    return found


def tasks_of(made: Sequence[tuple[str, int, str]]) -> list[str]:
    """The tasks that were run, each as often as it ran, sorted."""
    return sorted(task for task, _, _ in made)
