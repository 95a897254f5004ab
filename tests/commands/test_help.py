"""Help: an example for each verb, and nothing heavy before it is shown."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from koalja_fn.commands import VERBS, main

OURS = {"koalja_fn.engine", "koalja_fn.registry", "koalja_fn.store", "koalja_fn.wiring", "sqlite3"}
HEAVY = {
    "cloudevents",
    "flask",
    "hypothesis",
    "lark",
    "pydantic",
    "rich",
    "koalja_fn.web",
    "watchfiles",
    "werkzeug",
}


def loaded(*args: str) -> set[str]:
    """The heavy modules that a call has imported."""
    code = (
        "import sys\nfrom koalja_fn.commands import main\n"
        "try:\n    main(sys.argv[1:], prog_name='koalja-fn')\n"
        "finally:\n    print(*sys.modules, file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return (HEAVY | OURS) & set(done.stderr.split())


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_help_with_an_example(verb: str) -> None:
    done = CliRunner().invoke(main, [verb, "--help"])
    assert done.exit_code == 0, done.output
    examples = done.output.split("Examples:")
    assert len(examples) == 2, done.output
    assert f"koalja-fn {verb}" in examples[1] or f"koalja-fn init demo && koalja-fn {verb}" in examples[1]


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_says_the_same_in_one_line_and_at_length(verb: str) -> None:
    command = main.get_command(click.Context(main), verb)
    assert command is not None
    assert command.help
    assert VERBS[verb][1].endswith(".")
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{verb} {parameter.opts[0]} has no help"


def test_the_commands_help_lists_all_verbs_and_exit_statuses() -> None:
    done = CliRunner().invoke(main, ["--help"])
    for verb, (_, line) in VERBS.items():
        assert f"  {verb} " in done.output
        assert line.rstrip(".").split()[0] in done.output
    assert "Exit status:" in done.output
    assert "koalja-fn init demo && koalja-fn run --once demo" in done.output


def test_help_imports_nothing_heavy() -> None:
    assert loaded("--help") == set()
    assert loaded("--version") == set()


@pytest.mark.parametrize("verb", VERBS)
def test_a_verbs_help_imports_nothing_heavy(verb: str) -> None:
    assert loaded(verb, "--help") <= OURS


def test_a_mistyped_verb_is_guessed() -> None:
    done = CliRunner().invoke(main, ["rnu"])
    assert done.exit_code == 2
    assert "Did you mean 'run'?" in done.output


def test_a_mistyped_option_is_guessed() -> None:
    done = CliRunner().invoke(main, ["run", "--onse"])
    assert done.exit_code == 2
    assert "--once" in done.output


def test_interrupted_before_the_verb_is_there_it_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing a verb takes a moment on a busy machine, and so does finding a cluster."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(type(main), "get_command", interrupted)
    result = CliRunner().invoke(main, ["list"])
    assert (result.exit_code, result.output) == (130, "")
