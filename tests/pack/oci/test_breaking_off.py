"""Registries that falter: what was sent is not sent again, and nothing wrong is ever taken for right."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from koalja_fn.errors import Damaged, PackError, Unreachable
from koalja_fn.pack.oci.auth import Keychain
from koalja_fn.pack.oci.client import RegistryClient
from koalja_fn.pack.oci.image import compose
from koalja_fn.pack.oci.layer import Entry, layer_from_tree
from koalja_fn.pack.oci.place import digest_of, read_blob
from koalja_fn.pack.oci.publishing import publish
from koalja_fn.pack.oci.reference import target
from koalja_fn.pack.oci.transport import Transport
from koalja_fn.pack.oci.values import LAYER_GZIP, Descriptor, Layer
from tests.pack.oci.conftest import AMD, image
from tests.pack.oci.handmade import Behaviour, handmade

SIZE = 1_000_000
CHUNK = 400_000


@contextmanager
def clients(
    how: Behaviour, nobody: Keychain, waits: list[float] | None = None
) -> Iterator[tuple[RegistryClient, str]]:
    transport = Transport(sleep=(waits if waits is not None else []).append, timeout=20)
    with (
        handmade(how) as host,
        RegistryClient(keychain=nobody, transport=transport, large=100_000, chunk=CHUNK) as client,
    ):
        yield client, host


def push(
    how: Behaviour, nobody: Keychain, tmp_path: Path, size: int = SIZE, chunk: int = CHUNK
) -> RegistryClient:
    """Push a blob of random bytes; it must be there afterwards, whatever went wrong on the way."""
    file = tmp_path / "blob"
    file.write_bytes(os.urandom(size))
    blob = Descriptor(LAYER_GZIP, digest_of(file.read_bytes()), size)
    with clients(how, nobody) as (client, host):
        client.chunk = chunk
        client.place(target(f"{host}/x"), writing=True).push(blob, file)
    assert how.blobs[blob.digest] == file.read_bytes()
    return client


def test_an_upload_goes_on_where_the_registry_says(nobody: Keychain, tmp_path: Path) -> None:
    how = Behaviour(break_after=[250_000])
    push(how, nobody, tmp_path)
    assert how.received == SIZE  # not one byte twice
    assert "GET" in {method for method, _ in how.seen}


def test_several_breaks_are_survived_as_long_as_there_is_progress(nobody: Keychain, tmp_path: Path) -> None:
    how = Behaviour(break_after=[90_000] * 9)
    push(how, nobody, tmp_path)
    assert how.received == SIZE


def test_a_registry_that_forgets_a_broken_upload_gets_it_anew(nobody: Keychain, tmp_path: Path) -> None:
    how = Behaviour(break_after=[250_000], forgets_broken=True)
    push(how, nobody, tmp_path)
    assert how.received == SIZE + 250_000


def test_a_break_after_the_first_byte_is_found_out_by_the_digest(nobody: Keychain, tmp_path: Path) -> None:
    """`Range: 0-0` says both nothing and one byte."""
    how = Behaviour(break_after=[1])
    push(how, nobody, tmp_path)


def test_chunks_are_no_smaller_than_the_registry_wants(nobody: Keychain, tmp_path: Path) -> None:
    how = Behaviour(least_chunk=600_000)
    push(how, nobody, tmp_path, chunk=1000)
    assert [method for method, _ in how.seen].count("PATCH") == 2


def test_a_registry_without_chunks_gets_the_blob_whole(nobody: Keychain, tmp_path: Path) -> None:
    how = Behaviour(takes_chunks=False)
    push(how, nobody, tmp_path)
    assert [method for method, _ in how.seen].count("PUT") == 1


def test_a_small_blob_that_broke_off_is_sent_again(nobody: Keychain, tmp_path: Path) -> None:
    how = Behaviour(break_after=[10_000])
    push(how, nobody, tmp_path, size=50_000)


def test_patience_ends_where_there_is_no_progress(nobody: Keychain, tmp_path: Path) -> None:
    how = Behaviour(break_after=[0] * 50)
    with pytest.raises(Unreachable, match="again and again"):
        push(how, nobody, tmp_path)
    assert how.manifests == {}


def test_a_busy_registry_is_waited_for(nobody: Keychain, tmp_path: Path) -> None:
    how, waits = Behaviour(statuses=[503, 429, 502]), []
    with clients(how, nobody, waits) as (client, host):
        publish(image(tmp_path, {"/x": b"y"}), target(f"{host}/x"), client)
    assert how.manifests
    assert len(waits) == 3
    assert 0.0 in waits  # Retry-After


def test_a_registry_that_stays_broken_is_named(nobody: Keychain) -> None:
    with (
        clients(Behaviour(statuses=[500] * 20), nobody) as (client, host),
        pytest.raises(Unreachable) as refused,
    ):
        client.place(target(f"{host}/x")).manifest("latest")
    assert f"{host} answered 500" in str(refused.value)


def test_a_refused_manifest_never_becomes_a_tag(nobody: Keychain, tmp_path: Path) -> None:
    how = Behaviour(break_after=[0] * 50)
    with clients(how, nobody) as (client, host), pytest.raises(PackError):
        publish(image(tmp_path, {"/x": os.urandom(500)}), target(f"{host}/x:1"), client)
    assert how.manifests == {}


def test_a_download_goes_on_where_it_broke_off(nobody: Keychain) -> None:
    data = os.urandom(SIZE)
    blob = Descriptor(LAYER_GZIP, digest_of(data), SIZE)
    how = Behaviour(blobs={blob.digest: data}, cut_downloads=[300_000, 200_000])
    with clients(how, nobody) as (client, host):
        assert read_blob(client.place(target(f"{host}/x")), blob) == data
    asked = [headers.get("Range") for headers in how.headers]
    assert asked[0] is None
    assert all(one and one.startswith("bytes=") for one in asked[1:])


@pytest.mark.parametrize("data", [b"longer than was promised", b"short", b"other byte"])
def test_a_download_that_is_not_what_was_promised_is_refused(nobody: Keychain, data: bytes) -> None:
    blob = Descriptor(LAYER_GZIP, digest_of(b"what we had"), 11 if data != b"other byte" else 10)
    how = Behaviour(blobs={blob.digest: data})
    with clients(how, nobody) as (client, host), pytest.raises(Damaged):
        read_blob(client.place(target(f"{host}/x")), blob)


def test_a_manifest_of_another_digest_is_refused(nobody: Keychain) -> None:
    wanted = digest_of(b"what we want")
    how = Behaviour(manifests={wanted: ("application/vnd.oci.image.manifest.v1+json", b"{}")})
    with clients(how, nobody) as (client, host), pytest.raises(Damaged, match="is damaged"):
        client.place(target(f"{host}/x@{wanted}")).manifest(wanted)


def test_connections_are_kept(nobody: Keychain, tmp_path: Path) -> None:
    how = Behaviour()
    with clients(how, nobody) as (client, host):
        place = client.place(target(f"{host}/x"))
        for _ in range(5):
            assert place.has(digest_of(b"")) is False
        assert [len(idle) for idle in client.transport._idle.values()] == [1]


def test_a_registry_on_loopback_that_wants_tls_is_spoken_to_in_tls(nobody: Keychain) -> None:
    """What Go's servers say to plain HTTP: no header at all, one sentence."""
    answer = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    line, _ = server.accept()
                    if line.recv(1000).startswith(b"\x16\x03"):
                        greeted.set()
                    else:
                        line.sendall(answer)
                    line.close()

        greeted = threading.Event()
        threading.Thread(target=serve, daemon=True).start()
        with RegistryClient(keychain=nobody, transport=Transport(sleep=lambda _: None)) as client:
            reference = target(f"127.0.0.1:{server.getsockname()[1]}/x")
            with pytest.raises(Unreachable):
                client.place(reference).manifest("latest")
        assert greeted.is_set()


def test_when_one_blob_fails_the_others_end_soon(nobody: Keychain, tmp_path: Path) -> None:
    """A missing layer is told at once, not after minutes of uploading the rest."""
    large = layer_from_tree([Entry.file("/large", os.urandom(8 << 20))], tmp_path)
    lost = Layer(digest_of(b"lost"), digest_of(b"lost"), 4, blob=tmp_path / "lost")
    how = Behaviour()
    with (
        clients(how, nobody) as (client, host),
        pytest.raises(Damaged, match="is not the layer that was made"),
    ):
        publish(compose(None, [large, lost], platform=AMD), target(f"{host}/x"), client)
    assert how.received < 8 << 20
    assert how.manifests == {}
