"""Base images as folders: whiteouts are obeyed, and nothing gets out of the folder."""

import gzip
import io
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from koalja_fn.errors import Damaged, PackError
from koalja_fn.pack.oci.client import RegistryClient
from koalja_fn.pack.oci.image import BaseImage, compose, load_base
from koalja_fn.pack.oci.layer import layer_from_tree
from koalja_fn.pack.oci.place import digest_of
from koalja_fn.pack.oci.publishing import publish
from koalja_fn.pack.oci.reference import target
from koalja_fn.pack.oci.rootfs import extract_rootfs
from koalja_fn.pack.oci.values import LAYER_GZIP, LAYER_TAR, LAYER_ZSTD, Layer
from tests.pack.oci.conftest import AMD

Member = tuple[
    str, bytes | str | None
]  # content, or a link's target after `-> ` or `=> ` (hard), None for a folder
Unpack = Callable[..., Path]


def tar(members: list[Member], **fields: object) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.mode, info.mtime = 0o755, 1_000_000_000
            for key, value in fields.items():
                setattr(info, key, value)
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
                continue
            info.type = tarfile.DIRTYPE
            if content is not None:
                info.type = tarfile.SYMTYPE if content.startswith("-> ") else tarfile.LNKTYPE
                info.linkname = content[3:]
            archive.addfile(info)
    return out.getvalue()


def layer(folder: Path, data: bytes, packed: bytes | None = None, kind: str = LAYER_GZIP) -> Layer:
    packed = gzip.compress(data, mtime=0) if packed is None else packed
    blob = folder / digest_of(packed).replace(":", "-")
    blob.write_bytes(packed)
    return Layer(digest_of(packed), digest_of(data), len(packed), kind, blob)


@pytest.fixture
def unpack(tmp_path: Path, client: RegistryClient) -> Unpack:
    """Push layers of these members to a folder, and unpack them from there."""

    def unpacked(*layers: list[Member] | Layer) -> Path:
        made = [one if isinstance(one, Layer) else layer(tmp_path, tar(one)) for one in layers]
        where = target(f"oci:{tmp_path / 'layout'}")
        publish(compose(None, made, platform=AMD), where, client)
        return extract_rootfs(load_base(where, AMD, client), client, tmp_path / "cache")

    return unpacked


def names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_layers_lie_over_each_other(unpack: Unpack) -> None:
    root = unpack(
        [("./etc", None), ("./etc/a", b"1"), ("/etc/b", b"1"), ("bin/sh", b"#!")],
        [("etc/a", b"2"), ("etc/c", "-> /etc/a"), ("etc/d", "=> etc/a")],
    )
    assert names(root) == ["bin", "bin/sh", "etc", "etc/a", "etc/b", "etc/c", "etc/d"]
    assert (root / "etc/a").read_bytes() == b"2"
    assert (root / "etc/c").readlink() == Path("/etc/a")
    assert (root / "etc/d").samefile(root / "etc/a")
    assert (root / "etc/b").stat().st_mtime == 1_000_000_000
    assert (root / "etc").stat().st_mtime == 1_000_000_000


def test_a_whiteout_hides_what_is_below(unpack: Unpack) -> None:
    root = unpack(
        [("a/x", b""), ("a/y", b""), ("b/deep/er", b""), ("c", b"")],
        [("a/.wh.x", b""), (".wh.b", b""), (".wh.nothing", b"")],
    )
    assert names(root) == ["a", "a/y", "c"]


def test_an_opaque_folder_keeps_only_what_its_own_layer_put_there(unpack: Unpack) -> None:
    """Wherever in the layer the marker stands."""
    root = unpack(
        [("a/old", b""), ("a/sub/old", b""), ("a/both/old", b"")],
        [("a/new", b""), ("a/both/new", b""), ("a/.wh..wh..opq", b""), ("a/later", b"")],
    )
    assert names(root) == ["a", "a/both", "a/both/new", "a/later", "a/new"]


