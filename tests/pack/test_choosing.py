"""Which packer is used, and why; what the real `pack` would be called with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from koalja_fn.errors import UsageError
from koalja_fn.pack import foreign
from koalja_fn.pack.ground import Choice, check_variables
from koalja_fn.pack.oci.reference import LayoutTarget, Reference
from koalja_fn.pack.packing import destination


def test_without_pack_the_embedded_one_is_used_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert foreign.look({"PATH": str(tmp_path)}).trouble == "there is no `pack` on PATH"
    monkeypatch.setattr(foreign, "look", lambda: foreign.Engine("", "there is no `pack` on PATH"))
    assert foreign.choose("auto", layout=False, run_image=False) == ("embedded", "there is no `pack` on PATH")
    with pytest.raises(UsageError, match="can't be used"):
        foreign.choose("pack", layout=False, run_image=False)


def test_podman_4_3_is_refused_with_the_reason() -> None:
    server = {"Components": [{"Name": "Podman Engine", "Version": "4.3.1"}], "Version": "4.3.1"}
    assert "4.3.1" in foreign.trouble_of(json.dumps(server))
    assert (
        foreign.trouble_of(json.dumps({"Components": [{"Name": "Podman Engine", "Version": "4.4.0"}]})) == ""
    )
    assert foreign.trouble_of(json.dumps({"Components": [{"Name": "Engine", "Version": "20.10.24"}]})) == ""


def test_images_for_a_folder_are_made_by_the_embedded_one() -> None:
    assert foreign.choose("auto", layout=True, run_image=False)[0] == "embedded"


def test_pack_is_called_with_ours_last() -> None:
    to = Reference.parse("127.0.0.1:5000/me/a-b")
    words = foreign._words("pack", Choice(variables={"BP_A": "1"}), Path("/bp"), Path("/app"), to)
    assert words[-4:] == ["--post-buildpack", "/bp/koalja", "--env", "BP_A=1"]
    assert "--trust-extra-buildpacks" in words
    assert words[words.index("--network") + 1] == "host"


def test_pack_with_buildpacks_of_the_users_choice_has_ours_last_too() -> None:
    to = Reference.parse("ghcr.io/me/a-b")
    words = foreign._words("pack", Choice(buildpacks=(Path("/x"),)), Path("/bp"), Path("/app"), to)
    assert words[-4:] == ["--buildpack", "/x", "--buildpack", "/bp/koalja"]
    assert "--network" not in words


def test_destinations() -> None:
    assert str(destination("ghcr.io/me/", None).of("c", "t")) == "ghcr.io/me/c-t:latest"
    assert destination(None, "oci:out").of("c", "t") == LayoutTarget(Path("out"), "t")
    for to, output in ((None, None), ("a", "oci:b"), ("ghcr.io/me@sha256:x", None), (None, "folder")):
        with pytest.raises(UsageError):
            destination(to, output)


@pytest.mark.parametrize("name", ["CNB_LAYERS_DIR", "A-B", "", "../x"])
def test_variables_that_are_not_the_users_to_set_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        check_variables({name: "x"})
