"""Files on their way into the store, and out of it."""

import os
import re
import threading
from pathlib import Path

import pytest

from koalja_fn.errors import StoreError
from koalja_fn.store import FileStore

from .conftest import LARGE, SMALL


def test_a_taken_file_is_moved_not_copied(store: FileStore, tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_bytes(LARGE)
    inode = file.stat().st_ino
    stored = store.put_file(file, take=True)
    assert not file.exists()
    assert store.path(stored.digest).stat().st_ino == inode
    assert store.moved().taken == len(LARGE)


def test_a_file_with_a_second_name_is_copied_since_that_could_be_written_to(
    store: FileStore, tmp_path: Path
) -> None:
    file, other = tmp_path / "out", tmp_path / "other"
    file.write_bytes(LARGE)
    other.hardlink_to(file)
    name = store.put_file(file, take=True).digest
    other.write_bytes(b"something else")
    assert store.read(name) == LARGE


def test_a_file_that_is_not_taken_stays_as_it_is(store: FileStore, tmp_path: Path) -> None:
    file = tmp_path / "out"
    file.write_bytes(LARGE)
    name = store.put_file(file).digest
    file.write_bytes(b"something else")
    assert store.read(name) == LARGE


@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "missing"])
def test_only_regular_files_are_stored(store: FileStore, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "odd"
    if kind == "link":
        (tmp_path / "secret").write_bytes(b"secret")
        path.symlink_to(tmp_path / "secret")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(StoreError):
        store.put_file(path)
    assert list(store.digests()) == []


def test_a_file_that_changes_while_it_is_read_is_not_stored(store: FileStore, tmp_path: Path) -> None:
    file = tmp_path / "growing"
    file.write_bytes(b"x" * 50_000_000)
    stop = threading.Event()

    def grow() -> None:
        with file.open("ab") as more:
            while not stop.is_set():
                more.write(b"y" * 1000)
                more.flush()
                stop.wait(0.001)

    thread = threading.Thread(target=grow)
    thread.start()
    try:
        with pytest.raises(StoreError, match="changed while it was read"):
            store.put_file(file)
    finally:
        stop.set()
        thread.join()
    assert list(store.digests()) == []


def test_placed_files_are_read_only_and_hold_the_payload(store: FileStore, tmp_path: Path) -> None:
    for data in (SMALL, LARGE):
        place = tmp_path / f"in-{len(data)}"
        store.place(store.put_bytes(data).digest, place)
        assert place.read_bytes() == data
        assert place.stat().st_mode & 0o777 == 0o444


def test_nothing_is_placed_over_another_file(store: FileStore, tmp_path: Path) -> None:
    place = tmp_path / "in"
    place.write_bytes(b"mine")
    for data in (SMALL, LARGE):
        with pytest.raises(StoreError):
            store.place(store.put_bytes(data).digest, place)
    assert place.read_bytes() == b"mine"


def test_a_large_payload_is_linked_where_that_is_safe(linking: FileStore, tmp_path: Path) -> None:
    name = linking.put_bytes(LARGE).digest
    assert linking.place(name, tmp_path / "in")
    assert (tmp_path / "in").stat().st_ino == linking.path(name).stat().st_ino
    assert linking.moved().linked == len(LARGE)
    assert linking.moved().copied == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may write to read-only files")
def test_roots_programs_never_get_the_payload_itself(store: FileStore, tmp_path: Path) -> None:
    name = store.put_bytes(LARGE).digest
    assert not store.place(name, tmp_path / "in")
    (tmp_path / "in").write_bytes(b"overwritten")
    assert store.intact(name)
    assert store.read(name) == LARGE


def test_a_write_through_a_link_is_noticed_and_the_payload_set_aside(
    linking: FileStore, root: Path, tmp_path: Path
) -> None:
    name = linking.put_bytes(LARGE).digest
    linking.place(name, tmp_path / "in")
    assert linking.intact(name)
    (tmp_path / "in").chmod(0o600)
    with (tmp_path / "in").open("r+b") as file:
        file.write(b"X")
    assert not linking.intact(name)
    assert not linking.has(name)
    assert len(list((root / "damaged").iterdir())) == 1
    linking.put_bytes(LARGE)
    assert linking.read(name) == LARGE


def test_a_touched_payload_is_still_intact(linking: FileStore, tmp_path: Path) -> None:
    name = linking.put_bytes(LARGE).digest
    linking.place(name, tmp_path / "in")
    os.utime(tmp_path / "in")
    assert linking.intact(name)
    assert linking.read(name) == LARGE


def test_a_removed_or_replaced_input_does_no_harm(linking: FileStore, tmp_path: Path) -> None:
    name = linking.put_bytes(LARGE).digest
    linking.place(name, tmp_path / "in")
    (tmp_path / "in").unlink()
    (tmp_path / "in").write_bytes(b"mine")
    assert linking.intact(name)


def test_a_file_for_a_small_payload_is_written_once_and_mended(store: FileStore) -> None:
    name = store.put_bytes(SMALL).digest
    path = store.path(name)
    assert path == store.path(name)
    assert path.read_bytes() == SMALL
    path.chmod(0o600)
    path.write_bytes(b"changed")
    assert store.path(name).read_bytes() == SMALL


def test_large_payloads_never_are_in_memory_whole(store: FileStore, tmp_path: Path) -> None:
    file = tmp_path / "huge"
    with file.open("wb") as sparse:
        sparse.truncate(1 << 30)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what it is now
    before = _peak()
    name = store.put_file(file, take=True).digest
    assert store.size(name) == 1 << 30
    with store.open(name) as opened:
        assert opened.read(10) == bytes(10)
    assert _peak() - before < 64 << 10


def _peak() -> int:
    """This process's peak memory, KiB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])
