"""A container that works alone: a session of the local engine over a registry and a store of its own.

`POST /` takes a CloudEvent or raw bytes for the task's only source, `POST /CIRCUIT/WIRE` for any wire. The
answer is 202 without a body once the value is durable: a body would be taken for a reply event by
a Knative broker. Errors are JSON with what, why and cure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

from koalja_fn.engine.installing import install
from koalja_fn.errors import NotFound
from koalja_fn.local.serving import Express, entry, problem
from koalja_fn.local.session import Session, Talk
from koalja_fn.local.workplace import Workplace
from koalja_fn.registry import Registry
from koalja_fn.store import FileStore
from koalja_fn.web import Answer
from koalja_runtime import noting, telling
from koalja_runtime.settings import Settings

_LAYERS_UP = 5  # LAYERS/koalja_function/runtime/python/koalja_runtime/alone.py


class Alone:
    """An open task as a WSGI application."""

    def __init__(self, workplace: Workplace) -> None:
        self._workplace = workplace
        self._session = Session(workplace, Talk(telling.ended, telling.trouble), jobs=4)
        self._app = entry(
            self._session.intake, spool=workplace.state / "spool", hosts=None, ghosts=self._session.ghosts
        )
        sources = workplace.plan.circuit.sources
        self.express = Express(
            self._session.intake,
            hosts=None,
            told=lambda _: Answer(202),
            root=sources[0] if len(sources) == 1 else None,
        )
        self._session.start()

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Open what the image holds, with its state below $KOALJA_STATE."""
        app = Path.cwd()
        layers = Path(__file__).resolve().parents[_LAYERS_UP - 1]
        found = noting.opened(app, layers)
        state = Path(settings.state)
        state.mkdir(parents=True, exist_ok=True)
        (state / "spool").mkdir(exist_ok=True)
        registry = Registry(state / "registry.db")
        assert found.circuit is not None
        circuit = found.circuit
        done = registry.transact(
            lambda tx: install(tx, registry.clock(), circuit, found.folder, found.located, "")
        )
        store = FileStore(state / "objects")
        if registry.file is not None:
            store.join(registry.file)
        return cls(Workplace(found, found.folder, state, registry, store, done.plan, done.changes))

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Take a value; `/` means the only source."""
        circuit = self._workplace.plan.circuit
        if environ["REQUEST_METHOD"] == "POST" and environ.get("PATH_INFO", "/") in ("", "/"):
            if len(circuit.sources) != 1:
                names = ", ".join(circuit.sources) or "none"
                error = NotFound(
                    "which wire is meant?", why=f"sources: {names}", cure=f"POST to /{circuit.name}/WIRE"
                )
                return _told(error, start_response)
            environ = {**environ, "PATH_INFO": f"/{circuit.name}/{circuit.sources[0]}"}
        return self._answered(environ, start_response)

    def _answered(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        said: list[Any] = []

        def note(status: str, headers: list[tuple[str, str]], *_: Any) -> Callable[[bytes], None]:
            said[:] = [status, headers]
            return lambda _data: None

        body = b"".join(self._app(environ, note))
        status, headers = said
        if environ["REQUEST_METHOD"] == "POST" and status.startswith("2"):
            start_response("202 Accepted", [("Content-Length", "0")])
            return []
        start_response(status, headers)
        return [body]

    def drain(self) -> None:
        """Nothing: values are durable before they are answered, and wait for the next start."""

    def give_back(self) -> None:
        """Nothing: closing gives back."""

    def close(self) -> None:
        """End programs, give back what they had claimed, close files."""
        self._session.stop()
        self._workplace.store.close()
        self._workplace.registry.close()


def _told(error: NotFound, start_response: Callable[..., Any]) -> list[bytes]:
    data = json.dumps(problem(404, error.what, error.why, error.cure)).encode()
    start_response(
        "404 Not Found", [("Content-Type", "application/json"), ("Content-Length", str(len(data)))]
    )
    return [data]
