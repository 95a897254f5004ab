"""Collect what a program wrote below $KOALJA_OUT, trusting nothing of it.

`WIRE` or `WIRE.ENDING` as a file is one value; as a folder it is one value for each regular file in
it, also in folders below, in byte order of their names. Links and devices are never followed.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from koalja_fn.program.contract import Limits, OutputFile
from koalja_fn.program.naming import sniffed, told_type
from koalja_fn.wiring.names import nearest

_DEEPEST = 50
_SNIFFED = 4096
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Unfit(ValueError):
    """What the program wrote can't be its outputs: what is wrong, and the cure."""


def collect(out: str, wires: tuple[str, ...], types: dict[str, str], limits: Limits) -> list[OutputFile]:
    """Return the values below the folder `out`, in the order of `wires`.

    Raises:
        Unfit: Something in it is no output.
    """
    found: dict[str, tuple[str, os.stat_result]] = {}
    for name, status in _entries(out):
        wire = _wire_of(name, wires)
        if wire in found:
            raise Unfit(f"it wrote both {found[wire][0]} and {name}, one value for {wire}: write one of them")
        found[wire] = (name, status)
    outputs: list[OutputFile] = []
    total = 0
    for wire in wires:
        if wire not in found:
            continue
        files = _files(f"{out}/{found[wire][0]}", found[wire])
        total += sum(status.st_size for _, _, status in files)
        if len(outputs) + len(files) > limits.files:
            raise Unfit(f"it wrote more than {limits.files} files: write fewer, larger ones")
        outputs += (_output(wire, i, *file, types) for i, file in enumerate(files))
    if total > limits.outputs:
        raise Unfit(too_large(limits))
    return outputs


def check_beside(slot: str, own: frozenset[str]) -> None:
    """See that nothing was written beside the folder of outputs, where it would be lost without a word.

    Raises:
        Unfit: There is something in the scratch folder `slot` that is not our `own`, nor a list of files.
    """
    for name in os.listdir(slot):  # noqa: PTH208  # a tenth of the time of Path
        if name not in own and not name.endswith(".list"):
            cure = "write values below $KOALJA_OUT, other files to $TMPDIR"
            raise Unfit(f"it wrote {_shown(name)} beside its folders ($KOALJA_OUT/../{_shown(name)}): {cure}")


def of_stdout(path: str, wire: str, types: dict[str, str], limits: Limits) -> list[OutputFile]:
    """Return standard output as the value of the only output wire; nothing if it is empty."""
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        raise Unfit("its standard output was replaced by another file")
    if status.st_size > limits.outputs:
        raise Unfit(too_large(limits))
    if not status.st_size:
        return []
    return [_output(wire, 0, "", Path(path), status, types)]


def too_large(limits: Limits) -> str:
    """What is said of outputs beyond the limit."""
    return f"its outputs have more than {limits.outputs:,} bytes: write less, or raise the limit"


def _wire_of(name: str, wires: tuple[str, ...]) -> str:
    wire = name if name in wires else name.partition(".")[0]
    if wire in wires:
        return wire
    guess = nearest(wire, wires)
    known = f"its outputs are {', '.join(wires)}" if wires else "it has no outputs"
    cure = f"did you mean {guess}?" if guess else "add it to the wiring, or write elsewhere, such as $TMPDIR"
    raise Unfit(f"it wrote $KOALJA_OUT/{_shown(name)}, but {known}: {cure}")


def _entries(folder: str) -> list[tuple[str, os.stat_result]]:
    try:
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            raise Unfit("it replaced the folder $KOALJA_OUT: write into it")
        with os.scandir(folder) as entries:
            return [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
    except FileNotFoundError:
        return []
    except PermissionError:
        raise Unfit(f"it closed the folder {Path(folder).name} to its owner (chmod)") from None


def _files(path: str, top: tuple[str, os.stat_result]) -> list[tuple[str, Path, os.stat_result]]:
    """Regular files of one output, with their names below it: one without a name, or a folder's in order."""
    name, status = top
    if not stat.S_ISDIR(status.st_mode):
        _check(name, status)
        return [("", Path(path), status)]
    return sorted(_below(path, "", name, 0), key=lambda file: os.fsencode(file[0]))


def _below(path: str, prefix: str, shown: str, depth: int) -> Iterator[tuple[str, Path, os.stat_result]]:
    if depth > _DEEPEST:
        raise Unfit(f"the folders below $KOALJA_OUT/{_shown(shown.partition('/')[0])} are too deep")
    for name, status in _entries(path):
        if stat.S_ISDIR(status.st_mode):
            yield from _below(f"{path}/{name}", f"{prefix}{name}/", f"{shown}/{name}", depth + 1)
        else:
            _check(f"{shown}/{name}", status)
            yield f"{prefix}{name}", Path(f"{path}/{name}"), status


def _check(name: str, status: os.stat_result) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        what = _KINDS.get(kind, "no regular file")
        raise Unfit(f"$KOALJA_OUT/{_shown(name)} is {what}: write a regular file, or a copy (cp -L)")


def _output(
    wire: str, index: int, name: str, path: Path, status: os.stat_result, types: dict[str, str]
) -> OutputFile:
    if not status.st_mode & stat.S_IRUSR:
        path.chmod(0o600)
    kind = told_type(path.name) or types.get(wire) or _sniff(path)
    return OutputFile(wire, index, _shown(name), path, kind, status.st_size)


def _sniff(path: Path) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return sniffed(os.read(fd, _SNIFFED))
    finally:
        os.close(fd)


def _shown(name: str) -> str:
    """A name as text: bytes that are no UTF-8 as \\x.."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
