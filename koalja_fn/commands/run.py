"""`run`: a circuit on this machine, for as long as one likes or until there is nothing left to do."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from koalja_fn.commands.shared import emit_json, output_option, reports_errors, signals_call
from koalja_fn.errors import Busy

if TYPE_CHECKING:
    from koalja_fn.local.display import Display
    from koalja_fn.local.session import Session
    from koalja_fn.model import AnnotatedValue

_SHOWN = 3  # values of each wire in the summary
_DEAD_SHOWN = 20
_READ = 65_536  # larger ones are not looked into for it
_WIDTH = 72


@click.command()
@reports_errors
@click.argument("path", type=click.Path(path_type=Path), default=".")
@click.option("--once", is_flag=True, help="Work off what there is, print a summary and end.")
@click.option(
    "--in", "feeds", multiple=True, metavar="WIRE=GLOB", help="Put files on a wire; '-' is standard input."
)
@click.option("--lines", metavar="WIRE", help="Put each line of standard input on a wire.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Where to listen on 127.0.0.1.  [default: any free port]",
)
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1, 1024),
    help="How many programs may run at once.  [default: 4 for each core]",
)
@click.option(
    "--discard",
    "discards",
    multiple=True,
    metavar="TASK",
    help="Drop what waits for a task that was removed, on record.",
)
@click.option(
    "--store", metavar="URL", help="Keep payloads in s3://BUCKET[/PREFIX], from now on, not in the folder."
)
@click.option(
    "--endpoint-url",
    metavar="URL",
    help="The server of buckets and queues, such as http://localhost:4566.  [default: Amazon's]",
)
@click.option("-q", "--quiet", is_flag=True, help="Tell of trouble only, and where it listens.")
@output_option
def run(
    path: Path,
    once: bool,
    feeds: tuple[str, ...],
    lines: str | None,
    port: int,
    jobs: int | None,
    discards: tuple[str, ...],
    store: str | None,
    endpoint_url: str | None,
    quiet: bool,
    output: str,
) -> None:
    """Run the circuit of a folder on this machine.

    Values come by HTTP (POST to /CIRCUIT/WIRE), from in-trays and queues (`from = inbox/*.json`,
    `from = sqs://NAME` in the wiring), from --in and --lines, and by `koalja-fn send`. All that is
    accepted is durable: stop and start as you like.

    \b
    Examples:
      koalja-fn run ./mycode
      koalja-fn run --once ./mycode --in 'wind=data/*.json'
      seq 10 | koalja-fn run --once ./mycode --lines in -o json

    \b
    Exit status: 0 fine; 3 the wiring has errors; 4 with --once: dead letters are left;
    6 another run has the folder; 8 disk or registry trouble; 130 with --once: interrupted.
    """
    from koalja_fn.local import display as displays
    from koalja_fn.local.opening import Payloads
    from koalja_fn.local.recomputing import before_run
    from koalja_fn.local.session import places, session_of
    from koalja_fn.local.workplace import open_workplace

    payloads = Payloads(store, endpoint_url) if store else None
    live = not once and not quiet and displays.fits(sys.stderr)
    display: Display = displays.Live() if live else displays.Plain(quiet=quiet)
    with (
        _until_signalled() as stop,
        open_workplace(path, discards=discards, payloads=payloads, endpoint=endpoint_url) as workplace,
    ):
        for change in workplace.changes:
            display.say(f"{change.task}: {change.what} {change.text}".rstrip())
        ready = before_run(workplace, display.say, stop, places(jobs))
        if ready is None:
            click.echo("koalja-fn: interrupted; the next run goes on with the recompute", err=True)
            sys.exit(130)
        session = session_of(ready, display, jobs=jobs)
        if once:
            _run_once(session, display, stop, feeds, lines, output)
        else:
            _run_on(session, display, stop, feeds, lines, port)


def _run_once(
    session: Session,
    display: Display,
    stop: threading.Event,
    feeds: tuple[str, ...],
    lines: str | None,
    output: str,
) -> None:
    from koalja_fn.addresses import inlets
    from koalja_fn.local.intray import scan_once

    session.start()
    try:
        _feed(session, display, stop, feeds, lines)
        scan_once(
            session.intake,
            session.workplace.folder,
            session.workplace.plan.circuit,
            stop=stop,
            warn=display.say,
        )
        if inlets(session.workplace.plan.circuit):
            from koalja_fn import queues

            workplace = session.workplace
            queues.drain(session.intake, workplace.state / "spool", stop, display.say, workplace.endpoint)
        idle = session.engine.wait_until_idle(stop.is_set)
    finally:
        session.stop()
    if not idle or stop.is_set():
        click.echo("koalja-fn: interrupted; what was accepted waits for the next run", err=True)
        sys.exit(130)
    _report(session, output)
    if lost := sum(task.running for task in session.counts()):
        click.echo(
            f"koalja-fn: {lost} executions could not be recorded; the next run takes them up", err=True
        )
        sys.exit(8)
    if session.failures():
        sys.exit(4)


def _run_on(
    session: Session,
    display: Display,
    stop: threading.Event,
    feeds: tuple[str, ...],
    lines: str | None,
    port: int,
) -> None:
    from koalja_fn.addresses import inlets
    from koalja_fn.local.intray import watch
    from koalja_fn.local.serving import Express, Server, entry, told

    workplace = session.workplace
    spool = workplace.state / "spool"
    app = entry(session.intake, spool=spool, ghosts=session.ghosts)

    @app.post("/-/ring")
    def ring() -> tuple[str, int]:
        session.ring_all()
        return "", 204

    server = Server(app, spool=spool, port=port, express=Express(session.intake, told=told))
    try:
        server.start()
    except OSError as error:
        raise Busy(
            f"can't listen on 127.0.0.1:{port}", why=error.strerror or str(error), cure="leave --port out"
        ) from error
    session.start()
    session.serve()
    session.announce(server.url)
    display.say(f"{workplace.plan.circuit.name} listens at {server.url}; ^C ends it")
    display.begin(session)
    watcher = watch(session.intake, workplace.folder, workplace.plan.circuit, warn=display.say)
    feeders = None
    try:
        if inlets(workplace.plan.circuit):
            from koalja_fn import queues

            feeders = queues.feed(session.intake, spool, display.say, workplace.endpoint)
        _feed(session, display, stop, feeds, lines)
        while not stop.wait(0.5):
            pass
    finally:
        session.retract()
        server.drain(10.0)
        watcher.close()
        if feeders is not None:
            feeders.close()
        session.stop()
        display.end()
    display.say("ended; what was accepted and is not done waits for the next run")


def _feed(
    session: Session, display: Display, stop: threading.Event, feeds: tuple[str, ...], lines: str | None
) -> None:
    from koalja_fn.local import sending

    workplace = session.workplace
    spool = workplace.state / "spool"
    for text in feeds:
        sending.feed(
            session.intake,
            text,
            folder=Path.cwd(),
            spool=spool,
            stdin=sys.stdin.buffer,
            home=workplace.folder,
            stop=stop,
            warn=display.say,
        )
    if lines is not None:
        for _ in sending.feed_lines(session.intake, lines, sys.stdin.buffer, spool=spool, stop=stop):
            pass


def _report(session: Session, output: str) -> None:
    from koalja_fn.local.session import summary
    from koalja_fn.story.words import short, size

    if output == "json":
        emit_json(summary(session, lambda digest: _place(session, digest)))
        return
    totals = session.totals()
    for wire, (new, last) in session.latest(_SHOWN).items():
        which = f"; the last {_SHOWN}:" if new > _SHOWN else ""
        click.echo(f"{wire}: {new} new, {totals[wire]} in all{which}")
        for value in last:
            click.echo(f"  {short(value.id)}  {size(value.size):>7}  {_glimpse(session, value)}")
    for service, why in session.unserved.items():
        click.echo(f"service {service} is not up: {why}; who asks it waits")
    failures = session.failures()
    for failure in failures[:_DEAD_SHOWN]:
        click.echo(f"dead letter: {failure['task']} {short(failure['snapshot'])}: {failure['message']}")
    if len(failures) > _DEAD_SHOWN:
        click.echo(f"  and {len(failures) - _DEAD_SHOWN} more dead letters")
    if failures:
        folder = shlex.quote(os.path.relpath(session.workplace.folder))
        click.echo(
            f"  try: koalja-fn failures {folder} tells why; mend it, then koalja-fn retry {folder} --all"
        )


def _place(session: Session, digest: str) -> str:
    """Where a payload lies; empty where it is purged already."""
    store = session.workplace.store
    return str(store.path(digest)) if store.has(digest) else ""


def _glimpse(session: Session, value: AnnotatedValue) -> str:
    """How a value begins, where it is text that is fit to be shown; else where it is."""
    store = session.workplace.store
    if not store.has(value.digest):
        return "(purged)"
    if value.size <= _READ:
        with contextlib.suppress(UnicodeDecodeError):
            lines = store.read(value.digest).decode().strip().splitlines() or [""]
            first = lines[0].expandtabs(2)
            if first.isprintable():
                return first if len(first) <= _WIDTH and len(lines) == 1 else f"{first[:_WIDTH]} …"
    return str(store.path(value.digest))


@contextmanager
def _until_signalled() -> Iterator[threading.Event]:
    """An event that ^C, SIGTERM and SIGHUP set; a second ^C ends at once."""
    stop = threading.Event()

    def end(number: int) -> None:
        if stop.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.set()

    with signals_call(end):
        yield stop
