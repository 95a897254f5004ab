"""Payloads: content-addressed bytes behind one small protocol."""

from koalja_fn.store.files import FileStore
from koalja_fn.store.opening import open_store
from koalja_fn.store.protocol import Moved, Store, Stored, Within

__all__ = ["FileStore", "Moved", "Store", "Stored", "Within", "open_store"]
