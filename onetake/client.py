"""What services call: start a generation, wait for it, look at it, cancel it, fetch its clip.

`Onetake` is the client; `BlockingOnetake` is the same one for code without an event loop. The database row is the truth
about a generation; Temporal is only asked to run one and to say when a run has closed. The client submits nothing to
a vendor, moves no money, and keeps the prompt out of ids, summaries, search attributes and logs.

    async with Onetake.connect() as onetake:
        started = await onetake.start(route="apixo/wan-2.6/text-to-video", prompt="a harbour at dawn")
        result = await onetake.result(started.id)

A generation that failed is an answer, not an exception: `result.status == "failed"` with `result.error`. Exceptions are
`onetake.errors` and are about the call: `Refused` (nothing was started), `TryLater` (a part is away, or
`wait_timed_out`), `Failed` (a run that was ended from outside and will never settle).
"""

# ruff: noqa: PLC0415 - the Temporal SDK and the S3 client take half a second to import; `get` and `list` need neither.

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches
from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import quote

from pydantic import ValidationError

from onetake.contracts import (
    TERMINAL,
    GenerationRecord,
    GenerationRequest,
    GenerationResult,
    Plan,
    Status,
)
from onetake.crashpoints import crashpoint
from onetake.errors import Failed, Refused, TryLater, Violation
from onetake.ids import new_generation_id, workflow_id_of
from onetake.ledger.database import Database
from onetake.ledger.generations import FirstRow, PostgresGenerations
from onetake.ledger.recoveries import Recoveries
from onetake.replaying import Replayed, ReplayQuote, Replays, ReplayVerb
from onetake.settings import Settings, load_settings, require
from onetake.starting import start_run
from providers.admission import Catalogue

if TYPE_CHECKING:
    from temporalio.client import Client, WorkflowHandle

    from onetake.storage import BucketStore

LINK_LIFE_S = 900
ENGINE_TIMEOUT = timedelta(seconds=10)
WATCH_EVERY_S = 0.5
GONE_EVERY_S = 1.0
RECONCILED_WITHIN_S = 300.0  # after its run is gone: the reconciler passes every minute
RESULT_EVERY_S = 5.0  # only a second net: the run's close wakes the wait

GIVEN_MOST = 64  # characters of a wrong value that an error repeats

# What a field allows, by the rule that was broken; `{}` is the rule's own number.
_ALLOWED: dict[str, str] = {
    "string_type": "a text",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "decimal_type": "a decimal number",
    "decimal_parsing": "a decimal number",
    "finite_number": "a decimal number",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "string_too_short": "a text of at least {min_length} character",
    "string_too_long": "a text of at most {max_length} characters",
    "dict_type": "an object of texts",
    "tuple_type": "a list of texts",
}
_PATTERNS: dict[str, str] = {
    "tenant": "lower-case letters, digits, _ and -, at most 63, beginning with a letter or a digit",
    "idempotency_key": "visible ASCII characters without spaces",
}
_PROMPTS = ("prompt", "negative_prompt")

_T = TypeVar("_T")


@dataclass(frozen=True)
class Started:
    """A generation that was accepted. `replayed`: the idempotency key had started this one before."""

    id: str
    workflow_id: str
    price_micros: int
    replayed: bool
    ui_url: str | None


