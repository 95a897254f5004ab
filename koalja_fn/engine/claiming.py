"""Claims: who executes a snapshot, until when, and what becomes of it; each function is one step.

A claim has a lease and a fence: an expired lease is taken up by somebody else, and only the last
claimer's fence lets a result in (DESIGN, section 7).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from koalja_fn.engine import backlog
from koalja_fn.engine.plans import CircuitPlan, TaskPlan
from koalja_fn.model import AnnotatedValue
from koalja_fn.registry import caching, lookups, purging, records, services, snapshots, tasks, values
from koalja_fn.registry.lookups import Lookup
from koalja_fn.registry.records import Attempt
from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.snapshots import Members, Stored
from koalja_fn.registry.values import End

SECOND = 1_000_000
_FEW = 16
_LONGEST_BACKOFF = 3600 * SECOND


@dataclass(frozen=True, slots=True)
class Claim:
    """A snapshot that we may execute; `attempt` counts from 1, `members` are there where they are few."""

    plan: TaskPlan
    rid: int
    id: str
    number: int
    attempt: int
    fence: int
    claimed: int
    formed: int
    members: tuple[Members, ...] | None = None


@dataclass(frozen=True, slots=True)
class Remark:
    """Something that a program or its wrapper had to say."""

    kind: str
    text: str
    body: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended. `values` are its outputs, without their places on the wires yet.

    `seconds` is the program's own time, `version` the code's digest, `lookups` what it asked on the side,
    `key` what its outputs are the answer to from now on, if anything.
    """

    version: str
    seconds: float = 0.0
    reason: str = ""
    status: int | None = None
    message: str = ""
    stderr: str = ""
    permanent: bool = False
    size_in: int = 0
    values: Sequence[AnnotatedValue] = ()
    remarks: Sequence[Remark] = ()
    lookups: Sequence[Lookup] = ()
    key: str = ""


class Fenced(Exception):
    """Somebody else has claimed the snapshot meanwhile: this result is not wanted."""


def claim(
    tx: Transaction, now: int, circuit: CircuitPlan, plan: TaskPlan, owner: str, most: int, lease: float
) -> list[Claim]:
    """Claim ready snapshots of a task, as many as it may run at once and `most` at most.

    None while a reader of its outputs has a full backlog, while a dead letter stops a strict task, or before
    the services that it asks have come up; none of a service, which has a process in place of executions
    (`engine.serving`).
    """
    if plan.task.service:
        return []
    most = min(most, plan.task.concurrency)
    if most <= 0:
        return []
    at_hand = snapshots.at_hand(tx, plan.id, most, strict=plan.task.strict)
    places = min(most, plan.task.concurrency - at_hand.running)
    if places <= 0 or at_hand.generation != plan.generation:
        return []
    if at_hand.held > now:
        return []  # a recompute is about to take the task's place
    now = max(now, at_hand.latest)  # what another process has just formed is due, whatever its clock says
    found = [s for s in at_hand.following[:places] if s.state == "ready" and s.due <= now]
    if not found or backlog.full_reader(tx, circuit, plan.task.output_wires) is not None:
        return []
    if not services.are_up(tx, (one.id for one in circuit.asked(plan))):
        return []  # each rings for who asks it when it is
    until = now + round(lease * SECOND)
    for snapshot in found:
        snapshots.claim(tx, snapshot.rid, owner, plan.code.version, now, until)
    claims = [_claimed(plan, snapshot, now) for snapshot in found]
    if len(claims) == 1 and sum(item.most for item in plan.spec.inputs) <= _FEW:
        # What is in it is read at once, with what was written: that spares a look of its own.
        claims = [replace(claims[0], members=tuple(snapshots.members(tx, claims[0].rid)))]
    return claims


def complete(
    tx: Transaction, clock: Callable[[], int], _: CircuitPlan, claim: Claim, ending: Ending
) -> set[str]:
    """Commit an execution: its outputs, their places on their wires, and `done`. Return the wires.

    Raises:
        Fenced: The claim was lost; nothing is written.
        Purged: Some of its payloads are purged, or were; nothing is written.
    """
    tasks.hold(tx, claim.plan.id)
    now = clock()
    if not snapshots.finish(tx, claim.rid, claim.fence, "done", now):
        raise Fenced
    sparing = purging.watch(tx, named(ending))
    settle(tx, claim.plan, claim.rid, 1)
    placed: dict[str, list[AnnotatedValue]] = {}
    for value in ending.values:
        placed.setdefault(value.wire, []).append(value)
    rows = claim.plan.wires
    ends = values.hold(tx, [rows[wire] for wire in placed])
    sparing()
    for wire, outputs in placed.items():
        place(tx, clock, rows[wire], ends[rows[wire]], outputs, claim.rid)
    record(tx, now, claim, ending, "done")
    if ending.key:
        caching.keep(tx, ending.key, claim.rid)
    return set(placed)


def fail(tx: Transaction, now: int, claim: Claim, ending: Ending) -> int | None:
    """Record a failed attempt. Return when the next one is due; None where it is a dead letter now.

    Raises:
        Fenced: The claim was lost; nothing is written.
    """
    return _end(tx, now, claim, ending, "failed")


