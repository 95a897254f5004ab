"""Queues and buckets of a deployed circuit: pods that drain, and the sweep that writes what was left."""

from __future__ import annotations

import json

import pytest

from tests.aws.localstack import LocalStack, shared
from tests.runtime.cluster import Cluster, wait_for
from tests.runtime.conftest import Deploy

WIRING = """
[c]
(in) double (twice)
    run = cat {{in}} {{in}}
wire in
    from = sqs://{queue}
wire twice
    to = s3://{bucket}/out/{{position}}
"""


@pytest.fixture
def stack() -> LocalStack:
    return shared()


def settings(stack: LocalStack) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": stack.url,
        "AWS_ENDPOINT_URL_SQS": stack.url,
    }


def drained(cluster: Cluster) -> None:
    done = cluster.run_role("queue", KOALJA_WIRE="in", KOALJA_IDLE_SECONDS="1")
    assert done.returncode == 0, done.stderr


def objects(stack: LocalStack, bucket: str) -> list[bytes]:
    s3 = stack.client("s3")
    found = s3.list_objects_v2(Bucket=bucket).get("Contents", [])
    return [s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read() for item in found]


def test_a_pod_drains_the_queue_rings_and_ends(deploy: Deploy, stack: LocalStack) -> None:
    url, bucket, sqs = stack.queue(), stack.bucket(), stack.client("sqs")
    cluster = deploy(WIRING.format(queue=url.rpartition("/")[2], bucket=bucket), settings=settings(stack))
    for n in range(12):
        sqs.send_message(QueueUrl=url, MessageBody=f"{n:02d}")
    sqs.send_message(
        QueueUrl=url, MessageBody=json.dumps({"specversion": "9", "id": "1", "source": "s", "type": "t"})
    )
    drained(cluster)
    wait_for(lambda: len(cluster.contents("twice")) == 12, what=cluster.logs())
    assert sorted(cluster.contents("twice")) == [f"{n:02d}{n:02d}" for n in range(12)]
    told = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert told["ApproximateNumberOfMessages"] == "0"
    assert told["ApproximateNumberOfMessagesNotVisible"] == "1"  # the refused one
    assert cluster.findings() == []


def test_what_nobody_wrote_to_a_bucket_is_written_by_the_sweep(deploy: Deploy, stack: LocalStack) -> None:
    bucket = stack.bucket()
    cluster = deploy(WIRING.format(queue="none", bucket=bucket), settings=settings(stack))
    for n in range(3):
        cluster.send("in", str(n).encode())
    wait_for(lambda: len(cluster.contents("twice")) == 3, what=cluster.logs())
    assert objects(stack, bucket) == []  # this broker has no trigger for the entry's /sink
    assert cluster.run_role("sweep").returncode == 0
    assert objects(stack, bucket) == [b"00", b"11", b"22"]
    cluster.send("in", b"3")
    wait_for(lambda: len(cluster.contents("twice")) == 4, what=cluster.logs())
    assert cluster.sweep() == 202
    assert objects(stack, bucket)[3:] == [b"33"]


def test_a_queue_that_is_not_there_fails_the_pod_with_a_word(deploy: Deploy, stack: LocalStack) -> None:
    cluster = deploy(WIRING.format(queue="nowhere", bucket=stack.bucket()), settings=settings(stack))
    done = cluster.run_role("queue", KOALJA_WIRE="in", KOALJA_IDLE_SECONDS="1")
    assert done.returncode == 1
    assert "there is no queue nowhere" in done.stderr
    cluster.rewire("[c]\n(in) double (twice)\n    run = cat {in} {in}\n")
    assert cluster.run_role("queue", KOALJA_WIRE="in").returncode == 0, (
        "a wire without a queue has no messages"
    )
