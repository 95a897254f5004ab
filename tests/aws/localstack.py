"""LocalStack in host mode for tests: S3 and SQS on loopback, without Docker, thrown away at the end.

It lives in an environment of its own, since it pins other versions of what we use: `tests/run` makes it
in `.venv/localstack`. Each process of a test run starts one when it is first asked for.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
_LIBC = ctypes.CDLL(None)


class LocalStack:
    """A running LocalStack; `url` is its endpoint."""

    def __init__(self, python: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="koalja-ls-"))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._log = self.folder / "log"
        environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTHON"))},
            "GATEWAY_LISTEN": f"127.0.0.1:{port}",
            "FILESYSTEM_ROOT": str(self.folder / "root"),
            "DISABLE_EVENTS": "1",
            "SKIP_SSL_CERT_DOWNLOAD": "1",
            "DNS_ADDRESS": "0",
            "SERVICES": "s3,sqs",
        }
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [python, "-m", "localstack.runtime.main"],
                cwd=self.folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        self._wait()

    def client(self, service: str) -> Any:
        """A client of its own for the test's questions."""
        import boto3

        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def bucket(self) -> str:
        """The name of a fresh bucket."""
        name = f"b-{uuid.uuid4().hex[:20]}"
        self.client("s3").create_bucket(Bucket=name)
        return name

    def queue(self, **attributes: str) -> str:
        """The URL of a fresh queue."""
        name = f"q-{uuid.uuid4().hex[:20]}" + ".fifo" * ("FifoQueue" in attributes)
        made = self.client("sqs").create_queue(QueueName=name, Attributes=attributes)
        return str(made["QueueUrl"])

    def stop(self) -> None:
        """End it and remove what it wrote."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _wait(self) -> None:
        until = time.monotonic() + 90
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/_localstack/health", timeout=5).read()
                return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                if time.monotonic() > until or self.process.poll() is not None:
                    raise AssertionError(self._log.read_text()[-4000:]) from None
            time.sleep(0.1)


@cache
def shared() -> LocalStack:
    """The one that the tests of this process share."""
    python = ROOT / ".venv/localstack/bin/python"
    if not python.exists():
        pytest.skip("LocalStack is not there: sh tests/run makes .venv/localstack")
    made = LocalStack(str(python))
    atexit.register(made.stop)
    return made


def _end_with_parent() -> None:
    """SIGKILL when the test's process is gone, however it ended."""
    _LIBC.prctl(1, signal.SIGKILL)
