"""Signposts: from the program's side, and how they are read."""

import json
import os
import subprocess
import sys
from pathlib import Path

from koalja_fn.program.signposts import Signpost, parse, read

from .conftest import Bench


def test_a_line_is_a_signpost(bench: Bench) -> None:
    result = bench.sh(
        """echo '{"kind": "intent", "text": "average", "unit": "kn"}' >> "$KOALJA_SIGNPOSTS" """
    )
    assert result.signposts == (Signpost("intent", "average", None, {"unit": "kn"}),)
    assert result.remarks == ()


def test_the_module_leaves_signposts(bench: Bench) -> None:
    here = str(Path(__file__).parents[2])
    script = f"""
import sys
sys.path.insert(0, {here!r})
from koalja_fn import signpost
signpost.intent("average")
signpost.remark("two out of range", dropped=2)
signpost.file("/data/x", "read")
signpost.lookup("https://example.org", status=200)
"""
    result = bench.python(script)
    assert [s.kind for s in result.signposts] == ["intent", "remark", "file", "lookup"]
    assert result.signposts[1].fields == {"dropped": "2"}
    assert result.signposts[2].fields == {"path": "/data/x"}
    assert all(s.at for s in result.signposts)


def test_signposts_of_a_failed_program_are_kept(bench: Bench) -> None:
    result = bench.sh("""echo '{"text": "odd"}' >> "$KOALJA_SIGNPOSTS"; exit 1""")
    assert [s.text for s in result.signposts] == ["odd"]


def test_by_hand_the_module_does_nothing(tmp_path: Path) -> None:
    script = "from koalja_fn import signpost; signpost.remark('x')"
    env = {k: v for k, v in os.environ.items() if k != "KOALJA_SIGNPOSTS"}
    for extra in ({}, {"KOALJA_SIGNPOSTS": "/no/such/folder/file"}):
        subprocess.run([sys.executable, "-c", script], check=True, env=env | extra, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_bad_lines_are_remarked_upon_and_harm_nothing() -> None:
    lines = [
        b'{"text": "good"}',
        b"not json",
        b"[]",
        b'{"kind": "shout"}',
        b'{"text": 7}',
        b'{"at": "noon"}',
        b"\xff\xfe",
        b"[" * 100_000,
        b"",
    ]
    posts, remarks = parse(b"\n".join(lines))
    assert [p.text for p in posts] == ["good"]
    assert len(remarks) == 7
    assert "line 2" in remarks[0]


def test_too_much_is_dropped_with_a_remark() -> None:
    line = json.dumps({"text": "x" * 100}).encode() + b"\n"
    posts, remarks = parse(line * 50, limit=1000)
    assert len(posts) == 1000 // len(line)
    assert "beyond 1000 bytes" in remarks[0]
    posts, remarks = parse(line * 5000)
    assert len(posts) == 1000
    assert "dropped" in remarks[-1]
    posts, _ = parse(json.dumps({"text": "x" * 100_000, "a": "y" * 100_000}).encode())
    assert len(posts[0].text) == len(posts[0].fields["a"]) == 4000


def test_a_signpost_file_that_is_a_link_or_a_folder_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "folder"):
        posts, remarks = read(tmp_path / name)
        assert posts == ()
        assert "not read" in remarks[0]
    assert read(tmp_path / "pipe") == ((), ())
    assert read(tmp_path / "none") == ((), ())
