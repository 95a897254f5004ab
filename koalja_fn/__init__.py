"""koalja-fn: circuits of plain programs, run whenever their input data arrive."""

__all__ = ["__version__"]

__version__ = "0.1.0"
