"""The verb `send`: values for a wire, to the running circuit or straight into its registry."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from koalja_fn.commands.clusters import cluster_options, reached, told
from koalja_fn.commands.shared import emit_json, output_option, reports_errors
from koalja_fn.errors import NotFound, UsageError

if TYPE_CHECKING:
    from koalja_fn.events import Event
    from koalja_fn.local.offering import Intake

_FIXED = ("id", "source", "specversion", "time", "datacontenttype", "koaljaname")


@dataclass(frozen=True, slots=True)
class _Wish:
    """What the options say about every value."""

    type: str | None
    id: str | None
    source: str | None
    attributes: dict[str, str]


@click.command()
@reports_errors
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("wire")
@click.argument("files", nargs=-1, metavar="[FILE|-]...")
@click.option("-d", "--data", help="The value itself, as text.")
@click.option("--lines", is_flag=True, help="Each line is a value.")
@click.option(
    "--event", "as_event", is_flag=True, help="The input is a CloudEvent as JSON, or an array of them."
)
@click.option("-t", "--type", "type_", metavar="TYPE", help="Media type; else told from the file's name.")
@click.option("--id", "id_", metavar="ID", help="The event's id; several values get ID-1, ID-2, …")
@click.option("--source", metavar="SOURCE", help="The event's source.  [default: /send]")
@click.option("-a", "--attr", multiple=True, metavar="NAME=TEXT", help="An attribute that the value keeps.")
@click.option("--ghost", is_flag=True, help="Send no payloads: ghosts of the values, which walk the circuit.")
@click.option("--cluster", "on_cluster", is_flag=True, help="PATH is the name of a circuit on a cluster.")
@cluster_options
@output_option
def send(
    path: Path,
    wire: str,
    files: tuple[str, ...],
    data: str | None,
    lines: bool,
    as_event: bool,
    type_: str | None,
    id_: str | None,
    source: str | None,
    attr: tuple[str, ...],
    ghost: bool,
    on_cluster: bool,
    namespace: str | None,
    context: str | None,
    output: str,
) -> None:
    """Send values to WIRE of the circuit in PATH: files, standard input (-), or --data.

    The circuit need not run: what is sent meanwhile waits in its registry. Sending again what has the
    same --source and --id is no second value. With --ghost no data are sent: a ghost of each value, with its
    type, size and name, walks the circuit, and `koalja-fn trace` tells where it went.

    \b
    Examples:
      koalja-fn send weather wind reading.json
      koalja-fn send weather wind --data 12.5
      sensor | koalja-fn send weather wind --lines -
      koalja-fn send weather wind --id 2026-11-22 --source /export big.csv
      koalja-fn send weather wind --event event.json
      koalja-fn send weather wind --ghost big.csv
      koalja-fn send --cluster weather wind reading.json -n prod
    """
    from koalja_fn.events import check_value, media_type

    _check(files, data, lines, as_event, id_, type_)
    wish = _Wish(
        media_type(type_) if type_ else None,
        check_value("id", id_) if id_ else None,
        check_value("source", source) if source else None,
        _attributes(attr),
    )
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory())) if on_cluster else path
        inputs = _inputs(stack, home, files, data, lines, as_event, wish)
        if ghost:
            inputs = (_ghost_of(event) for event in inputs)
        receipts: list[dict[str, Any]] = []
        delivered = (
            _deliver_to_cluster(str(path), wire, inputs, namespace, context)
            if on_cluster
            else _deliver(stack, path, wire, inputs, typed=as_event or type_ is not None, ghost=ghost)
        )
        try:
            for group in delivered:
                receipts += group
        finally:
            _show(receipts, wire, output, many=lines)


def _check(
    files: Sequence[str], data: str | None, lines: bool, as_event: bool, id_: str | None, type_: str | None
) -> None:
    if data is not None and files:
        raise UsageError("--data and files at once", cure="send them one after the other")
    if list(files).count("-") > 1:
        raise UsageError("standard input (-) can be read once only")
    if as_event and (lines or id_ or type_):
        raise UsageError("--event goes without --lines, --id and --type", why="the event says these itself")
    if data is None and not files and sys.stdin.isatty():
        raise _nothing("standard input is a terminal")


def _nothing(why: str) -> UsageError:
    return UsageError(
        "nothing to send", why=why, cure="name a FILE, or `-` for standard input, or use --data TEXT"
    )


def _attributes(given: Iterable[str]) -> dict[str, str]:
    from koalja_fn.events import check_name, check_value

    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name in _FIXED:
            why = "that one has an option of its own" if equals else ""
            raise UsageError(f"--attr {text!r} is not possible", why=why, cure="--attr NAME=TEXT")
        found[check_name(name)] = check_value(name, value)
    return found


def _inputs(
    stack: ExitStack,
    path: Path,
    files: Sequence[str],
    data: str | None,
    lines: bool,
    as_event: bool,
    wish: _Wish,
) -> Iterator[Event]:
    """The events to send, as the options want them."""
    if as_event:
        events = _read_events(files or ("-",), data)
    elif data is not None:
        events = _plain(data.encode(), lines, wish)
    else:
        events = (e for name in files or ("-",) for e in _of_input(stack, path, name, lines, wish))
    several = lines or len(files) > 1
    unasked = not (files or lines or as_event or data is not None)
    for number, event in enumerate(events, 1):
        if unasked and not event.payload:
            raise _nothing("standard input is empty")
        attributes = {**event.attributes, **wish.attributes}
        changed = replace(event, attributes=attributes, sequence=attributes.pop("sequence", event.sequence))
        if wish.source and not as_event:
            changed = replace(changed, source=wish.source)
        if wish.id:
            changed = replace(changed, id=f"{wish.id}-{number}" if several else wish.id)
        yield changed


def _read_events(files: Sequence[str], data: str | None) -> Iterator[Event]:
    from koalja_fn import events

    for name in files:
        text = data.encode() if data is not None else _whole(name)
        batch = text.lstrip()[:1] == b"["
        mode = events.BATCH_TYPE if batch else "application/cloudevents+json"
        yield from events.read({"content-type": mode}, text)


def _whole(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise NotFound(f"{name} can't be read", why=error.strerror or str(error)) from error


def _plain(text: bytes, lines: bool, wish: _Wish) -> Iterator[Event]:
    import io

    from koalja_fn.local import sending

    kind = wish.type or "text/plain"
    return sending.of_lines(io.BytesIO(text), kind) if lines else iter([sending.event(text, kind)])


def _of_input(stack: ExitStack, path: Path, name: str, lines: bool, wish: _Wish) -> Iterator[Event]:
    from koalja_fn.local import sending
    from koalja_fn.local.spool import spool_stream

    kind = wish.type or ("text/plain" if lines else _told_by(name))
    if not lines and name != "-":
        yield sending.of_file(Path(name), kind)
        return
    if name == "-":
        stream = sys.stdin.buffer
    else:
        try:
            stream = stack.enter_context(open(name, "rb"))  # noqa: SIM115 - the stack closes it
        except OSError as error:
            raise NotFound(f"{name} can't be read", why=error.strerror or str(error)) from error
    if lines:
        yield from sending.of_lines(stream, kind)
        return
    payload = spool_stream(stream, _spool(path), 1 << 62)
    if isinstance(payload, Path):
        stack.callback(payload.unlink, missing_ok=True)
    yield sending.event(payload, kind)


def _told_by(name: str) -> str:
    """The media type that a file's name tells."""
    from koalja_fn.events import UNTYPED
    from koalja_fn.program.naming import media_type

    return UNTYPED if name == "-" else media_type(Path(name).name)


