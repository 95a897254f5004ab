"""Images as values: the same parts make the same bytes."""

import json
from pathlib import Path

import pytest

from koalja_fn.errors import UsageError
from koalja_fn.pack.oci.client import RegistryClient
from koalja_fn.pack.oci.image import CREATED, BaseImage, compose, creation_time, load_base
from koalja_fn.pack.oci.layer import Entry, layer_from_tree
from koalja_fn.pack.oci.publishing import publish
from koalja_fn.pack.oci.reference import target
from koalja_fn.pack.oci.values import LAYER_GZIP, MANIFEST, Layer, Platform
from tests.pack.oci.conftest import AMD

DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


@pytest.fixture
def base() -> BaseImage:
    config = {
        "os": "linux",
        "architecture": "amd64",
        "created": "2020-01-01T00:00:00Z",
        "container_config": {"Hostname": "build-machine"},
        "config": {
            "Env": ["PATH=/usr/bin", "LANG=C"],
            "Cmd": ["bash"],
            "Labels": {"a": "1", "b": "2"},
            "User": "0",
        },
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "d" * 64]},
        "history": [{"created_by": "base"}, {"created_by": "env", "empty_layer": True}],
    }
    layer = Layer("sha256:" + "b" * 64, "sha256:" + "d" * 64, 10, DOCKER_LAYER)
    return BaseImage(target("127.0.0.1:5000/b"), "sha256:" + "c" * 64, config, (layer,))


@pytest.fixture
def layer(tmp_path: Path) -> Layer:
    return layer_from_tree([Entry.file("/x", b"y")], tmp_path)


def test_the_base_is_kept_and_changed_where_it_is_told(base: BaseImage, layer: Layer) -> None:
    made = compose(
        base,
        [layer],
        changes={"Entrypoint": ["/cnb/process/web"], "Cmd": None, "WorkingDir": "/workspace"},
        env={"PATH": "/cnb/process:/usr/bin", "NEW": "1"},
        labels={"b": "3", "c": "4"},
        history=["Application Layer"],
    )
    config = json.loads(made.config_data)
    assert config["config"] == {
        "Env": ["PATH=/cnb/process:/usr/bin", "LANG=C", "NEW=1"],
        "Entrypoint": ["/cnb/process/web"],
        "WorkingDir": "/workspace",
        "Labels": {"a": "1", "b": "3", "c": "4"},
        "User": "0",
    }
    assert config["rootfs"]["diff_ids"] == ["sha256:" + "d" * 64, layer.diff_id]
    assert [line.get("created_by") for line in config["history"]] == ["base", "env", "Application Layer"]
    assert config["created"] == CREATED
    assert "container_config" not in config
    assert base.env == {"PATH": "/usr/bin", "LANG": "C"}


def test_layers_of_docker_are_named_by_their_oci_types(base: BaseImage, layer: Layer) -> None:
    manifest = compose(base, [layer]).manifest.parsed()
    assert manifest["mediaType"] == MANIFEST
    assert [one["mediaType"] for one in manifest["layers"]] == [LAYER_GZIP, LAYER_GZIP]


def test_equal_parts_make_equal_images(base: BaseImage, tmp_path: Path) -> None:
    first = compose(
        base, [layer_from_tree([Entry.file("/x", b"y")], tmp_path / "a")], labels={"a": "1", "z": "2"}
    )
    again = compose(
        base, [layer_from_tree([Entry.file("/x", b"y")], tmp_path / "b")], labels={"z": "2", "a": "1"}
    )
    assert first.digest == again.digest
    assert compose(base, [], labels={"z": "other"}).digest != first.digest


def test_a_base_whose_history_does_not_tell_of_its_layers_gets_empty_lines(
    base: BaseImage, layer: Layer
) -> None:
    bare = BaseImage(base.reference, base.digest, {**base.config, "history": []}, base.layers)
    assert [line.get("created_by") for line in compose(bare, [layer], history=["x"]).config["history"]] == [
        None,
        "x",
    ]


def test_the_time_is_1980_or_what_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, base: BaseImage
) -> None:
    assert creation_time({}) == "1980-01-01T00:00:01Z"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert compose(base, []).config["created"] == "2023-11-14T22:13:20Z"
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH is 'soon'"):
        creation_time({"SOURCE_DATE_EPOCH": "soon"})


def test_variants_fit_where_they_are_not_told() -> None:
    arm = Platform.parse("linux/arm64")
    assert arm.fits(Platform("linux", "arm64", "v8"))
    assert not Platform.parse("linux/arm/v6").fits(Platform("linux", "arm", "v7"))
    assert not arm.fits(AMD)
    with pytest.raises(UsageError):
        Platform.parse("amd64")
    assert Platform.here().os == "linux"


def test_an_image_from_nothing_knows_its_platform(
    client: RegistryClient, tmp_path: Path, layer: Layer
) -> None:
    made = compose(None, [layer], platform=Platform("linux", "arm64", "v8"))
    publish(made, target(f"oci:{tmp_path / 'l'}"), client)
    assert (
        load_base(target(f"oci:{tmp_path / 'l'}"), Platform("linux", "arm64"), client).platform.variant
        == "v8"
    )
