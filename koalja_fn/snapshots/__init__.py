"""The snapshot core: which values come together, as a function of recorded events alone. No I/O."""
