"""Payloads: content-addressed bytes behind one small protocol."""

from koalja_fn.store.files import FileStore
from koalja_fn.store.opening import open_store
from koalja_fn.store.protocol import Moved, Store, Stored

__all__ = ["FileStore", "Moved", "Store", "Stored", "open_store"]
