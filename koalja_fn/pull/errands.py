"""Errands: where the programs are in images, an execution is run by who has its image.

The execution is put on record, then its task is asked over HTTP, which has the autoscaler start a pod if
there is none. The request stays open until the execution is over. An answer that was lost costs nothing: what
came of it is in the registry under the execution's key, and is found there when it is asked for again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from koalja_fn.errors import ClusterError
from koalja_fn.local.pods import Interrupted, Place, Pods
from koalja_fn.pull.asking import Failure
from koalja_fn.pull.course import Site
from koalja_fn.pull.runs import Done, Execution
from koalja_fn.registry import errands, making
from koalja_fn.registry.errands import Errand

PATH = "/errands/"
# One of these is in the answer of a task that has seen to an errand.
_ENDS = {"known", "failure", "damaged"}


class Errands:
    """Has executions run by their tasks' pods; called by several threads at once."""

    def __init__(self, site: Site, places: Mapping[str, Place], run: int) -> None:
        self._site = site
        self._places = places
        self._run = run
        self._pods = Pods(site.stop, _ENDS)

    def execute(self, execution: Execution) -> Done:
        """Have it run. Whatever goes wrong is in the answer."""
        try:
            return self._executed(execution)
        except Interrupted:
            return Done(execution, failure=_failure(execution, "was interrupted"), cancelled=True)
        except BaseException as error:
            return Done(execution, trouble=error)

    def _executed(self, execution: Execution) -> Done:
        registry, task = self._site.registry, execution.task
        errand = Errand(
            execution.key,
            self._site.found.circuit.name,
            task.name,
            execution.number,
            self._site.found.located[task.name].version,
            self._run,
            registry.clock(),
            execution.members,
            execution.told,
        )
        registry.transact(lambda tx: errands.keep(tx, errand))
        try:
            answer = self._pods.ask(self._places[task.name], f"{PATH}{execution.key}")
        finally:
            registry.transact(lambda tx: errands.drop(tx, execution.key))
        if answer.status != 200:
            raise ClusterError(
                f"task {task.name} was not run: it answered {answer.status or 'nothing'}",
                why=answer.why,
                cure="koalja-fn doctor --cluster tells what is wrong; what was finished is kept",
            )
        return self._done(execution, answer.said)

    def _done(self, execution: Execution, said: Mapping[str, Any]) -> Done:
        failed, damaged = said.get("failure"), said.get("damaged")
        if failed:
            return Done(execution, failure=_failure(execution, failed["message"], failed["stderr"]))
        if damaged:
            return self._damaged(execution, damaged)
        values = self._site.registry.read(lambda tx: making.values_of(tx, execution.key))
        return Done(execution, tuple(values), float(said["seconds"]), known=bool(said["known"]))

    def _damaged(self, execution: Execution, named: str) -> Done:
        """What was made can be made again; what has arrived can't."""
        value = next(v for member in execution.members for v in member.values if v.id == named)
        made = value.snapshot
        if made and self._site.registry.read(lambda tx: making.made(tx, made)) is not None:
            return Done(execution, damaged=value)
        message = (
            f"the payload of value {value.id[:12]} of wire {value.wire} is damaged or missing: send it again"
        )
        return Done(execution, failure=_failure(execution, message))


def _failure(execution: Execution, message: str, stderr: str = "") -> Failure:
    return Failure(execution.task.name, execution.number, message, stderr, None)
