"""The short way out for a forked program that came to its end by itself.

An interpreter ends by taking itself apart, object by object. In a fork each page that this touches is copied
first, which takes longer than most small programs. So what a program can notice of the end is done here, by the
same means and in the same order (streams flushed, cycles collected, its modules dropped, then cleared), and the
process goes.

Only where the exit status is certainly 0 and nothing is out of the ordinary: no `sys.exit`, no exception, no other
thread, no replaced stream, no library whose end is not known here. All others end as the interpreter ends them.
No frame of ours is below what the program may have to say at its end: each step is a C function that the
interpreter itself calls. Like its neighbour, this must be readable by any CPython from 3.8 on.
"""

import _thread
import _weakref
import atexit
import gc
import os
import sys
from _functools import partial

# Those of which it is known what they do after a script's end; looked at in their sources, and tested.
_VERSIONS = ((3, 10), (3, 11), (3, 12), (3, 13))
# What the interpreter puts into __main__ and leaves there.
_GIVEN = ("__name__", "__doc__", "__package__", "__loader__", "__spec__", "__builtins__")
# Modules of the standard library whose users may print by C's own streams, which os._exit does not flush.
_WITH_STREAMS = frozenset(("_ctypes", "_curses", "_tkinter", "readline"))
# Libraries in C of which it is known that at the end of a process they have nothing to do that anybody could see:
# to call the end of each of the hundred that pandas loads takes as long as all the rest of a small program.
_SILENT = frozenset(("numpy", "pandas"))
_STEPS = 6


class Ending:
    """What comes after all functions of `atexit`, in a child.

    Made before any library registers one, so that it is called last. `main` is the child's own `__main__`.
    """

    def __init__(self):
        self.main = None
        self.kept = {}
        self.exit = None
        self.thorough = False
        self.last = None
        self.sizes = None
        self.streams = ()
        self.script = None
        self.seen = []
        self.steps = []
        step = partial(next, map(partial.__call__, iter(self.steps)), None)
        atexit.register(self._leave)
        for _ in range(_STEPS):
            atexit.register(step)
        atexit.register(self._begin)

    def prepare(self, kept, exit, thorough):
        """Learn what is there before any execution: the libraries, and the way out for them."""
        self.kept = kept
        self.exit = exit
        self.thorough = thorough
        self.last = next(reversed(kept))
        self.sizes = _sizes()
        self.streams = (sys.stdin, sys.stdout, sys.stderr)

    def _begin(self):
        try:
            sys._getframe(1)
            return  # it is the program that calls these functions
        except ValueError:
            pass
        late = self._late()
        short = self.exit is not None and late is not None and self._is_plain(late)
        self.main = None
        self.streams = ()
        if not short:
            self._shed()
            return
        self.seen = [_weakref.ref(sys.modules[name]) for name in late]
        self.steps += [
            partial(gc.collect),
            partial(sys.modules.update, dict.fromkeys(late)),
            partial(gc.collect),
            partial(self._clear),
        ]

    def _clear(self):
        """Plan the clearing of modules that something still holds: the last imported first."""
        cleared = []
        for seen in reversed(self.seen):
            module = seen()
            if module is not None:
                names = sorted(module.__dict__, key=_is_public)
                cleared.append(
                    partial(module.__dict__.update, dict.fromkeys(n for n in names if n != "__builtins__"))
                )
        if cleared:
            self.steps += [partial(any, map(partial.__call__, cleared)), partial(gc.collect)]

    def _leave(self):
        if not self.seen:
            return
        # All that the script defined is gone. If the name of its file is still in use, then by the interpreter: it is
        # on its way out of a sys.exit.
        if sys.getrefcount(self.script) == 2 and _flushed():
            self.exit()
        self._shed()

    def _late(self):
        """The program's modules in the order of their import, `__main__` first; None if that can't be told."""
        late = []
        for name in reversed(sys.modules):
            if name == self.last:
                return ["__main__"] + late[::-1]
            late.append(name)
        return None

    def _is_plain(self, late):
        """Whether it has certainly ended with status 0, and nothing unusual is to be seen to."""
        main = self.main
        if main is None or sys.modules.get("__main__") is not main:
            return False
        there = main.__dict__
        # Taken out by the interpreter when the script has come to its end; not so by sys.exit.
        if "__file__" in there or "__cached__" in there or not all(name in there for name in _GIVEN):
            return False
        self.script = getattr(there["__loader__"], "path", None)
        if type(self.script) is not str or _sizes() != self.sizes:
            return False
        if sys.flags.verbose or sys.gettrace() or sys.getprofile():
            return False
        if _thread._count() or (sys.stdin, sys.stdout, sys.stderr) != self.streams:
            return False
        return all(map(self._is_known, late)) and _flushed()

    def _is_known(self, name):
        module = sys.modules[name]
        if type(module) is not type(sys):
            return False
        quiet = name not in _WITH_STREAMS and not _is_foreign(getattr(module, "__file__", None) or "")
        return quiet or self.thorough

    def _shed(self):
        """Spare the interpreter the taking apart of all libraries."""
        for name, module in self.kept.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def way_out(names, places):
    """How to end a process with these modules, from these files, and whether that is good for any library.

    None where only the interpreter should: libraries in C may have something in C's streams, and functions of
    their own for the end of the process.
    """
    if sys.version_info[:2] not in _VERSIONS:
        return None, False
    foreign = list(filter(_is_foreign, places))
    if not foreign and not _WITH_STREAMS & set(names):
        return partial(os._exit, 0), False
    try:
        import ctypes

        process = ctypes.CDLL(None)
        if all(map(_is_silent, foreign)):
            return partial(
                any, map(partial.__call__, (partial(process.fflush, None), partial(os._exit, 0)))
            ), False
        return partial(process.exit, 0), True
    except (ImportError, OSError, AttributeError):
        return None, False


def _is_foreign(place):
    return place.endswith(".so") and "lib-dynload" not in place.split(os.sep)


def _is_silent(place):
    parts = place.split(os.sep)
    return any(before.endswith("-packages") and name in _SILENT for before, name in zip(parts, parts[1:]))


def _sizes():
    # sys.last_type and its like come with an uncaught exception
    return len(sys.__dict__), len(sys.modules["builtins"].__dict__)


def _flushed():
    try:
        for stream in (sys.stdout, sys.stderr):
            if not stream.closed:
                stream.flush()
    except Exception:
        return False  # the interpreter meets the same error, and tells it
    return True


def _is_public(name):
    return not (name.startswith("_") and not name.startswith("__"))
