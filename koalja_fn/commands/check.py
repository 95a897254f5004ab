"""`koalja-fn check`: all findings about a circuit at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from koalja_fn.commands.shared import emit_json, output_option, reports_errors


@click.command()
@reports_errors
@click.argument("path", type=click.Path(path_type=Path), default=".")
@output_option
def check(path: Path, output: str) -> None:
    """Find what is wrong with the circuit in PATH, all at once.

    PATH is a folder, a .koalja file or a single program. Errors keep a circuit from running (exit status 3);
    warnings say what is probably not meant; notes are worth knowing.

    \b
    Examples:
      koalja-fn check
      koalja-fn check ./weather
      koalja-fn check weather.koalja -o json
    """
    from koalja_fn.program.folder import open_circuit

    opened = open_circuit(path)
    if output == "json":
        emit_json(_document(opened))
    else:
        _tell(opened)
    if opened.circuit is None:
        sys.exit(3)


def _tell(opened: Any) -> None:
    from koalja_fn.wiring.findings import headline, render

    for finding in opened.findings:
        if finding.severity == "note":
            # sources and ends are in the summary
            if finding.code not in ("source", "end") or finding.cure:
                click.echo(headline(finding) + (f"\n  try: {finding.cure}" if finding.cure else ""))
        else:
            click.echo(render(finding))
    if opened.findings:
        counts = {s: sum(f.severity == s for f in opened.findings) for s in ("error", "warning")}
        said = [f"{n} {word}{'' if n == 1 else 's'}" for word, n in counts.items() if n]
        if said:
            click.echo(", ".join(said))
    click.echo(_summary(opened.draft))


def _summary(circuit: Any) -> str:
    parts = [_counted(len(circuit.tasks), "task"), _counted(len(circuit.wires), "wire")]
    parts += [f"{what}: {_named(names)}" for what, names in (("in", circuit.sources), ("out", circuit.ends))]
    return f"{circuit.name}: " + "; ".join(parts)


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _named(names: tuple[str, ...], most: int = 8) -> str:
    more = len(names) - most
    return (", ".join(names[:most]) + (f", and {more} more" if more > 0 else "")) or "none"


def _document(opened: Any) -> dict[str, Any]:
    circuit = opened.draft
    return {
        "circuit": circuit.name,
        "file": str(opened.file) if opened.file else None,
        "ok": opened.circuit is not None,
        "tasks": [t.name for t in circuit.tasks],
        "wires": sorted(circuit.wires),
        "sources": list(circuit.sources),
        "ends": list(circuit.ends),
        "findings": [
            {
                "severity": f.severity,
                "code": f.code,
                "message": f.message,
                "cure": f.cure,
                "file": f.place.file,
                "line": f.place.line,
                "column": f.place.column,
                "length": f.place.length,
                "text": f.text,
            }
            for f in opened.findings
        ],
    }
