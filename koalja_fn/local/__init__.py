"""Running on one machine: HTTP entry, in-trays, out-trays and the live display."""
