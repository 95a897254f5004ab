"""Rules of the Buildpack and Platform specifications, each with a buildpack that is out to break it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from koalja_fn.pack.building import build
from koalja_fn.pack.buildpack import Buildpack, Shelf
from koalja_fn.pack.detecting import detect
from koalja_fn.pack.errors import PhaseError
from koalja_fn.pack.labels import LIFECYCLE_LABEL
from koalja_fn.pack.metadata import metadata_toml
from koalja_fn.pack.places import cache_folder
from koalja_fn.pack.plan import Plan
from koalja_fn.pack.site import Site
from tests.pack import containers
from tests.pack.test_packing import circuit, image, pack, packed

__all__ = ["circuit"]  # a fixture

Make = Callable[..., Buildpack]
Open = Callable[..., Site]


def quiet(_text: str) -> None:
    return


def group(*entries: str) -> str:
    """An `[[order]]` of ids; a question mark makes one optional."""
    lines = ["[[order]]"]
    for entry in entries:
        lines += ["[[order.group]]", f'id = "test/{entry.rstrip("?")}"', 'version = "1.0.0"']
        lines += ["optional = true"] if entry.endswith("?") else []
    return "\n".join(lines) + "\n"


@pytest.fixture
def composite(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a composite buildpack with that order."""

    def maker(name: str, order: str) -> Path:
        folder = tmp_path / "buildpacks" / name
        folder.mkdir(parents=True)
        about = f'api = "0.10"\n[buildpack]\nid = "test/{name}"\nversion = "1.0.0"\n'
        (folder / "buildpack.toml").write_text(about + order)
        return folder

    return maker


def chosen(order: Path, site: Site, *folders: Path) -> list[str]:
    shelf = Shelf([order, *folders])
    plan = detect(shelf.add(order)[0].order, shelf, site, quiet)
    return [member.buildpack.id.removeprefix("test/") for member in plan.members]


def test_composites_of_composites_are_tried_depth_first_from_left_to_right(
    make: Make, composite: Any, site: Open
) -> None:
    no = make("no", detect="exit 100")
    a, b, c = make("a"), make("b"), make("c")
    inner = composite("inner", group("no") + group("a"))
    middle = composite("middle", group("inner", "no") + group("inner", "b?"))
    outer = composite("outer", group("middle", "c"))
    here = site(no, a, b, c)
    assert chosen(outer, here, inner, middle, *(x.folder for x in (no, a, b, c))) == ["a", "b", "c"]


def test_an_optional_composite_may_fail_as_a_whole(make: Make, composite: Any, site: Open) -> None:
    no, a = make("no", detect="exit 100"), make("a")
    inner = composite("inner", group("no") + group("no", "a"))
    outer = composite("outer", group("inner?", "a"))
    assert chosen(outer, site(no, a), inner, no.folder, a.folder) == ["a"]


def test_an_order_that_names_itself_is_told(make: Make, composite: Any, site: Open) -> None:
    one = composite("one", group("two"))
    two = composite("two", group("one"))
    with pytest.raises(PhaseError, match="names itself"):
        chosen(one, site(), two)


def test_a_buildpack_that_stands_twice_in_a_group_takes_part_once(
    make: Make, composite: Any, site: Open
) -> None:
    a, b = make("a"), make("b")
    inner = composite("inner", group("a"))
    outer = composite("outer", group("a", "inner", "b"))
    assert chosen(outer, site(a, b), inner, a.folder, b.folder) == ["a", "b"]


PROVIDES = 'printf \'[[provides]]\\nname = "{0}"\\n\' >> "$CNB_BUILD_PLAN_PATH"\n'
REQUIRES = 'printf \'[[requires]]\\nname = "{0}"\\n\' >> "$CNB_BUILD_PLAN_PATH"\n'
OR = 'printf "[[or]]\\n" >> "$CNB_BUILD_PLAN_PATH"\n'
OR_REQUIRES = 'printf \'[[or.requires]]\\nname = "{0}"\\n\' >> "$CNB_BUILD_PLAN_PATH"\n'


