"""Folders of the OCI image layout: images without a registry."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from koalja_fn.errors import Damaged, NoSuchImage, PackError
from koalja_fn.pack.oci.client import RegistryClient
from koalja_fn.pack.oci.image import compose, labels_of, load_base
from koalja_fn.pack.oci.layer import Entry, layer_from_tree
from koalja_fn.pack.oci.place import digest_of, read_blob
from koalja_fn.pack.oci.publishing import publish
from koalja_fn.pack.oci.reference import LayoutTarget, target
from koalja_fn.pack.oci.values import LAYER_GZIP, Descriptor
from tests.pack.oci.conftest import AMD, image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "layout"


def test_an_image_in_a_folder_reads_back(client: RegistryClient, folder: Path, tmp_path: Path) -> None:
    made = image(tmp_path, {"/x": b"y"}, a="b")
    published = publish(made, target(f"oci:{folder}"), client)
    base = load_base(target(f"oci:{folder}"), AMD, client)
    assert published.digest == base.digest == made.digest
    assert labels_of(target(f"oci:{folder}"), client, AMD) == {"a": "b"}
    assert json.loads((folder / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads((folder / "index.json").read_text())["manifests"]
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": "latest"}
    assert not list(folder.rglob(".*"))


def test_a_folder_holds_several_images_and_each_blob_once(
    client: RegistryClient, folder: Path, tmp_path: Path
) -> None:
    shared = layer_from_tree([Entry.file("/shared", os.urandom(5000))], tmp_path)
    for tag in ("one", "two", "two"):
        own = layer_from_tree([Entry.file("/own", tag.encode())], tmp_path)
        publish(compose(None, [shared, own], platform=AMD), target(f"oci:{folder}:{tag}"), client)
    assert len(json.loads((folder / "index.json").read_text())["manifests"]) == 2
    assert len(list((folder / "blobs/sha256").iterdir())) == 1 + 2 * 3
    with pytest.raises(NoSuchImage, match="image 'three'"):
        load_base(target(f"oci:{folder}:three"), AMD, client)


def test_an_image_has_one_digest_wherever_it_lies(
    client: RegistryClient, folder: Path, tmp_path: Path, name: str
) -> None:
    made = image(tmp_path, {"/x": b"y"})
    here = publish(made, target(f"oci:{folder}"), client)
    there = publish(made, target(name), client)
    assert here.digest == there.digest


def test_a_base_from_a_folder_goes_to_a_registry_and_back(
    client: RegistryClient, folder: Path, tmp_path: Path, name: str
) -> None:
    publish(image(tmp_path, {"/base": os.urandom(3000)}), target(f"oci:{folder}"), client)
    app = layer_from_tree([Entry.file("/app", b"code")], tmp_path)
    made = compose(load_base(target(f"oci:{folder}"), AMD, client), [app])
    publish(made, target(name), client)
    pulled = load_base(target(name), AMD, client)
    again = compose(pulled, [])
    publish(again, target(f"oci:{folder}2"), client)
    base = load_base(target(f"oci:{folder}2"), AMD, client)
    assert [layer.digest for layer in base.layers] == [layer.digest for layer in made.layers]
    for layer in base.layers:
        read_blob(client.place(base.reference), Descriptor(layer.media_type, layer.digest, layer.size))


def test_a_base_is_linked_between_folders(client: RegistryClient, folder: Path, tmp_path: Path) -> None:
    publish(image(tmp_path, {"/base": os.urandom(3000)}), target(f"oci:{folder}"), client)
    base = load_base(target(f"oci:{folder}"), AMD, client)
    publish(compose(base, [], labels={"a": "b"}), target(f"oci:{folder}2"), client)
    blob = Path("blobs") / base.layers[0].digest.replace(":", "/")
    assert (tmp_path / "layout2" / blob).samefile(folder / blob)


def test_a_damaged_blob_is_found_out(client: RegistryClient, folder: Path, tmp_path: Path) -> None:
    publish(image(tmp_path, {"/x": b"y"}), target(f"oci:{folder}"), client)
    base = load_base(target(f"oci:{folder}"), AMD, client)
    layer = base.layers[0]
    (folder / "blobs" / layer.digest.replace(":", "/")).write_bytes(b"?" * layer.size)
    with pytest.raises(Damaged):
        read_blob(client.place(base.reference), Descriptor(LAYER_GZIP, layer.digest, layer.size))
    (folder / "index.json").write_text("[")
    with pytest.raises(Damaged, match=r"index\.json is damaged"):
        load_base(target(f"oci:{folder}"), AMD, client)


def test_a_wrong_blob_never_enters(client: RegistryClient, folder: Path, tmp_path: Path) -> None:
    place = client.place(LayoutTarget(folder), writing=True)
    with pytest.raises(Damaged):
        place.push(Descriptor(LAYER_GZIP, digest_of(b"right"), 5), b"wrong")
    assert not [path for path in folder.rglob("*") if path.is_file()]


def test_a_digest_in_a_manifest_never_becomes_a_path_elsewhere(client: RegistryClient, folder: Path) -> None:
    place = client.place(LayoutTarget(folder))
    with pytest.raises(Damaged, match="that is no digest"):
        place.has("sha256:../../../etc/passwd")


def test_writers_at_once_lose_nobodys_image(client: RegistryClient, folder: Path, tmp_path: Path) -> None:
    def write(number: int) -> None:
        publish(image(tmp_path, {"/x": b"%d" % number}), target(f"oci:{folder}:{number}"), client)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(16)))
    assert len(json.loads((folder / "index.json").read_text())["manifests"]) == 16


def test_a_folder_that_can_not_be_written_is_named(client: RegistryClient, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PackError, match="can't be written"):
        publish(image(tmp_path, {"/x": b"y"}), target(f"oci:{tmp_path / 'file'}"), client)
