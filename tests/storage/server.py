"""moto's S3 server on this machine, in a process of its own. What it holds is gone when it ends."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
WAIT = 60  # seconds


@contextmanager
def s3_server(log: Path) -> Iterator[dict[str, str]]:
    """The environment variables by which the server is reached; it ends with the block."""
    with open(log, "w") as stream:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
    try:
        yield {"AWS_ENDPOINT_URL": _address(process, log), **KEYS}
    finally:
        process.terminate()
        process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    until = time.monotonic() + WAIT
    while time.monotonic() < until and process.poll() is None:
        if found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text()):
            return found[0]
        time.sleep(0.1)
    raise RuntimeError(f"moto's server does not answer: {log.read_text()}")


class Bucket:
    """What a bucket holds below a prefix, by names without it."""

    def __init__(self, environment: dict[str, str], bucket: str, prefix: str):
        import boto3

        self._client: Any = boto3.client(
            "s3",
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
            region_name="us-east-1",
        )
        self.bucket, self.prefix = bucket, prefix

    def names(self, begin: str = "") -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=f"{self.prefix}/{begin}"
        )
        return [entry["Key"].removeprefix(f"{self.prefix}/") for page in pages for entry in page.get("Contents", [])]

    def read(self, name: str) -> bytes:
        return bytes(self._client.get_object(Bucket=self.bucket, Key=f"{self.prefix}/{name}")["Body"].read())

    def write(self, name: str, content: bytes) -> None:
        self._client.put_object(Bucket=self.bucket, Key=f"{self.prefix}/{name}", Body=content)

    def remove(self, name: str) -> None:
        self._client.delete_object(Bucket=self.bucket, Key=f"{self.prefix}/{name}")
