"""The commands of docs/stores.md work as they stand there, with a LocalStack that is running already."""

from __future__ import annotations

import sys
from pathlib import Path

from ..aws.localstack import shared
from .pages import ROOT, shell


def test_the_page_on_stores(tmp_path: Path, environ: dict[str, str]) -> None:
    stack = shared()
    lines = [
        line.strip() for line in (ROOT / "docs/stores.md").read_text().splitlines() if line[:4] == "    "
    ]
    (tmp_path / "mycode").mkdir()
    (tmp_path / "mycode/w.koalja").write_text("[w]\n(in) copy (out)\n    run = cp {in} {out.out}\n")
    script = [line for line in lines if line.startswith(("export AWS", "python3 -c", "koalja-fn run --once"))]
    assert len(script) == 3
    text = (
        "\n".join(script)
        .replace("http://localhost:4566", stack.url)
        .replace("python3 -c", f"{sys.executable} -c")
    )
    shell(text, tmp_path, environ)
    shell(
        f"export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_ENDPOINT_URL={stack.url}\n"
        + lines[0].replace("run ./", "run --once ./").replace("s3://bucket/prefix", "s3://bucket"),
        tmp_path,
        environ,
    )
