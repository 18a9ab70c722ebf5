"""A real S3 server, and bodies to put into it."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onetake.core.ports import Body, Stored
from onetake.dev.devstack.object_store import Keys
from onetake.media.spool import Spool
from onetake.media.storage import BucketStore

LIMIT = 2**30


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


async def put(store: BucketStore, key: str, body: Body, *, max_bytes: int = LIMIT) -> Stored:
    """Store a body by way of a spool that is gone afterwards."""
    with Spool().new_file() as spool:
        return await store.put_stream(key, body, content_type="video/mp4", max_bytes=max_bytes, spool=spool)


def remains(server: Server, key: str) -> list[Path]:
    """What the server's disk holds of a key: the object, or parts of an unfinished upload."""
    hashed = hashlib.sha256(key.encode()).hexdigest()
    parts = server.folder / ".sgwtmp" / "multipart" / hashed
    return [path for path in (server.folder / key, parts) if path.exists()]
