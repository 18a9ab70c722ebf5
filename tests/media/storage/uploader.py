"""A process that starts an upload and never ends it: to be killed."""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from onetake.core.ports import Body
from onetake.media.storage import BucketStore

TOTAL_BYTES = 20 * 1024 * 1024


async def half() -> AsyncIterator[bytes]:
    for _ in range(3 * TOTAL_BYTES // 4 // 65_536):
        yield bytes(65_536)
    print("half way", flush=True)
    await asyncio.sleep(600)


async def main(
    endpoint: str, access_key: str, secret_key: str, bucket: str, key: str, spool: str, length: str, kind: str
) -> None:
    store = BucketStore(endpoint=f"http://{endpoint}", access_key=access_key, secret_key=secret_key, bucket=bucket)
    if kind == "verifies":
        await store.check()
    body = Body(TOTAL_BYTES if length == "declared" else None, "video/mp4", half())
    await store.put_stream(key, body, content_type="video/mp4", max_bytes=2**30, spool=Path(spool))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
