"""What stands before several gateways: each connection goes to the next of them, and past one that does not listen."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress

from tests.connections import LOOPBACK, dialled, handed_on, listening


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
                async with dialled(LOOPBACK, targets[which]) as there:
                    taken[which] += 1
                    await handed_on((reader, writer), there)
                return

    async with listening(serve, port):
        yield taken
