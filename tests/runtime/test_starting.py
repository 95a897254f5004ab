"""How a runtime starts: what is imported before the first answer, and what its settings may be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from koalja_runtime.settings import Settings

from tests.runtime.broker import send
from tests.runtime.cluster import RUNTIME, Pod, wait_for

# Each of these costs more than the answer.
HEAVY = {
    "boto3",
    "botocore",
    "cloudevents",
    "flask",
    "lark",
    "psycopg",
    "psycopg_pool",
    "pydantic",
    "rich",
    "sqlite3",
    "waitress",
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
    assert not [name for name in modules if name.startswith("koalja_fn.")]


def test_the_codec_that_the_web_framework_looks_up_late_is_there_before_the_first_request() -> None:
    """Two first requests at a time may break its import, for ever: CPython remembers that it failed."""
    program = (
        f"import sys; sys.path.insert(0, {str(RUNTIME.parents[1])!r})\n"
        "from koalja_runtime import serving\n"
        "serving.Served = lambda _: type('S', (), {'run': lambda self: None})()\n"
        "serving.serve(None); print('encodings.idna' in sys.modules)\n"
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
