"""Pushing and reading with a real registry: what travels, what does not, and what is refused."""

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from koalja_fn.errors import Damaged, NoSuchImage, PackError, Unreachable, WrongPlatform
from koalja_fn.pack.oci.auth import Keychain
from koalja_fn.pack.oci.client import RegistryClient
from koalja_fn.pack.oci.image import annotated, compose, labels_of, load_base, mark_of, pinned
from koalja_fn.pack.oci.layer import Entry, layer_from_tree
from koalja_fn.pack.oci.place import digest_of, read_blob
from koalja_fn.pack.oci.publishing import publish
from koalja_fn.pack.oci.reference import Reference, target
from koalja_fn.pack.oci.values import (
    CONFIG,
    DOCKER_INDEX,
    INDEX,
    LAYER_GZIP,
    Descriptor,
    Manifest,
    Platform,
    canonical,
)
from tests.pack.oci.conftest import AMD, Registry, image, put_index, tuple_of
from tests.pack.oci.cutting import cut_line


def test_an_image_that_was_pushed_reads_back(client: RegistryClient, name: str, tmp_path: Path) -> None:
    made = image(tmp_path, {"/hello": b"hello"}, version="1")
    published = publish(made, target(f"{name}:1"), client)
    base = load_base(target(f"{name}:1"), AMD, client)
    assert published.digest == made.digest == base.digest
    assert str(base.reference) == f"{name}@{made.digest}"
    assert [layer.diff_id for layer in base.layers] == [layer.diff_id for layer in made.layers]
    assert base.top_layer == made.layers[-1].diff_id
    assert base.labels == {"version": "1"}
    layer = base.layers[0]
    blob = Descriptor(layer.media_type, layer.digest, layer.size)
    assert made.layers[0].blob is not None
    assert read_blob(client.place(base.reference), blob) == made.layers[0].blob.read_bytes()


def test_nothing_travels_when_the_tag_means_the_image_already(
    client: RegistryClient, name: str, tmp_path: Path
) -> None:
    made = image(tmp_path, {"/hello": b"hello"})
    first = publish(made, target(name), client)
    again = publish(made, target(name), client)
    assert first.sent > 0
    assert (again.sent, again.digest) == (0, first.digest)
    assert again.spared > made.layers[0].size


def test_after_an_edit_only_the_edited_layer_travels(
    client: RegistryClient, name: str, tmp_path: Path
) -> None:
    deps = layer_from_tree([Entry.file("/deps", os.urandom(300_000))], tmp_path)
    sent = []
    for text in (b"one", b"two"):
        app = layer_from_tree([Entry.file("/app", text)], tmp_path)
        sent.append(publish(compose(None, [deps, app], platform=AMD), target(name), client))
    assert sent[0].sent > 300_000
    assert sent[1].sent < 2_000
    assert sent[1].spared >= 300_000


def test_layers_of_a_base_are_mounted_and_not_sent(client: RegistryClient, name: str, tmp_path: Path) -> None:
    publish(image(tmp_path, {"/base": os.urandom(500_000)}), target(f"{name}/base"), client)
    base = load_base(target(f"{name}/base"), AMD, client)
    app = layer_from_tree([Entry.file("/app", b"code")], tmp_path)
    published = publish(compose(base, [app]), target(f"{name}/app"), client)
    assert published.sent < 2_000
    assert published.spared >= 500_000
    assert len(load_base(target(f"{name}/app"), AMD, client).layers) == 2


def test_a_base_in_another_registry_is_copied(
    client: RegistryClient, name: str, guarded: Registry, tmp_path: Path, logged_in: Keychain
) -> None:
    publish(image(tmp_path, {"/base": os.urandom(100_000)}), target(name), client)
    with RegistryClient(keychain=logged_in) as both:
        base = load_base(target(name), AMD, both)
        app = layer_from_tree([Entry.file("/app", b"code")], tmp_path)
        there = target(f"{guarded.host}/copied")
        published = publish(compose(base, [app]), there, both)
        assert published.sent > 100_000
        assert load_base(there, AMD, both).layers[0].digest == base.layers[0].digest


def test_a_blob_larger_than_a_chunk_travels_in_chunks(nobody: Keychain, name: str, tmp_path: Path) -> None:
    made = image(tmp_path, {"/large": os.urandom(1_000_000)})
    with RegistryClient(keychain=nobody, large=100_000, chunk=150_000) as client:
        published = publish(made, target(name), client)
        assert made.layers[0].size <= published.sent < made.layers[0].size + 2_000
        base = load_base(target(name), AMD, client)
        layer = base.layers[0]
        blob = Descriptor(layer.media_type, layer.digest, layer.size)
        assert digest_of(b"".join(client.place(base.reference).chunks(blob))) == layer.digest


