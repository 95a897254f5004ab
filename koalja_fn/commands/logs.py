"""`koalja-fn logs`: what the pods of a task write."""

from __future__ import annotations

import threading

import click

from koalja_fn.commands.clusters import cluster_options, reached
from koalja_fn.commands.shared import reports_errors
from koalja_fn.errors import NotFound, UsageError


@click.command()
@reports_errors
@click.argument("words", nargs=-1, metavar="[CIRCUIT] TASK")
@cluster_options
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, also from new pods, until ^C.")
@click.option("--tail", type=click.IntRange(0), metavar="N", help="Only the last N lines of each pod.")
def logs(
    words: tuple[str, ...], namespace: str | None, context: str | None, follow: bool, tail: int | None
) -> None:
    """Show what the pods of a task write: what its runs came to, and what its programs say on the way.

    TASK may also be `entry` or `console`. The circuit may be left out where only one is deployed. What a
    program wrote to standard error in each execution is on record: see `koalja-fn visits` and `log`.

    \b
    Examples:
      koalja-fn logs average
      koalja-fn logs -f weather average -n prod
    """
    from koalja_fn.cluster import logs as reading
    from koalja_fn.cluster.console import the_circuit

    if not 1 <= len(words) <= 2:
        raise UsageError("whose logs?", cure="koalja-fn logs [CIRCUIT] TASK")
    cluster, where = reached(context, namespace)
    circuit = the_circuit(cluster, where, words[0] if len(words) == 2 else "")
    task = words[-1]
    labels = {"koalja.dev/circuit": circuit}
    labels |= (
        {"koalja.dev/part": task} if task in ("entry", "console", "sweep") else {"koalja.dev/task": task}
    )
    lock = threading.Lock()
    seen: set[str] = set()

    def say(pod: str, line: str) -> None:
        with lock:
            seen.add(pod)
            click.echo(f"{pod.rpartition('-')[2]} | {line}" if len(seen) > 1 else line)

    if follow:
        reading.follow(cluster, where, labels, tail, say)
    elif not reading.show(cluster, where, labels, tail, say):
        raise NotFound(
            f"no pod of task {task} of circuit {circuit} runs now",
            why="tasks without work have no pods",
            cure=f"koalja-fn visits --cluster {circuit} {task} tells what they did; or wait: -f",
        )
