"""A real S3 server, and bodies to put into it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onetake.core.ports import Body
from onetake.dev.devstack.object_store import Keys
from onetake.media.storage import BucketStore


@dataclass(frozen=True)
class Server:
    """A real S3 server, and the folder in which it keeps a bucket of one's own."""

    endpoint: str
    keys: Keys
    bucket: str
    folder: Path

    def store(self, **changes: Any) -> BucketStore:
        settings: dict[str, Any] = {
            "endpoint": f"http://{self.endpoint}",
            "access_key": self.keys.access_key,
            "secret_key": self.keys.secret_key,
            "bucket": self.bucket,
        }
        return BucketStore(**(settings | changes))


def body_of(data: bytes, *, declared_bytes: int | None = None, chunk_bytes: int = 64 * 1024) -> Body:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(data), chunk_bytes):
            yield data[start : start + chunk_bytes]
            await asyncio.sleep(0)

    return Body(declared_bytes, "video/mp4", chunks())


def ignore(_total_bytes: int) -> None:
    """For puts whose progress nobody watches."""
