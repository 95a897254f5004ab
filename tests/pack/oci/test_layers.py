"""Layers: the lifecycle's tar format, read back by another implementation."""

import gzip
import hashlib
import io
import os
import socket
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koalja_fn.errors import PackError
from koalja_fn.pack.oci import tarformat
from koalja_fn.pack.oci.layer import Entry, layer_from_tree, parents, tree
from koalja_fn.pack.oci.values import Layer


def members(layer: Layer) -> list[tarfile.TarInfo]:
    assert layer.blob is not None
    with tarfile.open(layer.blob) as archive:
        return archive.getmembers()


def plain(layer: Layer) -> bytes:
    assert layer.blob is not None
    return gzip.decompress(layer.blob.read_bytes())


names = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=60
).filter(lambda name: name not in (".", ".."))
paths = st.lists(names, min_size=1, max_size=6).map(lambda parts: "/" + "/".join(parts))


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    path, mode = draw(paths), draw(st.integers(0, 0o7777))
    uid, gid = draw(st.integers(0, 1 << 31)), draw(st.integers(0, 1 << 31))
    match draw(st.sampled_from(["file", "folder", "symlink"])):
        case "file":
            return Entry.file(path, draw(st.binary(max_size=2000)), mode, uid, gid)
        case "folder":
            return Entry.folder(path, mode, uid, gid)
    return Entry.symlink(path, draw(names) * draw(st.integers(1, 5)), uid, gid)


@given(st.lists(entries(), max_size=8, unique_by=lambda entry: entry.path))
@settings(max_examples=150, deadline=None)
def test_what_is_written_reads_back_the_same(
    tmp_path_factory: pytest.TempPathFactory, chosen: list[Entry]
) -> None:
    layer = layer_from_tree(chosen, tmp_path_factory.mktemp("layer"))
    data = plain(layer)
    assert layer.diff_id == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert len(data) % 512 == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = {member.name: member for member in archive.getmembers()}
        assert set(found) == {entry.path for entry in chosen}
        for entry in chosen:
            member = found[entry.path]
            assert (member.mode, member.uid, member.gid) == (entry.mode, entry.uid, entry.gid)
            assert member.mtime == tarformat.EPOCH
            assert (member.uname, member.gname) == ("", "")
            kind = "file" if member.isreg() else "folder" if member.isdir() else "symlink"
            assert kind == entry.kind
            if entry.kind == "file":
                content = archive.extractfile(member)
                assert content is not None
                assert content.read() == entry.source
            assert member.linkname == (entry.link if entry.kind == "symlink" else "")


@given(st.lists(entries(), max_size=5, unique_by=lambda entry: entry.path), st.randoms())
@settings(max_examples=40, deadline=None)
def test_the_order_of_the_entries_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, chosen: list[Entry], random: object
) -> None:
    folder = tmp_path_factory.mktemp("layer")
    first = layer_from_tree(chosen, folder)
    random.shuffle(chosen)  # type: ignore[attr-defined]
    assert layer_from_tree(chosen, folder) == first


def test_a_header_is_what_the_lifecycle_writes() -> None:
    """Field by field as Go has it: octal with NULs, magic, devices of zeros, no owner names."""
    block = tarformat.header(b"/cnb/process", tarformat.FOLDER, mode=0o755)
    assert len(block) == 512
    assert block[:13] == b"/cnb/process\0"
    assert block[100:124] == b"0000755\0" + b"0000000\0" * 2
    assert block[124:148] == b"00000000000\0" + b"02263523001\0"
    assert block[156:157] == b"5"
    assert block[257:265] == b"ustar\x0000"
    assert block[265:329] == bytes(64)
    assert block[329:345] == b"0000000\0" * 2
    assert block[148:156] == b"%06o\0 " % (sum(block) - sum(block[148:156]) + 8 * 32)


def test_a_long_name_is_split_where_it_can_be_and_told_by_pax_where_not() -> None:
    splittable = b"/" + b"a" * 90 + b"/" + b"b" * 90
    one = tarformat.header(splittable, tarformat.FILE, mode=0o644)
    assert len(one) == 512
    assert one[:90] == b"b" * 90
    assert one[345:436] == b"/" + b"a" * 90
    pax = tarformat.header(b"/x/" + b"c" * 120, tarformat.FILE, mode=0o644)
    assert len(pax) == 3 * 512
    assert pax[156:157] == b"x"
    assert pax[:18] == b"/x/PaxHeaders.0/cc"
    assert pax[512 : 512 + 134] == b"133 path=/x/" + b"c" * 120 + b"\n" + b"\0"