def lose(tx: Transaction, now: int, plan: TaskPlan, snapshot: Stored) -> int | None:
    """Record that a claim's owner is gone, with the code that it had; otherwise as `fail`.

    Nothing happens where the owner has shown up meanwhile.
    """
    tasks.hold(tx, plan.id)
    if not snapshots.is_lost(tx, snapshot.rid, snapshot.fence, snapshot.lease):
        return None
    claim = _claimed(plan, snapshot, snapshot.claimed, attempts=snapshot.attempts, fence=snapshot.fence)
    ending = Ending(
        snapshot.version or plan.code.version,
        reason="lost",
        message="whoever ran it was killed, or lost touch with the registry",
    )
    return _end(tx, now, claim, ending, "lost")


def release(tx: Transaction, now: int, claim: Claim, ending: Ending | None = None) -> None:
    """Give a claim back that we ended ourselves, or never began; the attempt does not count."""
    tasks.hold(tx, claim.plan.id)
    given_back = snapshots.put_back(tx, claim.rid, claim.fence, claim.formed, counted=False)
    if given_back and ending is not None:
        record(tx, now, claim, ending, "cancelled")


def settle(tx: Transaction, plan: TaskPlan, rid: int, sign: int) -> None:
    """Count a snapshot's new values as settled (or, with `sign` -1, as waiting again)."""
    tasks.settle_windows(tx, plan.id, rid, sign)
    for item in plan.spec.inputs:
        if item.indexed or plan.generation > 1:  # an earlier wiring may have counted it otherwise
            tasks.settle_admissions(tx, plan.id, plan.wires[item.wires[0]], rid, item.name, sign)


def _claimed(
    plan: TaskPlan, snapshot: Stored, now: int, *, attempts: int | None = None, fence: int | None = None
) -> Claim:
    return Claim(
        plan,
        snapshot.rid,
        snapshot.id,
        snapshot.number,
        snapshot.attempts + 1 if attempts is None else attempts,
        snapshot.fence + 1 if fence is None else fence,
        now,
        snapshot.formed,
    )


def _end(tx: Transaction, now: int, claim: Claim, ending: Ending, outcome: str) -> int | None:
    task = claim.plan.task
    tasks.hold(tx, claim.plan.id)
    if ending.permanent or claim.attempt > task.retries:
        if not snapshots.finish(tx, claim.rid, claim.fence, "dead", now):
            raise Fenced
        settle(tx, claim.plan, claim.rid, 1)
        due = None
    else:
        pause = min(_LONGEST_BACKOFF, round(task.backoff * 2 ** min(claim.attempt - 1, 30) * SECOND))
        due = now + pause
        if not snapshots.put_back(tx, claim.rid, claim.fence, due, counted=True):
            raise Fenced
    record(tx, now, claim, ending, outcome)
    return due


def place(
    tx: Transaction,
    clock: Callable[[], int],
    wire: int,
    end: End,
    outputs: list[AnnotatedValue],
    snapshot: int | None,
) -> None:
    """Put values at a wire's end, which is held."""
    placed: list[AnnotatedValue] = []
    latest = end.latest
    for position, value in enumerate(outputs, end.head):
        latest = max(clock(), latest + 1)
        placed.append(at(value, position, latest))
    values.place(tx, wire, placed, snapshot)
    values.move_head(tx, wire, end.head + len(placed), latest)


def at(value: AnnotatedValue, position: int, arrived: int) -> AnnotatedValue:
    """The value with its place on the wire and the time it came there."""
    return replace(value, position=position, arrived=arrived)


def named(ending: Ending) -> set[str]:
    """The payloads that a commit names."""
    bodies = [body for one in ending.lookups for body in (one.asked, one.told)]
    return {value.digest for value in ending.values} | {body.digest for body in bodies if body.kept}


def _kept(tx: Transaction, asked: Sequence[Lookup]) -> list[Lookup]:
    """Look-ups, whose bodies count as not kept where they are purged."""
    digests = {body.digest for one in asked for body in (one.asked, one.told) if body.kept}
    try:
        purging.spare(tx, digests)
    except purging.Purged as purged:
        gone = set(purged.digests)
        return [
            replace(
                one,
                asked=replace(one.asked, kept=one.asked.kept and one.asked.digest not in gone),
                told=replace(one.told, kept=one.told.kept and one.told.digest not in gone),
            )
            for one in asked
        ]
    return list(asked)


def record(tx: Transaction, now: int, claim: Claim, ending: Ending, outcome: str) -> None:
    """Put an attempt that ended on record, and what came of it besides values."""
    records.attempted(
        tx,
        Attempt(
            task=claim.plan.id,
            snapshot=claim.rid,
            attempt=claim.attempt,
            version=ending.version,
            started=claim.claimed,
            ended=now,
            outcome=outcome,
            reason=ending.reason,
            status=ending.status,
            message=ending.message,
            stderr=ending.stderr,
            size_in=ending.size_in,
            size_out=sum(value.size for value in ending.values),
        ),
    )
    if ending.lookups:
        if outcome != "done":  # no reason not to record the failure: then they are known by their digests
            ending = replace(ending, lookups=_kept(tx, ending.lookups))
        lookups.record(tx, claim.plan.id, claim.rid, claim.attempt, ending.lookups)
    for remark in ending.remarks:
        records.remark(tx, claim.plan.id, claim.rid, now, remark.kind, remark.text, remark.body)
