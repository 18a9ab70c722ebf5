"""One generation about to be persisted, each attempt alone in a call of its own.

Store and reader are real, the vendor is made up.
"""

import asyncio
import os
import secrets
import signal
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

from minio import Minio
from temporalio.testing import ActivityEnvironment

from activities.persist import Persist
from onetake.core.clips import ClipFacts
from onetake.core.contracts import GenerationRequest, Persisted, PersistInput, StatusReading
from onetake.core.errors import Failed, TryLater
from onetake.core.ports import Body, VendorStatus
from onetake.media.outbound import Outbound
from onetake.media.reader import ClipProcess
from onetake.media.spool import Spool
from onetake.media.storage import BucketStore
from providers.admission import RouteAdmission
from tests.media.inputs.media_host import MediaHost
from tests.media.storage.between import Between, between
from tests.media.storage.parts import Server
from tests.providers.parts import settings
from tests.servers import LIMIT_S

ROUTE = "apixo/wan-2.6/text-to-video"


class MadeUpVendor:
    """A job that has succeeded, with one link and those `beside` it, after the answers in `says`. `downloads` counts
    how often one was opened; it `refuses` so many of these, and is `linkless` for so many reads."""

    def __init__(self, outbound: Outbound, link: str) -> None:
        self._outbound = outbound
        self.link, self.beside = link, list[str]()
        self.says: list[str | TryLater] = []
        self.reads = self.downloads = self.refuses = self.linkless = 0

    async def read_status(self, *_: object) -> VendorStatus:
        self.reads += 1
        said = self.says.pop(0) if self.says else "succeeded"
        if isinstance(said, TryLater):
            raise said
        links = (self.link, *self.beside) if said == "succeeded" and self.reads > self.linkless else ()
        return VendorStatus(StatusReading.model_validate({"state": said, "vendor_state": said.upper()}), links)

    def download(self, url: str) -> AbstractAsyncContextManager[Body]:
        self.downloads += 1
        if self.refuses:
            self.refuses -= 1
            raise Failed("asset_unavailable", "Its server answered 404.")
        return self._outbound.open(url)


