"""Concrete syntax to model: what each word means by itself.

Finds what is wrong inside one statement (names, values, marks) and what is said twice. What is
wrong between statements is for `checks`, which look at the draft that is made here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from koalja_fn.model import Buffer, Circuit, Input, Output, Policy, Task, Wire
from koalja_fn.wiring.attributes import TASK, WIRE
from koalja_fn.wiring.findings import Notebook
from koalja_fn.wiring.lines import Attributes, read_lines
from koalja_fn.wiring.names import LONGEST, RESERVED, as_label, is_label, normalised
from koalja_fn.wiring.syntax import Item, Kind, Line, Statement, Syntax, Word, rule_name
from koalja_fn.wiring.values import BadValue, read_buffer


@dataclass(slots=True)
class TaskDraft:
    """A task, the statement that it comes from, and its own attribute lines (no defaults)."""

    task: Task
    statement: Statement
    name: Word
    own: dict[str, Line]


@dataclass(slots=True)
class Draft:
    """A circuit as far as it could be understood; `partial` if a statement could not be read."""

    circuit: Circuit
    tasks: list[TaskDraft]
    own: dict[str, Line]
    wires: dict[str, dict[str, Line]]
    partial: bool


def understand(syntax: Syntax, notebook: Notebook, default_name: str) -> Draft:
    """The draft of a circuit; what is wrong goes into the notebook."""
    return _Meaning(notebook, partial=bool(notebook.findings)).draft(syntax, default_name)


class _Meaning:
    def __init__(self, notebook: Notebook, *, partial: bool) -> None:
        self.notebook = notebook
        self.partial = partial
        self.spellings: dict[str, dict[str, Word]] = {"task": {}, "wire": {}}
        self.wires: dict[str, Wire] = {}

    def draft(self, syntax: Syntax, default_name: str) -> Draft:
        headers = [s for s in syntax.statements if s.kind is Kind.HEADER]
        defaults, name = self._header(headers, syntax.statements, default_name)
        tasks: dict[str, TaskDraft] = {}
        stated: dict[str, Statement] = {}
        for statement in syntax.statements:
            if statement.kind is Kind.WIRE:
                assert statement.name is not None
                if statement.name.text in stated:
                    self._twice(
                        f"wire {statement.name.text}", statement.name, stated[statement.name.text].first
                    )
                else:
                    stated[statement.name.text] = statement
            elif statement.kind is not Kind.HEADER:
                draft = self._task(statement, defaults)
                if draft is None:
                    self.partial = True
                elif draft.task.name in tasks:
                    cure = "give each task a name of its own"
                    if statement.kind is Kind.RULE:
                        cure = f"add a line `task = NAME`: without it the task is called {draft.task.name}"
                    self._twice(f"task {draft.task.name}", draft.name, tasks[draft.task.name].name, cure)
                else:
                    tasks[draft.task.name] = draft
        lines = {wire: self._wire(statement) for wire, statement in stated.items()}
        circuit = Circuit(name, tuple(d.task for d in tasks.values()), self.wires, self.notebook.file)
        return Draft(circuit, list(tasks.values()), defaults.lines, lines, self.partial)

    def _twice(self, what: str, at: Word, before: Word, cure: str = "drop one of the two") -> None:
        self.notebook.error("twice", f"{what} is already there in line {before.line}", at, cure)

    def _header(
        self, headers: list[Statement], statements: list[Statement], default_name: str
    ) -> tuple[Attributes, str]:
        if not headers:
            return Attributes(), as_label(default_name)
        first, *others = headers
        assert first.name is not None
        for other in others:
            self.notebook.error(
                "second-circuit", "a file holds one circuit", other.first, "move it to a file of its own"
            )
        if first is not statements[0]:
            self.notebook.error(
                "layout", "the circuit's name comes after other statements", first.first, "move it to the top"
            )
        self._label("circuit", first.name)
        return read_lines(first, TASK, WIRE, "under `wire NAME`", self.notebook), first.name.text

    # Tasks

    def _task(self, statement: Statement, defaults: Attributes) -> TaskDraft | None:
        name = statement.name if statement.kind is Kind.TRIPLE else self._rule_name(statement)
        own = read_lines(statement, TASK, WIRE, "under `wire NAME`", self.notebook)
        if name is None:
            return None
        self._name("task", name)
        values = {**defaults.values, **own.values}
        policy = values.get("policy", Policy.ALL_NEW)
        shared = self._group_buffer(statement, policy)
        members = [i for i in statement.inputs if not {"passive", "implicit"} & {w.text for w in i.words}]
        merged = policy is Policy.MERGE and len(members) > 1
        inputs = [self._input(item, shared, merged=merged) for item in statement.inputs]
        outputs = [self._output(item) for item in statement.outputs]
        task = Task(
            name=name.text,
            inputs=tuple(i for i in inputs if i is not None),
            outputs=tuple(o for o in outputs if o is not None),
            env=tuple(sorted({**defaults.env, **own.env}.items())),
            place=self.notebook.place(name),
            **values,
        )
        return TaskDraft(task, statement, name, own.lines)

    def _rule_name(self, statement: Statement) -> Word | None:
        line = statement.line("task")
        if line is not None:
            return line.value
        name = rule_name(statement)
        if name is None:
            self.notebook.error(
                "no-name",
                "this rule has no output and its command names no file: the task has no name",
                statement.first,
                "add a line: task = NAME",
            )
            return None
        return Word(name, statement.first.line, statement.first.column)

    def _group_buffer(self, statement: Statement, policy: Policy) -> Buffer | None:
        group = statement.group
        if group is None:
            return None
        for word in (*group.words, *group.aliases):
            self.notebook.error(
                "misplaced", f"'{word.text}' says nothing about a whole group", word, "write it at the inputs"
            )
        if not group.buffers:
            return None
        if policy is not Policy.MERGE and len(statement.inputs) > 1:
            self.notebook.error(
                "group-buffer",
                "only merged inputs have a buffer in common",
                group.buffers[0],
                "add policy = merge, or write the buffer at each input",
            )
        return self._buffer(group.buffers)

    def _input(self, item: Item, shared: Buffer | None, *, merged: bool) -> Input | None:
        if item.members:
            first = item.members[0].wires[0]
            self.notebook.error(
                "group", "a list inside the inputs is no input", first, "merge wires with +: (a + b)"
            )
            self.partial = True
            return None
        for wire in item.wires:
            self._wire_name(wire)
        words = {word.text for word in self._words(item)}
        name = self._alias(item) or item.wires[0]
        passive = "passive" in words
        buffer = self._buffer(item.buffers)
        if shared is not None and not passive and "implicit" not in words:
            if item.buffers:
                self._member_buffer(item.buffers[0])
            buffer = shared
        elif merged and item.buffers and not passive:
            self._member_buffer(item.buffers[0])
        return Input(
            name=name.text,
            wires=tuple(w.text for w in item.wires),
            buffer=buffer,
            passive=passive,
            implicit="implicit" in words,
            ordered="ordered" in words,
            place=self.notebook.place(item.wires[0]),
        )

    def _member_buffer(self, buffer: Word) -> None:
        self.notebook.error(
            "merge-buffer",
            "merged inputs have one window, so none of them has a buffer of its own",
            buffer,
            f"write it at the group: (a, b){buffer.text} task (out)",
        )

    def _words(self, item: Item) -> tuple[Word, ...]:
        seen: set[str] = set()
        for word in item.words:
            if word.text in seen:
                self.notebook.error("twice", f"'{word.text}' is said twice", word, "drop one")
            seen.add(word.text)
        if "implicit" in seen and (item.buffers or len(seen) > 1 or len(item.wires) > 1):
            self.notebook.error(
                "implicit",
                f"'{item.wires[0].text}' is a service: it can't be buffered, merged, passive or ordered",
                item.wires[0],
                f"write: {item.wires[0].text} implicit",
            )
        return item.words

    def _alias(self, item: Item) -> Word | None:
        if not item.aliases:
            return None
        if len(item.aliases) > 1:
            self.notebook.error("twice", "an input has one name", item.aliases[1], "keep one `as`")
        self._label("input", item.aliases[0])
        return item.aliases[0]

    def _buffer(self, buffers: tuple[Word, ...]) -> Buffer:
        if not buffers:
            return Buffer()
        if len(buffers) > 1:
            self.notebook.error("twice", "an input has one buffer", buffers[1], "drop one")
        try:
            return read_buffer(buffers[0].text)
        except BadValue as bad:
            self.notebook.error("bad-buffer", bad.message, buffers[0], bad.cure)
            size = max([1, *(int(n) for n in re.findall(r"\d{1,9}", buffers[0].text))])
            return Buffer(size, size, size)

    def _output(self, item: Item) -> Output | None:
        if item.members or len(item.wires) > 1:
            first = (item.members[0] if item.members else item).wires[0]
            self.notebook.error(
                "misplaced", "outputs are not merged", first, "write them one by one: task (a, b)"
            )
            self.partial = True
            return None
        for mark in (*item.marks, *item.aliases):
            if mark.text != "implicit":
                self.notebook.error(
                    "misplaced", f"'{mark.text}' belongs to inputs, not to an output", mark, "drop it"
                )
        self._wire_name(item.wires[0])
        implicit = any(m.text == "implicit" for m in item.marks)
        return Output(item.wires[0].text, implicit, self.notebook.place(item.wires[0]))

    # Names

    def _wire_name(self, word: Word) -> None:
        if word.text not in self.wires:
            self._name("wire", word)
            self.wires[word.text] = Wire(word.text, place=self.notebook.place(word))

    def _name(self, kind: str, word: Word) -> None:
        self._label(kind, word)
        known = self.spellings[kind].setdefault(normalised(word.text), word)
        if known.text != word.text:
            self.notebook.error(
                "same-name",
                f"'{word.text}' and '{known.text}' (line {known.line}) are one name: case, _, . don't count",
                word,
                f"write '{known.text}' in both places, or choose another name",
            )

    def _label(self, kind: str, word: Word) -> None:
        if word.text in RESERVED:
            self.notebook.error(
                "reserved", f"'{word.text}' is a reserved word", word, f"choose another {kind} name"
            )
        elif not is_label(word.text):
            too_long = len(word.text) > LONGEST
            why = f"longer than {LONGEST} characters" if too_long else "no DNS label"
            shown = word.text if not too_long else word.text[:20] + "…"
            self.notebook.error(
                "bad-name",
                f"the {kind} name '{shown}' is {why}",
                word,
                f"use letters, digits and hyphens, such as '{as_label(word.text)}'",
            )

    # Attributes

    def _wire(self, statement: Statement) -> dict[str, Line]:
        assert statement.name is not None
        found = read_lines(statement, WIRE, TASK, "under a task", self.notebook)
        name = statement.name
        if name.text not in self.wires:
            self._name("wire", name)
        else:
            name = Word(name.text, name.line, name.column)
        self.wires[name.text] = Wire(name.text, place=self.notebook.place(name), **found.values)
        return found.lines
