"""PostgreSQL as a database for many writers at once: one place for how it differs from SQLite.

Knows nothing of what the tables mean. psycopg is imported when a database is opened.
"""

from koalja_fn.postgres.database import Database
from koalja_fn.postgres.place import Place, is_address, place_of

__all__ = ["Database", "Place", "is_address", "place_of"]