def test_an_optional_one_whose_offer_nobody_wants_is_left_out(make: Make, composite: Any, site: Open) -> None:
    a, b = make("a", detect=PROVIDES.format("x")), make("b")
    outer = composite("outer", group("a?", "b"))
    assert chosen(outer, site(a, b), a.folder, b.folder) == ["b"]


def test_what_is_left_out_takes_its_requirements_with_it(make: Make, composite: Any, site: Open) -> None:
    a = make("a", detect=PROVIDES.format("x"))
    b = make("b", detect=REQUIRES.format("x") + REQUIRES.format("missing"))
    c = make("c")
    outer = composite("outer", group("a?", "b?", "c"))
    assert chosen(outer, site(a, b, c), *(one.folder for one in (a, b, c))) == ["c"]


def test_the_first_alternative_that_can_be_met_is_taken(make: Make, composite: Any, site: Open) -> None:
    a = make("a", detect=PROVIDES.format("x"))
    b = make("b", detect=REQUIRES.format("missing") + OR + OR_REQUIRES.format("x") + OR)
    outer = composite("outer", group("a?", "b"))
    assert chosen(outer, site(a, b), a.folder, b.folder) == ["a", "b"]


def test_a_requirement_before_its_provider_fails_the_group(make: Make, composite: Any, site: Open) -> None:
    a, b = make("a", detect=REQUIRES.format("x")), make("b", detect=PROVIDES.format("x"))
    outer = composite("outer", group("a", "b"))
    with pytest.raises(PhaseError, match="no group"):
        chosen(outer, site(a, b), a.folder, b.folder)


@pytest.mark.parametrize("api", ["0.7", "0.8", "0.9", "0.10", "0.11", "0.12"])
def test_every_api_from_0_7_is_spoken(api: str, make: Make, site: Open) -> None:
    one = make("one", api=api, build='[ "$1" ] && [ "$2" ] && [ -f "$3" ] && mkdir "$1/l"')
    from koalja_fn.pack.plan import Member

    build(Plan((Member(one),), ()), site(one), quiet)


@pytest.mark.parametrize("api", ["0.6", "0.13", "1", "1.0", "x", ""])
def test_other_apis_are_refused_with_what_is_spoken(api: str, make: Make) -> None:
    with pytest.raises(PhaseError, match="not spoken here"):
        make("one", api=api)


def test_metadata_are_written_as_the_lifecycle_writes_them(make: Make, site: Open) -> None:
    """The expected text is what lifecycle 0.21 wrote for this very build."""
    text = r"""
    cat > "$CNB_LAYERS_DIR/launch.toml" <<'T'
[[labels]]
key = "z"
value = "va\"l\\ue\ttab é"
[[processes]]
type = "zed"
command = ["bash", "-c", "echo <&> \"$1\""]
args = ["a b", "c\\d"]
working-dir = "/tmp"
[[processes]]
type = "web"
command = ["x"]
default = true
[[slices]]
paths = ["s1/d", "nothing"]
T
    """
    one = make("one", build=text, extra='homepage = "https://x.test"')
    from koalja_fn.pack.building import combined
    from koalja_fn.pack.plan import Member

    made = build(Plan((Member(one),), ()), site(one), quiet)
    processes, default = combined(made)
    assert (
        metadata_toml(made, processes, default).decode()
        == r"""buildpack-default-process-type = "web"

[[buildpacks]]
  id = "test/one"
  version = "1.0.0"
  api = "0.10"
  homepage = "https://x.test"

[[labels]]
  key = "z"
  value = "va\"l\\ue\ttab é"

[[processes]]
  type = "web"
  command = ["x"]
  direct = true
  buildpack-id = "test/one"

[[processes]]
  type = "zed"
  command = ["bash", "-c", "echo \u003c\u0026\u003e \"$1\""]
  args = ["a b", "c\\d"]
  direct = true
  buildpack-id = "test/one"
  working-dir = "/tmp"

[[slices]]
  paths = ["s1/d", "nothing"]
"""
    )