def _folder(path: Path) -> Path:
    return path.parent if path.is_file() else path


def _spool(path: Path) -> Path:
    """A folder of its own: the one of `run` is cleared when one starts, which may be now."""
    return _folder(path) / ".koalja" / "sent"


def _deliver(
    stack: ExitStack, path: Path, wire: str, inputs: Iterator[Event], *, typed: bool, ghost: bool
) -> Iterator[list[dict[str, Any]]]:
    """Post to the running circuit; where none is, or it ends meanwhile, give to its registry.

    Unless they are `typed`, values get the type that the wiring gives to the wire, if it does.
    """
    from koalja_fn.local import client, sending
    from koalja_fn.local.spool import clear

    if not path.exists():
        raise NotFound(f"there is no {path}", cure="name the folder of a circuit")
    state = _folder(path) / ".koalja"
    clear(_spool(path), older=86_400)
    entry = client.running(state)
    intake: Intake | None = None
    for group in sending.in_batches(inputs):
        if entry is not None:
            declared = None if typed else entry.types.get(wire)
            try:
                yield client.post(entry, wire, _typed(group, declared), told=_tell)
                continue
            except client.Unreachable:
                if client.running(state) is not None:
                    raise
                entry = None  # it has ended: the same events, with the same ids, go to the registry
        if ghost:
            from koalja_fn.local.ghosting import walk_here

            yield [asdict(walked) | {"wire": wire, "ghost": True} for walked in walk_here(path, wire, group)]
            continue
        if intake is None:
            intake = _open(stack, path, wire)
        declared = None if typed else intake.circuit.wires[wire].type
        receipts = sending.give(intake, wire, _typed(group, declared), _spool(path))
        yield [asdict(receipt) | {"position": receipt.position + 1} for receipt in receipts]


