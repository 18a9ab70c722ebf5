"""The asynchronous client.

The database row is the truth about a generation; Temporal is only asked to run one and to say when a run has closed.
The client submits nothing to a vendor, moves no money, and keeps the prompt out of ids, summaries, search attributes
and logs.

A generation that failed is an answer, not an exception: `result.status == "failed"` with `result.error`. Exceptions are
`onetake.core.errors` and are about the call: `Refused` (nothing was started), `TryLater` (a part is away, or
`wait_timed_out`), `Failed` (a run that was ended from outside and will never settle).
"""

# ruff: noqa: PLC0415 - the Temporal SDK and the S3 client take half a second to import; `get` and `list` need neither.

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from onetake import tracing
from onetake.client.answers import Quote, Started
from onetake.client.requests import request_of
from onetake.client.runs import cancel_run, close_of, goes_on, known_namespace
from onetake.core.contracts import GenerationRecord, GenerationRequest, GenerationResult, Plan
from onetake.core.crashpoints import crashpoint
from onetake.core.errors import Failed, Refused, TryLater, Violation
from onetake.core.ids import new_generation_id, new_quote_id, workflow_id_of
from onetake.core.names import TERMINAL, Status
from onetake.core.settings import Settings, load_settings, require
from onetake.engine.starting import start_run
from onetake.ledger.database import Database
from onetake.ledger.generations import FirstRow, PostgresGenerations
from onetake.ledger.quotes import PostgresQuotes
from onetake.ledger.recoveries import Recoveries
from onetake.ledger.terms import PostgresTerms
from onetake.operations.replaying import Replays
from providers.admission import RouteAdmission

if TYPE_CHECKING:
    from temporalio.client import Client, WorkflowHandle

    from onetake.media.storage import BucketStore

LINK_LIFE_S = 900
WATCH_EVERY_S = 0.5
GONE_EVERY_S = 1.0
RECONCILED_WITHIN_S = 300.0  # after its run is gone: the reconciler passes every minute
RESULT_EVERY_S = 5.0  # only a second net: the run's close wakes the wait