def test_a_kind_may_change_from_layer_to_layer(unpack: Unpack) -> None:
    root = unpack(
        [("a/x", b""), ("b", b"file"), ("l", "-> a")],
        [("a", b"file now"), ("b/x", b""), ("l", None), ("l/y", b"")],
    )
    assert names(root) == ["a", "b", "b/x", "l", "l/y"]


def test_links_to_folders_are_followed_inside_the_image(unpack: Unpack) -> None:
    root = unpack(
        [("usr/lib", None), ("lib", "-> usr/lib"), ("abs", "-> /usr")],
        [("lib/one", b"1"), ("abs/lib/two", b"2"), ("lib/.wh.gone", b"")],
    )
    assert names(root / "usr/lib") == ["one", "two"]


@pytest.mark.parametrize(
    "members",
    [
        [("../escaped", b"")],
        [("a/../../escaped", b"")],
        [("a/.wh...", b"")],
        [("a/.wh..", b"")],
        [("a", "=> ../../../etc/passwd")],
        [("a", "=> missing")],
    ],
    ids=str,
)
def test_a_name_that_leads_out_is_refused(unpack: Unpack, tmp_path: Path, members: list[Member]) -> None:
    with pytest.raises(Damaged):
        unpack(members)
    assert not [
        path for path in (tmp_path / "cache").rglob("*") if path.name != path.parent.name and path.is_file()
    ]
    assert not list((tmp_path / "cache").glob("*/.new-*"))


@pytest.mark.parametrize(
    "members",
    [
        [("out", "-> {outside}"), ("out/file", b"evil")],
        [("out", "-> ../../../../../../../../../../{outside}"), ("out/file", b"evil")],
        [("one", "-> ."), ("one/two", "-> {outside}"), ("two/file", b"evil")],
        [("out", "-> {outside}/victim"), ("out", b"evil")],
        [("out", "-> {outside}"), ("out/.wh.victim", b"")],
        [("out", "-> {outside}"), ("out/.wh..wh..opq", b"")],
        [("out", "-> {outside}"), ("hard", "=> out/victim")],
        [("out", "-> {outside}"), ("out", None)],
    ],
    ids=str,
)
def test_links_never_lead_out(unpack: Unpack, tmp_path: Path, members: list[Member]) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("safe")
    made = [(name, one.format(outside=outside) if isinstance(one, str) else one) for name, one in members]
    try:
        root = unpack(made)
    except Damaged:
        root = None
    assert sorted(path.name for path in outside.iterdir()) == ["victim"]
    assert (outside / "victim").read_text() == "safe"
    assert (outside / "victim").stat().st_nlink == 1
    assert root is None or root.is_dir()


def test_links_in_circles_are_refused(unpack: Unpack) -> None:
    with pytest.raises(Damaged, match="too many links"):
        unpack([("a", "-> b"), ("b", "-> a"), ("a/x", b"")])


def test_rights_and_devices_are_left_behind(unpack: Unpack, tmp_path: Path) -> None:
    root = unpack(
        layer(tmp_path, tar([("su", b"x")], mode=0o6755)),
        layer(tmp_path, tar([("dev/null", b"")], type=tarfile.CHRTYPE)),
        layer(tmp_path, tar([("shut", None)], mode=0o000, type=tarfile.DIRTYPE)),
    )
    assert stat.S_IMODE((root / "su").stat().st_mode) == 0o755
    assert not (root / "dev/null").exists()
    assert stat.S_IMODE((root / "shut").stat().st_mode) == 0o700


def test_a_layer_that_is_not_what_the_image_says_is_refused(unpack: Unpack, tmp_path: Path) -> None:
    right = layer(tmp_path, tar([("a", b"")]))
    assert right.blob is not None
    lying = Layer(right.digest, digest_of(b"?"), right.size, LAYER_GZIP, right.blob)
    with pytest.raises(Damaged, match="is not what the image says"):
        unpack(lying)


