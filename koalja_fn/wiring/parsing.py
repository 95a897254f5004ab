"""Text to concrete syntax, with every syntax error at once.

The whole text is parsed in one go. Only if that fails is it cut at the lines where statements
begin, and each piece parsed for itself, so that one broken statement hides no other.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from functools import cache
from typing import Any

from lark import Token
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from koalja_fn.wiring import tables
from koalja_fn.wiring.building import Builder
from koalja_fn.wiring.comments import attach
from koalja_fn.wiring.findings import Notebook
from koalja_fn.wiring.syntax import ATTRIBUTE_LIKE, Statement, Syntax, Word

_PLAIN = {
    "LPAR": "'('",
    "RPAR": "')'",
    "COLON": "':'",
    "NAME": "a name",
    "BUFFER": "a buffer such as [5]",
    "_COMMA": "','",
    "_PLUS": "'+'",
    "_NL": "the end of the line",
    "COMMAND": "a command",
    "ATTRIBUTE": "an attribute",
}
_MOST_NAMED = 4


class LineEnds:
    """Lets a line's end through only where it counts: at the end of a rule's head."""

    always_accept = ("_NL",)

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        """The tokens that count, in order."""
        rule, depth = False, 0
        for token in stream:
            kind = token.type
            if kind == "_NL":
                if rule and depth <= 0:
                    rule = False
                    yield token
                continue
            if kind == "COLON":
                rule, depth = True, 0
            elif kind == "LPAR":
                depth += 1
            elif kind == "RPAR":
                depth -= 1
            yield token


class _Parser:
    """The parser and the comments that it met; one at a time may use it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.comments: list[Word] = []
        self.lark = tables.parser(
            postlex=LineEnds(), transformer=Builder(), lexer_callbacks={"COMMENT": self._comment}
        )

    def _comment(self, token: Token) -> Token:
        self.comments.append(Word(token.value.rstrip(), token.line or 0, token.column or 0))
        return token

    def parse(self, text: str) -> tuple[list[Statement], list[Word]]:
        """Statements and comments of a text.

        Raises:
            UnexpectedInput: It does not follow the grammar.
        """
        self.comments = []
        statements: Any = self.lark.parse(text + "\n")
        return statements, self.comments


@cache
def _parser() -> _Parser:
    return _Parser()


def lines_of(text: str) -> list[str]:
    """The lines of a text: only line feeds end them."""
    return text.split("\n")


def parse(text: str, notebook: Notebook) -> Syntax:
    """The concrete syntax; what does not parse is left out and written into the notebook."""
    parser = _parser()
    with parser.lock:
        try:
            statements, comments = parser.parse(text)
        except UnexpectedInput as whole:
            statements, comments = _parse_pieces(parser, notebook)
            if not notebook.findings:
                _report(whole, notebook)
    syntax = Syntax(statements)
    attach(syntax, comments, notebook.lines)
    return syntax


def _parse_pieces(parser: _Parser, notebook: Notebook) -> tuple[list[Statement], list[Word]]:
    statements: list[Statement] = []
    comments: list[Word] = []
    for start, piece in _pieces(notebook.lines):
        try:
            found, said = parser.parse("\n" * start + "\n".join(piece))
        except UnexpectedInput as error:
            last = start + len(piece)
            at = getattr(error, "line", None) or last
            if start < at <= last and ATTRIBUTE_LIKE.match(notebook.text(at).lstrip()):
                error, last = _unfinished(parser, start, piece[: at - start - 1]) or error, at - 1
            _report(error, notebook, last=last)
        else:
            statements += found
            comments += said
    return statements, comments


def _unfinished(parser: _Parser, start: int, piece: list[str]) -> UnexpectedInput | None:
    """What is lacking above an attribute line, if that can't stand there since something is."""
    try:
        parser.parse("\n" * start + "\n".join(piece))
    except UnexpectedInput as error:
        return error
    return None


_HEADER = re.compile(r"[ \t]*\[")
_WIRE = re.compile(r"[ \t]*wire[ \t]")
_RULE = re.compile(r"[^\s(#\[=][^(#=]*:(\s|$)|:")
_BRACKET = re.compile(r"[ \t]*\(")
_TRIPLE = re.compile(r"[ \t]*\([^#]*\)[^#()]*[\w.-][^#()]*\([^#]*\)")