def _deliver_to_cluster(
    circuit: str, wire: str, inputs: Iterator[Event], namespace: str | None, context: str | None
) -> Iterator[list[dict[str, Any]]]:
    """Post to the entry of a deployed circuit, through its console."""
    from koalja_fn.cluster import console, sending
    from koalja_fn.local.sending import in_batches

    cluster, where = reached(context, namespace)
    with told() as teller:
        pod = console.console_of(cluster, where, circuit, teller)
    entry = sending.entry_of(pod, circuit)
    for group in in_batches(inputs):
        yield sending.post(pod, entry, wire, group, _tell)


def _ghost_of(event: Event) -> Event:
    """The same event without its payload, whose size it keeps."""
    size = len(event.payload) if isinstance(event.payload, bytes) else event.payload.stat().st_size
    told = {**event.attributes, "koaljaghost": "true", "koaljasize": str(size)}
    return replace(event, payload=b"", attributes=told)


def _typed(group: list[Event], declared: str | None) -> list[Event]:
    return [replace(event, type=declared) for event in group] if declared else group


def _open(stack: ExitStack, path: Path, wire: str) -> Intake:
    from koalja_fn.local import workplace
    from koalja_fn.local.offering import check_wire

    intake = stack.enter_context(workplace.open_intake(path))
    check_wire(intake.circuit, wire)
    return intake


def _tell(text: str) -> None:
    click.echo(text, err=True)


def _show(receipts: Sequence[dict[str, Any]], wire: str, output: str, *, many: bool) -> None:
    known = ("id", "wire", "position", "duplicate", "ghost", "walk")
    if output == "json":
        emit_json({"accepted": [{name: r[name] for name in known if name in r} for r in receipts]})
        return
    if many:
        before = sum(bool(r["duplicate"]) for r in receipts)
        click.echo(f"{len(receipts)} values on {wire}" + (f", {before} were there before" if before else ""))
        return
    for r in receipts:
        note = "  (was there before)" if r["duplicate"] else ""
        if r.get("ghost"):
            click.echo(f"{r['wire']}  ghost {r['id'][:12]}, walk {r['walk'][:12]}{note}")
            continue
        click.echo(f"{r['wire']} {r['position']}  {r['id'][:12]}{note}")
