"""`koalja-fn pack` as people call it: images in a folder, from a base of Debian packages, that really run."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from koalja_fn.commands import main
from koalja_fn.pack.collecting import VERSION_LABEL, collect
from koalja_fn.pack.labels import LIFECYCLE_LABEL
from koalja_fn.pack.oci.client import RegistryClient
from koalja_fn.pack.oci.image import BaseImage, load_base
from koalja_fn.pack.oci.reference import target
from koalja_fn.pack.oci.values import Platform
from koalja_fn.program.confidential import is_secret
from koalja_fn.program.folder import open_circuit
from tests.pack import containers
from tests.ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

WIRING = """
[numbers]
(in) double (out)
    run = ./double.py {in}
(out) shout (loud)
    run = ./shout.sh {out}
"""


@pytest.fixture
def circuit(tmp_path: Path) -> Path:
    return write_circuit(tmp_path / "numbers")


def write_circuit(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "numbers.koalja").write_text(WIRING)
    (folder / "double.py").write_text(
        "import sys\nfrom helper import twice\nprint(twice(open(sys.argv[1]).read()))\n"
    )
    (folder / "helper.py").write_text("def twice(text):\n    return 2 * int(text)\n")
    (folder / "shout.sh").write_text('#!/bin/sh\necho "$(cat "$1")!"\n')
    (folder / "shout.sh").chmod(0o755)
    return folder


def pack(folder: Path, base: str, out: Path, *words: str) -> Result:
    call = ["pack", str(folder), "--output", f"oci:{out}", "--run-image", base, *words]
    return CliRunner().invoke(main, call, catch_exceptions=False)


def packed(folder: Path, base: str, out: Path, *words: str) -> dict[str, Any]:
    """What the command tells of each task."""
    done = pack(folder, base, out, "-o", "json", *words)
    assert done.exit_code == 0, done.output
    return {one["task"]: one for one in json.loads(done.stdout)["tasks"]}


def image(out: Path, tag: str) -> BaseImage:
    with RegistryClient() as client:
        return load_base(target(f"oci:{out}:{tag}"), Platform.here(), client)


def test_each_task_becomes_an_image_with_the_version_that_the_engine_records(
    circuit: Path, base: str, tmp_path: Path
) -> None:
    found = packed(circuit, base, tmp_path / "out")
    versions = {name: located.version for name, located in open_circuit(circuit).located.items()}
    assert {name: one["version"] for name, one in found.items()} == versions
    assert image(tmp_path / "out", "double").labels[VERSION_LABEL] == versions["double"]


def test_the_image_has_what_the_specification_says(circuit: Path, base: str, tmp_path: Path) -> None:
    packed(circuit, base, tmp_path / "out", "--task", "shout")
    made = image(tmp_path / "out", "shout")
    config = made.config["config"]
    assert config["Entrypoint"] == ["/cnb/process/web"]
    assert config["WorkingDir"] == "/workspace"
    assert config["User"] == "1000:1000"
    assert made.env["PATH"].startswith("/cnb/process:/cnb/lifecycle:")
    assert made.env["CNB_LAYERS_DIR"] == "/layers"
    assert made.config["created"] == "1980-01-01T00:00:01Z"
    told = json.loads(made.labels[LIFECYCLE_LABEL])
    shas = {layer.diff_id for layer in made.layers}
    assert told["app"][0]["sha"] in shas
    assert told["buildpacks"][-1]["layers"]["runtime"]["sha"] in shas
    assert told["runImage"]["topLayer"] in shas
    assert {told[name]["sha"] for name in ("config", "launcher", "process-types")} <= shas
    assert {"processes", "buildpacks"} <= set(json.loads(made.labels["io.buildpacks.build.metadata"]))


def test_the_same_source_gives_the_same_digest_wherever_and_whosever_it_is(base: str, tmp_path: Path) -> None:
    first = write_circuit(tmp_path / "here" / "numbers")
    second = write_circuit(tmp_path / "else" / "where" / "numbers")
    for path in second.iterdir():
        os.utime(path, (1, 1))
        path.chmod(path.stat().st_mode & 0o700)
        if os.geteuid() == 0:
            os.chown(path, 12345, 54321)
    one, two = packed(first, base, tmp_path / "a"), packed(second, base, tmp_path / "b")
    assert {t: o["digest"] for t, o in one.items()} == {t: o["digest"] for t, o in two.items()}


def test_what_did_not_change_is_not_packed_and_an_edit_moves_little(
    circuit: Path, base: str, tmp_path: Path
) -> None:
    first = packed(circuit, base, tmp_path / "out")
    again = packed(circuit, base, tmp_path / "out")
    assert not any(one["changed"] for one in again.values())
    assert {t: o["digest"] for t, o in again.items()} == {t: o["digest"] for t, o in first.items()}
    (circuit / "helper.py").write_text("def twice(text):\n    return 3 * int(text)\n")
    edited = packed(circuit, base, tmp_path / "out")
    assert (edited["double"]["changed"], edited["shout"]["changed"]) == (True, False)
    assert edited["double"]["sent"] < 64_000
    # A layer that is used again is the very layer: the image is the same as one made from nothing.
    fresh = packed(circuit, base, tmp_path / "other")
    assert fresh["double"]["digest"] == edited["double"]["digest"]


def test_an_image_runs_and_works_off_a_value(circuit: Path, base: str, tmp_path: Path) -> None:
    packed(circuit, base, tmp_path / "out", "--task", "double")
    bundle = containers.unpack(f"oci:{tmp_path / 'out'}:double", tmp_path / "run")
    port = free_port()
    with containers.started(bundle, env={"PORT": str(port), "KOALJA_HOST": "127.0.0.1"}) as process:
        assert containers.ask(f"http://127.0.0.1:{port}/healthz") == (200, b"")
        assert containers.ask(f"http://127.0.0.1:{port}/", b"21") == (202, b"")
        log = bundle.folder / "log"
        until = time.monotonic() + 20
        while '"outcome"' not in log.read_text() and time.monotonic() < until:
            time.sleep(0.05)
        assert containers.stop(bundle, process) == 0
    told = next(json.loads(line[8:]) for line in log.read_text().splitlines() if '"outcome"' in line)
    assert told["outcome"] == "done"
    assert [value["wire"] for value in told["values"]] == ["out"]
    import hashlib

    assert told["values"][0]["digest"] == "sha256:" + hashlib.sha256(b"42\n").hexdigest()


def test_a_python_program_in_an_image_is_soon_forked_from_a_template(base: str, tmp_path: Path) -> None:
    """Whoever is its parent tells; the container has no rights and nothing to write to but /tmp."""
    folder = tmp_path / "family"
    folder.mkdir()
    (folder / "family.koalja").write_text("[family]\n(in) tell (out)\n    run = ./tell.py {in}\n")
    program = folder / "tell.py"
    program.write_text("#!/usr/bin/env python3\nimport json, os\nprint(json.dumps(os.getppid()))\n")
    program.chmod(0o755)
    packed(folder, base, tmp_path / "out")
    bundle = containers.unpack(f"oci:{tmp_path / 'out'}:tell", tmp_path / "run")
    port = free_port()

    def told() -> list[dict[str, Any]]:
        lines = (bundle.folder / "log").read_text().splitlines()
        return [json.loads(line[8:]) for line in lines if '"outcome"' in line]

    with containers.started(bundle, env={"PORT": str(port), "KOALJA_HOST": "127.0.0.1"}) as process:
        until = time.monotonic() + 8
        parents: list[str] = []
        while len(set(parents)) < 2 and time.monotonic() < until:
            sent = len(parents)
            status, _ = containers.ask(f"http://127.0.0.1:{port}/", str(sent).encode())
            assert status in (202, 503), "503: the one before is just ending"
            while status == 202 and len(told()) <= sent and time.monotonic() < until:
                time.sleep(0.02)
            parents = [one["values"][0]["digest"] for one in told()]
        assert containers.stop(bundle, process) == 0
    assert {one["outcome"] for one in told()} == {"done"}
    assert len(set(parents)) == 2, (bundle.folder / "log").read_text()


def test_other_processes_of_an_image_run_too(circuit: Path, base: str, tmp_path: Path) -> None:
    packed(circuit, base, tmp_path / "out", "--task", "shout")
    bundle = containers.unpack(f"oci:{tmp_path / 'out'}:shout", tmp_path / "run")
    words = ["/cnb/lifecycle/launcher", "--", "id", "-u"]
    assert containers.run(bundle, words) == (0, "1000\n")


def test_secrets_are_left_out_with_a_warning(base: str, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "main.sh").write_text("cat $1")
    (folder / ".env").write_text("PASSWORD=x")
    (folder / "server.pem").write_text("x")
    done = pack(folder, base, tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert ".env looks like a secret" in done.stderr
    bundle = containers.unpack(f"oci:{tmp_path / 'out'}:mine", tmp_path / "run")
    assert {p.name for p in (bundle.rootfs / "workspace").iterdir()} == {"main.sh", ".koalja"}


@pytest.mark.parametrize(
    ("name", "secret"),
    [(".env", True), ("a/.env.local", True), ("id_rsa", True), ("id_rsa.pub", False), ("x.key", True),
     (".ssh/config", True), (".env.example", False), ("keys.py", False), ("environment.py", False)],
)  # fmt: skip
def test_secrets_are_known_by_their_names(name: str, secret: bool) -> None:
    assert is_secret(name) is secret


def test_a_link_that_leaves_the_folder_is_refused(base: str, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "main.sh").write_text("cat $1")
    (folder / "inside").symlink_to("main.sh")
    (folder / "data").symlink_to("/etc/passwd")
    done = pack(folder, base, tmp_path / "out")
    assert done.exit_code == 9
    assert "mine, source: the link data leaves the folder" in done.stderr
    (folder / ".koaljaignore").write_text("data\n")
    assert pack(folder, base, tmp_path / "out").exit_code == 0


def test_a_failing_buildpack_leaves_the_tag_as_it_was(
    circuit: Path, base: str, tmp_path: Path, make: Any
) -> None:
    before = packed(circuit, base, tmp_path / "out")
    bad = make("bad", build="echo the reason; exit 1")
    done = pack(circuit, base, tmp_path / "out", "--buildpack", str(bad.folder))
    assert done.exit_code == 9
    assert "double, build: test/bad@1.0.0 failed with exit status 1" in done.stderr
    assert "the reason" in done.stderr
    assert image(tmp_path / "out", "double").digest == before["double"]["digest"]


def test_a_base_of_another_machine_is_refused(circuit: Path, tmp_path: Path) -> None:
    from koalja_fn.pack.oci.image import compose
    from koalja_fn.pack.oci.publishing import publish

    with RegistryClient() as client:
        publish(
            compose(None, [], platform=Platform("linux", "s390x")), target(f"oci:{tmp_path}/base"), client
        )
    done = pack(circuit, f"oci:{tmp_path}/base", tmp_path / "out")
    assert done.exit_code == 9
    assert "s390x" in done.stderr


LAUNCH = 'printf "[types]\\nlaunch = true\\n{more}[metadata]\\nv = \\"1\\"\\n" > "$CNB_LAYERS_DIR/l.toml"\n'


def test_a_launch_layer_without_a_folder_is_taken_from_the_last_image(
    circuit: Path, base: str, tmp_path: Path, make: Any
) -> None:
    text = """
    if [ -f "$CNB_LAYERS_DIR/l.toml" ]; then
        ! grep -q types "$CNB_LAYERS_DIR/l.toml"
        [ ! -e "$CNB_LAYERS_DIR/l" ]
        grep -q kept "$CNB_LAYERS_DIR/store.toml"
        cat "$CNB_LAYERS_DIR/l.toml"
    else
        mkdir "$CNB_LAYERS_DIR/l"; head -c 1000 /dev/urandom > "$CNB_LAYERS_DIR/l/random"
        printf '[metadata]\\nkept = 1\\n' > "$CNB_LAYERS_DIR/store.toml"
    fi
    """ + LAUNCH.replace("{more}", "")
    one = make("one", build=text)
    words = ("--buildpack", str(one.folder), "--task", "shout")
    packed(circuit, base, tmp_path / "out", *words)
    first = json.loads(image(tmp_path / "out", "shout").labels[LIFECYCLE_LABEL])["buildpacks"][0]
    (circuit / "shout.sh").write_text("#!/bin/sh\necho changed\n")
    packed(circuit, base, tmp_path / "out", *words)
    second = json.loads(image(tmp_path / "out", "shout").labels[LIFECYCLE_LABEL])["buildpacks"][0]
    assert second["layers"]["l"]["sha"] == first["layers"]["l"]["sha"]
    assert second["layers"]["l"]["data"] == {"v": "1"}


def test_a_layer_that_was_never_there_cannot_be_used_again(
    circuit: Path, base: str, tmp_path: Path, make: Any
) -> None:
    one = make("one", build=LAUNCH.replace("{more}", ""))
    done = pack(circuit, base, tmp_path / "out", "--buildpack", str(one.folder))
    assert done.exit_code == 9
    assert "export: test/one@1.0.0 wants to use its layer 'l' again" in done.stderr


def test_a_cached_layer_is_there_again(circuit: Path, base: str, tmp_path: Path, make: Any) -> None:
    text = """
    mkdir -p "$CNB_LAYERS_DIR/c"
    echo x >> "$CNB_LAYERS_DIR/c/count"
    printf '[types]\\ncache = true\\n' > "$CNB_LAYERS_DIR/c.toml"
    [ "$(wc -l < "$CNB_LAYERS_DIR/c/count")" -lt 2 ] || { echo twice; exit 1; }
    """
    one = make("one", build=text)
    words = ("--buildpack", str(one.folder), "--task", "shout")
    packed(circuit, base, tmp_path / "out", *words)
    (circuit / "shout.sh").write_text("#!/bin/sh\necho changed\n")
    done = pack(circuit, base, tmp_path / "out", *words)
    assert "twice" in done.stderr


def test_slices_and_labels(circuit: Path, base: str, tmp_path: Path, make: Any) -> None:
    text = """
    cat > "$CNB_LAYERS_DIR/launch.toml" <<TOML
    [[labels]]
    key = "org.test"
    value = "yes"
    [[slices]]
    paths = ["*.sh", "nothing*"]
    [[slices]]
    paths = ["nothing"]
