"""Names of images mean what they mean everywhere else."""

from pathlib import Path

import pytest

from koalja_fn.errors import UsageError
from koalja_fn.pack.oci.reference import LayoutTarget, Reference, is_loopback, target

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("ubuntu", "docker.io", "library/ubuntu", "latest", None),
        ("me/thing:1", "docker.io", "me/thing", "1", None),
        ("index.docker.io/me/thing", "docker.io", "me/thing", "latest", None),
        ("docker.io/ubuntu:24.04", "docker.io", "library/ubuntu", "24.04", None),
        ("127.0.0.1:5000/a/b:tag@" + DIGEST, "127.0.0.1:5000", "a/b", "tag", DIGEST),
        ("localhost/x", "localhost", "x", "latest", None),
        ("[::1]:5000/x:y", "[::1]:5000", "x", "y", None),
        ("ghcr.io/a-b/c__d.e@" + DIGEST, "ghcr.io", "a-b/c__d.e", None, DIGEST),
    ],
)
def test_names_are_read_with_the_usual_defaults(
    text: str, registry: str, repository: str, tag: str | None, digest: str | None
) -> None:
    assert Reference.parse(text) == Reference(registry, repository, tag, digest)


def test_docker_hub_is_reached_under_its_other_name() -> None:
    assert Reference.parse("ubuntu").host == "registry-1.docker.io"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "upper/Case",
        "a:b:c/d",
        "x@sha256:12",
        "x:-bad",
        "http://host/x",
        "x/../y",
        "x y",
        "a/" + "b" * 300,
    ],
)
def test_what_is_no_name_is_refused_with_the_reason(text: str) -> None:
    with pytest.raises(UsageError, match="is no name of an image"):
        Reference.parse(text)


def test_a_reference_written_down_reads_back() -> None:
    text = f"127.0.0.1:5000/a/b:tag@{DIGEST}"
    assert str(Reference.parse(text)) == text


def test_a_folder_is_a_target() -> None:
    assert target("oci:some/folder") == LayoutTarget(Path("some/folder"), "latest")
    assert target("oci:/some/folder:v1") == LayoutTarget(Path("/some/folder"), "v1")
    assert target(f"oci:/f:v1@{DIGEST}") == LayoutTarget(Path("/f"), "v1", DIGEST)
    with pytest.raises(UsageError):
        target("oci:")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost:5000", True),
        ("127.0.0.1", True),
        ("127.9.9.9:1", True),
        ("[::1]:5000", True),
        ("reg.localhost", True),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com:5000", False),
        ("10.0.0.1:5000", False),
        ("ghcr.io", False),
    ],
)
def test_loopback_is_told_by_the_name_alone(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
