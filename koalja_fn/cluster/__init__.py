"""A circuit on a cluster: what it is there, and how it gets there."""
