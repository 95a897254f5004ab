"""The grammar's tables, made ahead: `python -m koalja_fn.wiring.tables` after each change of grammar.lark.

To derive them takes longer than to parse a circuit. They are plain JSON beside the grammar, so nothing is
unpickled and nothing is written where the library is used. Tables of another grammar or of another lark
are left alone: then the parser is derived, as if there were none.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from lark import Lark, __version__

_HOME = Path(__file__).parent
_GIVEN = ("postlex", "transformer", "lexer_callbacks")


def parser(**given: Any) -> Lark:
    """The parser of the wiring language; `given` are its postlex, transformer and lexer callbacks."""
    grammar = _read("grammar.lark")
    data = _tables(grammar)
    if data is None:
        return derived(grammar, **given)
    loader: Any = Lark  # the entry of lark's own stand-alone parsers, which it does not annotate
    made: Lark = loader._load_from_dict(data["data"], data["memo"], **given)
    return made


def derived(grammar: str, **given: Any) -> Lark:
    """The parser from the grammar itself."""
    return Lark(grammar, start="file", parser="lalr", lexer="contextual", maybe_placeholders=False, **given)


def fits(told: Any, grammar: str) -> bool:
    """Whether tables were made from this grammar by this lark."""
    return bool(told["lark"] == __version__ and told["grammar"] == _digest(grammar))


def written(grammar: str, **given: Any) -> str:
    """The text of the tables."""
    from lark.grammar import Rule
    from lark.lexer import TerminalDef

    data, memo = derived(grammar, **given).memo_serialize([TerminalDef, Rule])
    data["options"] = {key: value for key, value in data["options"].items() if key not in _GIVEN}
    told = {"lark": __version__, "grammar": _digest(grammar), "data": data, "memo": memo}
    return json.dumps(told, separators=(",", ":")) + "\n"


def _tables(grammar: str) -> Any:
    try:
        told = json.loads(_read("tables.json"))
    except FileNotFoundError:
        return None
    if not fits(told, grammar):
        return None
    table = told["data"]["parser"]["parser"]
    for holder, name in ((told, "memo"), (table, "tokens"), (table, "states")):
        holder[name] = _numbered(holder[name])
    table["states"] = {state: _numbered(actions) for state, actions in table["states"].items()}
    return told


def _numbered(data: dict[str, Any]) -> dict[int, Any]:
    """JSON has words for keys only."""
    return {int(key): value for key, value in data.items()}


def _read(name: str) -> str:
    return (_HOME / name).read_text(encoding="utf-8")


def _digest(grammar: str) -> str:
    return hashlib.sha256(grammar.encode()).hexdigest()


if __name__ == "__main__":
    from koalja_fn.wiring.parsing import LineEnds

    path = _HOME / "tables.json"
    path.write_text(written(_read("grammar.lark"), postlex=LineEnds()), encoding="utf-8")
    sys.stdout.write(f"{path}\n")
