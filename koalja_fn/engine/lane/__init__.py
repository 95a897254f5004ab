"""Recompute: a lane beside the live circuit, where recorded logs are replayed (docs/recompute.md)."""
