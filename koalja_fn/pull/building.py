"""Building: the wires of a plan are brought up to date; what was damaged is made again."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Sequence
from contextlib import suppress

from koalja_fn import ids
from koalja_fn.engine.keys import runner_of
from koalja_fn.engine.lineage import Lineage, lineage_of
from koalja_fn.errors import RegistryError, StoreError
from koalja_fn.model import AnnotatedValue, Task
from koalja_fn.program.calling import Caller
from koalja_fn.program.contract import Job, Result
from koalja_fn.pull.asking import Failure
from koalja_fn.pull.claims import Claims
from koalja_fn.pull.course import Course, Site
from koalja_fn.pull.keys import Code
from koalja_fn.pull.known import Known
from koalja_fn.pull.planning import Plan
from koalja_fn.pull.pool import Answer, Pool
from koalja_fn.pull.runs import Built, Damaged, Done, Execution
from koalja_fn.pull.sampling import Sampler
from koalja_fn.pull.writing import Sinks
from koalja_fn.registry import making
from koalja_fn.registry.registry import Transaction

_PASSES = 5
_GLANCE = 0.1  # seconds between two looks at what another run makes


def build(site: Site, caller: Caller, plan: Plan, known: Known, sinks: Sinks, run: int) -> Built:
    """Bring the wanted wires up to date, and write them where `to` says; `run` is this run's number.

    Raises:
        StoreError: A source can't be read, a result can't be written, or there is no room.
        NotFound: A source has no files to be sampled.
    """
    return repeated(site, sinks, lambda: _pass(site, caller, plan, known, sinks, run))


def repeated(site: Site, sinks: Sinks, one_pass: Callable[[], Built]) -> Built:
    """Go from the sources to the end, and once more where something on the way turned out to be damaged.

    Raises:
        StoreError: It is damaged again and again; or what the pass raises.
    """
    for _ in range(_PASSES):
        try:
            built = one_pass()
            if not site.options.dry:
                sinks.rest(built.values)
            return built
        except Damaged as damaged:
            _forget(site, damaged.value)
    raise StoreError(
        "payloads are damaged again and again",
        why="what was just made could not be read back",
        cure="koalja-fn doctor --verify; see whether the disk is failing",
    )


def _forget(site: Site, value: AnnotatedValue) -> None:
    """Forget a payload that is damaged, and the execution that made it: the next pass brings both again."""
    what = f"value {value.id[:12]} of wire {value.wire}"
    site.options.told(f"{what} is damaged or missing in the store: it is brought again")
    site.store.delete(value.digest)
    if value.snapshot:
        site.registry.transact(lambda tx: making.forget(tx, value.snapshot))


def codes(site: Site, tasks: Sequence[Task], known: Known) -> dict[str, Code]:
    """The code of each task with its files' digests."""
    folder = site.found.folder
    made = {}
    for task in tasks:
        located = site.found.located[task.name]
        by = runner_of(located)
        files = {os.path.relpath(path, folder): known.digest(path) for path in located.files}
        made[task.name] = Code(located, files, known.digest(by) if by is not None else "")
    return made


def _pass(site: Site, caller: Caller, plan: Plan, known: Known, sinks: Sinks, run: int) -> Built:
    options, found = site.options, site.found
    sampler = Sampler(
        found.circuit,
        found.folder,
        site.store,
        known,
        site.registry.clock(),
        most=options.most,
        warn=options.told,
    )
    executor = Executor(site, caller)
    with Pool(executor.serve, options.jobs, strict=not options.keep_going) as pool:
        course = Course(site, plan, codes(site, plan.tasks, known), sampler, pool, sinks, run)
        built = course.go()
    known.remember()
    return built


