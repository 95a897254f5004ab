"""How a runtime starts: what is imported before the first answer, and what its settings may be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from koalja_runtime.settings import Settings

from koalja_fn.engine.installing import install
from koalja_fn.pack.collecting import NOTE, collect
from koalja_fn.program.folder import open_circuit
from koalja_fn.registry import Registry
from tests.runtime.broker import send
from tests.runtime.cluster import RUNTIME, Pod, wait_for

# Each of these costs more than the answer.
HEAVY = {
    "boto3",
    "botocore",
    "cloudevents",
    "flask",
    "gunicorn",
    "lark",
    "psycopg",
    "psycopg_pool",
    "pydantic",
    "rich",
    "sqlite3",
    "watchfiles",
    "click",
    "requests",
}
FIRST_ANSWER = """
import json, sys
sys.path.insert(0, {runtime!r})
import koalja_runtime.starting, koalja_runtime.serving
from koalja_runtime.front import Front
from koalja_runtime.settings import Settings
said = []
front = Front(Settings(role="task"))
request = {{"PATH_INFO": "/healthz", "REQUEST_METHOD": "GET"}}
front(request, lambda status, headers: said.append(status))
print(json.dumps([said, sorted(sys.modules)]))
"""


def test_nothing_heavy_is_imported_before_the_first_answer() -> None:
    program = FIRST_ANSWER.format(runtime=str(RUNTIME.parents[1]))
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    said, modules = json.loads(done.stdout)
    assert said == ["200 OK"]
    assert not HEAVY & {name.partition(".")[0] for name in modules}
    ours = {name for name in modules if name.startswith("koalja_fn.")}
    assert all(name.startswith("koalja_fn.web") for name in ours)


FIRST_DOORBELL = """
import json, os, sys
sys.path.insert(0, {runtime!r})
import koalja_runtime.starting, koalja_runtime.serving
from koalja_runtime.front import Front
from koalja_runtime.settings import Settings
said = []
front = Front(Settings.of(os.environ))
request = {{"PATH_INFO": "/", "REQUEST_METHOD": "POST", "HTTP_CE_TYPE": "dev.koalja.ring.v1"}}
front(request, lambda status, headers: said.append(status))
modules = sorted(sys.modules)
front({{"PATH_INFO": "/c/in", "REQUEST_METHOD": "POST", "wsgi.url_scheme": "http", "HTTP_HOST": "x"}},
      lambda status, headers, *_: said.append(status))
front.close()
print(json.dumps([said, modules]))
"""


def test_the_web_framework_is_not_imported_before_the_first_value(tmp_path: Path) -> None:
    """A task that only hears doorbells needs neither it nor what reads wiring or events."""
    app = tmp_path / "app"
    app.mkdir()
    (app / "c.koalja").write_text("[c]\n(in) task ()\n    run = /bin/true\n")
    found = open_circuit(app)
    assert found.circuit is not None
    task = found.circuit.task("task")
    assert task is not None
    (app / NOTE).parent.mkdir()
    (app / NOTE).write_text(json.dumps(collect(found, task).note))
    registry = Registry(tmp_path / "registry.db")
    circuit = found.circuit
    registry.transact(lambda tx: install(tx, registry.clock(), circuit, app, found.located, ""))
    registry.close()
    environ = {
        "PATH": os.environ["PATH"],
        "KOALJA_REGISTRY": f"sqlite:{tmp_path / 'registry.db'}",
        "KOALJA_STORE": f"file:{tmp_path / 'objects'}",
        "KOALJA_SCRATCH": str(tmp_path / "scratch"),
        "KOALJA_CIRCUIT": "c",
        "KOALJA_TASK": "task",
    }
    program = FIRST_DOORBELL.format(runtime=str(RUNTIME.parents[1]))
    done = subprocess.run(
        [sys.executable, "-I", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=environ,
        cwd=app,
    )
    said, modules = json.loads(done.stdout)
    assert said == ["202 Accepted", "411 LENGTH REQUIRED"], done.stderr
    late = HEAVY - {"sqlite3"} | {"werkzeug", "koalja_fn.events.reading"}
    assert late & ({name.partition(".")[0] for name in modules} | set(modules)) == set()


def test_the_codec_that_the_web_framework_looks_up_late_is_there_before_the_first_request() -> None:
    """Two first requests at a time may break its import, for ever: CPython remembers that it failed."""
    program = (
        f"import sys; sys.path.insert(0, {str(RUNTIME.parents[1])!r})\n"
        "from koalja_runtime import serving\n"
        "serving.keep = lambda *_: None\n"
        "serving.serve(serving.Settings(host='127.0.0.1', port=0)); print('encodings.idna' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"KOALJA_REGISTRY": "sqlite:/x", "KOALJA_ROLE": "chief"}, "KOALJA_ROLE"),
        ({"KOALJA_REGISTRY": "sqlite:/x", "KOALJA_ROLE": "task"}, "KOALJA_TASK"),
        ({"PORT": "http"}, "PORT"),
        ({"KOALJA_PLACES": "0"}, "KOALJA_PLACES"),
    ],
)
def test_a_wrong_setting_is_named_and_ends_it(environ: dict[str, str], told: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-I", str(RUNTIME)],
        env={"PATH": os.environ["PATH"], **environ},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 2
    assert told in done.stderr


def test_the_registrys_password_is_never_told(tmp_path: Path) -> None:
    environ = {
        "KOALJA_REGISTRY": "postgresql://koalja:hunter2@127.0.0.1:1/none",
        "KOALJA_ROLE": "entry",
        "KOALJA_CIRCUIT": "c",
        "KOALJA_STORE": f"file:{tmp_path}",
    }
    pod = Pod(tmp_path, environ, tmp_path / "pod")
    pod.start()
    try:
        pod.wait("/healthz")
        assert send(f"{pod.url}/c/in", b"x", {})[0] == 503
        wait_for(lambda: "while opening" in pod.log.read_text(), 60)
        assert "hunter2" not in pod.log.read_text()
    finally:
        pod.kill()


def test_a_request_ends_before_it_would_be_cut_off() -> None:
    assert Settings.of({}).working == 580
    assert Settings.of({"KOALJA_REQUEST_SECONDS": "10"}).working == 9
