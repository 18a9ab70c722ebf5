"""From stored callbacks to signals: at most one signal for a token in an interval, the last never lost.

What waits in memory is bounded and may be lost with the process: the inbox holds every row that was never signalled,
and `Sweep` goes through it on start and regularly.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from onetake import logs
from onetake.contracts import WAKE_SIGNAL, WakeSignal
from onetake.errors import OnetakeError

INTERVAL_S: Final = 5.0
SWEEP_EVERY_S: Final = 30.0
MOST_TOKENS: Final = 4096
MOST_AT_ONCE: Final = 16
_SWEEP_ROWS: Final = 500
_MOST_GONE: Final = 10_000
_SIGNAL_LIMIT: Final = timedelta(seconds=5)
_RETRY_DELAYS_S: Final = (0.2, 1.0, 3.0)

_log = logs.logger(__name__)


class TokenTarget(Protocol):
    """Whom a callback token was made for. `ended`: the generation is over and nobody is woken."""

    @property
    def token_sha256(self) -> bytes: ...
    @property
    def generation_id(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def workflow_id(self) -> str: ...
    @property
    def ended(self) -> bool: ...


class Inbox(Protocol):
    """The callbacks' tables."""

    async def take(
        self,
        vendor: str,
        token: str,
        *,
        claimed_task_id: str | None,
        claimed_state: str | None,
        body_sha256: bytes,
        size_bytes: int,
    ) -> TokenTarget | None:
        """Store a callback and say whom it concerns; None for a token that this vendor never got."""
        ...

    async def signalled(self, token_sha256: bytes) -> None:
        """Note that the workflow was woken for all that came with this token so far."""
        ...


@dataclass(frozen=True)
class Wake:
    """One workflow to be woken for one token. The claimed id is unverified."""

    token_sha256: bytes
    generation_id: str
    attempt: int
    workflow_id: str
    claimed_task_id: str | None


class Waking(Protocol):
    """Where the sweep finds what was stored and never signalled."""

    async def unsignalled(self, *, older_than_s: float, limit: int) -> Sequence[Wake]: ...


class Wakes:
    """Coalesces wakes: the first of a token is sent at once, those that follow within the interval become one."""

    def __init__(
        self,
        send: Callable[[Wake], Awaitable[None]],
        *,
        interval_s: float = INTERVAL_S,
        most_tokens: int = MOST_TOKENS,
        most_at_once: int = MOST_AT_ONCE,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._send = send
        self._interval_s = interval_s
        self._most_tokens = most_tokens
        self._gate = asyncio.Semaphore(most_at_once)
        self._sleep = sleep
        self._latest: dict[bytes, Wake | None] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def wake(self, wake: Wake) -> bool:
        """Send now or as soon as the token's interval allows. False when too many tokens wait: the sweep will do it."""
        token = wake.token_sha256
        if token not in self._latest:
            if len(self._latest) >= self._most_tokens:
                return False
            task = asyncio.create_task(self._serve(token))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self._latest[token] = wake
        return True

    async def _serve(self, token: bytes) -> None:
        try:
            while (wake := self._latest[token]) is not None:
                self._latest[token] = None
                async with self._gate:
                    await self._send(wake)
                await self._sleep(self._interval_s)
        finally:
            del self._latest[token]

    async def aclose(self) -> None:
        """Drop what waits; its rows stay in the inbox for the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Signaller:
    """Sends one signal, tries a few times, and notes it in the inbox. Never raises."""

    def __init__(self, client: Client, inbox: Inbox) -> None:
        self._client = client
        self._inbox = inbox
        self._gone: OrderedDict[bytes, None] = OrderedDict()

    def is_gone(self, token_sha256: bytes) -> bool:
        """Whether a signal for this token found no running workflow."""
        return token_sha256 in self._gone

    async def __call__(self, wake: Wake) -> None:
        with logs.bound(generation_id=wake.generation_id, workflow_id=wake.workflow_id, attempt=wake.attempt):
            try:
                if await self._signal_patiently(wake):
                    await self._inbox.signalled(wake.token_sha256)
            except OnetakeError as error:
                # The signal went out; the sweep will send it once more, which changes nothing.
                _log.warning("callback_not_noted", code=error.code)

    async def _signal_patiently(self, wake: Wake) -> bool:
        for delay_s in (*_RETRY_DELAYS_S, None):
            try:
                await self._signal(wake)
            except RPCError as error:
                if error.status == RPCStatusCode.NOT_FOUND:
                    self._remember_gone(wake.token_sha256)
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
        handle = self._client.get_workflow_handle(wake.workflow_id)
        await handle.signal(WAKE_SIGNAL, message, rpc_timeout=_SIGNAL_LIMIT)

    def _remember_gone(self, token_sha256: bytes) -> None:
        self._gone[token_sha256] = None
        while len(self._gone) > _MOST_GONE:
            self._gone.popitem(last=False)


class Sweep:
    """Wakes for what is in the inbox and was never signalled: this process was killed, or Temporal was away."""

    def __init__(self, waking: Waking, wakes: Wakes, is_gone: Callable[[bytes], bool], *, older_than_s: float) -> None:
        self._waking = waking
        self._wakes = wakes
        self._is_gone = is_gone
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
        found = await self._waking.unsignalled(older_than_s=self._older_than_s, limit=_SWEEP_ROWS)
        woken = [wake for wake in found if not self._is_gone(wake.token_sha256) and self._wakes.wake(wake)]
        if woken:
            _log.info("sweep_woke", count=len(woken))
        return len(woken)
