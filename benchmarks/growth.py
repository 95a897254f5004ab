"""What an event costs, by how many values are in the registry already: it must not grow with them.

    python benchmarks/growth.py [--quick] [--json]

An event is the whole way through the engine's own steps, in batches: it arrives, its window forms, is
claimed and completed with an output that is placed on a wire. Programs are not run, and waiting for disks is
not counted: processor time only. At the end one round of purging, for each payload that goes. Exit status 1
if an event costs more than 1.5 times as much as in the small registry, or a purged payload more than twice:
for each of these up to a thousand windows behind it are looked at, which a small registry does not have.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from koalja_fn import ids
from koalja_fn.engine import claiming
from koalja_fn.engine.arriving import Offer
from koalja_fn.engine.claiming import Claim, Ending
from koalja_fn.engine.forming import form
from koalja_fn.engine.purging import Purger
from koalja_fn.local.workplace import Workplace, open_workplace
from koalja_fn.model import AnnotatedValue

WIRING = (
    "[growth]\n(in[10/1]) task (out)\n    run = /bin/true\n    concurrency = 100\nwire in\n    keep = 1h\n"
)
BATCH = 100
GOALS = {"event": 1.5, "purging": 2.0}


class Bench:
    """A circuit whose registry grows."""

    def __init__(self, workplace: Workplace) -> None:
        self._workplace = workplace
        self._registry, self._store = workplace.registry, workplace.store
        self._intake = workplace.intake()
        self._plan = workplace.plan.tasks["task"]
        self.sent = 0

    def events(self, count: int) -> float:
        """Send that many events and work them off; processor time of the median batch, µs an event."""
        taken = []
        for _ in range(0, count, BATCH):
            begin = time.process_time()
            offers = [Offer("in", b"%d" % n, "/bench", str(n)) for n in range(self.sent, self.sent + BATCH)]
            self._intake.accept(offers)
            self.sent += BATCH
            while self._registry.transact(lambda tx: form(tx, self._registry.clock, self._plan)).more:
                pass
            while claims := self._registry.transact(self._claim):
                for claim in claims:
                    self._complete(claim)
            taken.append((time.process_time() - begin) / BATCH)
        return statistics.median(taken) * 1e6

    def gc(self) -> tuple[int, float]:
        """Purge all that may go; how many payloads went, and processor time for each, µs."""
        begin = time.process_time()
        done = Purger(self._registry, self._store, grace=0.0).round(older=1)
        gone = sum(one.payloads for one in done.freed.values())
        return gone, (time.process_time() - begin) / gone * 1e6

    def _claim(self, tx) -> list[Claim]:  # type: ignore[no-untyped-def]
        plan = self._workplace.plan
        return claiming.claim(tx, self._registry.clock(), plan, self._plan, "bench", BATCH, 60.0)

    def _complete(self, claim: Claim) -> None:
        now = self._registry.clock()
        stored = self._store.put_bytes(f"out {claim.id}".encode())
        value = AnnotatedValue(
            id=ids.output_value(claim.id, "out", 0),
            circuit="growth",
            wire="out",
            position=0,
            source="/circuits/growth/tasks/task",
            created=now,
            arrived=now,
            digest=stored.digest,
            size=stored.size,
            type="text/plain",
            snapshot=claim.id,
            version=claim.plan.code.version,
            key=claim.id,
            index=0,
            hops=1,
            attributes={},
        )
        ending = Ending(claim.plan.code.version, values=[value])
        plan = self._workplace.plan
        self._registry.transact(
            lambda tx: set(claiming.complete(tx, self._registry.clock, plan, claim, ending))
        )


def measure(values: int) -> dict[str, float]:
    """What an event, and the purging of a payload, cost where there are so many values."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="bench-", dir=memory if memory.is_dir() else None))
    (folder / "growth.koalja").write_text(WIRING)
    try:
        with open_workplace(folder) as workplace:
            bench = Bench(workplace)
            bench.events(values // 2)  # each event makes another value
            event = bench.events(500)
            gone, each = bench.gc()
            assert gone > values * 0.9  # all was worked off, or it would be needed
            return {"values": values, "event": event, "purged": gone, "purging": each}
    finally:
        shutil.rmtree(folder)


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1,000 against 20,000 values, not 100,000")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    few, many = measure(1000), measure(20_000 if options.quick else 100_000)
    ratios = {name: many[name] / few[name] for name in GOALS}
    if options.json:
        print(json.dumps({"few": few, "many": many, "ratios": ratios}, indent=2))
    else:
        print(f"| values in the registry | {few['values']:,} | {many['values']:,} | ratio | at most |")
        print("| --- | --- | --- | --- | --- |")
        for name, what in (("event", "an event"), ("purging", "purging a payload")):
            print(
                f"| {what} | {few[name]:.0f} µs | {many[name]:.0f} µs | {ratios[name]:.2f} | {GOALS[name]} |"
            )
    sys.exit(0 if all(ratios[name] <= goal for name, goal in GOALS.items()) else 1)


if __name__ == "__main__":
    main()
