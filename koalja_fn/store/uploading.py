"""Sending one object to a bucket: in one piece or in parts, each with the SHA-256 that the server checks."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, BinaryIO

PART = 16 << 20
"""Objects above this size travel in parts of it; S3 wants at least 5 MiB each, and at most 10,000."""


@dataclass(frozen=True, slots=True)
class Upload:
    """What is sent where. `condition` and `more` are parameters of S3's requests.

    `condition` decides whether the object may take this place (`IfNoneMatch`, `IfMatch`); `more` is what is
    known of it (`ContentType`, `Metadata`). `digest` is its SHA-256 in hexadecimal.
    """

    bucket: str
    key: str
    size: int
    digest: str
    condition: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)


def send(client: Any, upload: Upload, body: BinaryIO, part: int = PART) -> None:
    """Send it; botocore's errors as they come, such as 412 where the condition does not hold."""
    if upload.size > part:
        _in_parts(client, upload, body, part)
        return
    client.put_object(
        Bucket=upload.bucket,
        Key=upload.key,
        Body=body,
        ContentLength=upload.size,
        ChecksumSHA256=base64.b64encode(bytes.fromhex(upload.digest)).decode(),
        **upload.condition,
        **upload.more,
    )


def _in_parts(client: Any, upload: Upload, body: BinaryIO, part: int) -> None:
    place = {"Bucket": upload.bucket, "Key": upload.key}
    made = client.create_multipart_upload(**place, ChecksumAlgorithm="SHA256", **upload.more)["UploadId"]
    try:
        parts: list[dict[str, Any]] = []
        while data := body.read(part):
            number = len(parts) + 1
            digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
            done = client.upload_part(
                **place, UploadId=made, PartNumber=number, Body=data, ChecksumSHA256=digest
            )
            parts.append({"PartNumber": number, "ETag": done["ETag"], "ChecksumSHA256": digest})
        client.complete_multipart_upload(
            **place, UploadId=made, MultipartUpload={"Parts": parts}, **upload.condition
        )
    except BaseException:
        with suppress(Exception):  # the server clears it away in time; the error that counts is the other
            client.abort_multipart_upload(**place, UploadId=made)
        raise
