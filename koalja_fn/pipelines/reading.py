"""From YAML to a Pipeline: everything wrong with it at once, each with its place, as `check` tells it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from koalja_fn.errors import UsageError
from koalja_fn.model import Place
from koalja_fn.pipelines.model import (
    Executor,
    Pipeline,
    PipelineInput,
    PipelineLink,
    PipelineOutput,
    PipelineTask,
)
from koalja_fn.wiring.findings import Finding, Notebook
from koalja_fn.wiring.names import nearest

API = "koalja.aljabr.io/v1alpha1"
LIMIT = 4 << 20
_POLICIES = ("AllNew", "SwapNew4Old", "SlidingWindow")
_LAUNCHES = ("Auto", "Custom", "Restart")
_READY = ("Auto", "Succeeded")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_LONGEST = 1_000_000
_NULL = "tag:yaml.org,2002:null"
_TASK_KEYS = ("name", "type", "inputs", "outputs", "executor", "snapshotPolicy", "launchPolicy", "service")
_INPUT_KEYS = (
    "name",
    "typeRef",
    "requiredSequenceLength",
    "minSequenceLength",
    "maxSequenceLength",
    "slide",
    "mergeInto",
)


def read(text: str, *, file: str = "", name: str = "") -> tuple[Pipeline | None, tuple[Finding, ...]]:
    """The Pipeline of a file, or None; and all that is wrong with it. `name` chooses one of several.

    Raises:
        UsageError: PyYAML is not installed.
    """
    notebook = Notebook(file, text.split("\n"))
    documents = _documents(text, notebook)
    if notebook.findings:
        return None, notebook_findings(notebook)
    reader = _Reader(notebook)
    pipeline = reader.file(documents, name)
    found = notebook_findings(notebook)
    return (None if found else pipeline), found


def notebook_findings(notebook: Notebook) -> tuple[Finding, ...]:
    """What a notebook has, from the top of the file."""
    return tuple(sorted(notebook.findings, key=lambda f: (f.place.line, f.place.column)))


def _documents(text: str, notebook: Notebook) -> list[Any]:
    try:
        import yaml
    except ImportError as error:
        raise UsageError(
            "YAML can't be read", why="PyYAML is not installed", cure="pip install 'koalja-fn[cluster]'"
        ) from error
    top = Place(notebook.file, 1, 1)
    if len(text) > LIMIT:
        notebook.error("size", f"the file has more than {LIMIT >> 20} MiB", top, "a Pipeline is smaller")
        return []
    try:
        return [node for node in yaml.compose_all(text, Loader=yaml.SafeLoader) if node is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(notebook.file, mark.line + 1, mark.column + 1) if mark else top
        notebook.error(
            "yaml", f"this is no YAML: {error.problem}", place, "see the indentation and the quotes"
        )
    except (yaml.YAMLError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        notebook.error("yaml", f"this is no YAML: {why}", top)
    return []


class _Reader:
    """Reads nodes, and writes down what is wrong with them."""

    def __init__(self, notebook: Notebook) -> None:
        self._notebook = notebook

    def file(self, documents: Iterable[Any], name: str) -> Pipeline | None:
        pipelines: list[tuple[str, Any, dict[str, Any]]] = []
        besides: list[tuple[str, Place]] = []
        for document in documents:
            fields = self._mapping(document, "the document")
            kind, called = self._plain(fields.get("kind")), self._called(fields)
            if kind == "Pipeline" and self._plain(fields.get("apiVersion")).startswith("koalja.aljabr.io/"):
                pipelines.append((called, document, fields))
            elif document.value:
                besides.append((f"{kind or 'a document of no kind'} {called}".strip(), self._place(document)))
        chosen = [one for one in pipelines if one[0] == name] if name else pipelines
        if len(chosen) == 1:
            return self._pipeline(chosen[0][2], chosen[0][1], besides, pipelines)
        top = Place(self._notebook.file, 1, 1)
        names = ", ".join(one[0] or "?" for one in pipelines)
        if not pipelines:
            cure = f"it has `apiVersion: {API}` and `kind: Pipeline`"
            self._error("no-pipeline", "there is no Pipeline in this file", top, cure)
        elif name:
            self._error("no-pipeline", f"there is no Pipeline '{name}' in this file", top, f"one of: {names}")
        else:
            cure = f"choose one: --pipeline {pipelines[0][0]}"
            self._error(
                "several", f"the file has several Pipelines: {names}", self._place(chosen[1][1]), cure
            )
        return None

    def _called(self, fields: Mapping[str, Any]) -> str:
        metadata = fields.get("metadata")
        pairs = metadata.value if metadata is not None and isinstance(metadata.value, list) else []
        return next((self._plain(v) for k, v in pairs if self._plain(k) == "name"), "")

    def _pipeline(
        self,
        fields: Mapping[str, Any],
        document: Any,
        besides: list[tuple[str, Place]],
        pipelines: list[tuple[str, Any, dict[str, Any]]],
    ) -> Pipeline:
        version = self._plain(fields.get("apiVersion"))
        if version != API:
            self._error(
                "version", f"this is {version}, which is not known", fields["apiVersion"], f"only {API}"
            )
        metadata = self._mapping(fields.get("metadata"), "metadata")
        spec = self._mapping(fields.get("spec"), "spec")
        if "spec" not in fields:
            self._error("no-spec", "the Pipeline has no spec", document, "spec: with tasks, links and types")
        for where, some, known in (
            ("", fields, ("apiVersion", "kind", "metadata", "spec", "status")),
            ("metadata.", metadata, ("name", "namespace")),
            ("spec.", spec, ("tasks", "links", "types")),
        ):
            besides += [(f"{where}{key}", self._place(some[key])) for key in some if key not in known]
        besides += [
            (f"Pipeline {other}", self._place(node)) for other, node, _ in pipelines if node is not document
        ]
        formats = self._formats(spec.get("types"))
        tasks = tuple(
            self._task(self._mapping(node, "a task"), node, formats)
            for node in self._items(spec.get("tasks"), "tasks")
        )
        if not tasks:
            self._error("no-tasks", "the Pipeline has no tasks", spec.get("tasks") or document)
        self._unique(tasks, "task")
        links = tuple(
            link
            for node in self._items(spec.get("links"), "links")
            if (link := self._link(self._mapping(node, "a link"), node, tasks))
        )
        return Pipeline(
            self._plain(metadata.get("name")),
            self._plain(metadata.get("namespace")),
            tasks,
            links,
            formats,
            tuple(besides),
        )

    def _formats(self, node: Any) -> dict[str, str]:
        found: dict[str, str] = {}
        for one in self._items(node, "types"):
            fields = self._mapping(one, "a type")
            self._known(fields, ("name", "protocol", "format"), "a type")
            name = self._name(fields, one, "type")
            if name in found:
                self._error("twice", f"the type '{name}' is there twice", one)
            found[name] = self._text(fields.get("format"), "format")
        return found

    def _task(self, fields: Mapping[str, Any], node: Any, formats: Mapping[str, str]) -> PipelineTask:
        self._known(fields, _TASK_KEYS, "a task")
        name = self._name(fields, node, "task")
        policy = self._choice(fields, "snapshotPolicy", _POLICIES, "AllNew")
        inputs = tuple(
            self._input(self._mapping(one, "an input"), one, policy, formats, name)
            for one in self._items(fields.get("inputs"), "inputs")
        )
        outputs = tuple(
            self._output(self._mapping(one, "an output"), one, formats, name)
            for one in self._items(fields.get("outputs"), "outputs")
        )
        self._unique(inputs, f"input of task '{name}'")
        self._unique(outputs, f"output of task '{name}'")
        self._merges(inputs, name)
        if not inputs and not outputs:
            self._error(
                "no-wires", f"task '{name}' has neither inputs nor outputs", node, "give it one at least"
            )
        executor = self._executor(fields["executor"], name) if "executor" in fields else None
        kind = self._text(fields.get("type"), "type")
        if executor is None and not kind:
            what = f"task '{name}' has neither an executor nor a type"
            self._error("no-executor", what, node, "executor: with an image, or type: FileDrop")
        launch = self._choice(fields, "launchPolicy", _LAUNCHES, "Auto" if inputs else "Custom")
        ports = self._ports(fields.get("service"))
        return PipelineTask(name, kind, inputs, outputs, executor, policy, launch, ports, self._place(node))

    def _input(
        self, fields: Mapping[str, Any], node: Any, policy: str, formats: Mapping[str, str], task: str
    ) -> PipelineInput:
        self._known(fields, _INPUT_KEYS, "an input")
        name = self._name(fields, node, f"input of task '{task}'")
        kind = self._type(fields, node, formats, name)
        required = self._number(fields, "requiredSequenceLength", 0)
        least = required or self._number(fields, "minSequenceLength", 1)
        most = required or self._number(fields, "maxSequenceLength", least)
        slide = self._number(fields, "slide", 0) or None
        if most < least:
            self._error(
                "length", f"'{name}': maxSequenceLength is below minSequenceLength", node, f"at least {least}"
            )
        if policy == "SwapNew4Old" and (least, most) != (1, 1):
            what = f"'{name}': under SwapNew4Old sequences have the length 1"
            self._error("length", what, node, "leave the lengths out, or use SlidingWindow")
        if policy == "SlidingWindow" and least != most:
            what = f"'{name}': under SlidingWindow the lengths are the same"
            self._error("length", what, node, f"requiredSequenceLength: {most}")
        if slide is not None and slide > least:
            what = f"'{name}': it slides by {slide}, and has {least}"
            self._error("slide", what, fields["slide"], f"at most {least}")
        merge = self._text(fields.get("mergeInto"), "mergeInto")
        return PipelineInput(name, kind, least, most, slide, merge, self._place(node))

    def _output(
        self, fields: Mapping[str, Any], node: Any, formats: Mapping[str, str], task: str
    ) -> PipelineOutput:
        self._known(fields, ("name", "typeRef", "ready", "options"), "an output")
        name = self._name(fields, node, f"output of task '{task}'")
        kind = self._type(fields, node, formats, name)
        options = self._mapping(fields.get("options"), "options")
        told = tuple((key, self._text(value, key)) for key, value in options.items())
        return PipelineOutput(
            name, kind, self._choice(fields, "ready", _READY, "Succeeded"), told, self._place(node)
        )

    def _merges(self, inputs: tuple[PipelineInput, ...], task: str) -> None:
        by_name = {one.name: one for one in inputs}
        for one in inputs:
            if not one.merge_into:
                continue
            into = by_name.get(one.merge_into)
            what = ""
            if into is None:
                what = f"task '{task}' has no input '{one.merge_into}' to merge '{one.name}' into"
            elif into is one:
                what = f"input '{one.name}' can't be merged into itself"
            elif into.merge_into:
                what = f"'{one.name}' is merged into '{into.name}', which is merged into another one itself"
            elif into.type != one.type:
                what = f"'{one.name}' has another type than '{into.name}', into which it is merged"
            if what:
                self._error("merge", what, one.place)

    def _executor(self, node: Any, task: str) -> Executor | None:
        fields = self._mapping(node, "executor")
        image = self._text(fields.get("image"), "image")
        if not image:
            self._error("no-image", f"the executor of task '{task}' has no image", node, "image: NAME")
        env: list[tuple[str, str]] = []
        left = [key for key in fields if key not in ("name", "image", "command", "args", "env")]
        for one in self._items(fields.get("env"), "env"):
            variable = self._mapping(one, "a variable")
            name = self._text(variable.get("name"), "name")
            if "valueFrom" in variable:
                left.append(f"env {name} (valueFrom)")
            else:
                env.append((name, self._text(variable.get("value"), "value")))
        command, args = (
            tuple(self._text(one, key) for one in self._items(fields.get(key), key))
            for key in ("command", "args")
        )
        return Executor(image, command, args, tuple(env), tuple(left), self._place(node))

    def _ports(self, node: Any) -> tuple[str, ...]:
        if node is None:
            return ()
        fields = self._mapping(node, "service")
        found = []
        for one in self._items(fields.get("ports"), "ports"):
            port = self._mapping(one, "a port")
            found.append(
                f"{self._text(port.get('name'), 'name')} {self._text(port.get('port'), 'port')}".strip()
            )
        if not found:
            self._error("no-ports", "the service has no ports", node, "ports: with a name and a port")
        return tuple(found)

    def _link(
        self, fields: Mapping[str, Any], node: Any, tasks: tuple[PipelineTask, ...]
    ) -> PipelineLink | None:
        self._known(fields, ("name", "sourceRef", "destinationRef"), "a link")
        name = self._name(fields, node, "link")
        outputs = {t.name: [o.name for o in t.outputs] for t in tasks}
        inputs = {t.name: [i.name for i in t.inputs] for t in tasks}
        source = self._reference(fields, node, "sourceRef", outputs, "output")
        destination = self._reference(fields, node, "destinationRef", inputs, "input")
        return PipelineLink(name, source, destination, self._place(node)) if source and destination else None

    def _reference(
        self, fields: Mapping[str, Any], node: Any, key: str, known: Mapping[str, list[str]], what: str
    ) -> tuple[str, str] | None:
        if key not in fields:
            self._error("no-reference", f"the link has no {key}", node, f"{key}: TASK/{what.upper()}")
            return None
        text = self._text(fields[key], key)
        task, slash, name = text.partition("/")
        if not (task and slash and name) or "/" in name:
            self._error("reference", f"{key} is '{text}'", fields[key], f"write TASK/{what.upper()}")
            return None
        if task not in known:
            self._error("no-task", f"there is no task '{task}'", fields[key], _guess(task, known))
            return None
        if name not in known[task]:
            self._error(
                "no-wire", f"task '{task}' has no {what} '{name}'", fields[key], _guess(name, known[task])
            )
            return None
        return task, name

    # Nodes

    def _mapping(self, node: Any, what: str) -> dict[str, Any]:
        """The fields of a mapping; one that is missing has none."""
        if node is None or node.tag == _NULL:
            return {}
        if node.id != "mapping":
            self._error(
                "form", f"{what} is not a mapping of names to values", node, "write `name: value` lines"
            )
            return {}
        found: dict[str, Any] = {}
        for key, value in node.value:
            name = self._plain(key)
            if name in found:
                self._error("twice", f"'{name}' is there twice", key, "leave out one")
            found[name] = value
        return found

    def _items(self, node: Any, what: str) -> list[Any]:
        if node is None or node.tag == _NULL:
            return []
        if node.id != "sequence":
            self._error("form", f"{what} is not a list", node, "put `- ` before each")
            return []
        return list(node.value)

    def _plain(self, node: Any) -> str:
        return str(node.value) if node is not None and node.id == "scalar" else ""

    def _text(self, node: Any, what: str) -> str:
        if node is None:
            return ""
        if node.id != "scalar":
            self._error("form", f"{what} is not a text", node)
            return ""
        return str(node.value)

    def _name(self, fields: Mapping[str, Any], node: Any, what: str) -> str:
        name = self._text(fields.get("name"), "name")
        if not name:
            self._error("no-name", f"a {what} has no name", node, "name: NAME")
        elif not _NAME.match(name):
            self._error("name", f"'{name}' is no name for a {what}", fields["name"], "begin it with a letter")
        return name

    def _type(self, fields: Mapping[str, Any], node: Any, formats: Mapping[str, str], name: str) -> str:
        kind = self._text(fields.get("typeRef"), "typeRef")
        if not kind:
            self._error("no-type", f"'{name}' has no typeRef", node, "typeRef: one of the types")
        elif kind not in formats:
            self._error("type", f"there is no type '{kind}'", fields["typeRef"], _guess(kind, formats))
        return kind

    def _choice(self, fields: Mapping[str, Any], key: str, choices: tuple[str, ...], default: str) -> str:
        text = self._text(fields.get(key), key) or default
        if text not in choices:
            self._error("choice", f"{key} is '{text}'", fields[key], _guess(text, choices))
        return text

    def _number(self, fields: Mapping[str, Any], key: str, default: int) -> int:
        text = self._text(fields.get(key), key)
        if not text:
            return default
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:20]) <= _LONGEST):
            self._error("number", f"{key} is '{text}'", fields[key], f"a whole number from 1 to {_LONGEST}")
            return max(default, 1)
        return int(text)

    def _known(self, fields: Mapping[str, Any], known: tuple[str, ...], what: str) -> None:
        for key in fields:
            if key not in known:
                self._error("unknown", f"{what} has no '{key}'", fields[key], _guess(key, known))

    def _unique(self, some: Iterable[PipelineTask | PipelineInput | PipelineOutput], what: str) -> None:
        seen: set[str] = set()
        for one in some:
            if one.name in seen:
                self._error(
                    "twice", f"there are two of the name '{one.name}': {what}", one.place, "rename one"
                )
            seen.add(one.name)

    def _place(self, node: Any) -> Place:
        mark = node.start_mark
        return Place(self._notebook.file, mark.line + 1, mark.column + 1)

    def _error(self, code: str, message: str, at: Any, cure: str = "") -> None:
        place = at if isinstance(at, Place) else self._place(at)
        self._notebook.error(code, message, place, cure)


def _guess(word: str, choices: Iterable[str]) -> str:
    some = list(choices)
    close = nearest(word, some)
    return f"did you mean '{close}'?" if close else f"one of: {', '.join(some) or 'none is there'}"
