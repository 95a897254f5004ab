"""A Pipeline becomes a wiring with the files that it needs, and an honest list of what did not come along."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from koalja_fn.model import Place
from koalja_fn.pipelines.commands import Command, Names, command_of, placeholder, split_lines
from koalja_fn.pipelines.model import Pipeline, PipelineInput, PipelineOutput, PipelineTask
from koalja_fn.wiring import write
from koalja_fn.wiring.names import RESERVED, as_label, is_label, normalised

_TYPES = {
    "text": "text/plain",
    "csv": "text/csv",
    "json": "application/json",
    "xml": "application/xml",
    "html": "text/html",
    "yaml": "application/yaml",
    "png": "image/png",
    "jpeg": "image/jpeg",
    "binary": "application/octet-stream",
}
_WORD = re.compile(r"\w[\w.-]*", re.ASCII)
_FILE = re.compile(r"/[\w./-]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DROP = "FileDrop"
_EVERY = "1m"


@dataclass(frozen=True, slots=True)
class Loss:
    """What could not be carried over as it was: of what, what it was, and what to do about it."""

    of: str
    what: str
    cure: str
    place: Place


@dataclass(frozen=True, slots=True)
class Imported:
    """A folder to be written: its files, those that are programs, and what is lost."""

    name: str
    wiring: str
    programs: dict[str, str]
    folders: tuple[str, ...]
    losses: tuple[Loss, ...]


@dataclass
class _Names:
    """Names that are free and that the wiring takes; two that are the same on a cluster are told apart."""

    taken: set[str] = field(default_factory=set)

    def take(self, *wanted: str) -> str:
        """The first of these that is free, else the first with a number."""
        fit = [_fit(one) for one in wanted]
        numbered = (f"{fit[-1]}-{n}" for n in range(2, 1_000_000))
        chosen = next(one for one in (*fit, *numbered) if normalised(one) not in self.taken)
        self.taken.add(normalised(chosen))
        return chosen


def _fit(name: str) -> str:
    if _WORD.fullmatch(name) and is_label(name) and normalised(name) not in RESERVED:
        return name
    label = as_label(name)
    return f"{label[:57]}-wire" if label in RESERVED else label


def translate(pipeline: Pipeline, has: Callable[[str], bool] = lambda _: True) -> Imported:
    """The folder of a pipeline. `has` says whether a program, or another file, of an image is here, too."""
    return _Translation(pipeline, has).whole()


class _Translation:
    def __init__(self, pipeline: Pipeline, has: Callable[[str], bool]) -> None:
        self._pipeline = pipeline
        self._has = has
        self._losses: list[Loss] = []
        self._programs: dict[str, str] = {}
        self._dropping = [task for task in pipeline.tasks if task.type == _DROP and task.executor is None]
        self._wires: dict[tuple[str, str], str] = {}
        self._formats: dict[str, str] = {}
        self._statements: list[str] = []
        self._free = _Names()
        self._fed: dict[tuple[str, str], list[str]] = {}

    def whole(self) -> Imported:
        pipeline = self._pipeline
        name = as_label(pipeline.name)
        self._general(name)
        self._name_wires()
        names = _Names()
        tasks = [(task, names.take(task.name)) for task in pipeline.tasks if task not in self._dropping]
        for task in self._dropping:
            self._drop(task)
        for task, called in tasks:
            self._task(task, called)
        head = [f"# Imported from the Pipeline {pipeline.name or name}."]
        for of in ("", *(task.name for task in self._dropping)):
            head += _comments(self._losses, of)
        wires = [self._wire(wire) for wire in dict.fromkeys(self._formats)]
        text = "\n".join([*head, "", f"[{name}]", "", *self._statements, "", *wires])
        folders = tuple(f"{_folder(task)}" for task in self._dropping)
        return Imported(name, write(text), self._programs, folders, tuple(self._losses))

    def _general(self, name: str) -> None:
        pipeline = self._pipeline
        top = pipeline.tasks[0].place
        if pipeline.namespace and pipeline.namespace != "default":
            cure = f"koalja-fn deploy -n {pipeline.namespace}"
            self._lose("", f"the namespace {pipeline.namespace}", cure, top)
        if pipeline.name and pipeline.name != name:
            self._lose("", f"the name '{pipeline.name}': it is '{name}' now", "", top)
        for what, place in pipeline.besides:
            cure = "it stays outside of the circuit; keep it where it is needed"
            self._lose("", f"{what}, which is no part of a wiring", cure, place)

    def _name_wires(self) -> None:
        for task in self._pipeline.tasks:
            for output in task.outputs:
                wire = self._free.take(output.name, f"{task.name}-{output.name}")
                self._wires[task.name, output.name] = wire
                self._formats[wire] = self._pipeline.formats.get(output.type, "")
        for link in self._pipeline.links:
            self._fed.setdefault(link.destination, []).append(self._wires[link.source])
        for task in self._pipeline.tasks:
            for item in task.inputs:
                some = self._fed.setdefault((task.name, item.name), [])
                if len(some) > 1:
                    what = (
                        f"input '{item.name}' has {len(some)} links: all are merged, first come first served"
                    )
                    self._lose(task.name, what, "leave out those that were not meant", item.place)
                if not some:
                    wire = self._free.take(item.name, f"{task.name}-{item.name}")
                    some.append(wire)
                    self._formats[wire] = self._pipeline.formats.get(item.type, "")
                    what = f"input '{item.name}' has no link: wire {wire} is a source"
                    self._lose(task.name, what, f"koalja-fn send DIR {wire} FILE", item.place)

    def _drop(self, task: PipelineTask) -> None:
        """A task that took files from people is an in-tray."""
        for item in task.inputs:
            self._lose(task.name, f"input '{item.name}' of a FileDrop", "", item.place)
        if len(task.outputs) > 1:
            what = "a FileDrop with several outputs: the in-tray is that of the first"
            self._lose(task.name, what, "give the others a `from` of their own", task.place)

    def _wire(self, wire: str) -> str:
        """The statement about a wire, or nothing where there is nothing to say."""
        lines = []
        dropped = [t for t in self._dropping if t.outputs and self._wires[t.name, t.outputs[0].name] == wire]
        if dropped:
            lines.append(f"    from = {_folder(dropped[0])}/*")
        kind = _TYPES.get(self._formats[wire].lower())
        if kind:
            lines.append(f"    type = {kind}")
        return "\n".join([f"wire {wire}", *lines, ""]) if lines else ""

    def _task(self, task: PipelineTask, called: str) -> None:
        inputs, names = self._inputs(task)
        outputs = [self._wires[task.name, one.name] for one in task.outputs]
        lines = [f"    run = {self._run(task, called, names)}"]
        if task.policy == "SwapNew4Old":
            lines.append("    policy = swap")
        if not inputs:
            lines.append(f"    every = {_EVERY}")
            what = f"it has no inputs and said itself when there was something: it runs every {_EVERY} now"
            self._lose(task.name, what, "set `every`, or post values to its wire instead", task.place)
        lines += self._variables(task)
        self._other(task)
        triple = f"({', '.join(inputs)}) {called} ({', '.join(outputs)})"
        self._statements += ["", *_comments(self._losses, task.name), triple, *lines]

    def _inputs(self, task: PipelineTask) -> tuple[list[str], Names]:
        """The inputs as the wiring has them, and what commands call files."""
        found: list[str] = []
        called: dict[str, str] = {}
        used: dict[tuple[str, ...], str] = {}
        read: set[str] = set()
        free = _Names()
        for item in task.inputs:
            if item.merge_into:
                continue
            merged = [one for one in task.inputs if one.merge_into == item.name]
            wires = tuple(dict.fromkeys(w for one in (item, *merged) for w in self._fed[task.name, one.name]))
            if wires in used:
                what = f"input '{item.name}' reads the same as '{used[wires]}': the files are given once"
                self._lose(task.name, what, "", item.place)
                called[item.name] = called[used[wires]]
                continue
            again = sorted(read.intersection(wires))
            if again:
                what = (
                    f"input '{item.name}' reads {', '.join(again)} once more: a task reads a wire once only"
                )
                self._lose(task.name, what, "copy the values to a wire of its own", item.place)
                wires = tuple(wire for wire in wires if wire not in read)
                if not wires:
                    called[item.name] = next(iter(called.values()))
                    continue
            read.update(wires)
            used[wires] = item.name
            called[item.name] = free.take(item.name)
            found.append(_item(wires, item, called[item.name], task.policy))
            self._lengths(task, item)
        return found, Names(called, {one.name: self._wires[task.name, one.name] for one in task.outputs})

    def _lengths(self, task: PipelineTask, item: PipelineInput) -> None:
        if item.slide is not None and task.policy != "SlidingWindow" and item.slide != item.least:
            what = f"slide: {item.slide} of '{item.name}', which {task.policy} did not look at, either"
            self._lose(task.name, what, f"[{item.most}/{item.slide}] if it was meant", item.place)

    def _run(self, task: PipelineTask, called: str, names: Names) -> str:
        file = f"{called}.sh"
        command = self._command(task, names, file)
        self._programs.update(command.files)
        if command.why:
            what = f"image {task.executor.image}" if task.executor else f"type {task.type}"
            cure = f"put the program into {file}, which says what belongs there, or change `run`"
            self._lose(task.name, f"its program ({what}): {command.why}", cure, task.place)
        elif task.executor is not None:
            what = f"image {task.executor.image}: its command is run as it is, with what is on PATH here"
            cure = "install what it calls, or add requirements.txt, package.json or a Procfile"
            self._lose(task.name, what, cure, task.executor.place)
            for path in self._files_of_image(task):
                self._lose(
                    task.name, f"{path}, which is in the image only", "put it here", task.executor.place
                )
        return command.run

    def _files_of_image(self, task: PipelineTask) -> list[str]:
        """Files that the command names by their whole path, and that are not here."""
        words = (*task.executor.command[1:], *task.executor.args) if task.executor else ()
        return [word for word in words if _FILE.fullmatch(word) and not self._has(word)]

    def _command(self, task: PipelineTask, names: Names, file: str) -> Command:
        if task.executor is not None:
            if task.type:
                self._lose(task.name, f"type {task.type} beside its executor", "", task.place)
            return command_of(task, names, file, self._has)
        if task.type == "FileSplit" and len(names.outputs) == 1 and len(set(names.inputs.values())) == 1:
            return split_lines(names, file)
        known = {"FileSplit", "JSONQuery", "REST", "DBQuery"}
        of = "an executor of the pipeline system" if task.type in known else "an executor that is not known"
        return placeholder(task, names, file, of)

    def _variables(self, task: PipelineTask) -> list[str]:
        lines = []
        place = task.executor.place if task.executor else task.place
        for name, value in task.executor.env if task.executor else ():
            if not _VARIABLE.fullmatch(name) or "\n" in value or value != value.strip() or " #" in value:
                self._lose(
                    task.name, f"the variable {name or '(without a name)'}", "set it in the program", place
                )
            else:
                lines.append(f"    env.{name} = {value}")
        return lines

    def _other(self, task: PipelineTask) -> None:
        """What a task says beside its wires and its command."""
        for what in task.executor.left if task.executor else ():
            cure = "secrets stay with the program: read a file, or ask a service"
            place = task.executor.place if task.executor else task.place
            self._lose(task.name, f"{what} of its container", cure if "valueFrom" in what else "", place)
        if task.launch == "Restart":
            what = "launchPolicy Restart: what runs goes on to its end when a new snapshot forms"
            self._lose(
                task.name, what, "policy = swap skips what is out of date before it starts", task.place
            )
        if task.launch == "Custom" and task.inputs:
            what = "launchPolicy Custom: it is started for each snapshot, and asks nobody for the next"
            self._lose(task.name, what, "take the files from the command line", task.place)
        for port in task.ports:
            what = f"service port {port}"
            cure = (
                f"make it a service: ({', '.join(i.name for i in task.inputs)}) {task.name} (NAME implicit)"
            )
            self._lose(task.name, what, cure, task.place)
        for output in task.outputs:
            self._output(task, output)

    def _output(self, task: PipelineTask, output: PipelineOutput) -> None:
        if output.ready == "Auto":
            what = (
                f"ready: Auto of '{output.name}': its values appear when the program has ended, all at once"
            )
            self._lose(task.name, what, "", output.place)
        if task.executor is not None:
            for key, _ in output.options:
                self._lose(task.name, f"option {key} of '{output.name}'", "", output.place)
        given = self._pipeline.formats.get(output.type, "")
        if given and given.lower() not in _TYPES:
            what = f"format {given} of type {output.type}"
            cure = f"wire {self._wires[task.name, output.name]} with type = TYPE/SUBTYPE"
            self._lose(task.name, what, cure, output.place)

    def _lose(self, of: str, what: str, cure: str, place: Place) -> None:
        self._losses.append(Loss(of, what, cure, place))


def _item(wires: tuple[str, ...], item: PipelineInput, called: str, policy: str) -> str:
    """An input as it stands between brackets."""
    text = f"({' + '.join(wires)})" if len(wires) > 1 else wires[0]
    if item.least < item.most:
        text += f"[{item.least}-{item.most}]"
    elif policy == "SlidingWindow" and (slide := item.slide or 1) != item.most:
        text += f"[{item.most}/{slide}]"
    elif item.most > 1:
        text += f"[{item.most}]"
    return text if called == wires[0] else f"{text} as {called}"


def _folder(task: PipelineTask) -> str:
    return as_label(task.name)


def _comments(losses: Iterable[Loss], of: str) -> list[str]:
    """What did not come along, as comments."""
    found = []
    for loss in losses:
        if loss.of == of:
            found.append(f"# Not carried over: {_one_line(loss.what)}")
            found += [f"#   try: {_one_line(loss.cure)}"] if loss.cure else []
    return found


def _one_line(text: str) -> str:
    return " ".join(text.split())