class Onetake:
    """The asynchronous client. Make one with `connect`; it is safe to use from many tasks of one event loop."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings = settings
        self._database = database
        self._generations = PostgresGenerations(database)
        self._terms = PostgresTerms(database)
        self._quotes = PostgresQuotes(database)
        self._admission = RouteAdmission(settings, sends=False)
        self._engine_once = asyncio.Lock()
        self._engine: Client | None = None
        self._bucket: BucketStore | None = None

    @classmethod
    @asynccontextmanager
    async def connect(cls, settings: Settings | None = None) -> AsyncGenerator[Self]:
        """Open the database; Temporal and the bucket are reached when a call first needs them.

        Settings come from the environment when none are given. Raises Refused(`settings_invalid`) and
        TryLater(`ledger_unavailable`).
        """
        settings = settings or load_settings()
        require(settings, "database_url")
        database = await Database.connect(settings.database_url.get_secret_value(), pool_size=settings.database_pool)
        onetake = cls(settings, database)
        try:
            async with tracing.traced_as("onetake-client"):
                yield onetake
        finally:
            if onetake._bucket is not None:
                onetake._bucket.close()
            await database.close()

    async def plan(self, request: GenerationRequest | None = None, /, **fields: Any) -> Plan:
        """Check a request and price it: what `start` would pin now. Sends nothing and writes nothing.

        Raises Refused, and TryLater(`ledger_unavailable`).
        """
        request = request or request_of(fields)
        return self._admission.plan(request, await self._terms.of(request), base_queue=self.settings.task_queue)

    async def quote(self, request: GenerationRequest | None = None, /, **fields: Any) -> Quote:
        """Price a request and hold this price for 15 minutes by the database's clock. Reserves nothing.

        The same request with the quote's id as its `quote_id` starts at this price, whatever prices do meanwhile. Each
        call makes a quote of its own. Raises what `plan` raises.
        """
        request = request or request_of(fields)
        if request.quote_id is not None:
            never = Violation("/quote_id", "a value", "nothing: a quote is made at the price of now")
            raise Refused("request_invalid", violations=(never,))
        plan, quote_id = await self.plan(request), new_quote_id()
        return Quote(quote_id, plan, await self._quotes.make(quote_id, request, plan))

    async def start(self, request: GenerationRequest | None = None, /, **fields: Any) -> Started:
        """Accept a generation and start its workflow; give a `GenerationRequest` or its fields.

        Everything that can be known is checked first: rules, price, key, database and Temporal. Then the row is
        written, then the workflow starts. With an `idempotency_key` a repeat returns the first generation, and
        finishes a start that was cut off between the two. Raises Refused or TryLater when nothing was started, and
        Failed(`start_outcome_unknown`) with the workflow id when Temporal took the start and did not answer.
        """
        request = request or request_of(fields)
        if (first := await self._generations.first_of(request)) is not None:
            return await self._again(first, request)
        plan = await self.plan(request)
        engine = await self._temporal()
        workflow_id = workflow_id_of(request.tenant, new_generation_id())
        crashpoint("start.before_row")
        row = await self._generations.accept_once(request, workflow_id=workflow_id, plan=plan)
        crashpoint("start.after_row")
        if row.replayed and (first := await self._generations.first_of(request)) is not None:
            return await self._again(first, request)
        assert row.plan is not None
        await start_run(engine, row.workflow_id, request, row.plan, task_queue=self.settings.task_queue)
        crashpoint("start.after_run")
        price = row.plan.price.amount_micros
        return Started(row.id, row.workflow_id, price, row.replayed, self._ui_url(row.workflow_id))

    async def _again(self, first: FirstRow, request: GenerationRequest) -> Started:
        """The first answer to a key, at the price of then: what routes and prices are today is only asked when nobody
        has pinned a plan yet."""
        plan = first.plan or await self.plan(request)
        if first.status not in TERMINAL:
            engine = await self._temporal()
            row = await self._generations.accept_once(request, workflow_id=first.workflow_id, plan=plan)
            assert row.plan is not None
            plan = row.plan
            await start_run(engine, first.workflow_id, request, plan, task_queue=self.settings.task_queue)
        return Started(first.id, first.workflow_id, plan.price.amount_micros, True, self._ui_url(first.workflow_id))

    async def get(self, generation_id: str, *, tenant: str | None = None) -> GenerationRecord:
        """Read where a generation stands, with signed links (15 minutes) to what it made.

        Raises Refused(`generation_not_found`), also for another tenant's id when `tenant` is given.
        """
        return await self._shown(await self._record(generation_id, tenant))

    async def list(
        self,
        *,
        tenant: str | None = None,
        status: Status | None = None,
        vendor: str | None = None,
        error_code: str | None = None,
        since: datetime | None = None,
        after: str | None = None,
        limit: int = 50,
    ) -> tuple[GenerationRecord, ...]:
        """List generations, the newest first and without links; `after` is the last id of the page before."""
        records = await self._generations.list(
            tenant=tenant, status=status, vendor=vendor, error_code=error_code, since=since, after=after, limit=limit
        )
        return tuple(records)

    async def result(self, generation_id: str, timeout_s: float | None = None) -> GenerationResult:
        """Wait until a generation has ended, whatever its end, and return it with signed links.

        Raises TryLater(`wait_timed_out`) after `timeout_s`; the generation goes on and can be waited for again.
        """
        async with aclosing(self._changes(generation_id, timeout_s, every_s=RESULT_EVERY_S)) as changes:
            record = [record async for record in changes][-1]
        return await self._shown(record)

    async def watch(self, generation_id: str, timeout_s: float | None = None) -> AsyncGenerator[GenerationRecord]:
        """Yield the generation now and whenever its status, phase or cost changes; the last one has ended."""
        async with aclosing(self._changes(generation_id, timeout_s, every_s=WATCH_EVERY_S)) as changes:
            async for record in changes:
                yield await self._shown(record) if record.status in TERMINAL else record

    async def cancel(self, generation_id: str, *, tenant: str | None = None) -> GenerationRecord:
        """Ask a generation to end. It settles its own ledger, so that it may take until its submission has an outcome.

        A repeat, and a generation that has ended, change nothing. It is noted in the database before Temporal is asked:
        after TryLater(`engine_unavailable`) the next pass of the reconciler delivers it.
        """
        record = await self._record(generation_id, tenant)
        if record.status in TERMINAL:
            return await self._shown(record)
        crashpoint("cancel.before_mark")
        await self._generations.mark_cancel_requested(generation_id)
        crashpoint("cancel.after_mark")
        engine = await self._temporal()
        if not await cancel_run(engine, record.workflow_id) and not await Recoveries(self._database).expire(record.id):
            await cancel_run(engine, record.workflow_id)  # it started in between
        crashpoint("cancel.after_request")
        return await self._shown(await self._record(generation_id, tenant))

    async def download(
        self,
        generation_id: str,
        path: str | Path,
        *,
        tenant: str | None = None,
        moved: Callable[[int], None] = lambda _: None,
    ) -> Path:
        """Fetch the clip into a file (or, named after its id, into a folder) and prove its sha256. Returns the file.

        The file appears whole or not at all, and replaces one of that name. `moved` hears of the bytes that arrived.
        Raises Refused(`result_not_ready`, `usage` for a target that cannot be), Failed(`asset_truncated`) and
        TryLater(`storage_unavailable`).
        """
        record = await self._record(generation_id, tenant)
        if not record.assets:
            raise Refused("result_not_ready", f"Its status is {record.status}, its phase {record.phase}.")
        asset, store = record.assets[0], self._store()
        target = _target(Path(path), f"{record.id}{Path(asset.key).suffix}")
        with TemporaryDirectory(dir=target.parent, prefix=".onetake-") as folder:
            draft = Path(folder) / "clip"
            stored = await store.fetch(asset.key, draft, moved=moved)
            if stored is None:
                raise Failed("asset_unavailable", "The bucket no longer holds it.")
            if stored.sha256 != asset.sha256:
                raise Failed("asset_truncated", "What the bucket holds is not what was recorded.")
            draft.replace(target)
        return target

    def replays(self) -> Replays:
        """Replay what failed: wait on for its job, fetch its clip again, or render it again."""
        return Replays(self._database, price=self.plan, engine=self._temporal, task_queue=self.settings.task_queue)

    async def _record(self, generation_id: str, tenant: str | None = None) -> GenerationRecord:
        record = await self._generations.get(generation_id, tenant)
        if record is None:
            raise Refused("generation_not_found")
        return record

    async def _changes(
        self, generation_id: str, timeout_s: float | None, *, every_s: float
    ) -> AsyncGenerator[GenerationRecord]:
        """Yield each change of the row, the terminal one last. What ends the wait is the row or the run's close; a run
        that is gone without settling is settled by the reconciler, which is waited for. A run that begins meanwhile,
        after a reset or a late start, is followed."""
        record = await self._record(generation_id)
        yield record
        if record.status in TERMINAL:
            return
        deadline = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        handle = (await self._temporal()).get_workflow_handle(record.workflow_id)
        closed = _awaiting_close(handle, generation_id)
        try:
            gone_at = None
            while record.status not in TERMINAL:
                if gone_at is None:
                    await asyncio.wait({closed}, timeout=_next_look_s(deadline, every_s))
                else:
                    await asyncio.sleep(_next_look_s(deadline, min(every_s, GONE_EVERY_S)))
                seen, record = record, await self._record(generation_id)
                if _essence(seen) != _essence(record):
                    yield record
                if not closed.done() or record.status in TERMINAL:
                    continue
                gone_at = gone_at or asyncio.get_running_loop().time()
                if await goes_on(handle):
                    closed, gone_at = _awaiting_close(handle, generation_id), None
                elif asyncio.get_running_loop().time() - gone_at > RECONCILED_WITHIN_S:
                    raise _never_settles(await closed)
        finally:
            closed.cancel()
            await asyncio.wait({closed})

    async def _temporal(self) -> "Client":
        from onetake.engine import temporal

        async with self._engine_once:
            if self._engine is None:
                engine = await temporal.connect(self.settings)
                await known_namespace(engine)
                self._engine = engine
            return self._engine

    def _store(self) -> "BucketStore":
        from onetake.media.storage import BucketStore

        if self._bucket is None:
            require(self.settings, "s3_endpoint", "s3_access_key", "s3_secret_key", "s3_bucket")
            self._bucket = BucketStore.from_settings(self.settings)
        return self._bucket

    async def _shown(self, record: GenerationRecord) -> GenerationRecord:
        """The record with what only a client can add: signed links and the address of the run in the Temporal UI."""
        added: dict[str, Any] = {"ui_url": self._ui_url(record.workflow_id)}
        if record.assets:
            store = self._store()
            added["assets"] = tuple(
                [
                    asset.model_copy(update={"url": await store.signed_url(asset.key, expires_s=LINK_LIFE_S)})
                    for asset in record.assets
                ]
            )
        return record.model_copy(update=added)

    def _ui_url(self, workflow_id: str) -> str | None:
        base, engine = self.settings.temporal_ui_url, self._engine
        namespace = engine.namespace if engine else os.environ.get("TEMPORAL_NAMESPACE") or "default"
        place = f"namespaces/{quote(namespace, safe='')}/workflows/{quote(workflow_id, safe='')}"
        return base and f"{base.rstrip('/')}/{place}"


def _awaiting_close(handle: "WorkflowHandle[Any, Any]", generation_id: str) -> asyncio.Task[str]:
    """The wait for the run's close. That it fails while Temporal is away is seen, and said only when nothing helps."""
    task = asyncio.create_task(close_of(handle), name=f"close of {generation_id}")
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


