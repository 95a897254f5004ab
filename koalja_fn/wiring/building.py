"""Builds the concrete syntax while lark parses: one method for each rule of the grammar."""

from __future__ import annotations

from typing import Any

from lark import Token, Transformer

from koalja_fn.wiring.syntax import Item, Kind, Line, Statement, Word, split_comment


def _word(token: Token) -> Word:
    return Word(token.value, token.line or 0, token.column or 0)


def _attribute(token: Token) -> Line:
    key, _, rest = token.value.partition("=")
    value, comment = split_comment(rest)
    column = (token.column or 0) + len(key) + 1
    return Line(
        Word(key.rstrip(), token.line or 0, token.column or 0), _stripped(value, token, column), comment
    )


def _command(token: Token) -> Line:
    value, comment = split_comment(token.value)
    word = _stripped(value, token, token.column or 0)
    return Line(Word("run", word.line, word.column), word, comment, command=True)


def _stripped(value: str, token: Token, column: int) -> Word:
    bare = value.lstrip()
    return Word(bare.rstrip(), token.line or 0, column + len(value) - len(bare))


def _lines(tokens: list[Token]) -> list[Line]:
    return [_command(t) if t.type == "COMMAND" else _attribute(t) for t in tokens]


class Builder(Transformer[Token, Any]):
    """Children come as lark gives them: tokens, and what these methods made of the rules below."""

    def file(self, children: list[Statement]) -> list[Statement]:
        """All statements."""
        return children

    def header(self, children: list[Token]) -> Statement:
        """`[name]` and its lines."""
        head, *attributes = children
        inner = head.value.strip()[1:-1]
        indent = len(head.value) - len(head.value.lstrip())
        column = (head.column or 0) + indent
        pad = len(inner) - len(inner.lstrip())
        name = Word(inner.strip(), head.line or 0, column + 1 + pad)
        first = Word("[", head.line or 0, column)
        return Statement(Kind.HEADER, name, lines=_lines(attributes), first=first, last_line=first.line)

    def wire(self, children: list[Token]) -> Statement:
        """`wire NAME` and its lines."""
        first, name, *attributes = children
        return Statement(
            Kind.WIRE, _word(name), lines=_lines(attributes), first=_word(first), last_line=name.line or 0
        )

    def triple(self, children: list[Any]) -> Statement:
        """`(inputs) task (outputs)` and its lines."""
        (first, group), name, (outputs, last), *attributes = children
        statement = Statement(Kind.TRIPLE, _word(name), group.members, outputs, group)
        statement.lines = _lines(attributes)
        statement.first, statement.last_line = first, last.line
        return statement

    def rule(self, children: list[Any]) -> Statement:
        """`outputs: inputs`, its command and its lines."""
        middle = next(i for i, c in enumerate(children) if isinstance(c, Token) and c.type == "COLON")
        outputs = tuple(children[0]) if middle else ()
        colon = children[middle]
        rest = children[middle + 1 :]
        inputs = tuple(rest.pop(0)) if rest and isinstance(rest[0], list) else ()
        group = None
        if len(inputs) == 1 and inputs[0].members:
            group, inputs = inputs[0], inputs[0].members
        first = outputs[0].wires[0] if outputs else _word(colon)
        statement = Statement(Kind.RULE, None, inputs, outputs, group, _lines(rest), first)
        statement.last_line = _last_line(inputs, group, colon.line or 0)
        return statement

    def group(self, children: list[Any]) -> tuple[Word, Item]:
        """The inputs of a triple: the opening bracket, and all as one item."""
        items, rest = _bracket(children)
        marks, aliases = _suffixes(rest[1:])
        return _word(children[0]), Item((), marks, aliases, items)

    def outputs(self, children: list[Any]) -> tuple[tuple[Item, ...], Word]:
        """The outputs of a triple, and the closing bracket."""
        items, rest = _bracket(children)
        return items, _word(rest[0])

    def items(self, children: list[Item]) -> list[Item]:
        """Inputs or outputs."""
        return children

    plain_items = items
    inner_items = items

    def single(self, children: list[Any]) -> Item:
        """One input or output."""
        if len(children) == 1:
            return Item(children[0])
        return Item(children[0], *_suffixes(children[1:]))

    def inner(self, children: list[Any]) -> Item:
        """Wires in brackets inside a list."""
        items, rest = _bracket(children)
        marks, aliases = _suffixes(rest[1:])
        if len(items) == 1 and not (items[0].marks or items[0].aliases):
            return Item(items[0].wires, marks, aliases)
        return Item((), marks, aliases, items)

    innermost = inner

    def wires(self, children: list[Token]) -> tuple[Word, ...]:
        """Wires joined by `+`."""
        return tuple(_word(t) for t in children)

    def suffix(self, children: list[Token]) -> Token:
        """A buffer, a word, or the name after `as`."""
        return children[-1]


def _bracket(children: list[Any]) -> tuple[tuple[Item, ...], list[Any]]:
    """The items between the brackets, and what follows from the closing one on."""
    if isinstance(children[1], list):
        return tuple(children[1]), children[2:]
    return (), children[1:]


def _suffixes(tokens: list[Token]) -> tuple[tuple[Word, ...], tuple[Word, ...]]:
    marks = tuple(_word(t) for t in tokens if t.type != "NAME")
    return marks, tuple(_word(t) for t in tokens if t.type == "NAME")


def _last_line(inputs: tuple[Item, ...], group: Item | None, line: int) -> int:
    words: list[Word] = [
        w for i in (*inputs, *((group,) if group else ())) for w in (*i.wires, *i.marks, *i.aliases)
    ]
    return max([line, *(w.line for w in words)])
