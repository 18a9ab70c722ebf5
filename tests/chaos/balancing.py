"""What stands before several gateways: each connection goes to the next of them, and past one that does not listen."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress

from onetake.dev.devstack.ports import LOOPBACK


@asynccontextmanager
async def balanced(port: int, targets: Sequence[int]) -> AsyncGenerator[list[int]]:
    """Listen on `port` while the block runs, and hand each connection on to one of `targets`, in turns; yields how many
    each has got so far."""
    turns, taken = itertools.count(), [0] * len(targets)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = next(turns)
        for number in range(len(targets)):
            which = (first + number) % len(targets)
            with suppress(OSError):
                there = await asyncio.open_connection(LOOPBACK, targets[which])
                taken[which] += 1
                await _joined((reader, writer), there)
                return
        writer.close()

    async with await asyncio.start_server(serve, LOOPBACK, port):
        yield taken


async def _joined(
    one: tuple[asyncio.StreamReader, asyncio.StreamWriter], other: tuple[asyncio.StreamReader, asyncio.StreamWriter]
) -> None:
    await asyncio.gather(_copied(one[0], other[1]), _copied(other[0], one[1]))


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until either end closes: then the other is closed as well."""
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
