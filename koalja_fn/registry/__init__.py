"""The durable metadata of circuits: schema, statements and transactions (the paper's pipeline manager)."""

from koalja_fn.registry.registry import Registry, Transaction

__all__ = ["Registry", "Transaction"]