class Rows:
    """What is told to the ledger, and what it says of the vendor: nobody has to stay away, and nothing is known."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    async def enter(self, _: str, phase: str) -> None:
        self.told.append(phase)

    async def note_end(self, *_: object, failed: bool, shows_charge: bool, least_age_s: float | None) -> bool:
        self.told.append((failed, shows_charge))
        return least_age_s is None

    async def read_turn_s(self, *_: object, **__: object) -> float:
        return 0.0

    async def read_refused(self, *_: object) -> float:
        self.told.append("refused")
        return 0.0


@dataclass
class Persisting:
    """One generation about to be persisted, and the store that it goes to."""

    server: Server
    proxy: Between
    vendor: MadeUpVendor
    persist: Any
    order: PersistInput
    rows: Rows
    kept: list[Any] = field(default_factory=list[Any])
    attempts: int = 0
    clock_s: float = 0.0

    @property
    def prefix(self) -> str:
        return f"default/{self.order.generation_id}/1"

    @property
    def keys(self) -> list[str]:
        """The keys of the copies that are in the bucket."""
        folder = self.server.folder / self.prefix
        return sorted(f"{self.prefix}/{path.name}" for path in folder.glob("*.mp4")) if folder.exists() else []

    @property
    def manifest(self) -> str:
        return f"{self.prefix}/manifest.json"

    async def attempt(self, after_s: float = 0.0) -> Persisted:
        """The next attempt, with what the last one kept, so many seconds later."""
        self.attempts += 1
        self.clock_s += after_s
        environment, at = ActivityEnvironment(), datetime.now(UTC)
        environment.info = replace(
            environment.info,
            attempt=self.attempts,
            heartbeat_details=[each for each in self.kept[-1:] if each is not None],
            scheduled_time=at,
            current_attempt_scheduled_time=at + timedelta(seconds=self.clock_s),
            schedule_to_close_timeout=timedelta(days=1),
            start_to_close_timeout=timedelta(minutes=15),
        )
        environment.on_heartbeat = lambda *kept: self.kept.append(kept[0] if kept else None)
        persisted: Persisted = await environment.run(self.persist.persist, self.order)
        return persisted

    async def until_published(self, most: int = 100) -> tuple[Persisted, int]:
        """Attempts, each when the last one asked for it, until one succeeds: its answer, and how many it took."""
        after_s = 0.0
        for number in range(1, most + 1):
            try:
                return await self.attempt(after_s), number
            except TryLater as later:
                after_s = later.after_s or 0.0
        raise AssertionError("it was never published")

    async def until_given_up(self, most: int = 100) -> tuple[Failed, int]:
        """Attempts, each when the last one asked for it, until the failure is final: that, and how many it took."""
        after_s = 0.0
        for number in range(1, most + 1):
            try:
                await self.attempt(after_s)
            except TryLater as later:
                after_s = later.after_s or 0.0
            except Failed as failure:
                return failure, number
        raise AssertionError("it was never given up")

    def put_there(self, key: str, data: bytes) -> None:
        """Store an object under a key, as anybody might."""
        client = Minio(
            self.server.endpoint,
            self.server.keys.access_key,
            self.server.keys.secret_key,
            secure=False,
            region="us-east-1",
        )
        client.put_object(self.server.bucket, key, BytesIO(data), len(data))

    @property
    def held(self) -> bytes:
        (key,) = self.keys
        return (self.server.folder / key).read_bytes()


@asynccontextmanager
async def persisting(
    bucket: Server, host: MediaHost, *, woken: bool = False, **choices: bool
) -> AsyncGenerator[Persisting]:
    outbound = Outbound(frozenset({host.netloc}))
    plan = RouteAdmission(settings()).plan(
        GenerationRequest(route=ROUTE, prompt="a fox", duration_s=5), base_queue="onetake"
    )
    order = PersistInput(
        generation_id=f"gen_{secrets.token_hex(8)}",
        attempt=1,
        tenant="default",
        plan=plan,
        vendor_task_id="t",
        woken=woken,
    )
    vendor: Any = MadeUpVendor(outbound, host.url("clip.mp4"))
    rows: Any = Rows()
    async with between(bucket, **choices) as (proxy, at), ClipProcess(limit_s=LIMIT_S) as reader:
        store: BucketStore = at.store()
        await store.check()
        proxy.seen.clear()
        persist = Persist({plan.vendor: vendor}, rows, rows, rows, store, reader, Spool())
        yield Persisting(bucket, proxy, vendor, persist, order, rows)
        store.close()
        await outbound.aclose()


class UnableReader:
    """Cannot read the first so many times, and then does."""

    def __init__(self, persist: Any, *, times: int) -> None:
        self._reader, persist._reader = persist._reader, self
        self.times = times
        self.patience: list[int] = []

    async def read(self, path: Path, *, patience: int) -> ClipFacts:
        self.patience.append(patience)
        if len(self.patience) <= self.times:
            raise TryLater("asset_unverified", "The reader died.")
        facts: ClipFacts = await self._reader.read(path)
        return facts


class StoppingReader:
    """A real reader whose process can be stopped in front of a read, until the time for that is `over`."""

    def __init__(self, persist: Any, *, limit_s: float = 0.3) -> None:
        self._reader, persist._reader = persist._reader, self
        self._frozen = ClipProcess(limit_s=limit_s)
        self._next = False
        self._going_on = asyncio.Event()
        self.stopped, self.over = asyncio.Event(), asyncio.Event()

    def stop_the_next(self) -> None:
        self._next = True

    def go_on(self) -> None:
        self._going_on.set()

    async def read(self, path: Path, *, patience: int) -> ClipFacts:
        if not self._next:
            facts: ClipFacts = await self._reader.read(path, patience=patience)
            return facts
        self._next = False
        async with self._frozen:
            os.kill(self._frozen.pid or 0, signal.SIGSTOP)
            reading = asyncio.create_task(self._frozen.read(path, patience=patience))
            reading.add_done_callback(lambda _: self.over.set())
            self.stopped.set()
            await self._going_on.wait()
            if self._frozen.pid:
                os.kill(self._frozen.pid, signal.SIGCONT)
            return await reading
