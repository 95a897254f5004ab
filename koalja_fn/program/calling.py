"""Call the user's program on one snapshot: place its inputs, run it, collect its outputs.

Knows nothing of registries, leases or retries: the engine decides what a failure means.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from koalja_fn.program import orphans, outputs, running, signposts
from koalja_fn.program.argv import Unfilled, too_long
from koalja_fn.program.cancel import Cancel
from koalja_fn.program.contract import Job, Limits, OutputFile, Reason, Result
from koalja_fn.program.environment import clean
from koalja_fn.program.inputs import Inputs
from koalja_fn.program.logs import Log
from koalja_fn.program.scratch import OWN, Slot, Yard
from koalja_fn.program.starting import Process, Start, Starter
from koalja_fn.program.warm import starter as starter_of
from koalja_fn.program.watching import Watch
from koalja_fn.store import Store
from koalja_fn.store.disk import explained

# Errors of a start that another try of the same call would meet again.
_PERMANENT = {
    errno.ENOENT,
    errno.EACCES,
    errno.E2BIG,
    errno.ENOEXEC,
    errno.ENOTDIR,
    errno.ELOOP,
    errno.EISDIR,
}

_EXIT_HINTS = {126: ": a command in it is not executable", 127: ": a command in it was not found"}


@dataclass(frozen=True, slots=True)
class _Call:
    """One call under way."""

    job: Job
    slot: Slot
    inputs: Inputs
    environ: Mapping[str, str]
    stdout: Log
    stderr: Log


class Caller:
    """Calls programs, from as many threads at once as one likes.

    Opening one ends programs that a dead process left running below `root`, and makes this process
    the parent of its programs' orphans.

    Args:
        store: Where inputs come from.
        root: The folder for scratch folders, such as `.koalja/scratch`; best on the store's file system.
        starter: How processes are made; by default Python programs are forked where the job allows it.
        limits: How far a program may go.
        environ: The wrapper's environment, of which programs get a few harmless variables.
    """

    def __init__(
        self,
        store: Store,
        root: Path,
        *,
        starter: Starter | None = None,
        limits: Limits | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self._store = store
        self._environ = clean(os.environ if environ is None else environ)
        self._orphans = orphans.Orphans()
        with explained(f"scratch folders can't be made below {root}"):
            self._yard = Yard(root, lambda folder: _end_stale(folder))
        self._starter = starter or starter_of(self._yard.path, os.environ if environ is None else environ)
        self._slots: dict[Path, Slot] = {}

    def call(
        self, job: Job, stop: Cancel | None = None, began: Callable[[int], None] = lambda _: None
    ) -> Result:
        """Run `job` to its end. A program that fails is a `Result`, not an exception.

        `began` is told the pid as soon as there is one.

        Raises:
            StoreError: A payload is missing or damaged, or there is no room for the inputs.
        """
        if stop is not None and stop.is_set:
            return Result(Reason.CANCELLED, "was cancelled before it started")
        with explained(f"there is no scratch folder for {job.task}"):
            slot = self._yard.take()
        try:
            with explained(f"the inputs of {job.task} can't be placed"):
                result = self._prepared(job, slot, stop, began)
        except BaseException:
            self._yard.give_back(slot)
            raise
        if result.ok:
            self._slots[slot.folder] = slot
            return result
        return self._failed(job, slot, result)

    def discard(self, result: Result) -> None:
        """Clear the scratch folder of a successful call, once its outputs are stored."""
        slot = self._slots.pop(result.scratch, None) if result.scratch else None
        if slot is not None:
            self._yard.give_back(slot)

    def close(self) -> None:
        """Remove all scratch folders but those of failed calls; no call may be under way."""
        self._starter.close()
        self._yard.close()

    def _prepared(self, job: Job, slot: Slot, stop: Cancel | None, began: Callable[[int], None]) -> Result:
        inputs = Inputs(job, slot)
        inputs.place(self._store)
        limits = self.limits
        stdout = Log(slot.stdout, bounded=_is_log(job, inputs), limit=limits.log, tail=limits.tail)
        try:
            stderr = Log(slot.stderr, bounded=True, limit=limits.log, tail=limits.tail)
        except BaseException:
            stdout.close()
            raise
        call = _Call(job, slot, inputs, self._environment(job, slot), stdout, stderr)
        try:
            return self._started(call, stop, began)
        finally:
            stdout.close()
            stderr.close()

    def _started(self, call: _Call, stop: Cancel | None, began: Callable[[int], None]) -> Result:
        job, slot = call.job, call.slot
        argv: list[str] = []
        try:
            argv = call.inputs.argv()
            argv[0] = _program(argv[0], job.folder, call.environ["PATH"])
            start = Start(argv, slot.work, call.environ, call.stdout.fd, call.stderr.fd, job.warm)
            started = time.monotonic()
            process = self._starter(start)
        except Unfilled as unfilled:
            message = f"was not started: {unfilled.message}\n  try: {unfilled.cure}"
            return Result(Reason.NOT_STARTED, message, permanent=True)
        except (OSError, ValueError) as error:
            return _not_started(error, argv, call.environ)
        began(process.pid)
        ended = running.run(
            process,
            slot.out,
            self._orphans,
            started=started,
            timeout=job.timeout,
            stop=stop,
            grace=self.limits.grace,
            look=Watch(slot, call.stdout, call.stderr, self.limits).look,
        )
        return self._judged(call, argv, process, ended)

    def _judged(self, call: _Call, argv: list[str], process: Process, ended: running.Ended) -> Result:
        call.stdout.look()  # a flood may have been faster than the last look at it
        call.stderr.look()
        reason, message = _verdict(ended)
        permanent = reason is Reason.OUTPUTS
        found: list[OutputFile] = []
        damaged = call.inputs.changed(self._store) if call.inputs.linked else []
        if damaged:
            reason, permanent = Reason.INPUTS, True
            message = f"wrote to its input files ({', '.join(damaged)}): they are read-only, write elsewhere"
        if reason is Reason.NONE:
            try:
                found = self._collected(call)
            except (outputs.Unfit, OSError) as error:
                reason, permanent = Reason.OUTPUTS, isinstance(error, outputs.Unfit)
                message = str(error)
        posts, remarks = signposts.read(f"{call.slot.path}/signposts", self.limits.signposts)
        if process.remark:
            remarks = (*remarks, process.remark)
        if not ended.clean:
            remarks = (*remarks, "processes that it started could not be ended")
        is_value = any(str(file.path) == call.slot.stdout for file in found)
        return Result(
            reason,
            message,
            status=ended.status,
            signal=ended.signal,
            permanent=permanent,
            outputs=tuple(found),
            log="" if is_value else call.stdout.text(),
            stderr=call.stderr.text(),
            seconds=ended.seconds,
            cpu=ended.cpu,
            argv=tuple(argv),
            signposts=posts,
            remarks=remarks,
            scratch=call.slot.folder,
        )

    def _collected(self, call: _Call) -> list[OutputFile]:
        job, types = call.job, dict(call.job.types)
        outputs.check_beside(call.slot.path, OWN)
        found = outputs.collect(call.slot.out, job.outputs, types, self.limits)
        if found or _is_log(job, call.inputs):
            return found
        return outputs.of_stdout(call.slot.stdout, job.outputs[0], types, self.limits)

    def _environment(self, job: Job, slot: Slot) -> dict[str, str]:
        return {
            **self._environ,
            "HOME": slot.work,
            "TMPDIR": slot.work,
            **dict(job.env),
            "KOALJA_CIRCUIT": job.circuit,
            "KOALJA_TASK": job.task,
            "KOALJA_OUT": slot.out,
            "KOALJA_CODE": str(job.code),
            "KOALJA_SNAPSHOT": job.snapshot_id,
            "KOALJA_SIGNPOSTS": f"{slot.path}/signposts",
        }

    def _failed(self, job: Job, slot: Slot, result: Result) -> Result:
        """Keep the folder of a program that failed, unless there is nothing to be learned from it."""
        if result.reason in (Reason.CANCELLED, Reason.NOT_STARTED):
            self._yard.give_back(slot)
            return replace(result, scratch=None)
        label = job.label or f"{job.task}-{job.snapshot_id[:12]}"
        kept = None
        with suppress(OSError):
            kept = self._yard.keep(slot, label)
        return replace(result, scratch=kept)


def _end_stale(folder: Path) -> None:
    orphans.end_stale(str(folder))


def _is_log(job: Job, inputs: Inputs) -> bool:
    """Whether standard output can't be the value."""
    return inputs.template.writes or len(job.outputs) != 1


