"""`make` in several folders that share a registry and a store: what one has made the others find."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from workshop import Workshop

from koalja_fn.commands import main
from koalja_fn.local.opening import open_registry, shared
from koalja_fn.pull.asking import Answer
from koalja_fn.registry import making
from tests.aws.localstack import shared as localstack
from tests.postgres.schemas import empty_registry

WIRING = """[w]
(a) first (b)
    run = ./copy {a} {out.b}
(b) second (c)
    run = ./copy {b} {out.c}
wire a
    from = src/*.txt
"""


@pytest.fixture(params=["files", "servers"])
def home(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """What the environment names: SQLite and a folder, or PostgreSQL and a bucket."""
    if request.param == "files":
        named = {"KOALJA_REGISTRY": f"sqlite:{tmp_path}/shared.db", "KOALJA_STORE": f"{tmp_path}/objects"}
        yield _set(monkeypatch, named)
        return
    stack = localstack()
    with empty_registry() as registry:
        named = {
            "KOALJA_REGISTRY": registry,
            "KOALJA_STORE": f"s3://{stack.bucket()}/made",
            "AWS_ENDPOINT_URL_S3": stack.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "KOALJA_CACHE": f"{tmp_path}/cache",
        }
        yield _set(monkeypatch, named)


def _set(monkeypatch: pytest.MonkeyPatch, named: dict[str, str]) -> dict[str, str]:
    for name, text in named.items():
        monkeypatch.setenv(name, text)
    return named


@pytest.fixture
def shops(tmp_path: Path) -> tuple[Workshop, Workshop]:
    """Two checkouts of one circuit, in folders of different names."""
    first, second = Workshop(tmp_path / "here", WIRING), Workshop(tmp_path / "over/there", WIRING)
    second.log = first.log  # it is part of the programs, which are the same
    for shop in (first, second):
        shop.program("copy", 'cat "$1" > "$2"')
        shop.source("src/a.txt", "one")
        shop.source("src/b.txt", "two")
    return first, second


def _ids(answer: Answer, wire: str) -> list[str]:
    return [value["id"] for value in answer.wires[wire]]


@pytest.mark.usefixtures("home")
def test_what_one_checkout_made_the_other_finds(shops: tuple[Workshop, Workshop]) -> None:
    here, there = shops
    made = here.make()
    assert here.ran() == ["first", "first", "second", "second"]
    found = there.make()
    assert (found.made, found.cached, there.ran()) == ([], 4, [])
    assert _ids(found, "c") == _ids(made, "c")
    assert there.texts(found, "c") == ["one", "two"]
    assert there.make().unchanged
    there.source("src/b.txt", "three")
    assert [(task, number) for task, number, _ in there.make().made] == [("first", 2), ("second", 2)]
    assert here.make().unchanged  # its files are as they were
    for shop in shops:
        assert not (shop.folder / ".koalja/registry.db").exists()
        assert not (shop.folder / ".koalja/objects").exists()


def test_a_trail_answers_for_the_registry_that_it_was_left_for_and_for_no_other(
    home: dict[str, str], shops: tuple[Workshop, Workshop], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, _ = shops
    here.make()
    monkeypatch.delenv("KOALJA_REGISTRY")
    monkeypatch.delenv("KOALJA_STORE")
    alone = here.make()
    assert len(alone.made) == 4
    assert (here.folder / ".koalja/registry.db").exists()
    _set(monkeypatch, home)
    back = here.make()
    assert (back.unchanged, back.made, back.cached) == (False, [], 4)
    told = "".join(path.read_text() for path in (here.folder / ".koalja/make").iterdir())
    assert home["KOALJA_REGISTRY"] not in told  # it may have a password in it


@pytest.mark.usefixtures("home")
def test_questions_are_asked_of_what_is_shared_from_each_of_its_folders(
    shops: tuple[Workshop, Workshop],
) -> None:
    here, there = shops
    last = _ids(here.make(), "c")[0]
    folder = str(there.folder)
    assert _called("get", folder, last) == "one"
    assert "src/a.txt" in _called("trace", folder, last)
    assert _called("why", folder, last)
    both = _ids(here.make(), "c")
    assert "has other bytes" in _called("diff", "-C", folder, *both, status=1)
    assert "not installed" in _called("recompute", folder, status=7)  # `make` wires nothing up
    assert not (there.folder / ".koalja").exists()
    said = json.loads(_called("make", folder, "--publish", "-q", "-o", "json"))
    assert (said["made"], said["cached"]) == ([], 4)
    assert json.loads(_called("make", folder, "--publish", "-q", "-o", "json"))["cached"] == 4
    assert "(outside)" in _called("list", "wires")


def test_two_at_once_break_nothing(home: dict[str, str], shops: tuple[Workshop, Workshop]) -> None:
    tasks = [f"t{n}" for n in range(6)]
    for shop in shops:
        lines = [f"(a) {task} (o-{task})\n    run = ./copy {{a}} {{out.o-{task}}}" for task in tasks]
        shop.wire("\n".join(["[w]", *lines, "wire a", "    from = src/*.txt\n"]))
    words = [sys.executable, "-m", "koalja_fn", "make", "-q", "-o", "json", "-j", "2"]
    started = [
        subprocess.Popen(
            [*words, shop.folder],
            env={**os.environ, **home},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for shop in shops
    ]
    said = [process.communicate(timeout=90) for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    here, there = (json.loads(out) for out, _ in said)
    assert _without_paths(here["wires"]) == _without_paths(there["wires"])
    assert len(here["made"]) + len(there["made"]) == len(shops[0].ran()) == 12  # none of them twice
    named = shared()
    assert named is not None
    registry = open_registry(named)
    for some in here["wires"].values():
        for value in some:
            known = registry.read(lambda tx, of=value["id"]: making.values_like(tx, of, 2))  # type: ignore[misc]
            assert [one.digest for one, _ in known] == [value["digest"]]
    assert registry.read(
        lambda tx: tx.all("SELECT number FROM make_run WHERE ended > 0 ORDER BY number")
    ) == [
        (1,),
        (2,),
    ]
    registry.close()


_RUN = """
import sys
from koalja_fn.pull import claims
claims.SECONDS = 2.0
from koalja_fn.commands import main
main(["make", "-j", "2", sys.argv[1]])
"""


@pytest.mark.parametrize("end", ["by itself", "killed"])
def test_of_two_that_want_the_same_one_makes_it_and_the_other_waits(
    home: dict[str, str], shops: tuple[Workshop, Workshop], tmp_path: Path, end: str
) -> None:
    began, go = tmp_path / "began", tmp_path / "go"
    for shop in shops:
        shop.program("copy", f'touch {began}; until test -e {go}; do sleep 0.02; done; cat "$1" > "$2"')
        (shop.folder / "src/b.txt").unlink()
    environ = {**os.environ, **home}

    def make(shop: Workshop) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", _RUN, str(shop.folder)]
        return subprocess.Popen(
            words, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    first = make(shops[0])
    until = time.monotonic() + 60
    while not began.exists():
        assert first.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    second = make(shops[1])
    assert second.stderr is not None
    assert second.stderr.readline() == "first: it was never made\n"
    if end == "killed":
        first.kill()
    go.touch()
    told = [process.communicate(timeout=90)[1] for process in (first, second)]
    assert second.returncode == 0, told
    # A runner that is killed leaves its program behind, which had begun: it runs twice, and is kept once.
    assert shops[0].ran() == (["first", "second"] if end == "by itself" else ["first", "first", "second"])
    if end == "killed":
        assert "2 made" in told[1]
    else:
        assert first.returncode == 0, told
    assert _nothing_is_begun()


def _nothing_is_begun() -> bool:
    named = shared()
    assert named is not None
    with closing(open_registry(named)) as registry:
        return registry.read(lambda tx: tx.all("SELECT id FROM begun")) == []


def _without_paths(wires: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    return {
        wire: [{name: of for name, of in value.items() if name != "path"} for value in some]
        for wire, some in wires.items()
    }


def _called(*words: str, status: int = 0) -> str:
    done = CliRunner().invoke(main, list(words))
    assert done.exit_code == status, done.output
    return done.output if status else done.stdout
