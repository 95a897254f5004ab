"""Errands: an execution that a run of `make` waits for is run here, where the program is.

The request has a key and nothing else; what is to be done is in the registry, and so is what came of it.
It takes one of the places that programs have in this pod. Asked for again, it is found there.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

from koalja_fn.engine.naming import name as named
from koalja_fn.engine.working import Post, Span, Worker
from koalja_fn.program.calling import Caller
from koalja_fn.program.cancel import Cancel
from koalja_fn.pull.asking import Options
from koalja_fn.pull.building import Executor
from koalja_fn.pull.claims import Claims
from koalja_fn.pull.course import Site, made_of
from koalja_fn.pull.opening import Compiled
from koalja_fn.pull.runs import Done, Execution
from koalja_fn.registry import errands, making
from koalja_fn.registry.errands import Errand
from koalja_fn.registry.registry import Transaction
from koalja_runtime.joining import Joined

Answer = tuple[str, dict[str, Any]]


def see_to(joined: Joined, caller: Caller, worker: Worker, key: str, span: Span) -> Answer:
    """Run an errand; the status and the body to answer."""

    def look(tx: Transaction) -> tuple[Errand | None, bool]:
        return errands.get(tx, key), making.made(tx, key) is not None

    errand, made = joined.registry.read(look)
    if errand is None:
        if made:  # the answer to it was lost
            return "200 OK", {"known": True, "seconds": 0.0}
        return "404 Not Found", {"why": "there is no such errand on record"}
    post = worker.looked()
    if not post.current or errand.task != post.plan.name or errand.version != post.plan.code.version:
        return "409 Conflict", {"why": f"this pod has {post.plan.name} with code {post.plan.code.version}"}
    with worker.lent(span.until) as cancel:
        if cancel is None:
            return "503 Service Unavailable", {"why": "all places of this pod are taken"}
        return _run(joined, caller, post, errand, span, cancel)


def _run(joined: Joined, caller: Caller, post: Post, errand: Errand, span: Span, cancel: Cancel) -> Answer:
    found = Compiled(
        post.circuit.circuit, post.circuit.folder, {post.plan.name: post.plan.code}, {}, fresh=False
    )
    with closing(Claims(joined.registry)) as claims:
        site = Site(joined.registry, joined.store, found, Options(1), cancel, claims)
        return _answered(site, caller, post, errand, span)


def _answered(site: Site, caller: Caller, post: Post, errand: Errand, span: Span) -> Answer:
    task = post.plan.task
    left = max(1.0, round(span.until - time.monotonic(), 1))
    task = replace(task, timeout=min(left, task.timeout or left))
    execution = Execution(task, errand.number, errand.key, tuple(errand.members), errand.told)
    executor = Executor(site, caller)
    done = executor.execute(execution)
    while done.elsewhere and not site.stop.is_set and time.monotonic() < span.until:
        done = executor.execute(execution)
    if done.trouble is not None:
        raise done.trouble
    if done.damaged is not None:
        return "200 OK", {"damaged": done.damaged.id}
    if done.cancelled or done.elsewhere:  # this pod is to go: another one can do it
        return "503 Service Unavailable", {"why": "the pod is being stopped"}
    if done.failure is not None:
        return "200 OK", {"failure": {"message": done.failure.message, "stderr": done.failure.stderr}}
    if not done.known:
        _keep(site, errand, done)
    return "200 OK", {"known": done.known, "seconds": done.seconds}


def _keep(site: Site, errand: Errand, done: Done) -> None:
    made = made_of(site, done.execution, errand.run, done.seconds)
    named(site.registry, site.store, partial(_step, site, made, done))


def _step(site: Site, made: making.Made, done: Done, tx: Transaction) -> None:
    making.keep(tx, made, done.values)
    if site.claims is not None:
        site.claims.drop(tx, [made.key])
