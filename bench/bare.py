"""The yardstick: a workflow with as many activities as a generation has, and one signal, and nothing in any of them.

`python -m bench.bare TASK_QUEUE` is its worker, one process. No encryption, no search attributes, no details: whatever
Onetake adds to this is what a generation costs.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.worker import Worker

GENERATION_WORKFLOW: Final = "Bare"
BEFORE_SIGNAL: Final = ("validate", "reserve", "submit", "wait")
AFTER_SIGNAL: Final = ("read", "persist", "settle")
_TIMEOUT: Final = timedelta(seconds=60)


@workflow.defn(name=GENERATION_WORKFLOW)
class Bare:
    """Seven activities, one after the other, and a signal that comes while they run."""

    def __init__(self) -> None:
        self._woken = False

    @workflow.run
    async def run(self, text: str) -> str:
        for name in BEFORE_SIGNAL:
            text = await self._step(name, text)
        await workflow.wait_condition(lambda: self._woken)
        for name in AFTER_SIGNAL:
            text = await self._step(name, text)
        return text

    @workflow.signal
    def wake(self) -> None:
        self._woken = True

    async def _step(self, name: str, text: str) -> str:
        return await workflow.execute_activity(name, text, result_type=str, start_to_close_timeout=_TIMEOUT)


class Submit:
    """Does nothing either, but has the signal sent, as a vendor's callback would be."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._signals: set[asyncio.Task[None]] = set()

    @activity.defn(name="submit")
    async def submit(self, text: str) -> str:
        handle = self._client.get_workflow_handle(activity.info().workflow_id or "")
        signal = asyncio.create_task(handle.signal("wake"))
        self._signals.add(signal)
        signal.add_done_callback(self._signals.discard)
        return text


def _nothing(name: str) -> Callable[[str], Awaitable[str]]:
    @activity.defn(name=name)
    async def step(text: str) -> str:
        return text

    return step


async def connect() -> Client:
    """A plain client of the server in the environment."""
    return await Client.connect(**ClientConfig.load_client_connect_config())


async def serve(task_queue: str) -> None:
    """Poll for the bare workflow until the process is stopped."""
    client = await connect()
    others = [_nothing(name) for name in (*BEFORE_SIGNAL, *AFTER_SIGNAL) if name != "submit"]
    await Worker(client, task_queue=task_queue, workflows=[Bare], activities=[Submit(client).submit, *others]).run()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