def test_many_images_pushed_at_once_all_arrive(client: RegistryClient, name: str, tmp_path: Path) -> None:
    shared = layer_from_tree([Entry.file("/shared", os.urandom(200_000))], tmp_path)

    def push(number: int) -> str:
        own = layer_from_tree([Entry.file("/own", b"%d" % number)], tmp_path)
        return publish(compose(None, [shared, own], platform=AMD), target(f"{name}:{number}"), client).digest

    with ThreadPoolExecutor(8) as pool:
        digests = list(pool.map(push, range(16)))
    assert len(set(digests)) == 16
    assert [load_base(target(f"{name}:{n}"), AMD, client).digest for n in range(16)] == digests


def test_a_layer_of_many_images_travels_once(client: RegistryClient, name: str, tmp_path: Path) -> None:
    """Tasks of one circuit have repositories of their own; what they share is mounted."""
    shared = layer_from_tree([Entry.file("/shared", os.urandom(200_000))], tmp_path)
    composed = compose(None, [shared], platform=AMD)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda n: publish(composed, target(f"{name}/{n}"), client), range(6)))
    assert sum(one.sent >= 200_000 for one in done) == 1
    assert client.meter.sent < 210_000


def test_two_processes_that_push_the_same_do_not_disturb_each_other(
    nobody: Keychain, name: str, tmp_path: Path
) -> None:
    made = image(tmp_path, {"/x": os.urandom(200_000)})

    def push(number: int) -> str:
        with RegistryClient(keychain=nobody) as alone:
            return publish(made, target(f"{name}:{number}"), alone).digest

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(push, range(12))) == {made.digest}


def test_labels_are_known_from_the_registry_alone(client: RegistryClient, name: str, tmp_path: Path) -> None:
    assert labels_of(target(name), client) is None
    publish(image(tmp_path, {"/x": b""}, **{"io.koalja.version": "abc"}), target(name), client)
    assert labels_of(target(name), client, AMD) == {"io.koalja.version": "abc"}


def test_a_mark_is_an_annotation_or_else_a_label(client: RegistryClient, name: str, tmp_path: Path) -> None:
    made = image(tmp_path, {"/x": b""}, mark="of the label")
    assert mark_of(target(name), "mark", client, AMD) is None
    publish(made, target(name), client)
    assert mark_of(target(name), "mark", client, AMD) == (made.digest, "of the label")
    assert mark_of(target(name), "other", client, AMD) == (made.digest, None)
    noted = annotated(made, {"mark": "of the manifest"})
    assert noted.config_data == made.config_data
    publish(noted, target(name), client)
    assert mark_of(target(name), "mark", client, AMD) == (noted.digest, "of the manifest")


