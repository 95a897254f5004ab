"""Detection and build with real programs: what they are given, and what becomes of what they leave."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from koalja_fn.pack.building import Contribution, build, combined
from koalja_fn.pack.buildpack import Buildpack, Entry, Shelf
from koalja_fn.pack.detecting import detect
from koalja_fn.pack.errors import PhaseError
from koalja_fn.pack.plan import Member, Plan
from koalja_fn.pack.site import Site

Make = Callable[..., Buildpack]
Open = Callable[..., Site]


def quiet(_text: str) -> None:
    return


def built(site: Site, *buildpacks: Buildpack) -> list[Contribution]:
    return build(Plan(tuple(Member(b) for b in buildpacks), ()), site, quiet)


def detected(site: Site, *groups: list[Buildpack | tuple[Buildpack, bool]]) -> list[str]:
    """The ids of the group that is chosen; a pair says whether a member is optional."""
    order = []
    shelf = Shelf()
    for group in groups:
        entries = []
        for one in group:
            buildpack, optional = one if isinstance(one, tuple) else (one, False)
            shelf.add(buildpack.folder)
            entries.append(Entry(buildpack.id, buildpack.version, optional))
        order.append(tuple(entries))
    return [m.buildpack.id for m in detect(tuple(order), shelf, site, quiet).members]


def test_the_first_group_in_which_all_required_ones_pass_is_chosen(make: Make, site: Open) -> None:
    no, yes, also = make("no", detect="exit 100"), make("yes"), make("also")
    here = site(no, yes, also)
    assert detected(here, [no, yes], [yes, also]) == ["test/yes", "test/also"]


def test_an_optional_one_may_fail(make: Make, site: Open) -> None:
    no, yes = make("no", detect="exit 100"), make("yes")
    assert detected(site(no, yes), [(no, True), yes]) == ["test/yes"]


def test_a_group_of_which_nobody_passes_is_none(make: Make, site: Open) -> None:
    no, yes = make("no", detect="exit 100"), make("yes")
    assert detected(site(no, yes), [(no, True)], [yes]) == ["test/yes"]


def test_detect_runs_once_in_however_many_groups_it_stands(make: Make, site: Open) -> None:
    no = make("no", detect="exit 100")
    counts = make("counts", detect='echo x >> "$HOME/count"; [ "$(wc -l < "$HOME/count")" -eq 1 ]')
    assert detected(site(no, counts), [counts, no], [counts]) == ["test/counts"]


def test_when_none_fits_the_error_has_what_each_said(make: Make, site: Open) -> None:
    broken = make("broken", detect="echo oh dear >&2; exit 3")
    with pytest.raises(PhaseError) as caught:
        detected(site(broken), [broken])
    assert "exit status 3" in caught.value.why
    assert "oh dear" in str(caught.value)
    assert caught.value.phase == "detect"


def test_a_buildpack_for_another_machine_is_not_even_asked(make: Make, site: Open) -> None:
    other = make("other", detect="exit 0", toml='[[targets]]\nos = "linux"\narch = "s390x"\n')
    with pytest.raises(PhaseError, match="no group") as caught:
        detected(site(other), [other])
    assert "linux/amd64" in caught.value.why


def test_a_plan_that_is_no_toml_is_told(make: Make, site: Open) -> None:
    bad = make("bad", detect='echo "= 1" > "$CNB_BUILD_PLAN_PATH"')
    with pytest.raises(PhaseError, match="TOML"):
        detected(site(bad), [bad])


def test_detect_gets_its_arguments_both_ways(make: Make, site: Open) -> None:
    """Positional arguments are deprecated, but the samples use them."""
    both = make(
        "both", detect='[ "$1" = "$CNB_PLATFORM_DIR" ] && [ "$2" = "$CNB_BUILD_PLAN_PATH" ] && [ -f "$2" ]'
    )
    assert detected(site(both), [both]) == ["test/both"]


def test_build_gets_its_arguments_both_ways_and_runs_in_the_application(make: Make, site: Open) -> None:
    text = """
    [ "$1" = "$CNB_LAYERS_DIR" ] && [ "$2" = "$CNB_PLATFORM_DIR" ] && [ "$3" = "$CNB_BP_PLAN_PATH" ]
    [ -f main.sh ] && [ -x "$CNB_BUILDPACK_DIR/bin/build" ]
    [ "$CNB_TARGET_OS/$CNB_TARGET_ARCH" = linux/amd64 ]
    [ "$CNB_TARGET_DISTRO_NAME $CNB_TARGET_DISTRO_VERSION $CNB_EXEC_ENV" = "debian 12 production" ]
    """
    one = make("one", build=text)
    built(site(one), one)


def test_nothing_of_our_own_environment_reaches_a_buildpack(
    make: Make, site: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", "/secret")
    monkeypatch.setenv("CNB_REGISTRY_AUTH", "secret")
    one = make("one", build="env")
    output = built(site(one), one)[0].output
    assert "secret" not in output
    assert "KOALJA" not in output
    assert {line.partition("=")[0] for line in output.splitlines()} <= {
        "PATH", "HOME", "PWD", "OLDPWD", "SHLVL", "_", "CNB_PLATFORM_DIR", "CNB_EXEC_ENV", "CNB_TARGET_OS",
        "CNB_TARGET_ARCH", "CNB_TARGET_DISTRO_NAME", "CNB_TARGET_DISTRO_VERSION", "CNB_LAYERS_DIR",
        "CNB_BP_PLAN_PATH", "CNB_BUILDPACK_DIR",
    }  # fmt: skip


def test_root_is_never_who_runs_a_buildpack(make: Make, site: Open) -> None:
    one = make("one", build="id -u")
    assert built(site(one), one)[0].output.strip() != "0"


def test_the_users_variables_are_files_and_variables(make: Make, site: Open) -> None:
    one = make("one", build='[ "$BP_WORD" = hello ] && [ "$(cat "$CNB_PLATFORM_DIR/env/BP_WORD")" = hello ]')
    built(site(one, user={"BP_WORD": "hello"}), one)


def test_a_clear_environment_has_them_as_files_only(make: Make, site: Open) -> None:
    text = '[ -z "${BP_WORD:-}" ] && [ "$(cat "$CNB_PLATFORM_DIR/env/BP_WORD")" = hello ]'
    one = make("one", build=text, extra="clear-env = true")
    built(site(one, user={"BP_WORD": "hello"}), one)


LAYER = 'mkdir -p "$CNB_LAYERS_DIR/{0}/bin"; printf "[types]\\n{1} = true\\n" > "$CNB_LAYERS_DIR/{0}.toml"\n'


def test_build_layers_are_on_the_next_ones_path(make: Make, site: Open) -> None:
    tool = '> "$CNB_LAYERS_DIR/tools/bin/tool"; chmod +x "$CNB_LAYERS_DIR/tools/bin/tool"\n'
    first = make("first", build=LAYER.format("tools", "build") + "printf '#!/bin/sh\\necho used\\n' " + tool)
    second = make("second", build="tool")
    assert built(site(first, second), first, second)[1].output == "used\n"


def test_launch_layers_are_not(make: Make, site: Open) -> None:
    first = make("first", build=LAYER.format("tools", "launch"))
    second = make("second", build='case "$PATH" in *tools*) exit 1;; esac')
    built(site(first, second), first, second)


def test_variables_of_layers_follow_the_rules_of_their_suffix(make: Make, site: Open) -> None:
    files = {
        "env/LIST.append": "two", "env/LIST.delim": "+", "env.build/LIST.prepend": "one",
        "env/PLAIN": "first", "env.build/PLAIN.override": "second", "env/USUAL.default": "kept",
        "env.launch/NEVER": "x",
    }  # fmt: skip
    write = "".join(
        f'mkdir -p "$CNB_LAYERS_DIR/l/{name.split("/")[0]}"; printf %s {text} > "$CNB_LAYERS_DIR/l/{name}"\n'
        for name, text in files.items()
    )
    first = make("first", build=LAYER.format("l", "build") + write)
    second = make("second", build='echo "$LIST $PLAIN $USUAL ${NEVER:-none}"')
    assert built(site(first, second), first, second)[1].output == "one+two second kept none\n"


def test_a_folder_that_is_no_layer_is_put_out_of_the_way(make: Make, site: Open) -> None:
    one = make(
        "one", build='mkdir "$CNB_LAYERS_DIR/scratch" "$CNB_LAYERS_DIR/none"; : > "$CNB_LAYERS_DIR/none.toml"'
    )
    here = site(one)
    built(here, one)
    assert sorted(p.name for p in (here.layers / "test_one").iterdir() if p.is_dir()) == [
        "none.ignore",
        "scratch.ignore",
    ]


@pytest.mark.parametrize("name", ["build", "launch", "store"])
def test_reserved_names_are_no_layers(make: Make, site: Open, name: str) -> None:
    one = make("one", build=f'mkdir "$CNB_LAYERS_DIR/{name}"; : > "$CNB_LAYERS_DIR/{name}.toml"')
    with pytest.raises(PhaseError, match=name):
        built(site(one), one)


def test_a_failing_build_is_told_with_its_output(make: Make, site: Open) -> None:
    one = make("one", build="echo no luck; exit 7")
    with pytest.raises(PhaseError, match="exit status 7") as caught:
        built(site(one), one)
    assert caught.value.output == "no luck\n"
    assert caught.value.phase == "build"


def test_what_a_build_leaves_running_is_ended(make: Make, site: Open) -> None:
    text = 'for how in "" setsid; do $how sleep 300 & echo $!; done'
    one = make("one", build=text)
    pids = built(site(one), one)[0].output.split()
    assert len(pids) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_an_unmet_dependency_goes_to_the_next_that_offers_it(make: Make, site: Open) -> None:
    both = '[[provides]]\\nname = "x"\\n[[requires]]\\nname = "x"\\n[requires.metadata]\\nv = 1\\n'
    offers = f"printf '{both}' > $2"
    unmet = 'cat "$3"; printf "[[unmet]]\\nname = \\"x\\"\\n" > "$1/build.toml"'
    a = make("a", detect=offers, build=unmet)
    b, c = make("b", detect=offers, build='cat "$3"'), make("c", detect=offers, build='cat "$3"')
    here = site(a, b, c)
    shelf = Shelf(one.folder for one in (a, b, c))
    plan = detect((tuple(Entry(one.id) for one in (a, b, c)),), shelf, here, quiet)
    outputs = [one.output for one in build(plan, here, quiet)]
    assert outputs[0] == outputs[1]
    assert outputs[0].count('name = "x"') == 3
    assert outputs[0].count("v = 1") == 3
    assert outputs[2] == ""


def process(kind: str, *, default: bool = False, command: str = '["run"]') -> str:
    line = "default = true\\n" if default else ""
    text = f'[[processes]]\\ntype = "{kind}"\\ncommand = {command}\\n{line}'
    return f"printf '{text}' >> \"$CNB_LAYERS_DIR/launch.toml\"\n"


def test_later_processes_replace_earlier_ones_of_their_type(make: Make, site: Open) -> None:
    a = make("a", build=process("web", default=True) + process("other"))
    b = make("b", build=process("web", command='["later"]'))
    processes, default = combined(built(site(a, b), a, b))
    assert [(p.type, p.command) for p in processes] == [("other", ("run",)), ("web", ("later",))]
    assert default == ""  # the one that stands does not want to be the default


def test_the_last_default_wins(make: Make, site: Open) -> None:
    a, b = make("a", build=process("one", default=True)), make("b", build=process("two", default=True))
    assert combined(built(site(a, b), a, b))[1] == "two"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (process("a/b"), "not allowed"),
        (process("web", default=True) + process("web2", default=True), "default"),
        (process("web") + process("web"), "twice"),
        (process("web", command="[]"), "no command"),
        (process("web", command='"run"'), "list"),
        ('echo "nonsense" > "$CNB_LAYERS_DIR/launch.toml"', "TOML"),
    ],
)
def test_processes_that_break_a_rule_are_told(make: Make, site: Open, text: str, said: str) -> None:
    one = make("one", build=text)
    with pytest.raises(PhaseError, match=said) as caught:
        built(site(one), one)
    assert "test/one" in str(caught.value)


def test_an_old_buildpack_may_give_its_command_as_text(make: Make, site: Open) -> None:
    one = make("one", api="0.8", build=process("web", command='"run it"'))
    processes, _ = combined(built(site(one), one))
    assert processes[0].command == ("run it",)
    assert not processes[0].direct


def test_a_link_out_of_the_layers_is_not_read(make: Make, site: Open, tmp_path: Path) -> None:
    """Root may read what the buildpack could not: nothing of that may come into the image's metadata."""
    (tmp_path / "secret.toml").write_text('[[labels]]\nkey = "a"\nvalue = "b"\n')
    one = make("one", build=f'ln -s {tmp_path}/secret.toml "$CNB_LAYERS_DIR/launch.toml"')
    assert built(site(one), one)[0].labels == ()
