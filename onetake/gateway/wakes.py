"""From stored callbacks to signals: at most one signal for a token in an interval, the last never lost.

The interval is the deployment's: the gateways take turns at a token in the database, the first of them with the
statement that stores the callback.

A signal goes to the generation's workflow. When the generation has ended with its hold in suspense, it starts or wakes
the recovery instead. What waits in memory is bounded and may be lost with the process: the inbox knows every row for
which nobody was woken, and `Sweep` goes through it on start and regularly.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from onetake.core import logs
from onetake.core.contracts import RecoveryRequest, WakeSignal
from onetake.core.crashpoints import crashpoint
from onetake.core.errors import OnetakeError
from onetake.core.names import WAKE_SIGNAL
from onetake.engine.recovery import begin_recovery
from onetake.ledger.callbacks import WAKE_EVERY_S, Callbacks, Wake
from onetake.metrics import instruments

INTERVAL_S: Final = WAKE_EVERY_S
SWEEP_EVERY_S: Final = 30.0
MOST_TOKENS: Final = 4096
MOST_AT_ONCE: Final = 16
_SWEEP_ROWS: Final = 500
_SIGNAL_LIMIT: Final = timedelta(seconds=5)
_RETRY_DELAYS_S: Final = (0.2, 1.0, 3.0)

_log = logs.logger(__name__)


async def at_once(wake: Wake) -> float | None:
    """The only gateway there is takes every turn."""
    del wake
    return 0.0


class Wakes:
    """Coalesces wakes: the first of a token is sent at once, those that follow within the interval become one.

    `turn` is `Callbacks.turn_s`."""

    def __init__(
        self,
        send: Callable[[Wake], Awaitable[None]],
        *,
        turn: Callable[[Wake], Awaitable[float | None]] = at_once,
        interval_s: float = INTERVAL_S,
        most_tokens: int = MOST_TOKENS,
        most_at_once: int = MOST_AT_ONCE,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._send = send
        self._turn = turn
        self._interval_s = interval_s
        self._most_tokens = most_tokens
        self._gate = asyncio.Semaphore(most_at_once)
        self._sleep = sleep
        self._latest: dict[bytes, Wake | None] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def wake(self, wake: Wake) -> bool:
        """Send now or as soon as the token's interval allows. False when too many tokens wait: the sweep will do it.

        What the sweep has read may be older than what has come since: the newest is sent."""
        token = wake.token_sha256
        if token not in self._latest:
            if len(self._latest) >= self._most_tokens:
                return False
            task = asyncio.create_task(self._serve(token))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        waiting = self._latest.get(token) or wake
        newest = max(wake, waiting, key=lambda each: each.heard_at)
        self._latest[token] = replace(newest, has_turn=wake.has_turn or waiting.has_turn)
        return True

    async def _serve(self, token: bytes) -> None:
        try:
            while (wake := self._latest[token]) is not None:
                await self._serve_once(token, wake)
        finally:
            del self._latest[token]

    async def _serve_once(self, token: bytes, wake: Wake) -> None:
        wait_s = 0.0 if wake.has_turn else await self._turn_s(wake)
        newest = self._latest[token] or wake
        if wait_s:
            await self._sleep(wait_s)
        elif wait_s is not None:
            self._latest[token] = None
            async with self._gate:
                await self._send(newest)
            await self._sleep(self._interval_s)
        elif newest is wake:
            self._latest[token] = None  # another gateway has woken for it

    async def _turn_s(self, wake: Wake) -> float | None:
        try:
            return await self._turn(wake)
        except OnetakeError as error:
            _log.warning("callback_waits", code=error.code)
            return self._interval_s

    async def aclose(self) -> None:
        """Drop what waits; its rows stay in the inbox for the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Signaller:
    """Sends one signal, tries a few times, and notes it in the inbox. Never raises."""

    def __init__(self, client: Client, inbox: Callbacks) -> None:
        self._client = client
        self._inbox = inbox

    async def __call__(self, wake: Wake) -> None:
        with logs.bound(generation_id=wake.generation_id, workflow_id=wake.workflow_id, attempt=wake.attempt):
            try:
                if await self._signal_patiently(wake):
                    instruments().woken((datetime.now(UTC) - wake.heard_at).total_seconds())
                    await self._inbox.woken(wake)
                    crashpoint("callback.after_note")
            except OnetakeError as error:
                # The signal went out; the sweep will send it once more, which changes nothing.
                _log.warning("callback_not_noted", code=error.code)

    async def _signal_patiently(self, wake: Wake) -> bool:
        for delay_s in (*_RETRY_DELAYS_S, None):
            try:
                crashpoint("callback.before_signal")
                await self._signal(wake)
                crashpoint("callback.after_signal")
            except RPCError as error:
                if error.status == RPCStatusCode.NOT_FOUND:
                    # Its row tells the next sweep what to do, as soon as the end is written there.
                    _log.warning("callback_after_end")
                    return False
            except RuntimeError:
                # A client that has never been connected says so in this way.
                pass
            else:
                return True
            if delay_s is not None:
                await asyncio.sleep(delay_s)
        _log.warning("callback_not_signalled", count=len(_RETRY_DELAYS_S) + 1)
        return False

    async def _signal(self, wake: Wake) -> None:
        message = WakeSignal(attempt=wake.attempt, claimed_task_id=wake.claimed_task_id)
        if wake.suspended:
            why = "a callback came after its end"
            request = RecoveryRequest(generation_id=wake.generation_id, tenant=wake.tenant, who="gateway", why=why)
            await begin_recovery(self._client, request, task_queue=wake.base_queue or "", wake=message)
            return
        handle = self._client.get_workflow_handle(wake.workflow_id)
        await handle.signal(WAKE_SIGNAL, message, rpc_timeout=_SIGNAL_LIMIT)


class Sweep:
    """Wakes for what is in the inbox and was never signalled: this process was killed, Temporal was away, or the run
    was ending."""

    def __init__(self, inbox: Callbacks, wakes: Wakes, *, older_than_s: float) -> None:
        self._inbox = inbox
        self._wakes = wakes
        self._older_than_s = older_than_s

    async def run(self, every_s: float = SWEEP_EVERY_S) -> None:
        """Sweep now and then every so often, until cancelled. An unreachable database is tried again next time."""
        while True:
            try:
                await self.once()
            except OnetakeError as error:
                _log.warning("sweep_failed", code=error.code)
            await asyncio.sleep(every_s)

    async def once(self) -> int:
        """One pass; returns how many tokens it woke for."""
        crashpoint("sweep.before_read")
        found = await self._inbox.unsignalled(older_than_s=self._older_than_s, limit=_SWEEP_ROWS)
        woken = [wake for wake in found if self._wakes.wake(wake)]
        crashpoint("sweep.after_wake")
        if woken:
            _log.info("sweep_woke", count=len(woken))
        return len(woken)
