"""Trailing: the trail that a run leaves, whether it looked at everything or at a part."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path

from koalja_fn.pull.asking import Answer
from koalja_fn.pull.runs import Built
from koalja_fn.pull.stamps import stamps
from koalja_fn.pull.trail import Trail


def trail_of(folder: Path, built: Built, written: Iterable[Path], answer: Answer) -> Trail:
    """The trail of a run that looked at everything; `written` are the files that `to` names."""
    return Trail(
        folder=str(folder),
        circuit=answer.circuit,
        sources={
            wire: {str(sample.path): sample.stamp for sample in samples}
            for wire, samples in built.samples.items()
        },
        written=stamps(map(str, written)),
        only=[str(p.base / p.only) for p, names in built.listed if p.only and not names],
        patterns=[[p.wire, p.text, list(names)] for p, names in built.listed if not p.only],
        counts=built.counts,
        wires=answer.wires,
    )


def joined(earlier: Trail, part: Trail, wires: AbstractSet[str]) -> Trail:
    """The trail of a run that looked at these wanted wires anew, and found all else in `earlier`.

    Names of sources are as they were, or the run would have looked at everything.
    """
    old = {value["path"] for wire in wires for value in earlier.wires.get(wire, ())}
    return replace(
        earlier,
        sources={**earlier.sources, **part.sources},
        written={path: was for path, was in earlier.written.items() if path not in old} | dict(part.written),
        counts={**earlier.counts, **part.counts},
        wires=part.wires,
        changed=(),
    )