def _target(path: Path, name_in_folder: str) -> Path:
    """The file to write. Raises Refused(`usage`) for what is no file, and for a folder that is not there."""
    target = path / name_in_folder if path.is_dir() else path
    if str(path) == "-":
        raise Refused("usage", "A clip is not written to standard output: name a file, or a folder.")
    if target.exists() and not target.is_file():
        raise Refused("usage", f"{target} is no regular file, so that no clip takes its place.")
    if not target.parent.is_dir():
        raise Refused("usage", f"{target} cannot be written: there is no folder {target.parent}.")
    return target


def _never_settles(how_it_closed: str) -> Failed:
    return Failed("run_lost", f"({how_it_closed}; no reconciler has closed it: `onetake reconcile` does.)")


def _next_look_s(deadline: float | None, every_s: float) -> float:
    """Seconds until the row is read again. Raises TryLater(`wait_timed_out`) once the deadline is past."""
    if deadline is None:
        return every_s
    left_s = deadline - asyncio.get_running_loop().time()
    if left_s <= 0:
        raise TryLater("wait_timed_out")
    return min(every_s, left_s)


def _essence(record: GenerationRecord) -> tuple[object, ...]:
    place = record.waiting.place if record.waiting else None
    return record.status, record.phase, record.cost, record.vendor_task_id, record.cancel_requested, place
