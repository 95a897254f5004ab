"""Payloads: content-addressed bytes behind one small protocol."""
