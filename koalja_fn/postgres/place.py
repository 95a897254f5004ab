"""Where a database is: its address, and the schema in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from koalja_fn.errors import RegistryError

_SCHEMES = ("postgresql", "postgres")
_SCHEMA = re.compile(r"(?!pg_)[a-z_][a-z0-9_]{0,62}")


@dataclass(frozen=True, slots=True)
class Place:
    """An address for libpq, a schema (empty: the server's search path), and a name without secrets."""

    address: str
    schema: str
    name: str


def is_address(text: str) -> bool:
    """Whether the text is the address of a PostgreSQL database."""
    return text.partition("://")[0] in _SCHEMES


def place_of(address: str) -> Place:
    """Read `postgresql://USER:PASSWORD@HOST:PORT/DATABASE?schema=NAME&…`; the rest of it is libpq's.

    Raises:
        RegistryError: The schema's name is none.
    """
    parts = urlsplit(address)
    options = parse_qsl(parts.query, keep_blank_values=True)
    schema = dict(options).get("schema", "")
    if schema and not _SCHEMA.fullmatch(schema):
        raise RegistryError(
            f"schema {schema!r} is no name for a PostgreSQL schema here",
            cure="lower-case letters, digits and _, a letter first, at most 63; not pg_…",
        )
    rest = urlencode([(name, value) for name, value in options if name != "schema"])
    shown = f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}" + f"?schema={schema}" * bool(schema)
    return Place(urlunsplit(parts._replace(query=rest)), schema, shown)
