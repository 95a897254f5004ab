"""The durable metadata of circuits: schema, statements and transactions."""
