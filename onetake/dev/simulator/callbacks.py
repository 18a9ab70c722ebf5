"""The vendors' webhooks: each finished job is announced, retried by the vendor's own schedule, and then forgotten.

What is still owed follows from the journal, so a restart resumes the schedule. A callback body is the
vendor's status answer; nothing is signed, because none of these vendors signs.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

import httpx

from onetake.dev.simulator.journal import CallbackTried, Entry, Journal
from onetake.dev.simulator.vendor import CallbackPolicy

# One slow receiver must not hold up the others for want of a connection.
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=50)


class CallbackSender:
    """Delivers callbacks while it is open. `enabled = False` loses every delivery, as a dead network would."""

    def __init__(
        self,
        journal: Journal,
        policies: Mapping[str, CallbackPolicy],
        body: Callable[[Entry], bytes],
        gap_scale: float = 1.0,
    ) -> None:
        self.enabled = True
        self._journal = journal
        self._policies = policies
        self._body = body
        self._gap_scale = gap_scale
        self._client = httpx.AsyncClient(timeout=None, trust_env=False, limits=_LIMITS)  # noqa: S113 - see _post
        self._deliveries: set[asyncio.Task[None]] = set()

    def resume(self) -> None:
        """Take up every delivery that the journal still owes."""
        for entry in self._journal.entries.values():
            self.start(entry)

    def start(self, entry: Entry) -> None:
        """Deliver in the background once the job ends; nothing happens when nothing is owed."""
        if self._gap_s(entry) is None:
            return
        delivery = asyncio.create_task(self._deliver(entry))
        self._deliveries.add(delivery)
        delivery.add_done_callback(self._deliveries.discard)

    async def try_once(self, entry: Entry) -> None:
        """Send one callback now and record what came of it."""
        job = entry.job
        assert job.callback_url is not None
        status, outcome = await self._post(job.callback_url, entry) if self.enabled else (0, "disabled")
        acknowledged = self._policies[job.vendor].acknowledges(status)
        self._journal.record(
            CallbackTried(task_id=job.task_id, at=time.time(), outcome=outcome, acknowledged=acknowledged)
        )

    async def close(self) -> None:
        for delivery in self._deliveries:
            delivery.cancel()
        await asyncio.gather(*self._deliveries, return_exceptions=True)
        await self._client.aclose()

    async def _deliver(self, entry: Entry) -> None:
        assert entry.job.finished_at is not None
        await asyncio.sleep(entry.job.finished_at - time.time())
        while (gap_s := self._gap_s(entry)) is not None:
            await asyncio.sleep(gap_s)
            await self.try_once(entry)

    def _gap_s(self, entry: Entry) -> float | None:
        """Return the pause before the next attempt, or None when none is owed."""
        job, tried = entry.job, len(entry.callbacks)
        if job.callback_url is None or job.finished_at is None or "no-callback" in job.script:
            return None
        if entry.acknowledged:
            duplicates = job.script.find("callback-duplicate")
            first = next(at for at, callback in enumerate(entry.callbacks) if callback.acknowledged)
            return 0 if duplicates and tried - first - 1 < int(duplicates.value) else None
        gaps_s = (0, *self._policies[job.vendor].retry_gaps_s)
        return gaps_s[tried] * self._gap_scale if tried < len(gaps_s) else None

    async def _post(self, url: str, entry: Entry) -> tuple[int, str]:
        """Return the HTTP status (0 for none) and a word for the journal."""
        headers = {"Content-Type": "application/json", "User-Agent": f"{entry.job.vendor}-simulator"}
        try:
            # One clock over connecting, sending and reading: httpx's own timeouts each start anew.
            async with asyncio.timeout(self._policies[entry.job.vendor].timeout_s):
                answer = await self._client.post(url, content=self._body(entry), headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            return 0, type(error).__name__
        return answer.status_code, str(answer.status_code)
