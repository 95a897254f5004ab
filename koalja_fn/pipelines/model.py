"""A Pipeline as its YAML says it: frozen data. Places are those of the YAML."""

from __future__ import annotations

from dataclasses import dataclass, field

from koalja_fn.model import Place


@dataclass(frozen=True, slots=True)
class PipelineInput:
    """An input; `slide` is None where it is not said, `least` and `most` are lengths of a sequence."""

    name: str
    type: str
    least: int
    most: int
    slide: int | None
    merge_into: str
    place: Place


@dataclass(frozen=True, slots=True)
class PipelineOutput:
    """An output. `ready` is Auto or Succeeded; `options` are for executors by type."""

    name: str
    type: str
    ready: str
    options: tuple[tuple[str, str], ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Executor:
    """A container: its image, command, arguments and variables; `left` names whatever else it has."""

    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    left: tuple[str, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class PipelineTask:
    """A task; `type` names an executor of the pipeline system where there is no `executor`."""

    name: str
    type: str
    inputs: tuple[PipelineInput, ...]
    outputs: tuple[PipelineOutput, ...]
    executor: Executor | None
    policy: str
    launch: str
    ports: tuple[str, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class PipelineLink:
    """A link from an output to an input, each as (task, name)."""

    name: str
    source: tuple[str, str]
    destination: tuple[str, str]
    place: Place


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline; `formats` gives the format of each type, `besides` what else the file has."""

    name: str
    namespace: str
    tasks: tuple[PipelineTask, ...]
    links: tuple[PipelineLink, ...]
    formats: dict[str, str] = field(default_factory=dict)
    besides: tuple[tuple[str, Place], ...] = ()
