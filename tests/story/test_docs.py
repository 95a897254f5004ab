"""docs/stories.md shows what the verbs print."""

import re
import shlex
import time
from pathlib import Path

import pytest
from builder import weather
from click.testing import CliRunner

from koalja_fn.commands import main

PAGE = Path(__file__).parents[2] / "docs" / "stories.md"
BLOCKS = re.findall(r"```console\n\$ koalja-fn (.*)\n((?:.*\n)*?)```", PAGE.read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("weather")
    weather(made).registry.close()
    return made


@pytest.fixture(autouse=True)
def in_greenwich(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(("command", "output"), BLOCKS, ids=[command for command, _ in BLOCKS])
def test_the_page_shows_what_is_printed(folder, monkeypatch, command, output):
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(main, shlex.split(command))
    assert result.exit_code == 0
    assert result.stdout == output


def test_every_story_is_on_the_page():
    assert {command.split()[0] for command, _ in BLOCKS} == {
        "trace",
        "visits",
        "log",
        "map",
        "list",
        "failures",
    }