class Onetake:
    """The asynchronous client. Make one with `connect`; it is safe to use from many tasks of one event loop."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings = settings
        self._database = database
        self._generations = PostgresGenerations(database)
        self._catalogue = Catalogue(settings, sends=False)
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
            yield onetake
        finally:
            if onetake._bucket is not None:
                onetake._bucket.close()
            await database.close()

    def plan(self, request: GenerationRequest | None = None, /, **fields: Any) -> Plan:
        """Check a request and price it: what `start` would pin. Sends nothing and writes nothing."""
        return self._catalogue.plan(request or request_of(fields), base_queue=self.settings.task_queue)

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
        plan = self.plan(request)
        engine = await self._temporal()
        workflow_id = workflow_id_of(request.tenant, new_generation_id())
        crashpoint("start.before_row")
        row = await self._generations.accept_once(request, workflow_id=workflow_id, run_id=None, plan=plan)
        crashpoint("start.after_row")
        if row.replayed and (first := await self._generations.first_of(request)) is not None:
            return await self._again(first, request)
        await start_run(engine, row.workflow_id, request, plan, task_queue=self.settings.task_queue)
        crashpoint("start.after_run")
        return Started(row.id, row.workflow_id, plan.price.amount_micros, row.replayed, self._ui_url(row.workflow_id))

    async def _again(self, first: FirstRow, request: GenerationRequest) -> Started:
        """The first answer to a key, at the price of then: what routes and prices are today is not asked."""
        plan = first.plan or self.plan(request)
        if first.status not in TERMINAL:
            await start_run(
                await self._temporal(), first.workflow_id, request, plan, task_queue=self.settings.task_queue
            )
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

        A repeat, and a generation that has ended, change nothing.
        """
        record = await self._record(generation_id, tenant)
        if record.status in TERMINAL:
            return await self._shown(record)
        engine = await self._temporal()
        crashpoint("cancel.before_mark")
        await self._generations.mark_cancel_requested(generation_id)
        crashpoint("cancel.after_mark")
        if not await _canceled(engine, record.workflow_id) and not await Recoveries(self._database).expire(record.id):
            await _canceled(engine, record.workflow_id)  # it started in between
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
        Raises Refused(`result_not_ready`), Failed(`asset_truncated`) and TryLater(`storage_unavailable`).
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
        that is gone without settling is settled by the reconciler, which is waited for."""
        record = await self._record(generation_id)
        yield record
        if record.status in TERMINAL:
            return
        deadline = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
        handle = (await self._temporal()).get_workflow_handle(record.workflow_id)
        closed = asyncio.create_task(_close_of(handle), name=f"close of {generation_id}")
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
                if closed.done():
                    gone_at = gone_at or asyncio.get_running_loop().time()
                    if asyncio.get_running_loop().time() - gone_at > RECONCILED_WITHIN_S:
                        raise _never_settles(await closed)
        finally:
            closed.cancel()
            await asyncio.wait({closed})

    async def _temporal(self) -> "Client":
        from onetake import temporal

        async with self._engine_once:
            if self._engine is None:
                engine = await temporal.connect(self.settings)
                await _known_namespace(engine)
                self._engine = engine
            return self._engine

    def _store(self) -> "BucketStore":
        from onetake.storage import BucketStore

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


def request_of(fields: dict[str, Any]) -> GenerationRequest:
    """Make a request of loose fields. Raises Refused(`request_invalid`) with every field at fault, never its text."""
    try:
        return GenerationRequest(**fields)
    except ValidationError as error:
        violations = tuple(_violation(problem, fields) for problem in error.errors(include_input=False))
        raise Refused("request_invalid", violations=violations) from None


def _violation(problem: Any, fields: dict[str, Any]) -> Violation:
    path = [part for part in problem["loc"] if part != "[key]"]  # pydantic's own mark of a key that is wrong
    pointer, name = "".join(f"/{part}" for part in path), str(path[0])
    if problem["type"] == "extra_forbidden":
        nearest = get_close_matches(name, GenerationRequest.model_fields, n=1)
        return Violation(pointer, "a value", "nothing: there is no such field", nearest[0] if nearest else None)
    if problem["type"] == "missing":
        return Violation(pointer, "nothing", "a value")
    is_key = problem["loc"][-1] == "[key]"
    given = _given(path[-1] if is_key else _at(fields, path), fields)
    return Violation(pointer, given, _allowed(problem, name))


def _allowed(problem: Any, name: str) -> str:
    if problem["type"] == "string_pattern_mismatch":
        return _PATTERNS.get(name, "a text without control characters")
    words = _ALLOWED.get(problem["type"])
    return words.format(**problem.get("ctx", {})) if words else str(problem["msg"])


def _at(fields: Any, path: Sequence[object]) -> object:
    try:
        return reduce(lambda value, part: value[part], path, fields)
    except (LookupError, TypeError):
        return object()


def _given(value: object, fields: dict[str, Any]) -> str:
    """A wrong value as it was given; never a text of the prompt, wherever it stands, and nothing long."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)[:GIVEN_MOST]
        case str():
            prompts = [text for name in _PROMPTS if isinstance(text := fields.get(name), str) and text]
            return "a text" if any(text in value for text in prompts) else repr(value[:GIVEN_MOST])
        case _:
            return "a list" if isinstance(value, list | tuple) else "a value of another kind"


async def _canceled(engine: "Client", workflow_id: str) -> bool:
    """Ask a run to end; False when there is none. Raises TryLater(`engine_unavailable`)."""
    from temporalio.service import RPCError, RPCStatusCode

    absent = False
    with _engine_errors():
        try:
            await engine.get_workflow_handle(workflow_id).cancel(rpc_timeout=ENGINE_TIMEOUT)
        except RPCError as error:
            absent = error.status is RPCStatusCode.NOT_FOUND
            if not absent:
                raise
    return not absent


async def _close_of(handle: "WorkflowHandle[Any, Any]") -> str:
    """Wait until the run has closed and say how. Reads no payload, so that it needs no codec key."""
    from temporalio.api.enums.v1 import EventType
    from temporalio.client import WorkflowHistoryEventFilterType

    with _engine_errors(absent_is_fine=True):
        events = handle.fetch_history_events(
            wait_new_event=True, event_filter_type=WorkflowHistoryEventFilterType.CLOSE_EVENT
        )
        async for event in events:
            return EventType.Name(event.event_type).removeprefix("EVENT_TYPE_WORKFLOW_EXECUTION_").lower()
    return "never started, or no longer kept by Temporal"


