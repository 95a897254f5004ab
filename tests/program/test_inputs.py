"""What a program finds when it starts: its files, its folder, its environment."""

import json
import os
from pathlib import Path

import pytest

from koalja_fn.program.contract import Reason

from .conftest import Bench, bench_in, outputs


def names(bench: Bench, **inputs: list[object]) -> list[str]:
    result = bench.call("/bin/sh", "-c", 'for f in "$@"; do echo "${f##*/}"; done', "sh", inputs=inputs)
    return outputs(result)["mean"][0].decode().split()


def test_files_are_named_by_wire_position_and_type(bench: Bench) -> None:
    wind = [
        bench.value(b"1", kind="application/json"),
        bench.value(b"2", kind="text/csv; charset=utf-8"),
        bench.value(b"3", kind="image/png"),
        bench.value(b"4", kind="application/octet-stream"),
        bench.value(b"5", kind="application/octet-stream", name="x.parquet"),
        bench.value(b"6", kind="application/vnd.x+json"),
        bench.value(b"7", kind="text/x-unheard-of", name="../../etc/pa sswd"),
    ]
    assert names(bench, wind=wind) == [
        "wind.0001.json",
        "wind.0002.csv",
        "wind.0003.png",
        "wind.0004.bin",
        "wind.0005.parquet",
        "wind.0006.json",
        "wind.0007.txt",
    ]


def test_a_merged_input_keeps_the_order_of_arrival_and_each_values_own_wire(bench: Bench) -> None:
    merged = [bench.value(b"1", "a"), bench.value(b"2", "b"), bench.value(b"3", "a")]
    assert names(bench, readings=merged) == ["a.0001.txt", "b.0002.txt", "a.0003.txt"]


def test_inputs_come_in_the_order_of_the_wiring(bench: Bench) -> None:
    assert names(bench, wind=[b"1", b"2"], temp=[b"3"]) == ["wind.0001.txt", "wind.0002.txt", "temp.0001.txt"]


def test_an_execution_never_sees_files_of_an_earlier_one(bench: Bench) -> None:
    for count in (3, 1, 2, 0):
        result = bench.sh(
            "touch left $HOME/.left; ls -A ../in . ../out .. | sort", inputs={"wind": [b"x"] * count}
        )
        listed = outputs(result)["mean"][0].decode().split()
        assert [n for n in listed if n.startswith("wind.")] == [f"wind.{i + 1:04d}.txt" for i in range(count)]
        bench.caller.discard(result)
    assert outputs(bench.sh("ls -A . ../out/", inputs={"wind": [b"x"]})) == {"mean": [b".:\n\n../out/:\n"]}


def test_an_input_holds_its_own_bytes_whatever_held_its_place_before(bench: Bench) -> None:
    for data in (b"long content\n", b"x", b"", b"another content\n" * 500, b"y" * 40_000, b"z"):
        result = bench.call("/bin/cat", inputs={"wind": [data]})
        assert outputs(result) == ({"mean": [data]} if data else {})
        bench.caller.discard(result)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to read-only files")
def test_inputs_are_read_only(bench: Bench) -> None:
    assert bench.sh("echo more >> {wind}", inputs={"wind": [b"x"]}).reason is Reason.EXIT


def test_inputs_say_that_they_are_read_only(bench: Bench) -> None:
    for data in (b"small", b"large" * 10_000):
        result = bench.sh("stat -c %a {wind}", inputs={"wind": [data]})
        assert outputs(result) == {"mean": [b"444\n"]}


def test_what_a_program_does_to_its_inputs_never_reaches_the_payload(bench: Bench) -> None:
    for data in (b"small", b"large" * 10_000):
        value = bench.value(data)
        result = bench.sh("chmod u+w {wind}; echo broken > {wind}", inputs={"wind": [value]})
        assert result.ok
        bench.caller.discard(result)
        assert bench.store.read(value.digest) == data
        result = bench.call("/bin/cat", inputs={"wind": [value]})
        assert outputs(result) == {"mean": [data]}
        bench.caller.discard(result)


def test_writing_through_a_link_fails_the_execution(tmp_path: Path) -> None:
    bench = bench_in(tmp_path, links=True)
    value = bench.value(b"large" * 10_000)
    result = bench.sh("chmod u+w {wind}; echo broken > {wind}", inputs={"wind": [value]})
    assert result.reason is Reason.INPUTS
    assert "wind" in result.message
    bench.caller.close()
    bench.store.close()


def test_an_input_may_be_moved_to_the_outputs(bench: Bench) -> None:
    for data in (b"small", b"large" * 10_000):
        value = bench.value(data)
        result = bench.sh('mv {wind} "$KOALJA_OUT/mean"', inputs={"wind": [value]})
        (stored,) = bench.store.put_files([f.path for f in result.outputs], take=True)
        assert stored.digest == value.digest
        bench.caller.discard(result)
        assert bench.store.verify(value.digest)


def test_the_working_folder_is_private_empty_and_gone_afterwards(bench: Bench) -> None:
    result = bench.sh('ls -A; pwd; echo "$HOME"; echo "$TMPDIR"')
    folders = set(outputs(result)["mean"][0].decode().split())
    assert len(folders) == 1
    bench.caller.close()
    assert not Path(folders.pop()).exists()


def test_standard_input_is_empty(bench: Bench) -> None:
    assert outputs(bench.sh("wc -c")) == {"mean": [b"0\n"]}


ENVIRONMENT = """
import json, os
print(json.dumps(dict(os.environ)))
"""


def test_the_environment_is_small_clean_and_has_no_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {
        "AWS_SECRET_ACCESS_KEY": "hunter2",
        "AWS_SESSION_TOKEN": "hunter2",
        "GITHUB_TOKEN": "hunter2",
        "KUBECONFIG": "/hunter2",
        "DATABASE_URL": "postgres://u:hunter2@h/d",
        "HTTPS_PROXY": "http://u:hunter2@proxy",
        "KOALJA_REGISTRY": "hunter2",
        "PYTHONPATH": "/hunter2",
        "LD_PRELOAD": "",
        "SSH_AUTH_SOCK": "/hunter2",
    }
    for name, text in secrets.items():
        monkeypatch.setenv(name, text)
    bench = bench_in(tmp_path)
    result = bench.python(ENVIRONMENT, env=(("MODE", "fast"), ("TZ", "Europe/Oslo")))
    env = json.loads(outputs(result)["mean"][0])
    assert "hunter2" not in json.dumps(env)
    expected = {"PATH", "HOME", "TMPDIR", "MODE", "TZ"}
    allowed = {*expected, "LANG", "LANGUAGE", "USER", "LOGNAME", "LC_CTYPE", "LC_ALL"}
    ours = {name for name in env if name.startswith("KOALJA_")}
    assert expected <= set(env) - ours <= allowed
    assert ours == {
        "KOALJA_CIRCUIT",
        "KOALJA_TASK",
        "KOALJA_OUT",
        "KOALJA_CODE",
        "KOALJA_SNAPSHOT",
        "KOALJA_SIGNPOSTS",
    }
    assert env["MODE"] == "fast"
    assert env["TZ"] == "Europe/Oslo"
    assert env["KOALJA_SNAPSHOT"] == "5" * 64
    assert env["KOALJA_CODE"] == str(bench.folder)
    bench.caller.close()
    bench.store.close()


def test_no_file_of_the_wrapper_is_open_in_the_program(bench: Bench) -> None:
    result = bench.sh("ls -l /proc/self/fd | awk '{print $NF}' | grep -e objects -e small.db -e lock; true")
    assert result.outputs == ()
