"""Executing: one claimed snapshot, from its inputs to its committed outputs; there is no other way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from koalja_fn import ids
from koalja_fn.engine import claiming
from koalja_fn.engine.calls import job_of
from koalja_fn.engine.claiming import Claim, Ending, Fenced, Remark
from koalja_fn.engine.keys import Answering
from koalja_fn.engine.lineage import Lineage, lineage_of
from koalja_fn.engine.naming import bring_back
from koalja_fn.engine.noticing import Noticing
from koalja_fn.engine.plans import CircuitPlan, TaskPlan
from koalja_fn.engine.rebirth import Rebirth
from koalja_fn.engine.reusing import CACHED, Found, Reuse, stayed
from koalja_fn.errors import StoreError
from koalja_fn.model import AnnotatedValue
from koalja_fn.program.calling import Caller
from koalja_fn.program.cancel import Cancel
from koalja_fn.program.contract import OutputFile, Reason, Result
from koalja_fn.registry import Registry, snapshots
from koalja_fn.registry.lookups import Lookup
from koalja_fn.registry.purging import Purged
from koalja_fn.registry.registry import Transaction
from koalja_fn.registry.snapshots import Members
from koalja_fn.store import Store, Stored

if TYPE_CHECKING:
    from koalja_fn.lookups import Asking


_ANEW = "\n  try: koalja-fn recompute --only-failed, without --replay-lookups, asks anew"


@dataclass(frozen=True, slots=True)
class Executed:
    """What became of a claim.

    `outcome` is done, failed, dead, cancelled or lost; `wires` have new values; `due` is when the next
    attempt may start; `following` was claimed in the same transaction.
    """

    claim: Claim
    outcome: str
    ending: Ending
    wires: frozenset[str] = frozenset()
    due: int | None = None
    following: Claim | None = None


def nothing(_: Transaction) -> Claim | None:
    """Claim nothing."""
    return None


class Lookups(Protocol):
    """What takes the look-ups of executions."""

    def open(self, claim: Claim) -> Asking | None:
        """Begin to take those of one execution; None where its task asks nobody.

        Raises:
            OSError: There is no way to take them.
        """
        ...

    def answering(self, plan: TaskPlan) -> Answering | None:
        """Who answers a task's look-ups now; None where nobody here can say."""
        ...


Commit = Callable[[Transaction, Callable[[], int], CircuitPlan, Claim, Ending], set[str]]