def _target(path: Path, name_in_folder: str) -> Path:
    target = path / name_in_folder if path.is_dir() else path
    target.parent.mkdir(parents=True, exist_ok=True)
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
    return record.status, record.phase, record.cost, record.vendor_task_id, record.cancel_requested


@contextmanager
def _engine_errors(*, absent_is_fine: bool = False) -> Generator[None]:
    """Turn what the Temporal service answers into one clear error; its own message may quote what we sent."""
    from temporalio.service import RPCError, RPCStatusCode

    try:
        yield
    except RPCError as error:
        if absent_is_fine and error.status is RPCStatusCode.NOT_FOUND:
            return
        detail = f"It answered {error.status.name}; `onetake doctor` says what is missing."
        raise TryLater("engine_unavailable", detail) from None


async def _known_namespace(engine: "Client") -> None:
    """Refuse a namespace that is not there before a row is written that nobody would ever run."""
    from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
    from temporalio.service import RPCError, RPCStatusCode

    try:
        request = DescribeNamespaceRequest(namespace=engine.namespace)
        await engine.workflow_service.describe_namespace(request, timeout=ENGINE_TIMEOUT)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            reason = f"It has no namespace {engine.namespace!r}; check TEMPORAL_NAMESPACE."
        elif error.status is RPCStatusCode.PERMISSION_DENIED:
            return  # a key may be allowed to start workflows and nothing else
        else:
            reason = f"It answered {error.status.name}."
        raise TryLater("engine_unavailable", reason) from None


class BlockingOnetake:
    """`Onetake` for code without an event loop: each method runs its namesake on a loop in a thread of its own.

    Make one with `connect`. Safe to use from many threads.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, onetake: Onetake) -> None:
        self._loop = loop
        self._onetake = onetake

    @classmethod
    @contextmanager
    def connect(cls, settings: Settings | None = None) -> Generator[Self]:
        """See `Onetake.connect`."""
        with _loop_in_a_thread() as loop:
            context = Onetake.connect(settings)
            onetake = _run_on(loop, context.__aenter__())
            try:
                yield cls(loop, onetake)
            finally:
                _run_on(loop, context.__aexit__(None, None, None))

    def plan(self, request: GenerationRequest | None = None, /, **fields: Any) -> Plan:
        """See `Onetake.plan`."""
        return self._onetake.plan(request, **fields)

    def start(self, request: GenerationRequest | None = None, /, **fields: Any) -> Started:
        """See `Onetake.start`."""
        return _run_on(self._loop, self._onetake.start(request, **fields))

    def result(self, generation_id: str, timeout_s: float | None = None) -> GenerationResult:
        """See `Onetake.result`."""
        return _run_on(self._loop, self._onetake.result(generation_id, timeout_s))

    def get(self, generation_id: str, *, tenant: str | None = None) -> GenerationRecord:
        """See `Onetake.get`."""
        return _run_on(self._loop, self._onetake.get(generation_id, tenant=tenant))

    def list(self, **filters: Any) -> tuple[GenerationRecord, ...]:
        """See `Onetake.list`."""
        return _run_on(self._loop, self._onetake.list(**filters))

    def watch(self, generation_id: str, timeout_s: float | None = None) -> Generator[GenerationRecord]:
        """See `Onetake.watch`."""
        changes = self._onetake.watch(generation_id, timeout_s)
        try:
            while (record := _run_on(self._loop, _next_of(changes))) is not None:
                yield record
        finally:
            _run_on(self._loop, changes.aclose())

    def cancel(self, generation_id: str, *, tenant: str | None = None) -> GenerationRecord:
        """See `Onetake.cancel`."""
        return _run_on(self._loop, self._onetake.cancel(generation_id, tenant=tenant))

    def quote_replay(self, verb: ReplayVerb, generation_id: str, **options: Any) -> ReplayQuote:
        """See `Replays.quote`."""
        return _run_on(self._loop, self._onetake.replays().quote(verb, generation_id, **options))

    def replay(self, verb: ReplayVerb, generation_id: str, *, who: str, **options: Any) -> Replayed:
        """See `Replays.replay`."""
        return _run_on(self._loop, self._onetake.replays().replay(verb, generation_id, who=who, **options))

    def download(self, generation_id: str, path: str | Path, *, tenant: str | None = None) -> Path:
        """See `Onetake.download`."""
        return _run_on(self._loop, self._onetake.download(generation_id, path, tenant=tenant))


@contextmanager
def _loop_in_a_thread() -> Generator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="onetake client", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _run_on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, _T]) -> _T:
    """Wait for the work; when the caller is interrupted meanwhile, the work is cancelled too."""
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


async def _next_of(changes: AsyncIterator[GenerationRecord]) -> GenerationRecord | None:
    return await anext(changes, None)
