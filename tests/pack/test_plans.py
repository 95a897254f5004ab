"""Orders, groups and build plans: the rules of detection that need no program."""

from __future__ import annotations

from pathlib import Path

import pytest

from koalja_fn.pack.buildpack import Buildpack, Entry, Machine, Shelf, Wanted, read_buildpack
from koalja_fn.pack.errors import PhaseError
from koalja_fn.pack.plan import Choice, Member, Plan, groups, read_choices, resolve


def component(name: str) -> Buildpack:
    return Buildpack(name, "1.0.0", (0, 10), Path("/nowhere"))


def choice(provides: str = "", requires: str = "") -> Choice:
    return Choice(tuple(provides.split()), tuple((name, {"name": name}) for name in requires.split()))


def members(*names: str) -> list[Member]:
    return [Member(component(name.rstrip("?")), name.endswith("?")) for name in names]


def ids(plan: Plan | str) -> list[str]:
    assert isinstance(plan, Plan), plan
    return [member.buildpack.id for member in plan.members]


def test_a_requirement_is_met_by_the_same_or_an_earlier_buildpack() -> None:
    plan = resolve(members("a", "b"), {"a": [choice("x", "x")], "b": [choice("", "x")]})
    assert ids(plan) == ["a", "b"]
    assert isinstance(plan, Plan)
    assert plan.dependencies[0].providers == ("a",)
    assert len(plan.dependencies[0].requires) == 2


def test_a_requirement_is_not_met_by_a_later_buildpack() -> None:
    why = resolve(members("a", "b"), {"a": [choice("", "x")], "b": [choice("x", "x")]})
    assert isinstance(why, str)
    assert "a@1.0.0 requires 'x'" in why


def test_what_nobody_requires_must_not_be_provided() -> None:
    why = resolve(members("a"), {"a": [choice("x")]})
    assert isinstance(why, str)
    assert "provides 'x'" in why


def test_an_optional_buildpack_with_an_unmet_need_is_dropped_and_all_is_looked_at_again() -> None:
    # b's requirement is what a's offer is for: without b, a has to go, too
    plan = resolve(members("a?", "b?", "c"), {"a": [choice("x")], "b": [choice("", "x y")], "c": [choice()]})
    assert ids(plan) == ["c"]


def test_alternatives_are_tried_from_left_to_right_depth_first() -> None:
    alternatives = {"a": [choice("x"), choice("y")], "b": [choice("", "z"), choice("", "y")]}
    plan = resolve(members("a", "b"), alternatives)
    assert isinstance(plan, Plan)
    assert [d.name for d in plan.dependencies] == ["y"]


def test_a_plan_in_a_file_has_its_top_level_first(tmp_path: Path) -> None:
    data = {"provides": [{"name": "x"}], "or": [{"requires": [{"name": "y", "metadata": {"v": 1}}]}, {}]}
    found = read_choices(data, component("a"))
    assert [c.provides for c in found] == [("x",), (), ()]
    assert found[1].requires[0][1] == {"name": "y", "metadata": {"v": 1}}


@pytest.mark.parametrize("data", [{"provides": [{}]}, {"provides": "x"}, {"or": {"provides": []}}])
def test_a_plan_of_a_wrong_shape_is_an_error_with_the_buildpacks_name(data: dict[str, object]) -> None:
    with pytest.raises(PhaseError, match=r"a@1\.0\.0"):
        read_choices(data, component("a"))


def write(folder: Path, name: str, text: str, *, programs: bool = True) -> Path:
    here = folder / name
    (here / "bin").mkdir(parents=True)
    about = f'api = "0.10"\n[buildpack]\nid = "test/{name}"\nversion = "1.0.0"\n{text}'
    (here / "buildpack.toml").write_text(about)
    if programs:
        for program in ("detect", "build"):
            (here / "bin" / program).write_text("#!/bin/sh\n")
            (here / "bin" / program).chmod(0o755)
    return here


def order(*groups_: str) -> str:
    text = ""
    for group in groups_:
        text += "[[order]]\n"
        for name in group.split():
            optional = "optional = true\n" if name.endswith("?") else ""
            text += f'[[order.group]]\nid = "test/{name.rstrip("?")}"\nversion = "1.0.0"\n{optional}'
    return text