class Executor:
    """Runs the program of one execution; called by several threads at once."""

    def __init__(self, site: Site, caller: Caller) -> None:
        self._site = site
        self._caller = caller

    def execute(self, execution: Execution) -> Done:
        """Run it; whatever goes wrong is in the answer."""
        answers: list[Done] = []
        self.serve(execution, answers.append)
        return answers[0]

    def serve(self, execution: Execution, answer: Answer) -> None:
        """Run it, and answer. Whatever goes wrong is in the answer."""
        result: Result | None = None
        try:
            done = self._before(execution)
            if done is None:
                result = self._caller.call(self._job(execution), self._site.stop)
                done = self._after(execution, result)
        except StoreError as error:
            done = Done(
                execution, failure=Failure(execution.task.name, execution.number, str(error), "", None)
            )
        except BaseException as error:
            done = Done(execution, trouble=error)
        if self._site.claims is not None and not done.fine:
            self._let_go(execution, self._site.claims)
        answer(done)  # before the folder is cleared, for which nobody need wait
        if result is not None and result.ok:
            self._caller.discard(result)

    def _before(self, execution: Execution) -> Done | None:
        """The answer, where nothing need be run, or nothing can be."""
        if self._site.claims is not None:
            done = self._claimed(execution, self._site.claims)
            if done is not None:
                return done
        for member in execution.members:
            for value in member.values:
                if not self._site.store.verify(value.digest):
                    return Done(execution, damaged=value)
        return None

    def _after(self, execution: Execution, result: Result) -> Done:
        if not result.ok:
            failure = Failure(
                execution.task.name, execution.number, result.message, result.stderr, result.scratch
            )
            return Done(execution, failure=failure, cancelled=self._site.stop.is_set)
        values = self._values(execution, lineage_of(execution.members), result)
        return Done(execution, values, result.seconds)

    def _claimed(self, execution: Execution, claims: Claims) -> Done | None:
        """The answer, where somebody else has made it since we looked, or is making it; else it is ours."""
        if execution.task.cache is False or not execution.task.outputs:
            return None

        def step(tx: Transaction) -> tuple[bool, Sequence[AnnotatedValue] | None]:
            ours = claims.take(tx, execution.key)  # first: who had it until now may have made it
            made = making.made(tx, execution.key) is not None
            return ours, making.values_of(tx, execution.key) if made else None

        ours, values = self._site.registry.transact(step)
        if values is not None and all(self._site.store.has(value.digest) for value in values):
            if ours:
                self._let_go(execution, claims)
            return Done(execution, tuple(values), known=True)
        if ours:
            return None
        poll = select.poll()
        poll.register(self._site.stop.fileno(), select.POLLIN)
        poll.poll(_GLANCE * 1000)
        return Done(execution, elsewhere=True)

    def _let_go(self, execution: Execution, claims: Claims) -> None:
        with suppress(RegistryError):  # it ends by itself
            self._site.registry.transact(lambda tx: claims.drop(tx, [execution.key]))

    def _job(self, execution: Execution) -> Job:
        task, found = execution.task, self._site.found
        code, wires = found.located[task.name], found.circuit.wires
        return Job(
            circuit=found.circuit.name,
            task=task.name,
            command=code.command,
            folder=found.folder,
            code=code.code,
            snapshot_id=execution.key,
            inputs=tuple((m.input, m.values) for m in execution.members),
            outputs=task.output_wires,
            types=tuple((w, wires[w].type or "") for w in task.output_wires if wires[w].type),
            env=task.env,
            timeout=task.timeout,
            label=f"{task.name}-{execution.number + 1}-make",
            warm=task.warm,
        )

    def _values(self, execution: Execution, lineage: Lineage, result: Result) -> tuple[AnnotatedValue, ...]:
        task, circuit = execution.task, self._site.found.circuit.name
        stored = self._site.store.put_files([output.path for output in result.outputs], take=True)
        now = self._site.registry.clock()
        found = []
        for output, payload in zip(result.outputs, stored, strict=True):
            named = ids.output_value(execution.key, output.wire, output.index)
            found.append(
                AnnotatedValue(
                    id=named,
                    circuit=circuit,
                    wire=output.wire,
                    position=0,  # given when all of the wire is there
                    source=f"/circuits/{circuit}/tasks/{task.name}",
                    created=now,
                    arrived=now,
                    digest=payload.digest,
                    size=payload.size,
                    type=output.type,
                    name=output.name,
                    snapshot=execution.key,
                    version=self._site.found.located[task.name].version,
                    region=task.region or "",
                    key=lineage.key or named,
                    index=output.index,
                    hops=lineage.hops,
                    attributes=lineage.attributes,
                )
            )
        return tuple(found)