FIRST = r"""
L="$CNB_LAYERS_DIR"
mkdir -p "$L/a/bin" "$L/a/lib" "$L/b/bin" "$L/a/env" "$L/a/env.launch/show" "$L/b/env" "$L/a/exec.d/show" \
    "$L/a/profile.d/old" "$L/b/exec.d" "$L/gone/bin" sub
printf '[types]\nlaunch = true\n' | tee "$L/a.toml" > "$L/b.toml"
printf '[types]\nbuild = true\n' > "$L/gone.toml"
printf 1 > "$L/a/env/V.append"; printf : > "$L/a/env/V.delim"
printf 2 > "$L/a/env.launch/V.append"; printf : > "$L/a/env.launch/V.delim"
printf 3 > "$L/a/env.launch/show/V.append"; printf : > "$L/a/env.launch/show/V.delim"
printf 4 > "$L/b/env/V.append"; printf + > "$L/b/env/V.delim"
printf x > "$L/a/env/W.prepend"; printf y > "$L/b/env/W.prepend"
printf first > "$L/a/env/D.default"; printf second > "$L/b/env/D.default"
printf first > "$L/a/env/O.override"; printf second > "$L/b/env/O"
printf '%s' '$HOME `id`' > "$L/a/env/RAW"
printf ignored > "$L/a/env/U.strange"
script() { printf '#!/bin/sh\n%s\n' "$2" > "$1"; chmod +x "$1"; }
script "$L/a/exec.d/2" 'echo "E2 = \"$E1-$(basename "$PWD")\"" >&3; echo "V2 = \"$V\"" >&3'
script "$L/a/exec.d/1" 'echo "E1 = \"one\"" >&3'
script "$L/a/exec.d/show/3" 'echo "E3 = \"$E2$EB\"" >&3'
script "$L/b/exec.d/b" 'echo "EB = \"b\"" >&3'
echo 'P1="profile $(basename "$PWD")"; export P1' > "$L/a/profile.d/p"
echo 'P2="$P1, old"; export P2' > "$L/a/profile.d/old/q"
echo 'P3="$P2, app"; export P3' > .profile
cat > "$L/launch.toml" <<'T'
[[processes]]
type = "show"
command = ["sh", "-c", "echo \"$V|$W|$D|$O|$RAW|$U|$E1|$E2|$E3|$V2|$PATH|$LD_LIBRARY_PATH|$PWD|$0\""]
args = ["default"]
[[processes]]
type = "there"
command = ["pwd"]
working-dir = "/workspace/sub"
T
"""

