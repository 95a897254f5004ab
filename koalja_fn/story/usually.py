"""What usually happens at a task, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from koalja_fn.engine.usual import Running, Usual, spread
from koalja_fn.story.words import plural


def usual_json(usual: Usual) -> dict[str, Any]:
    """Means and deviations: seconds and bytes."""
    return {
        "executions": usual.executions,
        "seconds": _running(usual.duration),
        "sizeIn": _running(usual.size_in),
        "sizeOut": _running(usual.size_out),
        "interval": _running(usual.interval),
        "anomalies": usual.anomalies,
    }


def usual_text(usual: Usual) -> Iterator[str]:
    """One line: mean ± deviation of each measure."""
    if not usual.executions:
        return
    parts = [f"takes {_spread('duration', usual.duration)}"]
    if usual.interval.number:
        parts.append(f"every {_spread('interval', usual.interval)}")
    parts += [f"in {_spread('size', usual.size_in)}", f"out {_spread('size', usual.size_out)}"]
    yield f"usually: {', '.join(parts)} ({plural(usual.executions, 'execution')})"


def _running(running: Running) -> dict[str, float]:
    return {"mean": round(running.mean, 6), "deviation": round(running.deviation, 6)}


def _spread(what: str, running: Running) -> str:
    return spread(what, running.mean, running.deviation)