TOML
    """
    one = make("one", build=text)
    packed(circuit, base, tmp_path / "out", "--buildpack", str(one.folder), "--task", "shout")
    made = image(tmp_path / "out", "shout")
    assert made.labels["org.test"] == "yes"
    assert len(json.loads(made.labels[LIFECYCLE_LABEL])["app"]) == 3  # two slices and the rest


def test_boms_are_in_a_layer_of_their_own(circuit: Path, base: str, tmp_path: Path, make: Any) -> None:
    text = """
    mkdir "$CNB_LAYERS_DIR/l"
    echo {} > "$CNB_LAYERS_DIR/l.sbom.cdx.json"
    echo {} > "$CNB_LAYERS_DIR/launch.sbom.spdx.json"
    """
    one = make("one", build=text + LAUNCH.replace("{more}", ""))
    packed(circuit, base, tmp_path / "out", "--buildpack", str(one.folder), "--task", "shout")
    bundle = containers.unpack(f"oci:{tmp_path / 'out'}:shout", tmp_path / "run")
    root = bundle.rootfs / "layers/sbom/launch"
    assert (root / "sbom.legacy.json").read_text() == "null\n"
    assert sorted(p.relative_to(root).as_posix() for p in root.rglob("sbom.[cs]*.json")) == [
        "test_one/l/sbom.cdx.json",
        "test_one/sbom.spdx.json",
    ]


def test_the_real_launcher_may_take_the_place_of_ours(
    circuit: Path, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "launcher").write_text("#!/bin/sh\necho stand-in\n")
    monkeypatch.setenv("KOALJA_CNB_LAUNCHER", str(tmp_path / "launcher"))
    packed(circuit, base, tmp_path / "out", "--task", "shout")
    bundle = containers.unpack(f"oci:{tmp_path / 'out'}:shout", tmp_path / "run")
    assert (bundle.rootfs / "cnb/lifecycle/launcher").read_text() == "#!/bin/sh\necho stand-in\n"


def test_libraries_are_locked_once_and_used(base: str, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "main.py").write_text("import sys, itsdangerous\nprint(itsdangerous.__name__)\n")
    (folder / "requirements.txt").write_text("itsdangerous\n")
    done = pack(folder, base, tmp_path / "out")
    if done.exit_code == 9 and "No matching distribution" in done.stderr:
        pytest.skip("needs PyPI, or PIP_FIND_LINKS with a wheel of itsdangerous")
    assert done.exit_code == 0, done.stderr
    assert "itsdangerous==" in (folder / "requirements.lock").read_text()
    bundle = containers.unpack(f"oci:{tmp_path / 'out'}:mine", tmp_path / "run")
    words = ["/cnb/lifecycle/launcher", "--", "python3", "main.py"]
    assert containers.run(bundle, words) == (0, "itsdangerous\n")


def test_libraries_of_one_task_are_nothing_to_the_others(circuit: Path) -> None:
    (circuit / "requirements.txt").write_text("itsdangerous\n")
    opened = open_circuit(circuit)
    assert opened.circuit is not None
    files = {task.name: [name for name, _ in collect(opened, task).files] for task in opened.circuit.tasks}
    assert files == {"double": ["double.py", "helper.py", "requirements.txt"], "shout": ["shout.sh"]}


def test_a_dependency_without_a_wheel_is_told(base: str, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "main.py").write_text("print(1)\n")
    (folder / "requirements.txt").write_text("koalja-there-is-no-such-thing==1\n")
    done = pack(folder, base, tmp_path / "out")
    assert done.exit_code == 9
    assert "mine, source: what requirements.txt asks for can't be had as wheels" in done.stderr


def test_where_user_name_spaces_are_forbidden_it_works_on_the_host_and_says_so(
    circuit: Path, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from koalja_fn.pack.sandbox import Sandbox

    start = Sandbox._start
    monkeypatch.setattr(
        Sandbox, "_start", lambda self, rootfs: "forbidden" if rootfs else start(self, rootfs)
    )
    done = pack(circuit, base, tmp_path / "out", "--task", "shout")
    assert done.exit_code == 0, done.stderr
    assert "no sandbox here (forbidden)" in done.stderr
    bundle = containers.unpack(f"oci:{tmp_path / 'out'}:shout", tmp_path / "run")
    port = free_port()
    with containers.started(bundle, env={"PORT": str(port), "KOALJA_HOST": "127.0.0.1"}) as process:
        assert containers.ask(f"http://127.0.0.1:{port}/", b"word") == (202, b"")
        assert containers.stop(bundle, process) == 0


def test_a_buildpack_in_the_sandbox_sees_canonical_paths_and_nothing_of_this_machine(
    circuit: Path, base: str, tmp_path: Path, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_PASSWORD", "geheim")
    text = f"""
    [ "$PWD $CNB_LAYERS_DIR $CNB_PLATFORM_DIR" = "/workspace /layers/test_one /platform" ]
    [ "$CNB_BUILDPACK_DIR $HOME" = "/cnb/buildpacks/test_one/1.0.0 /home/cnb" ]
    [ "$(id -u):$(id -g)" = 1000:1000 ]
    [ ! -e {circuit} ]
    ! grep -sq geheim /proc/*/environ
    ! touch /usr/x 2>/dev/null
    ! touch "$CNB_BUILDPACK_DIR/x" 2>/dev/null
    touch /tmp/x /workspace/made
    [ -c /dev/null ] && echo x > /dev/null
    """
    one = make("one", build=text)
    found = packed(circuit, base, tmp_path / "out", "--buildpack", str(one.folder))
    assert all(task["changed"] for task in found.values())


SAMPLES = os.environ.get("KOALJA_SAMPLE_BUILDPACKS", "")


@pytest.mark.skipif(
    not SAMPLES, reason="set KOALJA_SAMPLE_BUILDPACKS to a checkout of github:buildpacks/samples"
)
@pytest.mark.parametrize(
    ("app", "buildpacks", "types"),
    [
        ("", ["buildpacks/hello-world", "buildpacks/hello-moon"], {"web"}),
        ("", ["buildpacks/hello-universe"], {"web"}),
        ("", ["buildpacks/hello-processes"], {"web", "sys-info"}),
        ("apps/bash-script", ["apps/bash-script/bash-script-buildpack"], {"web"}),
    ],
)
def test_the_buildpacks_projects_samples_work_as_they_are(
    app: str, buildpacks: list[str], types: set[str], base: str, tmp_path: Path
) -> None:
    folder = tmp_path / "sample"
    if app:
        shutil.copytree(Path(SAMPLES) / app, folder)
    else:
        folder.mkdir()
        (folder / "main.sh").write_text("cat $1")
    words = [word for name in buildpacks for word in ("--buildpack", str(Path(SAMPLES) / name))]
    (task,) = packed(folder, base, tmp_path / "out", *words)
    bundle = containers.unpack(f"oci:{tmp_path / 'out'}:{task}", tmp_path / "run")
    assert {p.name for p in (bundle.rootfs / "cnb/process").iterdir()} == types
    if "sys-info" in types:
        status, output = containers.run(bundle, ["/cnb/process/sys-info"])
        assert status == 0
        assert 'PATH="' in output