def test_the_length_of_a_record_counts_its_own_digits() -> None:
    for length in range(101, 1200):
        block = tarformat.header(b"/" + b"n" * length, tarformat.FILE, mode=0)
        record = block[512:].split(b"\n")[0] + b"\n"
        assert int(record.split(b" ")[0]) == len(record)


def test_a_file_over_eight_gigabytes_has_its_size_in_a_record() -> None:
    block = tarformat.header(b"/big", tarformat.FILE, mode=0, size=9 << 30)
    assert b"size=9663676416\n" in block
    assert tarfile.TarInfo.frombuf(block[1024:], "utf-8", "strict").size == 0


def test_orders_are_those_of_a_walk_and_of_whole_paths(tmp_path: Path) -> None:
    """`a-b` comes before `a/b` as text, but after it in a walk."""
    chosen = [Entry.file("/a-b", b""), Entry.folder("/a"), Entry.file("/a/b", b"")]
    walked = [member.name for member in members(layer_from_tree(chosen, tmp_path))]
    by_path = [member.name for member in members(layer_from_tree(chosen, tmp_path, order="path"))]
    given_order = [member.name for member in members(layer_from_tree(chosen, tmp_path, order="given"))]
    assert walked == ["/a", "/a/b", "/a-b"]
    assert by_path == ["/a", "/a-b", "/a/b"]
    assert given_order == ["/a-b", "/a", "/a/b"]


def test_a_folder_is_taken_with_modes_links_and_given_owners(tmp_path: Path) -> None:
    source = tmp_path / "app"
    (source / "bin").mkdir(parents=True)
    (source / "bin/run").write_text("#!/bin/sh\n")
    (source / "bin/run").chmod(0o750)
    os.link(source / "bin/run", source / "again")
    (source / "link").symlink_to("./bin//run")
    with socket.socket(socket.AF_UNIX) as left_out:
        os.chdir(source)
        left_out.bind("socket")
        chosen = [*parents("/workspace/app"), *tree(source, "/workspace/app", 1000, 1001)]
    found = {member.name: member for member in members(layer_from_tree(chosen, tmp_path / "out"))}
    assert list(found) == [
        "/workspace",
        "/workspace/app",
        "/workspace/app/again",
        "/workspace/app/bin",
        "/workspace/app/bin/run",
        "/workspace/app/link",
    ]
    assert found["/workspace"].uid == 0
    assert (found["/workspace/app/bin/run"].mode, found["/workspace/app/bin/run"].uid) == (0o750, 1000)
    assert found["/workspace/app/again"].isreg()
    assert found["/workspace/app/link"].linkname == "./bin//run"
    assert found["/workspace/app/link"].mode == 0o777


def test_names_that_are_no_utf8_survive(tmp_path: Path) -> None:
    path = os.fsdecode(b"/caf\xe9")
    (member,) = members(layer_from_tree([Entry.file(path, b"x")], tmp_path))
    assert member.name == path


def test_the_compressed_file_tells_neither_time_nor_name(tmp_path: Path) -> None:
    layer = layer_from_tree([Entry.file("/x", b"y" * 10_000)], tmp_path)
    assert layer.blob is not None
    data = layer.blob.read_bytes()
    assert data[:10] == b"\x1f\x8b\x08\0\0\0\0\0" + data[8:9] + b"\x03"
    assert (layer.size, layer.digest) == (len(data), f"sha256:{hashlib.sha256(data).hexdigest()}")


def test_nothing_remains_of_a_layer_that_failed(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="no path in an image"):
        layer_from_tree([Entry.file("relative", b"")], tmp_path)
    with pytest.raises(FileNotFoundError):
        layer_from_tree([Entry.file("/x", tmp_path / "missing")], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_pipe_can_not_be_packed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PackError, match="device or a pipe"):
        list(tree(tmp_path, "/app"))


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "random"
    source.write_bytes(os.urandom(1 << 20))
    script = (
        "import resource, signal, sys; from pathlib import Path;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536));"
        "from koalja_fn.pack.oci.layer import *; from koalja_fn.errors import PackError\n"
        "try: layer_from_tree([Entry.file('/x', Path(sys.argv[1]))], Path(sys.argv[2]))\n"
        "except PackError as refused: print(refused)"
    )
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-c", script, str(source), str(tmp_path / "out")], capture_output=True, text=True
    )
    assert "no room for an image below" in done.stdout, done.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_parents_may_look_like_those_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "layers").mkdir(mode=0o750)
    found = list(parents("/layers/x", like=tmp_path / "layers" / "x"))
    assert [(entry.path, oct(entry.mode)) for entry in found] == [("/layers", "0o750")]
    assert [entry.path for entry in parents("/a/b/c")] == ["/a", "/a/b"]
    assert list(parents("/a")) == []
