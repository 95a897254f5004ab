"""The durable metadata of circuits: schema, statements and transactions (the paper's pipeline manager)."""

from koalja_fn.registry.registry import Registry, Transaction, connect

__all__ = ["Registry", "Transaction", "connect"]
