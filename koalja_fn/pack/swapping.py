"""A folder in the place of another, at once: who reads there finds all of the old or all of the new one."""

from __future__ import annotations

import ctypes
import errno
import os
import tempfile
from pathlib import Path

_AT_FDCWD = -100
_EXCHANGE = 2
_UNABLE = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


def swap(new: Path, old: Path) -> None:
    """Let the folders `new` and `old`, of one file system, take each other's names.

    By RENAME_EXCHANGE; file systems that can't do it get renames, with a moment between them.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(old), _EXCHANGE) == 0:
        return
    number = ctypes.get_errno()
    if number not in _UNABLE:
        raise OSError(number, os.strerror(number), str(new), None, str(old))
    with tempfile.TemporaryDirectory(prefix=".swap-", dir=new.parent) as aside:
        old.rename(Path(aside) / "old")
        new.rename(old)
        (Path(aside) / "old").rename(new)