def _program(word: str, folder: Path, path: str) -> str:
    """The program as an absolute path: from the circuit's folder, else from PATH.

    Raises:
        FileNotFoundError: It is in neither.
    """
    if word.startswith("/"):
        return word
    own = folder / word
    if "/" in word or (own.is_file() and os.access(own, os.X_OK)):
        return str(own)
    found = shutil.which(word, path=path)
    if found is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), word)
    return found


def _not_started(error: OSError | ValueError, argv: list[str], environ: Mapping[str, str]) -> Result:
    program = argv[0] if argv else "the command"
    number = error.errno if isinstance(error, OSError) else None
    why, cure = str(error), ""
    if number == errno.E2BIG:
        why, cure = too_long(argv, environ)
    elif number == errno.ENOENT and Path(program).exists():
        why, cure = "the interpreter in its first line is not there", "correct the line that starts with #!"
    elif number == errno.ENOENT:
        why, cure = "there is no such program", "create or install it, or correct the run line"
    elif number == errno.EACCES:
        why, cure = "it is not executable", f"chmod +x {program}"
    elif number == errno.ENOEXEC:
        why, cure = (
            "the system can't execute it",
            "begin it with a line such as #!/bin/sh or #!/usr/bin/env python3",
        )
    message = f"{program} was not started: {why}" + (f"\n  try: {cure}" if cure else "")
    permanent = number in _PERMANENT or isinstance(error, ValueError)
    return Result(Reason.NOT_STARTED, message, permanent=permanent, argv=tuple(argv[:100]))


def _verdict(ended: running.Ended) -> tuple[Reason, str]:
    if ended.why is not Reason.NONE:
        return ended.why, ended.message
    if ended.signal is not None:
        hint = " (out of memory?)" if ended.signal == signal.SIGKILL else ""
        return Reason.SIGNAL, f"was ended by {_signal_name(ended.signal)}{hint}"
    if ended.status:
        also = _EXIT_HINTS.get(ended.status, "")
        return Reason.EXIT, f"ended with exit status {ended.status}{also}"
    return Reason.NONE, ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