class Executor:
    """Executes claims; called from as many threads at once as one likes.

    Without `lookups`, tasks that ask services are told no address. `commit` is the step that writes what
    came of an execution; it raises `Fenced` where the claim was lost. `turn` is called before, and may wait.
    """

    def __init__(
        self,
        registry: Registry,
        store: Store,
        caller: Caller,
        circuit: CircuitPlan,
        lookups: Lookups | None = None,
        commit: Commit = claiming.complete,
        turn: Callable[[Claim], None] = lambda _: None,
    ) -> None:
        self._commit = commit
        self._turn = turn
        self.noticing = Noticing(registry)
        self._registry = registry
        self._store = store
        self._caller = caller
        self._circuit = circuit
        self._lookups = lookups
        self.rebirth = Rebirth(registry, store, caller, circuit)
        self._reuse = Reuse(registry, store, circuit)

    def execute(
        self,
        claim: Claim,
        stop: Cancel | None = None,
        follow: Callable[[Transaction], Claim | None] = nothing,
    ) -> Executed:
        """Run the claimed snapshot's program and commit what came of it.

        Whatever goes wrong on the way (a damaged payload, a full disk) is a failed attempt, on record.
        `follow` may claim what to run next, in the transaction that commits this one.
        """
        members = claim.members
        if members is None:
            members = tuple(self._registry.peek(lambda tx: snapshots.members(tx, claim.rid)))
        lineage = lineage_of(members)
        task = claim.plan.task
        if lineage.hops > task.max_hops:
            message = f"its values came round {lineage.hops} times; max-hops is {task.max_hops}"
            return self._fail(
                claim, self._ending(claim, lineage, reason="max-hops", message=message, permanent=True)
            )
        answering = self._answering(claim.plan)
        key = self._reuse.key(claim.plan, members, answering)
        found = self._reuse.find(key) if key else None
        if found is not None:
            return self._complete(claim, self._reused(claim, lineage, found), follow)
        try:
            result, asked = self._with_inputs(claim, members, stop)
        except StoreError as error:
            return self._fail(claim, self._ending(claim, lineage, reason="inputs", message=str(error)))
        if not result.ok:
            return self._give_up(claim, lineage, result, asked)
        try:
            outputs = self._outputs(claim, lineage, result)
        except StoreError as error:
            ending = self._ending(claim, lineage, result, reason="store", message=str(error))
            return self._fail(claim, replace(ending, lookups=asked))
        finally:
            self._caller.discard(result)
        ending = self._ending(claim, lineage, result, values=outputs)
        if asked or key:
            ending = replace(ending, lookups=asked, key=key if stayed(answering or (), asked) else "")
        return self._complete(claim, ending, follow)

    def _answering(self, plan: TaskPlan) -> Answering | None:
        if not any(item.implicit for item in plan.task.inputs):
            return ()
        return self._lookups.answering(plan) if self._lookups is not None else None

    def _reused(self, claim: Claim, lineage: Lineage, found: Found) -> Ending:
        """How an attempt ended that runs no program, since its outputs are known."""
        now = self._registry.clock()
        values = [
            self._value(
                claim,
                lineage,
                OutputFile(one.wire, one.index, one.name, Path(), one.type, one.size),
                Stored(one.digest, one.size, ""),
                now,
            )
            for one in found.values
        ]
        version = claim.plan.code.version
        return Ending(version, reason=CACHED, message=found.whence, size_in=lineage.size, values=values)

    def _with_inputs(
        self, claim: Claim, members: Sequence[Members], stop: Cancel | None
    ) -> tuple[Result, Sequence[Lookup]]:
        """Call the program; an input whose payload was purged is made again first."""
        try:
            return self._called(claim, members, stop)
        except StoreError:
            if not self.rebirth.bring((value for m in members for value in m.values), stop):
                raise
        return self._called(claim, members, stop)

    def _called(
        self, claim: Claim, members: Sequence[Members], stop: Cancel | None
    ) -> tuple[Result, Sequence[Lookup]]:
        """Call the program; tell what it asked on the side."""
        try:
            asking = self._lookups.open(claim) if self._lookups is not None else None
        except OSError as error:
            raise StoreError(f"its look-ups can't be taken: {error}") from error
        if asking is None:
            return self._caller.call(job_of(self._circuit, claim, members), stop), ()
        try:
            result = self._caller.call(job_of(self._circuit, claim, members, asking.env), stop)
        except BaseException:
            asking.close()
            raise
        asked = asking.close()
        return self._answered(result, asking.missing), asked

    def _answered(self, result: Result, missing: str) -> Result:
        """A result that is none where the program was told nothing in place of what is on record.

        Whatever it made of that: it would not be what comes of the recorded answers.
        """
        if not missing or result.reason is Reason.CANCELLED:
            return result
        if result.ok:
            self._caller.discard(result)
        return replace(result, reason=Reason.LOOKUP, message=f"{missing}{_ANEW}", permanent=True, outputs=())

    def _outputs(self, claim: Claim, lineage: Lineage, result: Result) -> list[AnnotatedValue]:
        stored = self._store.put_files([output.path for output in result.outputs], take=True)
        now = self._registry.clock()
        return [
            self._value(claim, lineage, output, digest, now)
            for output, digest in zip(result.outputs, stored, strict=True)
        ]

    def _value(
        self, claim: Claim, lineage: Lineage, output: OutputFile, stored: Stored, now: int
    ) -> AnnotatedValue:
        plan = claim.plan
        named = ids.output_value(claim.id, output.wire, output.index)
        return AnnotatedValue(
            id=named,
            circuit=plan.circuit,
            wire=output.wire,
            position=0,  # given when it is placed, under the wire's lock
            source=f"/circuits/{plan.circuit}/tasks/{plan.name}",
            created=now,
            arrived=now,
            digest=stored.digest,
            size=stored.size,
            type=output.type,
            name=output.name,
            snapshot=claim.id,
            version=plan.code.version,
            region=plan.task.region or "",
            key=lineage.key or named,
            index=output.index,
            hops=lineage.hops,
            attributes=lineage.attributes,
        )

    def _ending(
        self,
        claim: Claim,
        lineage: Lineage,
        result: Result | None = None,
        *,
        reason: str = "",
        message: str = "",
        permanent: bool = False,
        values: Sequence[AnnotatedValue] = (),
    ) -> Ending:
        version = claim.plan.code.version
        if result is None:
            return Ending(version, reason=reason, message=message, permanent=permanent, size_in=lineage.size)
        remarks = [Remark(s.kind, s.text, s.fields) for s in result.signposts]
        remarks += [Remark("wrapper", text, {}) for text in result.remarks]
        return Ending(
            version,
            seconds=result.seconds,
            reason=reason or str(result.reason),
            status=result.status if result.signal is None else result.signal,
            message=message or result.message,
            stderr=result.stderr,
            permanent=permanent or result.permanent,
            size_in=lineage.size,
            values=values,
            remarks=remarks,
        )

    def _give_up(self, claim: Claim, lineage: Lineage, result: Result, asked: Sequence[Lookup]) -> Executed:
        ending = replace(self._ending(claim, lineage, result), lookups=asked)
        if result.reason is not Reason.CANCELLED:
            return self._fail(claim, ending)
        self._registry.transact(lambda tx: claiming.release(tx, self._registry.clock(), claim, ending))
        return Executed(claim, "cancelled", ending)

    def _complete(
        self, claim: Claim, ending: Ending, follow: Callable[[Transaction], Claim | None]
    ) -> Executed:
        made = sum(value.size for value in ending.values)
        if ending.reason != CACHED:  # which says nothing of what is usual
            odd = self.noticing.notice(claim.plan.id, ending.seconds, ending.size_in, made, claim.formed)
            if odd:
                ending = replace(ending, remarks=[*ending.remarks, *odd])
        return self.finish(claim, ending, follow)

    def finish(
        self, claim: Claim, ending: Ending, follow: Callable[[Transaction], Claim | None] = nothing
    ) -> Executed:
        """Commit what came of an execution, which may have been elsewhere."""

        def step(tx: Transaction) -> tuple[set[str], Claim | None]:
            wires = self._commit(tx, self._registry.clock, self._circuit, claim, ending)
            return wires, follow(tx)

        self._turn(claim)
        while True:
            try:
                wires, following = self._registry.transact(step)
                break
            except Fenced:
                return Executed(claim, "lost", ending)
            except Purged as purged:
                if bring_back(self._registry, self._store, purged.digests):
                    return self._again(claim, ending)
        return Executed(claim, "done", ending, frozenset(wires), following=following)

    def _again(self, claim: Claim, ending: Ending) -> Executed:
        """Its outputs were the same as some that were being purged, and went with them: it is run again."""
        ending = replace(ending, reason="store", message="its outputs were purged at this moment", values=())
        self._registry.transact(lambda tx: claiming.release(tx, self._registry.clock(), claim, ending))
        return Executed(claim, "cancelled", ending)

    def _fail(self, claim: Claim, ending: Ending) -> Executed:
        try:
            due = self._registry.transact(lambda tx: claiming.fail(tx, self._registry.clock(), claim, ending))
        except Fenced:
            return Executed(claim, "lost", ending)
        return Executed(claim, "dead" if due is None else "failed", ending, due=due)