def test_composites_are_replaced_by_their_groups_depth_first(tmp_path: Path) -> None:
    """The matrix in the specification: [O, P] with O = [A B; C D] and P = [E F; G H]."""
    folders = [write(tmp_path, name, "") for name in "abcdefgh"]
    folders.append(write(tmp_path, "o", order("a b", "c d"), programs=False))
    folders.append(write(tmp_path, "p", order("e f", "g h"), programs=False))
    shelf = Shelf(folders)
    found = groups(((Entry("test/o", "1.0.0"), Entry("test/p", "1.0.0")),), shelf, "production")
    texts = ["".join(m.buildpack.id[-1] for m in group) for group in found]
    assert texts == ["abef", "abgh", "cdef", "cdgh"]


def test_an_optional_composite_is_also_left_out(tmp_path: Path) -> None:
    folders = [write(tmp_path, name, "") for name in "ab"]
    folders.append(write(tmp_path, "o", order("a"), programs=False))
    found = groups(((Entry("test/o", optional=True), Entry("test/b")),), Shelf(folders), "production")
    assert ["".join(m.buildpack.id[-1] for m in group) for group in found] == ["ab", "b"]


def test_an_order_that_names_itself_is_an_error(tmp_path: Path) -> None:
    shelf = Shelf([write(tmp_path, "o", order("o"), programs=False)])
    with pytest.raises(PhaseError, match="names itself"):
        list(groups(((Entry("test/o"),),), shelf, "production"))


def test_a_package_brings_the_buildpacks_beside_it(tmp_path: Path) -> None:
    write(tmp_path, "a", "")
    composite = write(tmp_path, "o", order("a"), programs=False)
    (composite / "package.toml").write_text('[buildpack]\nuri = "."\n[[dependencies]]\nuri = "../a"\n')
    assert {b.id for b in Shelf([composite])} == {"test/o", "test/a"}


def test_a_buildpack_that_is_not_at_hand_is_named_with_those_that_are(tmp_path: Path) -> None:
    shelf = Shelf([write(tmp_path, "a", "")])
    with pytest.raises(PhaseError, match="test/b") as caught:
        shelf.find(Entry("test/b", "1.0.0"))
    assert "test/a@1.0.0" in caught.value.why


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('api = "0.99"\n[buildpack]\nid = "a"\nversion = "1.0.0"', "0.99"),
        ('api = "0.10"\n[buildpack]\nid = "../a"\nversion = "1.0.0"', "not allowed"),
        ('api = "0.10"\n[buildpack]\nid = "config"\nversion = "1.0.0"', "not allowed"),
        ('api = "0.10"\n[buildpack]\nid = "a"', "version"),
        ('api = "0.10"\n[buildpack]\nid = "a"\nversion = "1.0.0"', "bin/detect"),
        ("api = ", "TOML"),
    ],
)
def test_a_bad_descriptor_is_told_with_its_folder(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "buildpack.toml").write_text(text)
    with pytest.raises(PhaseError) as caught:
        read_buildpack(tmp_path)
    assert said in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        (Wanted(), True),
        (Wanted("linux", "amd64"), True),
        (Wanted("linux", "arm64"), False),
        (Wanted("windows"), False),
        (Wanted("linux", distros=(("debian", "12"), ("ubuntu", "24.04"))), True),
        (Wanted("linux", distros=(("debian", ""),)), True),
        (Wanted("linux", distros=(("ubuntu", "24.04"),)), False),
    ],
)
def test_targets_match_by_what_they_say(wanted: Wanted, fits: bool) -> None:
    assert wanted.fits(Machine("linux", "amd64", "", "debian", "12")) is fits


def test_stacks_of_old_buildpacks_become_targets(tmp_path: Path) -> None:
    any_stack = read_buildpack(write(tmp_path, "a", '[[stacks]]\nid = "*"\n'))
    bionic = read_buildpack(write(tmp_path, "b", '[[stacks]]\nid = "io.buildpacks.stacks.bionic"\n'))
    assert any_stack.fits(Machine("linux", "arm64", "", "alpine", "3"))
    assert not bionic.fits(Machine("linux", "amd64", "", "debian", "12"))
    assert bionic.fits(Machine("linux", "amd64", "", "ubuntu", "18.04"))
