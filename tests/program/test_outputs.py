"""What counts as an output, and what is refused."""

import os
import time
from pathlib import Path

import pytest

from koalja_fn.program.contract import Limits, Reason

from .conftest import Bench, bench_in, outputs

TWO = {"outputs": ("mean", "odd")}


def test_a_file_named_like_the_wire_is_one_value(bench: Bench) -> None:
    assert outputs(bench.sh('echo 7 > "$KOALJA_OUT/mean"')) == {"mean": [b"7\n"]}


def test_a_file_with_an_ending_is_one_value_of_that_type(bench: Bench) -> None:
    result = bench.sh('echo 7 > "$KOALJA_OUT/mean.json"')
    assert outputs(result) == {"mean": [b"7\n"]}
    assert result.outputs[0].type == "application/json"


def test_a_folder_gives_a_value_for_each_file_in_byte_order_of_names(bench: Bench) -> None:
    script = (
        "mkdir -p $KOALJA_OUT/mean/b; cd $KOALJA_OUT/mean; for f in b/x a B é 10 9 b-; do echo $f > $f; done"
    )
    result = bench.sh(script)
    assert [f.name for f in result.outputs] == ["10", "9", "B", "a", "b-", "b/x", "é"]
    assert [f.index for f in result.outputs] == list(range(7))
    assert outputs(result)["mean"][5] == b"b/x\n"


def test_an_out_placeholder_is_where_a_value_is_written(bench: Bench) -> None:
    assert outputs(bench.sh("echo 7 > {out.mean}; echo talk")) == {"mean": [b"7\n"]}


def test_an_out_placeholder_has_the_ending_of_the_wires_type(bench: Bench) -> None:
    result = bench.sh("echo {out.mean} > {out.mean}", types=(("mean", "image/png"),))
    assert outputs(result)["mean"][0].endswith(b"/mean.png\n")
    assert result.outputs[0].type == "image/png"


def test_standard_output_is_the_value_of_the_only_output(bench: Bench) -> None:
    result = bench.call("/bin/echo", "7")
    assert outputs(result) == {"mean": [b"7\n"]}
    assert result.outputs[0].type == "text/plain"
    assert result.log == ""


def test_an_empty_standard_output_is_no_value(bench: Bench) -> None:
    assert outputs(bench.call("/bin/true")) == {}


def test_standard_output_is_log_where_the_program_wrote_its_output(bench: Bench) -> None:
    result = bench.python(
        "import os; open(os.environ['KOALJA_OUT'] + '/mean', 'w').write('7'); print('talk')"
    )
    assert outputs(result) == {"mean": [b"7"]}
    assert result.log == "talk\n"


def test_standard_output_is_log_where_the_run_line_says_where_outputs_go(bench: Bench) -> None:
    result = bench.sh("echo talk; test -n 'yes' || echo 7 > {out.mean}")
    assert outputs(result) == {}
    assert result.log == "talk\n"


@pytest.mark.parametrize("wires", [(), ("mean", "odd")])
def test_standard_output_is_log_for_none_or_several_outputs(bench: Bench, wires: tuple[str, ...]) -> None:
    result = bench.call("/bin/echo", "talk", outputs=wires)
    assert outputs(result) == {}
    assert result.log == "talk\n"


def test_no_file_for_a_wire_is_no_value_on_it(bench: Bench) -> None:
    assert outputs(bench.sh('echo 7 > "$KOALJA_OUT/odd"', **TWO)) == {"odd": [b"7\n"]}


def test_outputs_come_in_the_order_of_the_wiring(bench: Bench) -> None:
    result = bench.sh('cd "$KOALJA_OUT"; echo 1 > odd; echo 2 > mean', **TWO)
    assert [f.wire for f in result.outputs] == ["mean", "odd"]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ('ln -s /etc/passwd "$KOALJA_OUT/mean"', "mean is a symbolic link"),
        ('mkdir "$KOALJA_OUT/mean"; ln -s /etc "$KOALJA_OUT/mean/a"', "mean/a is a symbolic link"),
        ('echo 1 > "$KOALJA_OUT/../escaped"', "beside its folders"),
        ("mkdir ../escaped", "beside its folders"),
        ('rmdir "$KOALJA_OUT"; ln -s /etc "$KOALJA_OUT"', "replaced the folder"),
        ('mkfifo "$KOALJA_OUT/mean"', "mean is a named pipe"),
        ('echo 1 > "$KOALJA_OUT/maen"', "did you mean mean?"),
        ('echo 1 > "$KOALJA_OUT/unheard"', "its outputs are mean"),
        ('cd "$KOALJA_OUT"; echo 1 > mean; echo 2 > mean.txt', "both mean"),
        (
            'cd "$KOALJA_OUT"; mkdir mean; cd mean; for i in $(seq 60); do mkdir d; cd d; done; touch file',
            "too deep",
        ),
    ],
)
def test_odd_outputs_are_a_clear_failure_and_never_followed(bench: Bench, script: str, said: str) -> None:
    result = bench.sh(script)
    assert result.reason is Reason.OUTPUTS
    assert result.permanent
    assert result.outputs == ()
    assert said in result.message