def test_an_annotated_mark_costs_one_question(
    client: RegistryClient, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(annotated(image(tmp_path, {"/x": b""}), {"mark": "m"}), target(name), client)
    asked: list[str] = []
    send = client.transport.send

    def counted(method: str, url: str, *rest: object) -> object:
        asked.append(f"{method} {url.rpartition('/')[2]}")
        return send(method, url, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(client.transport, "send", counted)
    mark_of(target(name), "mark", client, AMD)
    assert asked == ["GET latest"]


def test_a_pinned_name_is_loaded_without_asking_for_its_manifest_again(
    client: RegistryClient, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = image(tmp_path, {"/x": b""})
    publish(made, target(name), client)
    pin = pinned(target(name), AMD, client)
    assert pin == target(name).at(made.digest)
    asked: list[str] = []
    send = client.transport.send

    def counted(method: str, url: str, *rest: object) -> object:
        asked.append(url)
        return send(method, url, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(client.transport, "send", counted)
    assert load_base(pin, AMD, client).digest == made.digest
    assert [url for url in asked if "/manifests/" in url] == []


def test_an_image_that_is_not_there_is_named(client: RegistryClient, name: str) -> None:
    with pytest.raises(NoSuchImage, match=f"there is no image 'nope' at {name}:nope"):
        load_base(target(f"{name}:nope"), AMD, client)


def test_a_blob_that_rotted_in_the_registry_is_found_out(
    client: RegistryClient, registry: Registry, name: str, tmp_path: Path
) -> None:
    made = image(tmp_path, {"/x": os.urandom(1000)})
    publish(made, target(name), client)
    kept = registry.blob(made.layers[0].digest)
    data = bytearray(kept.read_bytes())
    data[500] ^= 1
    kept.write_bytes(data)
    base = load_base(target(name), AMD, client)
    blob = Descriptor(LAYER_GZIP, base.layers[0].digest, base.layers[0].size)
    with pytest.raises(Damaged, match="is damaged"):
        read_blob(client.place(base.reference), blob)


def test_the_registry_refuses_bytes_of_another_digest(
    client: RegistryClient, name: str, tmp_path: Path
) -> None:
    file = tmp_path / "blob"
    file.write_bytes(b"these bytes")
    place = client.place(target(name), writing=True)
    with pytest.raises(Damaged, match="got other bytes than"):
        place.push(Descriptor(LAYER_GZIP, digest_of(b"other bytes"), 11), file)


def test_a_layer_file_that_changed_is_found_before_it_travels(
    client: RegistryClient, name: str, tmp_path: Path
) -> None:
    made = image(tmp_path, {"/x": b"y"})
    assert made.layers[0].blob is not None
    made.layers[0].blob.write_bytes(b"?" * made.layers[0].size)
    with pytest.raises(Damaged, match="is not the layer that was made"):
        publish(made, target(name), client)


def test_a_failed_push_leaves_the_tag_as_it_was(client: RegistryClient, name: str, tmp_path: Path) -> None:
    old = publish(image(tmp_path, {"/x": b"old"}), target(name), client)
    new = image(tmp_path, {"/x": b"new"})
    assert new.layers[0].blob is not None
    new.layers[0].blob.unlink()
    with pytest.raises(Damaged):
        publish(new, target(name), client)
    assert load_base(target(name), AMD, client).digest == old.digest


@pytest.mark.parametrize("kind", [INDEX, DOCKER_INDEX])
def test_of_an_index_the_platform_is_taken(
    client: RegistryClient, registry: Registry, name: str, tmp_path: Path, kind: str
) -> None:
    digests = {}
    for architecture in ("amd64", "arm64"):
        made = image(tmp_path, {"/arch": architecture.encode()}, Platform("linux", architecture))
        digests[architecture] = publish(made, target(f"{name}:{architecture}"), client).digest
    entries = [
        {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest,
            "size": 1,
            "platform": {"os": "linux", "architecture": architecture},
        }
        for architecture, digest in digests.items()
    ]
    sizes = {d: len(client.place(target(name)).manifest(d).data) for d in digests.values()}
    for entry in entries:
        entry["size"] = sizes[str(entry["digest"])]
    data = canonical({"schemaVersion": 2, "mediaType": kind, "manifests": entries})
    put_index(registry.host, name.partition("/")[2], "many", data, kind)
    for architecture, digest in digests.items():
        base = load_base(target(f"{name}:many"), Platform("linux", architecture), client)
        assert (base.digest, base.platform.architecture) == (digest, architecture)
    with pytest.raises(WrongPlatform) as refused:
        load_base(target(f"{name}:many"), Platform("linux", "riscv64"), client)
    assert "linux/amd64, linux/arm64" in str(refused.value)


def test_an_image_for_other_machines_is_refused(client: RegistryClient, name: str, tmp_path: Path) -> None:
    publish(image(tmp_path, {"/x": b""}, Platform("linux", "s390x")), target(name), client)
    with pytest.raises(WrongPlatform, match="is for linux/s390x, not for linux/amd64"):
        load_base(target(name), AMD, client)


def test_an_artifact_that_is_no_image_is_refused(client: RegistryClient, name: str) -> None:
    place = client.place(target(name), writing=True)
    place.push(Descriptor(CONFIG, digest_of(b"[]"), 2), b"[]")
    config = {"mediaType": "application/x", "digest": digest_of(b"[]"), "size": 2}
    kind = "application/vnd.oci.image.manifest.v1+json"
    data = canonical({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": []})
    place.put_manifest(Manifest(digest_of(data), kind, data), "latest")
    with pytest.raises(Damaged, match="artifact of another kind"):
        load_base(target(name), AMD, client)


def test_a_registry_that_is_not_running_is_named(client: RegistryClient) -> None:
    with pytest.raises(Unreachable, match=r"nobody listens at 127\.0\.0\.1:1"):
        load_base(target("127.0.0.1:1/x"), AMD, client)


def test_plain_http_is_for_this_machine_only_unless_told() -> None:
    reference = Reference.parse("registry.example:5000/x")
    with RegistryClient() as client, RegistryClient(insecure=True) as told:
        assert client.base(reference) == "https://registry.example:5000"
        assert told.base(reference) == "http://registry.example:5000"
        with pytest.raises(Unreachable, match="without encryption"):
            client.transport.send("GET", "http://registry.example:5000/v2/")


def test_a_tls_server_with_an_unknown_certificate_is_explained(
    tmp_path: Path, client: RegistryClient
) -> None:
    """Also: a registry on loopback that wants TLS gets it."""
    import ssl
    from http.server import BaseHTTPRequestHandler, HTTPServer

    made = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -keyout key -out cert"
    subprocess.run(made.split(), cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        reference = Reference.parse(f"127.0.0.1:{server.server_address[1]}/x")
        client.speak_tls(reference)
        with pytest.raises(Unreachable, match="can't prove who it is"):
            client.place(reference).manifest("latest")
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
def test_a_layer_of_500_megabytes_never_lies_in_memory(registry: Registry, name: str, tmp_path: Path) -> None:
    """Made, uploaded, and read back: in a process that tells its own peak."""
    large = tmp_path / "large"
    with large.open("wb") as file:
        for offset in range(0, 500 << 20, 10 << 20):
            file.seek(offset)
            file.write(os.urandom(1 << 20))
        file.truncate(500 << 20)
    script = """
import re, sys, time
from pathlib import Path
from koalja_fn.pack.oci.client import RegistryClient
from koalja_fn.pack.oci.image import compose, load_base
from koalja_fn.pack.oci.layer import Entry, layer_from_tree
from koalja_fn.pack.oci.publishing import publish
from koalja_fn.pack.oci.reference import target
from koalja_fn.pack.oci.rootfs import extract_rootfs
from koalja_fn.pack.oci.values import Platform
amd = Platform("linux", "amd64")
times = [time.monotonic()]
with RegistryClient(large=8 << 20, chunk=16 << 20) as client:
    layer = layer_from_tree([Entry.file("/large", Path(sys.argv[1]))], Path(sys.argv[2]))
    times.append(time.monotonic())
    published = publish(compose(None, [layer], platform=amd), target(sys.argv[3]), client)
    times.append(time.monotonic())
    root = extract_rootfs(load_base(published.reference, amd, client), client, Path(sys.argv[2]))
    times.append(time.monotonic())
assert (root / "large").stat().st_size == 500 << 20
# Not ru_maxrss: that starts with the peak of the process that started this one.
peak = re.search("VmHWM:[^0-9]*([0-9]+) kB", Path("/proc/self/status").read_text())[1]
print(peak, published.sent, *[b - a for a, b in zip(times, times[1:])])
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(large), str(tmp_path / "out"), name],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    peak, sent, *seconds = done.stdout.split()
    print("peak KiB", peak, "sent", sent, "seconds to make, push, pull:", seconds)
    assert int(peak) < 150 * 1024
    assert int(sent) > 50 << 20


def test_words_of_the_registry_reach_the_user(client: RegistryClient, name: str) -> None:
    place = client.place(target(name), writing=True)
    data = canonical(
        {"schemaVersion": 2, "mediaType": INDEX, "manifests": [{"digest": "sha256:" + "0" * 64}]}
    )
    with pytest.raises(PackError, match=r"MANIFEST_|refuses manifest"):
        place.put_manifest(Manifest(digest_of(data), INDEX, data), "latest")
    assert json.loads(data)["schemaVersion"] == 2
    assert tuple_of(name.partition("/")[0])[0] == "127.0.0.1"


@pytest.mark.parametrize("cuts", [[500_000], [3000], [200_000, 700_000, 300_000]], ids=str)
def test_a_cut_line_to_a_real_registry_is_survived(
    nobody: Keychain, registry: Registry, name: str, tmp_path: Path, cuts: list[int]
) -> None:
    made = image(tmp_path, {"/large": os.urandom(1_000_000)})
    with cut_line(tuple_of(registry.host), list(cuts)) as line:
        there = name.replace(registry.host, line.host)
        with RegistryClient(keychain=nobody, large=100_000, chunk=150_000) as client:
            published = publish(made, target(there), client)
    assert line.cuts == []
    with RegistryClient(keychain=nobody) as client:
        base = load_base(target(name), AMD, client)
        layer = base.layers[0]
        blob = Descriptor(layer.media_type, layer.digest, layer.size)
        assert digest_of(read_blob(client.place(base.reference), blob)) == layer.digest
    # docker-registry 2.8 drops an upload that broke within a chunk, so here it begins anew each time.
    assert published.sent < layer.size + sum(cuts) + len(cuts) * 300_000