def _pieces(lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Cut the lines where statements seem to begin: (lines before it, its lines)."""
    start, closed, ends = 0, False, 0
    for number, line in enumerate(lines):
        bracket = _BRACKET.match(line) is not None
        attribute = ATTRIBUTE_LIKE.match(line.lstrip()) is not None
        other = bool(line.strip()) and not line[0].isspace() and line[0] not in "#()" and not attribute
        begins = bool(
            _HEADER.match(line)
            or _WIRE.match(line)
            or (not attribute and _RULE.match(line))
            or (bracket and (closed or ends >= 2 or _TRIPLE.match(line)))
            or (other and (closed or ends >= 2))
        )
        if begins and number > start:
            yield start, lines[start:number]
            start, ends = number, 0
        ends += line.partition("#")[0].count(")") if not attribute else 0
        closed = attribute or (bool(begins) and not bracket) or (closed and not begins)
    yield start, lines[start:]


_RESERVED_TASK = re.compile(r"\)\s*(implicit|passive|ordered|as)\s*\(")


def _report(error: UnexpectedInput, notebook: Notebook, last: int | None = None) -> None:
    """Write a syntax error down for people."""
    if isinstance(error, UnexpectedToken) and error.token.type in ("$END", "_NL"):
        at = _end(notebook, last or len(notebook.lines))
        if error.token.type == "_NL":
            at = Word("", error.token.line or at.line, error.token.column or at.column)
        what = "the line ends too early" if error.token.type == "_NL" else "this statement is not finished"
    elif isinstance(error, UnexpectedToken):
        token = error.token
        text = token.value.strip().split("\n")[0]
        indent = len(token.value) - len(token.value.lstrip())
        at = Word(text, token.line or 1, (token.column or 1) + indent)
        what = f"'{_short(text)}' can't stand here"
    else:
        at = Word("x", error.line, error.column)
        what = f"the character {_letter(error)} can't stand here"
    line = notebook.text(at.line)
    key = ATTRIBUTE_LIKE.match(line.lstrip())
    if key and what.endswith("can't stand here"):
        text = key[0].rstrip("= \t")
        at = Word(text, at.line, len(line) - len(line.lstrip()) + 1)
        what = f"`{text}` belongs to no statement"
    notebook.error("syntax", what, at, _cure(error, line))


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "…"


def _letter(error: UnexpectedInput) -> str:
    letter = error.char if isinstance(error, UnexpectedCharacters) else ""
    return f"'{letter}'" if letter.isprintable() and letter else repr(letter)


def _end(notebook: Notebook, last: int) -> Word:
    """Just behind the last thing that is written up to a line."""
    while last > 1 and not notebook.text(last).partition("#")[0].strip():
        last -= 1
    return Word("", last, len(notebook.text(last).partition("#")[0].rstrip()) + 1)


def _cure(error: UnexpectedInput, line: str) -> str:
    expected: set[str] = set(
        getattr(error, "accepts", None)
        or getattr(error, "expected", None)
        or getattr(error, "allowed", ())
        or ()
    )
    letter = _found(error)
    if ATTRIBUTE_LIKE.match(line.lstrip()):
        return "put attribute lines right after `(inputs) task (outputs)`, a rule, `wire NAME` or `[name]`"
    reserved = _RESERVED_TASK.search(line)
    if reserved:
        return f"'{reserved[1]}' is a reserved word: choose another name for the task"
    if letter.startswith("[") and expected & {"NAME", "LPAR"} and "BUFFER" not in expected:
        return "write a buffer right after an input: (x[5]) task (out); outputs have none"
    if not letter and "RPAR" in expected:
        return "close the bracket: )"
    if letter == "+" and "_PLUS" not in expected:
        return "merge wires first, then give the buffer: (a + b)[10/2]"
    if expected == {"LPAR"}:
        return "after the task's name write its outputs in brackets: (inputs) task (outputs)"
    if "COLON" in expected and "LPAR" not in expected:
        return "write `(inputs) task (outputs)`, or `outputs: inputs` on one line"
    named = sorted(_PLAIN[name] for name in expected if name in _PLAIN)
    if named and len(named) <= _MOST_NAMED:
        return f"write {' or '.join(named)} here"
    return "write statements as `(inputs) task (outputs)`, `outputs: inputs`, `wire NAME` or `[name]`"


def _found(error: UnexpectedInput) -> str:
    if isinstance(error, UnexpectedToken):
        return str(error.token.value).strip()
    return str(getattr(error, "char", ""))
