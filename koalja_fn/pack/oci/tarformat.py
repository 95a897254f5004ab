"""Tar headers, byte for byte as the buildpacks lifecycle writes them.

USTAR where the fields allow it, else one PAX header in front: the choices are those of Go's
archive/tar, which the lifecycle uses. Pure: names and numbers in, bytes out.
"""

from __future__ import annotations

BLOCK = 512
END = bytes(2 * BLOCK)
EPOCH = 315532801
"""1980-01-01T00:00:01Z, the one time stamp of all that the lifecycle writes."""

FILE, HARD_LINK, SYMLINK, FOLDER, PAX = b"0", b"1", b"2", b"5", b"x"

_NAME, _PREFIX = 100, 155


def header(
    name: bytes,
    kind: bytes,
    *,
    mode: int,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    link: bytes = b"",
    mtime: int = EPOCH,
) -> bytes:
    """The one or more blocks that stand before an entry's content. A NUL in a name is a ValueError."""
    if b"\0" in name or b"\0" in link:
        raise ValueError("a name in a tar holds no NUL")
    prefix, short = _split(name)
    records = _records(name, link, uid, gid, size, mtime)
    plain = {key for key in records if key != b"path"} or (b"path" in records and not prefix)
    numbers = (mode, uid, gid, size, mtime)
    if not plain:
        return _block(short or name, kind, numbers, link, prefix)
    data = b"".join(_record(key, value) for key, value in sorted(records.items()))
    main = _block(_ascii(name), kind, numbers, _ascii(link), b"")
    return _pax_block(name, len(data)) + data + padding(len(data)) + main


def padding(size: int) -> bytes:
    """The zeros that fill the last block of a content."""
    return bytes(-size % BLOCK)


def _records(name: bytes, link: bytes, uid: int, gid: int, size: int, mtime: int) -> dict[bytes, bytes]:
    """What the fixed fields can't hold; a path that could be split is told too where there is a record."""
    records: dict[bytes, bytes] = {}
    for key, text in ((b"path", name), (b"linkpath", link)):
        if len(text) > _NAME or not text.isascii():
            records[key] = text
    for key, number, width in (
        (b"uid", uid, 8),
        (b"gid", gid, 8),
        (b"size", size, 12),
        (b"mtime", mtime, 12),
    ):
        if not _fits(number, width):
            records[key] = b"%d" % number
    return records


def _split(name: bytes) -> tuple[bytes, bytes]:
    """Prefix and rest of a long name at its last possible slash; both empty where it can't be split."""
    if len(name) <= _NAME or not name.isascii():
        return b"", b""
    length = len(name)
    if length > _PREFIX + 1:
        length = _PREFIX + 1
    elif name.endswith(b"/"):
        length -= 1
    at = name.rfind(b"/", 0, length)
    rest = len(name) - at - 1
    if at <= 0 or not 0 < rest <= _NAME or at > _PREFIX:
        return b"", b""
    return name[:at], name[at + 1 :]


def _record(key: bytes, value: bytes) -> bytes:
    """`LENGTH key=value` and a line feed, where the length counts its own digits."""
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + len(str(len(rest)))
    if len(rest) + len(str(length)) != length:
        length = len(rest) + len(str(length))
    return b"%d" % length + rest


def _pax_block(name: bytes, size: int) -> bytes:
    folder, _, last = name.rpartition(b"/")
    parts = [part for part in (folder.rstrip(b"/"), b"PaxHeaders.0", last) if part]
    made = b"/".join(parts)
    if name.startswith(b"/") and not made.startswith(b"/"):
        made = b"/" + made
    block = bytearray(BLOCK)
    _put(block, 0, _NAME, _ascii(made)[:_NAME].rstrip(b"/"))
    for at, width, number in ((100, 8, 0), (108, 8, 0), (116, 8, 0), (124, 12, size), (136, 12, 0)):
        _put(block, at, width, _octal(number, width))
    block[156:157] = PAX
    return _sealed(block)


def _block(
    name: bytes, kind: bytes, numbers: tuple[int, int, int, int, int], link: bytes, prefix: bytes
) -> bytes:
    mode, uid, gid, size, mtime = numbers
    block = bytearray(BLOCK)
    _put(block, 0, _NAME, name)
    for at, width, number in (
        (100, 8, mode),
        (108, 8, uid),
        (116, 8, gid),
        (124, 12, size),
        (136, 12, mtime),
    ):
        _put(block, at, width, _octal(number, width))
    block[156:157] = kind
    _put(block, 157, _NAME, link)
    _put(block, 329, 8, _octal(0, 8))
    _put(block, 337, 8, _octal(0, 8))
    _put(block, 345, _PREFIX, prefix)
    return _sealed(block)


def _sealed(block: bytearray) -> bytes:
    """The block with magic, version and checksum, which counts its own field as spaces."""
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _put(block: bytearray, at: int, width: int, text: bytes) -> None:
    cut = text[:width]
    block[at : at + len(cut)] = cut
    if len(text) > width and cut.endswith(b"/"):
        # A name cut at a slash would read as a folder's; Go ends it before the slash.
        block[at + len(cut[:-1].rstrip(b"/"))] = 0


def _octal(number: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, number if _fits(number, width) else 0)


def _fits(number: int, width: int) -> bool:
    return 0 <= number < 1 << 3 * (width - 1)


def _ascii(text: bytes) -> bytes:
    return bytes(byte for byte in text if byte < 0x80)
