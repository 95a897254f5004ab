"""The user's program: finding it, calling it, and collecting what it wrote."""
