"""A process that starts an upload and never ends it: to be killed."""

import asyncio
import sys
from collections.abc import AsyncIterator

from onetake.core.ports import Body
from onetake.media.storage import PART_BYTES, BucketStore


async def half() -> AsyncIterator[bytes]:
    for _ in range(3 * PART_BYTES // 65_536):
        yield bytes(65_536)
    print("half way", flush=True)
    await asyncio.sleep(60)


async def main(endpoint: str, access_key: str, secret_key: str, bucket: str, key: str, length: str) -> None:
    store = BucketStore(endpoint=f"http://{endpoint}", access_key=access_key, secret_key=secret_key, bucket=bucket)
    body = Body(int(length) if length.isdigit() else None, "video/mp4", half())
    await store.put_stream(key, body, content_type="video/mp4", max_bytes=2**30, moved=lambda _: None)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
