"""The task behind the HTTP side: a session of the local engine over a registry and a store of its own."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

from koalja_fn.engine.executing import Executed
from koalja_fn.engine.installing import install
from koalja_fn.errors import NotFound
from koalja_fn.local.serving import entry, problem
from koalja_fn.local.session import Session, Talk
from koalja_fn.local.workplace import Workplace
from koalja_fn.registry import Registry
from koalja_fn.store import FileStore
from koalja_runtime import noting

_LAYERS_UP = 5  # LAYERS/koalja_function/runtime/python/koalja_runtime/working.py


class Worker:
    """An open task. `answer` is the WSGI application for values."""

    def __init__(self, workplace: Workplace) -> None:
        self._workplace = workplace
        self._session = Session(workplace, Talk(_ended, _trouble), jobs=4)
        self._app = entry(self._session.intake, spool=workplace.state / "spool", hosts=None)
        self._session.start()

    @classmethod
    def open(cls) -> Self:
        """Open what the image holds, with its state below $KOALJA_STATE."""
        app = Path.cwd()
        layers = Path(__file__).resolve().parents[_LAYERS_UP - 1]
        found = noting.opened(app, layers)
        state = Path(os.environ.get("KOALJA_STATE", "/tmp/koalja"))  # noqa: S108  a container's own
        state.mkdir(parents=True, exist_ok=True)
        (state / "spool").mkdir(exist_ok=True)
        registry = Registry(state / "registry.db")
        assert found.circuit is not None
        circuit = found.circuit
        done = registry.transact(
            lambda tx: install(tx, registry.clock(), circuit, found.folder, found.located, "")
        )
        store = FileStore(state / "objects")
        return cls(Workplace(found, found.folder, state, registry, store, done.plan, done.changes))

    def answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
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


def _ended(executed: Executed) -> None:
    ending = executed.ending
    _say(
        json.dumps(
            {
                "task": executed.claim.plan.name,
                "snapshot": executed.claim.id,
                "outcome": executed.outcome,
                "seconds": round(ending.seconds, 3),
                "message": ending.message,
                "values": [{"wire": v.wire, "id": v.id, "digest": v.digest} for v in ending.values],
            }
        )
    )


def _trouble(error: BaseException) -> None:
    _say(f"trouble: {error}")


def _say(text: str) -> None:
    sys.stderr.write(f"koalja: {text}\n")
    sys.stderr.flush()
