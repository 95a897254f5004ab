"""docs/events.md: what it shows is run, what it says about limits and answers is compared."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from koalja_fn import events
from koalja_fn.local.serving import Server, entry
from koalja_fn.local.workplace import open_workplace

DOCUMENT = (Path(__file__).parents[2] / "docs" / "events.md").read_text()


@pytest.mark.skipif(shutil.which("curl") is None, reason="the examples need curl: install it")
def test_the_examples_work(tmp_path: Path):
    folder = tmp_path / "weather"
    folder.mkdir()
    (folder / "weather.koalja").write_text("[weather]\n(wind, photo) look (out)\n    run = cat {wind}\n")
    (tmp_path / "reading.json").write_text('{"speed": 12.5}')
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\r\n")
    blocks = re.findall(r"```sh\n(.*?)```", DOCUMENT, re.DOTALL)
    assert len(blocks) == 6
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with open_workplace(folder) as workplace:
        spool = workplace.state / "spool"
        server = Server(entry(workplace.intake(), spool=spool), spool=spool)
        server.start()
        state = {"url": server.url, "pid": os.getpid(), "circuit": "weather"}
        (workplace.state / "run.json").write_text(json.dumps(state))
        for block in blocks:
            script = block.replace("http://127.0.0.1:8080", server.url)
            done = subprocess.run(
                ["bash", "-euc", script], cwd=tmp_path, env={"PATH": path}, capture_output=True, text=True
            )
            assert done.returncode == 0, (script, done.stderr)
        rows = workplace.registry.read(lambda tx: tx.one("SELECT count(*) FROM value"))
        server.drain()
    assert rows is not None
    assert rows[0] == 6 + 2 + 1 + 1 + 2


def test_the_limits_are_those_of_the_code():
    limits = events.DEFAULT_LIMITS
    assert (limits.body, limits.document, limits.headers) == (1 << 30, 64 << 20, 64 << 10)
    for number in (limits.batch, limits.attributes, limits.name, limits.value, limits.total):
        assert f"{number:,}" in DOCUMENT
