"""Gives each comment of a file to the statement or line that it speaks about."""

from __future__ import annotations

from koalja_fn.wiring.syntax import Statement, Syntax, Word


def attach(syntax: Syntax, comments: list[Word], lines: list[str]) -> None:
    """Hang the comments, in the order of the file, on the tree; none is lost.

    A comment stands above what follows it. An indented one right under a statement stays with
    that statement if an empty line, the file's end or a line at the first column comes next.
    """
    waiting = list(reversed(comments))
    previous: Statement | None = None
    for statement in syntax.statements:
        block = _take(waiting, before=statement.first.line)
        block = _leave_below(previous, block, statement.first)
        _hang_above(statement, block, previous)
        for comment in _take(waiting, before=statement.last_line + 1):
            if comment.line == statement.last_line and not _alone(comment, lines):
                statement.comment = comment.text
            else:
                statement.above.append(comment.text)
        for line in statement.lines:
            line.above.extend(c.text for c in _take(waiting, before=line.key.line))
        previous = statement
    block = _leave_below(previous, _take(waiting, before=len(lines) + 2), None)
    end = Word("", len(lines) + 1, 1)
    syntax.tail = _paragraphs(block, previous.end_line if previous else 0, end)[1]
    if syntax.tail and syntax.tail[-1] == "":
        syntax.tail.pop()


def _take(waiting: list[Word], *, before: int) -> list[Word]:
    taken = []
    while waiting and waiting[-1].line < before:
        taken.append(waiting.pop())
    return taken


def _alone(comment: Word, lines: list[str]) -> bool:
    return not lines[comment.line - 1][: comment.column - 1].strip()


def _leave_below(previous: Statement | None, block: list[Word], following: Word | None) -> list[Word]:
    """Give the first comments of the block to the statement before it, where they are its own."""
    if previous is None:
        return block
    count, line = 0, previous.end_line
    while count < len(block) and block[count].line == line + 1 and block[count].column > 1:
        count, line = count + 1, line + 1
    after = block[count] if count < len(block) else following
    if count and after is not None and after.line == line + 1 and after.column > 1:
        return block
    previous.below = [c.text for c in block[:count]]
    return block[count:]


def _hang_above(statement: Statement, block: list[Word], previous: Statement | None) -> None:
    last = previous.end_line + len(previous.below) if previous else 0
    statement.gap, statement.above = _paragraphs(block, last, statement.first)
    if previous is None:
        statement.gap = False


def _paragraphs(block: list[Word], last: int, following: Word) -> tuple[bool, list[str]]:
    """Whether an empty line comes first, and the comments with their empty lines, at most one at a time."""
    texts: list[str] = []
    gap = False
    for word in [*block, following]:
        if word.line > last + 1:
            if texts:
                texts.append("")
            else:
                gap = True
        if word is not following:
            texts.append(word.text)
        last = word.line
    return gap, texts
