"""Many callers, few commits: those that wait at the same time share one statement; one that comes alone waits for none.

A commit is on disk before it is answered, so calls that commit one by one are as slow as the disk.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Final, Generic, TypeVar

from onetake.core.errors import Failed

LARGEST_BATCH: Final = 256

Order = TypeVar("Order")
Answer = TypeVar("Answer")


class Combining(Generic[Order, Answer]):
    """Calls `answer` with the orders that wait, up to 256 at once; it gives one answer for each, in their order.

    What it raises is raised to all of a batch, but a fault of ours (`Failed`) only to the order that causes it.
    """

    def __init__(self, answer: Callable[[list[Order]], Awaitable[Sequence[Answer]]]) -> None:
        self._answer_all = answer
        self._waiting: list[tuple[Order, asyncio.Future[Answer]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def __call__(self, order: Order) -> Answer:
        """The answer to one order. A caller that gives up before its order's turn is not served."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((order, answer))
        if self._writer is None:
            # An empty context: the first caller's log fields must not mark the others' lines.
            self._writer = asyncio.create_task(self._write(), context=Context())
        return await answer

    async def _write(self) -> None:
        """Take whatever waits until nothing does. The sleep lets those who were just answered ask again."""
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:LARGEST_BATCH], self._waiting[LARGEST_BATCH:]
                await self._answer([each for each in batch if not each[1].done()])
                await asyncio.sleep(0)
        finally:
            self._writer = None

    async def _answer(self, batch: list[tuple[Order, asyncio.Future[Answer]]]) -> None:
        if not batch:
            return
        try:
            answers = await self._answer_all([order for order, _ in batch])
        except Failed as error:
            if len(batch) == 1:
                _fail(batch, error)
                return
            for each in batch:  # one poisonous order spoils nobody else's
                await self._answer([each])
        except BaseException as error:
            _fail(batch, error)
            if not isinstance(error, Exception):
                raise
        else:
            for (_, waiting), answer in zip(batch, answers, strict=True):
                if not waiting.done():
                    waiting.set_result(answer)


def _fail(batch: list[tuple[Order, asyncio.Future[Answer]]], error: BaseException) -> None:
    for _, waiting in batch:
        if not waiting.done():
            waiting.set_exception(error)
