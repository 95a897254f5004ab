"""The wiring language: reading, checking and writing it. Pure text in, model out; no I/O."""
