"""What is wrong or worth knowing in a wiring: where, why, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from koalja_fn.model import Place
from koalja_fn.wiring.syntax import Word

Severity = Literal["error", "warning", "note"]

NOWHERE = Place()


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding. `code` is a short stable word, `text` the line of the file that it is about."""

    severity: Severity
    code: str
    message: str
    cure: str = ""
    place: Place = NOWHERE
    text: str = ""


@dataclass(slots=True)
class Notebook:
    """Collects findings of one file, and knows its lines."""

    file: str
    lines: list[str]
    findings: list[Finding] = field(default_factory=list)

    def place(self, word: Word) -> Place:
        """The place of a word."""
        return Place(self.file, word.line, word.column, max(1, len(word.text)))

    def text(self, line: int) -> str:
        """The text of a line; empty if there is none."""
        return self.lines[line - 1] if 0 < line <= len(self.lines) else ""

    def add(self, severity: Severity, code: str, message: str, cure: str, at: Word | Place) -> None:
        """Write down a finding."""
        place = self.place(at) if isinstance(at, Word) else at
        self.findings.append(Finding(severity, code, message, cure, place, self.text(place.line)))

    def error(self, code: str, message: str, at: Word | Place, cure: str = "") -> None:
        """Write down an error: the circuit can't run."""
        self.add("error", code, message, cure, at)

    def warning(self, code: str, message: str, at: Word | Place, cure: str = "") -> None:
        """Write down a warning: it runs, but probably not as meant."""
        self.add("warning", code, message, cure, at)

    def note(self, code: str, message: str, at: Word | Place, cure: str = "") -> None:
        """Write down a note: worth knowing."""
        self.add("note", code, message, cure, at)

    def sorted(self) -> tuple[Finding, ...]:
        """All findings in the order of the file."""
        return tuple(sorted(self.findings, key=lambda f: (f.place.line, f.place.column)))


def has_errors(findings: Iterable[Finding]) -> bool:
    """Whether any of them is an error."""
    return any(f.severity == "error" for f in findings)


def headline(finding: Finding) -> str:
    """A finding in one line, with its place in front."""
    place = finding.place
    where = ":".join(str(part) for part in (place.file, place.line, place.column) if part)
    front = f"{where}: " if where else ""
    return f"{front}{finding.severity}: {finding.message} [{finding.code}]"


def render(finding: Finding) -> str:
    """A finding as text: what and where, the line itself with a caret, and the cure."""
    parts = [headline(finding)]
    if finding.text:
        margin = f"{finding.place.line:>5} | "
        before = finding.text[: finding.place.column - 1]
        blank = "".join("\t" if letter == "\t" else " " for letter in before)
        width = min(finding.place.length, max(1, len(finding.text) - len(before)))
        parts.append(margin + finding.text)
        parts.append(" " * (len(margin) - 2) + "| " + blank + "^" + "~" * (width - 1))
    if finding.cure:
        parts.append(f"  try: {finding.cure}")
    return "\n".join(parts)
