"""Every example of docs/program.md is run as it stands there."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from koalja_fn.model import Input, Output, Task
from koalja_fn.program.locating import Locator

from .conftest import Bench, outputs

PAGE = Path(__file__).parents[2] / "docs" / "program.md"
EXAMPLE = re.compile(r"<!-- example: (.*?) -->\n(?:```\w+\n(.*?)```)?", re.DOTALL)


@dataclass
class Example:
    run: str
    program: str
    inputs: dict[str, list[bytes]]
    gives: dict[str, list[bytes]]
    says: dict[str, str]


def texts(part: str) -> list[str]:
    return [word.encode().decode("unicode_escape") for word in shlex.split(part.replace("\\", "\\\\"))]


def examples() -> list[Example]:
    found = []
    for notes, program in EXAMPLE.findall(PAGE.read_text()):
        run, *parts = re.split(r"; (?=\w+ = |gives |says )", notes.removeprefix("run = "))
        example = Example(run, program, {}, {}, {})
        for part in parts:
            words = part.split(" = ", 1)
            if part.startswith("gives "):
                if len(words) == 2:
                    example.gives[words[0][6:]] = [t.encode() for t in texts(words[1])]
            elif part.startswith("says "):
                example.says[words[0][5:]] = texts(words[1])[0]
            else:
                example.inputs[words[0]] = [t.encode() for t in texts(words[1])]
        found.append(example)
    return found


def test_the_page_has_examples_in_three_languages() -> None:
    page = PAGE.read_text()
    assert len(examples()) >= 9
    assert all(word in page for word in ("```sh", "```python", "awk"))


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.run)
def test_an_example_of_the_page_does_what_it_says(bench: Bench, example: Example) -> None:
    if example.program:
        program = bench.folder / example.run.split()[0]
        program.write_text(example.program)
        if example.program.startswith("#!"):
            program.chmod(0o755)
    wires = tuple(example.gives) or ("only",)
    task = Task(
        "example",
        tuple(Input(name, (name,)) for name in example.inputs),
        tuple(Output(wire) for wire in wires),
        run=example.run,
    )
    command = Locator(bench.folder).locate(task).command
    result = bench.call(*command, inputs=example.inputs, outputs=wires)
    assert outputs(result) == example.gives, result
    assert {s.kind: s.text for s in result.signposts} == example.says
