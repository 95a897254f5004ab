"""Small payloads in a bucket: our quick way beside botocore, on one S3 server, alternating.

    python benchmarks/bucket.py [--quick] [--report FILE]

It needs `pip install 'koalja-fn[s3]'` and a LocalStack as `tests/run` makes it. Each measurement is a process
of its own: the first put and get, with all that is imported for them, then many.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
ONE = """
import json, os, sys, time
count = int(sys.argv[2])
def room():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) / 1024
before, wall, cpu = room(), time.perf_counter(), time.process_time()
from pathlib import Path
from koalja_fn.store import open_store
url, cache, way = sys.argv[1], Path(sys.argv[3]), sys.argv[4]
store, other = open_store(url, cache=cache / "a"), open_store(url, cache=cache / "b")
if way == "botocore":
    store._quick = other._quick = None
first = os.urandom(1000)
assert other.read(store.put_bytes(first).digest) == first
told = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "room": room() - before}
payloads = [os.urandom(1000) for _ in range(count)]
wall, cpu = time.perf_counter(), time.process_time()
digests = [store.put_bytes(payload).digest for payload in payloads]
told["put"], wall = (time.perf_counter() - wall) / count, time.perf_counter()
for digest in digests:
    other.read(digest)
told["get"] = (time.perf_counter() - wall) / count
told["each"] = (time.process_time() - cpu) / count / 2
print(json.dumps(told))
"""
TITLES = {
    "wall": ("first put and get, with imports, ms", 1000),
    "cpu": ("the same, processor time, ms", 1000),
    "room": ("memory for it, MB", 1),
    "put": ("a put of 1 KB after that, ms", 1000),
    "get": ("a get of 1 KB, ms", 1000),
    "each": ("processor time of either, ms", 1000),
}


def measured(url: str, endpoint: str, count: int, cache: Path, way: str) -> dict[str, float]:
    """One process's figures."""
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_ENDPOINT_URL_S3": endpoint}
    done = subprocess.run(
        [sys.executable, "-c", ONE, url, str(count), str(cache), way],
        env={"PATH": os.environ["PATH"], **keys},
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return dict(json.loads(done.stdout))


def report(quick: bool) -> list[str]:
    """The lines of the report."""
    import tempfile

    from tests.aws.localstack import shared

    stack = shared()
    count, times = (100, 2) if quick else (500, 7)
    found: dict[str, list[dict[str, float]]] = {"quick": [], "botocore": []}
    with tempfile.TemporaryDirectory() as folder:
        for n in range(times + 1):  # the first of each warms the server and the disk up
            for way, some in found.items():
                place = Path(folder) / f"{way}-{n}"
                some.append(measured(f"s3://{stack.bucket()}/b", stack.url, count, place, way))
    lines = ["| what | ours | botocore | ratio (spread) |", "| --- | --- | --- | --- |"]
    for name, (title, unit) in TITLES.items():
        ours, peers = ([one[name] * unit for one in found[way][1:]] for way in found)
        ratios = [a / b for a, b in zip(ours, peers, strict=True)]
        lines.append(
            f"| {title} | {statistics.median(ours):.2f} | {statistics.median(peers):.2f} |"
            f" {statistics.median(ratios):.2f} ({max(ratios) - min(ratios):.2f}) |"
        )
    return lines


def main() -> None:
    """Measure and tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    text = "\n".join(report(arguments.quick)) + "\n"
    sys.stdout.write(text)
    if arguments.report:
        arguments.report.write_text(text)


if __name__ == "__main__":
    main()