@pytest.mark.parametrize(
    "broken",
    [b"\x1f\x8b\x08garbage", b"no tar" * 200, gzip.compress(tar([("a", b"x" * 900)]), mtime=0)[:-30]],
    ids=["no gzip", "no tar", "cut off"],
)
def test_a_broken_layer_is_refused(unpack: Unpack, tmp_path: Path, broken: bytes) -> None:
    with pytest.raises(Damaged):
        unpack(layer(tmp_path, b"?", broken))


def test_bare_and_zstd_layers_are_unpacked_too(unpack: Unpack, tmp_path: Path) -> None:
    bare, other = tar([("bare", b"1")]), tar([("zstd", b"2")])
    layers = [layer(tmp_path, bare, bare, LAYER_TAR)]
    assert shutil.which("zstd"), "zstd is missing: tests/run installs it (apt-get install zstd)"
    packed = subprocess.run(["zstd", "-cq"], input=other, capture_output=True, check=True).stdout
    layers.append(layer(tmp_path, other, packed, LAYER_ZSTD))
    assert names(unpack(*layers)) == ["bare", "zstd"]


def test_a_layer_of_nothing_is_a_layer(unpack: Unpack, tmp_path: Path) -> None:
    """The lifecycle writes one for each slice that nothing falls into."""
    root = unpack(layer_from_tree([], tmp_path), [("a", b"")])
    assert names(root) == ["a"]


def test_zstd_without_the_program_is_explained(
    unpack: Unpack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PackError, match="compressed with zstd"):
        unpack(layer(tmp_path, b"?", b"\x28\xb5\x2f\xfd....", LAYER_ZSTD))


def test_it_is_unpacked_once_also_by_many_at_once(
    tmp_path: Path, client: RegistryClient, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = compose(None, [layer(tmp_path, tar([("a", b"1")]))], platform=AMD)
    publish(made, target(name), client)
    base = load_base(target(name), AMD, client)
    with ThreadPoolExecutor(4) as pool:
        roots = set(pool.map(lambda _: extract_rootfs(base, client, tmp_path / "cache"), range(8)))
    (root,) = roots
    marker = root / "still the same"
    marker.touch()
    again: BaseImage = load_base(target(name), AMD, client)
    assert extract_rootfs(again, client, tmp_path / "cache") == root
    assert marker.exists()
    assert [path.name for path in root.parent.iterdir()] == ["rootfs"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else: run the tests as root")
def test_it_needs_no_rights(tmp_path: Path, client: RegistryClient) -> None:
    """Unpacked by somebody who is not root: owners stay his, and he can remove it all again."""
    made = layer(tmp_path, tar([("etc", None), ("etc/shadow", b"")], mode=0o555, uid=0, gid=42))
    where = target(f"oci:{tmp_path / 'layout'}")
    publish(compose(None, [made], platform=AMD), where, client)
    script = """
import os, sys
from pathlib import Path
from koalja_fn.pack.oci import layout
from koalja_fn.pack.oci.client import RegistryClient
from koalja_fn.pack.oci.image import load_base
from koalja_fn.pack.oci.reference import target
from koalja_fn.pack.oci.rootfs import extract_rootfs, remove_tree
from koalja_fn.pack.oci.values import Platform
with RegistryClient() as client:
    base = load_base(target("oci:layout"), Platform("linux", "amd64"), client)
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
    root = extract_rootfs(base, client, Path("cache"))
    assert (root / "etc/shadow").stat().st_uid == 65534
    remove_tree(root)
    assert not root.exists()
"""
    # Not below pytest's own folder, which is closed to everybody else.
    with tempfile.TemporaryDirectory() as home:
        shutil.copytree(tmp_path / "layout", Path(home) / "layout")
        cache = Path(home) / "cache"
        cache.mkdir()
        os.chown(cache, 65534, 65534)
        Path(home).chmod(0o755)
        done = subprocess.run([sys.executable, "-c", script], cwd=home, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
