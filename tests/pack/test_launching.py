"""The launcher, run as the script that it is: processes, environment, exec.d."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from koalja_fn.pack import launcher, tomls

SHOW = ["/bin/sh", "-c", 'echo "$0 $*"; pwd', "shown"]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    (tmp_path / "process").mkdir()
    (tmp_path / "layers/config").mkdir(parents=True)
    return tmp_path


def configure(
    image: Path,
    *processes: dict[str, object],
    buildpacks: tuple[str, ...] = ("test/a", "test/b"),
    api: str = "0.10",
) -> None:
    data = {
        "buildpacks": [{"id": b, "version": "1", "api": api} for b in buildpacks],
        "processes": list(processes),
    }
    (image / "layers/config/metadata.toml").write_text(tomls.dump(data))


def layer(image: Path, name: str, **files: str) -> Path:
    folder = image / "layers" / name
    for inside, text in files.items():
        path = folder / inside.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    return folder


def launch(image: Path, *words: str, kind: str = "web", **variables: str) -> subprocess.CompletedProcess[str]:
    link = image / "process" / kind
    if not link.is_symlink():
        link.symlink_to(launcher.__file__)
    environ = {
        "PATH": f"/cnb/process:/cnb/lifecycle:{os.defpath}",
        "CNB_LAYERS_DIR": str(image / "layers"),
        "CNB_APP_DIR": str(image / "app"),
        **variables,
    }
    command = [sys.executable, "-IS", str(link), *words]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=30)


def test_a_process_type_is_started_in_the_applications_folder(image: Path) -> None:
    configure(image, {"type": "web", "command": SHOW, "args": ["a b"]})
    assert launch(image).stdout == f"shown a b\n{image / 'app'}\n"


def test_words_of_the_user_replace_the_default_arguments(image: Path) -> None:
    configure(image, {"type": "web", "command": SHOW, "args": ["default"]})
    assert launch(image, "x", "y").stdout.startswith("shown x y\n")


def test_words_are_added_for_processes_of_old_buildpacks(image: Path) -> None:
    old = {"type": "web", "command": "echo", "args": ["default"], "direct": True, "buildpack-id": "test/a"}
    configure(image, old, api="0.8")
    assert launch(image, "x").stdout == "default x\n"
    configure(image, old, api="0.9")
    assert launch(image, "x").stdout == "x\n"


def test_a_process_has_its_own_folder_if_it_says_so(image: Path) -> None:
    configure(image, {"type": "web", "command": SHOW, "working-dir": "/"})
    assert launch(image).stdout.endswith("\n/\n")


def test_any_command_may_be_run_directly_or_by_a_shell(image: Path) -> None:
    configure(image)
    assert launch(image, "--", "echo", "$HOME; ls", kind="launcher").stdout == "$HOME; ls\n"
    assert launch(image, 'echo "$((1 + 1))"', kind="launcher").stdout == "2\n"


def test_a_shell_reads_profiles_first(image: Path) -> None:
    configure(image)
    layer(image, "test_a/l", profile_dot_d__one="export WORD=profile")
    assert launch(image, "echo $WORD", kind="launcher").stdout == "profile\n"


def test_nothing_to_start_is_an_error_that_names_the_types(image: Path) -> None:
    configure(image, {"type": "web", "command": SHOW})
    done = launch(image, kind="launcher")
    assert done.returncode == 82
    assert "web" in done.stderr


def test_a_process_for_another_execution_environment_is_not_started(image: Path) -> None:
    configure(image, {"type": "web", "command": SHOW, "exec-env": ["test"]})
    assert launch(image).returncode == 82
    assert launch(image, CNB_EXEC_ENV="test").returncode == 0


def environment_of(image: Path, kind: str = "web", **variables: str) -> dict[str, str]:
    configure(image, {"type": kind, "command": ["env"]})
    done = launch(image, kind=kind, **variables)
    assert done.returncode == 0, done.stderr
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


def test_the_platforms_own_variables_are_gone(image: Path) -> None:
    found = environment_of(image, USERS="kept")
    assert found["USERS"] == "kept"
    assert not [name for name in found if name.startswith("CNB_")]
    assert not found["PATH"].startswith("/cnb")


def test_paths_of_later_buildpacks_come_first_and_layers_are_in_alphabetical_order(image: Path) -> None:
    layer(image, "test_a/one", bin__x="")
    layer(image, "test_b/y", bin__x="")
    layer(image, "test_b/x", bin__x="", lib__x="")
    found = environment_of(image)
    root = image / "layers"
    assert found["PATH"].split(":")[:3] == [
        f"{root}/test_b/x/bin",
        f"{root}/test_b/y/bin",
        f"{root}/test_a/one/bin",
    ]
    assert found["LD_LIBRARY_PATH"] == f"{root}/test_b/x/lib"


def test_variables_follow_the_rules_of_their_suffix(image: Path) -> None:
    early = {
        "env__A_dot_append": "2",
        "env__A_dot_delim": ":",
        "env_dot_launch__A_dot_prepend": "0:",
        "env__B": "env",
        "env_dot_launch__B": "launch",
        "env_dot_launch__web__B": "web",
        "env__C_dot_default": "early",
        "env_dot_build__NEVER": "x",
    }
    layer(image, "test_a/l", **early)
    layer(image, "test_b/l", env__C_dot_default="late", env__A_dot_append="3")
    found = environment_of(image, A="1")
    assert (found["A"], found["B"], found["C"]) == ("0:1:23", "web", "early")
    assert "NEVER" not in found


def test_exec_d_adds_variables_in_order_and_sees_earlier_ones(image: Path) -> None:
    layer(image, "test_a/l", exec_dot_d__a="#!/bin/sh\necho 'ONE = \"1\"' >&3")
    layer(image, "test_b/l", exec_dot_d__a='#!/bin/sh\necho "TWO = \\"${ONE}2\\"" >&3',
          exec_dot_d__web__a='#!/bin/sh\necho "THREE = \\"${TWO}3\\"" >&3')  # fmt: skip
    found = environment_of(image)
    assert (found["ONE"], found["TWO"], found["THREE"]) == ("1", "12", "123")


def test_a_failing_exec_d_ends_the_start(image: Path) -> None:
    configure(image, {"type": "web", "command": SHOW})
    layer(image, "test_a/l", exec_dot_d__a="#!/bin/sh\nexit 3")
    done = launch(image)
    assert 80 <= done.returncode <= 89
    assert "exec.d/a" in done.stderr