SECOND = r"""
L="$CNB_LAYERS_DIR"
mkdir -p "$L/c/bin" "$L/c/env"
printf '[types]\nlaunch = true\n' > "$L/c.toml"
printf 5 > "$L/c/env/V.append"; printf z > "$L/c/env/W.prepend"; printf third > "$L/c/env/D.default"
cat > "$L/launch.toml" <<'T'
[[processes]]
type = "old"
command = "echo"
args = ["$P3", "a  b", "${V}"]
direct = false
working-dir = "/workspace/sub"
[[processes]]
type = "script"
command = "echo \"$P1\" $((1 + 1)); pwd"
direct = false
working-dir = "/workspace/sub"
T
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_an_image_starts_its_processes_with(
    circuit: Path, base: str, tmp_path: Path, make: Make
) -> None:
    one, two = make("one", build=FIRST), make("two", api="0.8", build=SECOND)
    words = ("--buildpack", str(one.folder), "--buildpack", str(two.folder), "--task", "shout")
    packed(circuit, base, tmp_path / "out", *words)
    bundle = containers.unpack(f"oci:{tmp_path / 'out'}:shout", tmp_path / "run")

    def run(kind: str, *arguments: str, **env: str) -> str:
        status, output = containers.run(bundle, [f"/cnb/process/{kind}", *arguments], env)
        assert status == 0, output
        return output.rstrip("\n")

    layers = "/layers/test_two/c/bin:/layers/test_one/a/bin:/layers/test_one/b/bin"
    told = run("show").split("|")
    assert told[:4] == ["1:2:3+45", "zyx", "first", "second"]
    assert told[4:10] == ["$HOME `id`", "", "one", "one-workspace", "one-workspaceb", "1:2:3+45"]
    assert told[10].startswith(f"/layers/koalja_function/runtime/bin:{layers}:")
    assert told[11:] == ["/layers/test_one/a/lib", "/workspace", "default"]
    assert run("show", "mine").endswith("|mine")
    assert run("show", D="given").split("|")[2] == "given"
    assert run("there") == "/workspace/sub"
    assert run("old") == "profile workspace, old, app a  b 1:2+45"
    assert run("old", "$W").endswith(" zyx")
    assert run("script") == "profile workspace 2\n/workspace/sub"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_layers_come_back_by_the_table_of_their_types(
    circuit: Path, base: str, tmp_path: Path, make: Make
) -> None:
    """Second build: which layers have metadata, and which have contents; types are never there."""
    text = r"""
    cd "$CNB_LAYERS_DIR"
    if [ -e store.toml ]; then
        for kind in bcl bcx bxl bxx xcl xcx xxl; do
            toml=no; [ ! -f "$kind.toml" ] || toml=yes
            there=no; [ ! -f "$kind/x" ] || there=yes
            bill=no; [ ! -f "$kind.sbom.cdx.json" ] || bill=yes
            ! grep -q '^launch\|^build\|^cache' "$kind.toml" 2>/dev/null || toml=types
            echo "$kind $toml $there $bill"
        done
        exit 1
    fi
    for kind in bcl bcx bxl bxx xcl xcx xxl; do
        mkdir "$kind"; echo x > "$kind/x"; echo '{}' > "$kind.sbom.cdx.json"
        printf '[types]\n' > "$kind.toml"
        case "$kind" in b*) echo 'build = true' >> "$kind.toml";; esac
        case "$kind" in ?c?) echo 'cache = true' >> "$kind.toml";; esac
        case "$kind" in ??l) echo 'launch = true' >> "$kind.toml";; esac
        printf '[metadata]\nk = "%s"\n' "$kind" >> "$kind.toml"
    done
    printf '[metadata]\nseen = true\n' > store.toml
    """
    one = make("one", build=text)
    words = ("--buildpack", str(one.folder), "--task", "shout")
    packed(circuit, base, tmp_path / "out", *words)
    told = json.loads(image(tmp_path / "out", "shout").labels[LIFECYCLE_LABEL])["buildpacks"][0]
    assert told["store"] == {"metadata": {"seen": True}}
    assert sorted(told["layers"]) == ["bcl", "bxl", "xcl", "xxl"]
    (circuit / "shout.sh").write_text("#!/bin/sh\necho changed\n")
    done = pack(circuit, base, tmp_path / "out", *words)
    for line in ("bcl yes yes yes", "bcx yes yes yes", "bxl no no no", "bxx no no no", "xcl yes yes yes",
                 "xcx yes yes yes", "xxl yes no yes"):  # fmt: skip
        assert line in done.stderr, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_bills_of_launch_layers_come_back_on_another_machine(
    circuit: Path, base: str, tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With nothing in the cache but the unpacked base image, they are read from the last image."""
    text = """
    [ ! -f "$CNB_LAYERS_DIR/l.toml" ] || { cat "$CNB_LAYERS_DIR/l.sbom.cdx.json"; exit 1; }
    mkdir "$CNB_LAYERS_DIR/l"; printf '[types]\\nlaunch = true\\n' > "$CNB_LAYERS_DIR/l.toml"
    echo '{"bill": "of materials"}' > "$CNB_LAYERS_DIR/l.sbom.cdx.json"
    """
    one = make("one", build=text)
    words = ("--buildpack", str(one.folder), "--task", "shout")
    packed(circuit, base, tmp_path / "out", *words)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/bases").symlink_to(cache_folder() / "bases")
    monkeypatch.setenv("KOALJA_CACHE", str(tmp_path / "cache"))
    (circuit / "shout.sh").write_text("#!/bin/sh\necho changed\n")
    assert '{"bill": "of materials"}' in pack(circuit, base, tmp_path / "out", *words).stderr
