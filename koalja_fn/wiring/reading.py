"""Text in, circuit and findings out."""

from __future__ import annotations

from dataclasses import dataclass

from koalja_fn.model import Circuit
from koalja_fn.wiring.findings import Finding, Notebook, has_errors


@dataclass(frozen=True, slots=True)
class Reading:
    """What a text means. `circuit` is None if, and only if, a finding is an error.

    `draft` is what could be understood even so, for those who look for further mistakes.
    """

    circuit: Circuit | None
    findings: tuple[Finding, ...]
    draft: Circuit


def read(text: str, *, file: str = "", default_name: str = "") -> Reading:
    """Read a circuit, and find all that is wrong with it.

    `file` is only named in places; `default_name` is the circuit's name where no `[name]` says it.
    """
    # lark is imported when something is read: --help and the engine's hot paths go without it
    from koalja_fn.wiring.checks import check
    from koalja_fn.wiring.meaning import understand
    from koalja_fn.wiring.parsing import lines_of, parse

    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    notebook = Notebook(file, lines_of(text))
    syntax = parse(text, notebook)
    draft = understand(syntax, notebook, default_name)
    check(draft, notebook)
    findings = notebook.sorted()
    return Reading(None if has_errors(findings) else draft.circuit, findings, draft.circuit)