def test_a_socket_is_no_output(bench: Bench) -> None:
    result = bench.python(
        "import os, socket; os.chdir(os.environ['KOALJA_OUT']); socket.socket(socket.AF_UNIX).bind('mean')"
    )
    assert result.reason is Reason.OUTPUTS
    assert "socket" in result.message


def test_a_name_with_dots_leaves_no_folder(bench: Bench) -> None:
    """`../` in a name can only be a path; a name that only begins with dots is one like any other."""
    result = bench.sh('cd "$KOALJA_OUT"; mkdir -p mean/..a; echo 2 > mean/..a/..b')
    assert [f.name for f in result.outputs] == ["..a/..b"]


def test_what_is_written_beside_the_outputs_reaches_no_other_execution(bench: Bench) -> None:
    assert not bench.sh("echo 1 > ../escaped").ok
    assert outputs(bench.sh("ls ..")) == {"mean": [b"in\nout\nstderr\nstdout\nwork\n"]}


def test_a_name_that_is_no_text_is_shown_as_bytes(bench: Bench) -> None:
    result = bench.python(
        "import os; os.mkdir(os.environ['KOALJA_OUT'] + '/mean');"
        "open(os.fsencode(os.environ['KOALJA_OUT']) + b'/mean/\\xff', 'w').write('7')"
    )
    assert result.outputs[0].name == "\\xff"
    assert outputs(result) == {"mean": [b"7"]}


def test_a_failed_program_has_no_outputs(bench: Bench) -> None:
    result = bench.sh('echo 7 > "$KOALJA_OUT/mean"; exit 3')
    assert (result.reason, result.status, result.outputs) == (Reason.EXIT, 3, ())


def test_a_sparse_gigabyte_is_one_value(bench: Bench) -> None:
    result = bench.sh('truncate -s 1G "$KOALJA_OUT/mean"')
    assert result.ok
    assert result.outputs[0].size == 1 << 30
    bench.caller.discard(result)


def test_types_come_from_the_ending_then_the_wiring_then_the_bytes(bench: Bench) -> None:
    script = 'mkdir "$KOALJA_OUT/mean"; cd "$KOALJA_OUT/mean"; echo é > a; printf "\\0" > b; echo 1 > c.csv'
    assert [f.type for f in bench.sh(script).outputs] == [
        "text/plain",
        "application/octet-stream",
        "text/csv",
    ]
    typed = bench.sh(script, types=(("mean", "image/png"),))
    assert [f.type for f in typed.outputs] == ["image/png", "image/png", "text/csv"]


def test_outputs_closed_to_their_owner_are_read_all_the_same(bench: Bench) -> None:
    assert outputs(bench.sh('echo 7 > "$KOALJA_OUT/mean"; chmod 000 "$KOALJA_OUT/mean"')) == {
        "mean": [b"7\n"]
    }


def test_more_than_the_limit_is_ended_while_it_writes(tmp_path: Path) -> None:
    bench = bench_in(tmp_path, limits=Limits(outputs=5 << 20, grace=0.2))
    started = time.monotonic()
    scripts = ['cat /dev/zero > "$KOALJA_OUT/mean"', "cat /dev/zero", "cat /dev/zero > scratch"]
    for script in scripts:
        # A tenth of a second between writes, so that the test fills no disk.
        slowed = script.replace("cat /dev/zero", "while :; do head -c 2000000 /dev/zero; sleep 0.1; done")
        result = bench.sh(slowed)
        assert result.reason is Reason.OUTPUTS, script
        assert "more than 5,242,880 bytes" in result.message
    assert time.monotonic() - started < 20
    result = bench.sh('truncate -s 6M "$KOALJA_OUT/mean"')
    assert result.reason is Reason.OUTPUTS
    bench.caller.close()
    bench.store.close()


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    bench = bench_in(tmp_path, limits=Limits(files=10))
    script = 'mkdir "$KOALJA_OUT/mean"; cd "$KOALJA_OUT/mean"; touch $(seq 11)'
    assert bench.sh(script).reason is Reason.OUTPUTS
    assert bench.sh(script.replace("11", "10")).ok
    bench.caller.close()
    bench.store.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="making a device needs root")
def test_a_device_is_no_output(bench: Bench) -> None:
    result = bench.sh('mknod "$KOALJA_OUT/mean" c 1 5')
    assert result.reason is Reason.OUTPUTS
    assert "device" in result.message
