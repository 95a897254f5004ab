"""Talking to SQS: one queue, and its errors in our words. boto3 is imported with the first request."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from koalja_fn.addresses import Queue
from koalja_fn.errors import StoreError
from koalja_fn.queues.messages import Message
from koalja_fn.store.buckets import code_of

MOST = 10
"""Messages that one request of SQS gives, deletes or changes."""

_CONNECT = 5
_LONGEST_POLL = 20
_ABSENT = ("QueueDoesNotExist", "NonExistentQueue")
_DENIED = ("AccessDenied", "InvalidClientTokenId", "SignatureDoesNotMatch", "ExpiredToken", "Unrecognized")
_LEAST_HELD = 30


class SqsQueue:
    """A queue. `endpoint` is used where its address names none; one thread receives, another may extend."""

    def __init__(self, queue: Queue, endpoint: str | None = None) -> None:
        self.queue = queue
        self._endpoint = queue.endpoint or endpoint
        self._made: Any = None
        self._url = ""
        self.visibility = _LEAST_HELD
        self.redrives = False

    @property
    def held(self) -> int:
        """For how many seconds a message is ours after it was received or extended."""
        return max(self.visibility, _LEAST_HELD)

    def open(self) -> None:
        """Look the queue up.

        Raises:
            StoreError: It is not there, or can't be asked.
        """
        if self._url:
            return
        owner = {"QueueOwnerAWSAccountId": self.queue.account} if self.queue.account else {}
        with self._explained("be found"):
            url = self._client.get_queue_url(QueueName=self.queue.name, **owner)["QueueUrl"]
            told = self._client.get_queue_attributes(
                QueueUrl=url, AttributeNames=["VisibilityTimeout", "RedrivePolicy"]
            ).get("Attributes", {})
        self.visibility = int(told.get("VisibilityTimeout", _LEAST_HELD))
        self.redrives = "RedrivePolicy" in told
        self._url = str(url)

    def receive(self, wait: int, most: int = MOST) -> list[Message]:
        """Up to `most` messages, as soon as there are some; none after `wait` seconds, 20 at most.

        Raises:
            StoreError: The queue can't be asked.
        """
        self.open()
        with self._explained("be asked"):
            answer = self._client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=most,
                WaitTimeSeconds=min(wait, _LONGEST_POLL),
                VisibilityTimeout=self.held,
                MessageAttributeNames=["All"],
                AttributeNames=["SentTimestamp", "MessageGroupId"],
            )
        return [_message(one) for one in answer.get("Messages", [])]

    def delete(self, messages: Sequence[Message]) -> None:
        """Have the queue forget messages; what it does not forget comes again, and is known then.

        Raises:
            StoreError: The queue can't be asked.
        """
        with self._explained("forget what was taken"):
            self._client.delete_message_batch(
                QueueUrl=self._url,
                Entries=[
                    {"Id": str(number), "ReceiptHandle": one.handle} for number, one in enumerate(messages)
                ],
            )

    def hold(self, messages: Sequence[Message], seconds: int) -> None:
        """Keep messages from others for so long from now; 0 gives them back. What fails does no harm."""
        if not messages:
            return
        with suppress(Exception):  # gone, or with us for 12 hours: it comes again, and is known then
            self._client.change_message_visibility_batch(
                QueueUrl=self._url,
                Entries=[
                    {"Id": str(number), "ReceiptHandle": one.handle, "VisibilityTimeout": seconds}
                    for number, one in enumerate(messages)
                ],
            )

    def close(self) -> None:
        """Let go of connections."""
        if self._made is not None:
            self._made.close()

    @property
    def _client(self) -> Any:
        if self._made is None:
            self._made = self._connected()
        return self._made

    def _connected(self) -> Any:
        try:
            import boto3
            from botocore.config import Config
        except ImportError as error:
            raise StoreError(
                f"{self.queue} can't be used",
                why="boto3 is not installed",
                cure="pip install 'koalja-fn[s3]'",
            ) from error
        config = Config(
            connect_timeout=_CONNECT,
            read_timeout=_LONGEST_POLL + 10,
            retries={"mode": "standard", "max_attempts": 2},
            user_agent_extra="koalja-fn",
        )
        custom = (
            self._endpoint or os.environ.get("AWS_ENDPOINT_URL_SQS") or os.environ.get("AWS_ENDPOINT_URL")
        )
        region = self.queue.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        session = boto3.session.Session(region_name=region or ("us-east-1" if custom else None))
        return session.client("sqs", endpoint_url=self._endpoint, config=config)

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        except Exception as error:
            if not type(error).__module__.startswith(("botocore", "boto3", "urllib3")):
                raise
            raise _in_our_words(self.queue, what, error) from error


def _in_our_words(queue: Queue, what: str, error: Exception) -> StoreError:
    code, kind, said = code_of(error), type(error).__name__, f"{queue} can't {what}"
    if any(word in code for word in _ABSENT):
        where = f" in {queue.region}" if queue.region else ""
        cure = f"make it: aws sqs create-queue --queue-name {queue.name}; or set AWS_REGION"
        return StoreError(said, why=f"there is no queue {queue.name}{where}", cure=cure)
    if any(word in code for word in _DENIED):
        wanted = "GetQueueUrl, GetQueueAttributes, ReceiveMessage, DeleteMessage and ChangeMessageVisibility"
        return StoreError(said, why=f"access is denied ({code})", cure=f"the credentials need sqs:{wanted}")
    if kind in ("NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError"):
        cure = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role"
        return StoreError(said, why="there are no credentials", cure=cure)
    if kind == "NoRegionError":
        return StoreError(said, why="no region is set", cure="set AWS_REGION, or write sqs://NAME?region=…")
    return StoreError(said, why=str(error), cure="see whether the server is up, and the endpoint right")


def _message(told: dict[str, Any]) -> Message:
    system = told.get("Attributes", {})
    sent = str(system.get("SentTimestamp", ""))
    return Message(
        str(told["MessageId"]),
        str(told["Body"]),
        str(told["ReceiptHandle"]),
        int(sent) * 1000 if sent.isdecimal() else None,
        str(system.get("MessageGroupId", "")),
        {
            name: str(one["StringValue"])
            for name, one in told.get("MessageAttributes", {}).items()
            if "StringValue" in one
        },
    )
