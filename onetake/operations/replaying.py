"""Replaying generations that failed: wait on for a job, fetch a clip again, or render again; and what each will cost.

Every replay can be repeated: a recovery that runs is joined, and a generation is rendered again once, however often it
is asked for. So a list of replays that was cut off is simply run again.
"""

# ruff: noqa: PLC0415 - the Temporal SDK takes half a second to import; a quote needs none of it

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from onetake.core.contracts import GenerationRecord, GenerationRequest, Plan, Recovered, RecoveryCase, RecoveryRequest
from onetake.core.crashpoints import crashpoint
from onetake.core.errors import OnetakeError, Refused, TryLater
from onetake.core.ids import new_generation_id, recovery_id_of, workflow_id_of
from onetake.core.money import format_usd
from onetake.core.names import COST_IN_REVIEW, TERMINAL, RecoveryGoal, ReplayVerb
from onetake.engine.starting import start_run
from onetake.ledger.database import Database
from onetake.ledger.generations import PostgresGenerations
from onetake.ledger.recoveries import Recoveries

if TYPE_CHECKING:
    from temporalio.client import Client

# Ends without a clip of a job whose vendor was paid.
PAID_WITHOUT_CLIP: Final = frozenset(
    {
        "asset_not_video",
        "asset_too_large",
        "asset_truncated",
        "asset_unavailable",
        "asset_unverified",
        "asset_url_blocked",
        "storage_conflict",
        "storage_unavailable",
        "vendor_bad_result",
    }
)
_GOALS: Final[dict[ReplayVerb, RecoveryGoal]] = {"reattach": "attach", "repersist": "persist"}


@dataclass(frozen=True)
class ReplayQuote:
    """What one replay would do and cost. `cost_micros` is new money; `refusal` says why it will not be done."""

    id: str
    verb: ReplayVerb
    cost_micros: int
    note: str
    refusal: OnetakeError | None = None


@dataclass(frozen=True)
class Replayed:
    """A replay that runs. `new_id` is the generation that renders again; `repeated`: it had been started before."""

    id: str
    verb: ReplayVerb
    workflow_id: str
    cost_micros: int
    new_id: str | None = None
    repeated: bool = False


class Replays:
    """Quotes and starts replays. `price` pins a plan; `engine` connects to Temporal when it is first needed."""

    def __init__(
        self,
        database: Database,
        *,
        price: Callable[[GenerationRequest], Awaitable[Plan]],
        engine: "Callable[[], Awaitable[Client]]",
        task_queue: str,
    ) -> None:
        self._generations = PostgresGenerations(database)
        self._records = Recoveries(database)
        self._price = price
        self._engine = engine
        self._task_queue = task_queue

    async def quote(
        self, verb: ReplayVerb, generation_id: str, *, tenant: str | None = None, accept_cost: bool = False
    ) -> ReplayQuote:
        """Say what a replay would cost. Changes nothing. Raises Refused(`generation_not_found`)."""
        record = await self._record(generation_id, tenant)
        try:
            if verb == "regenerate":
                return await self._quote_render(record, accept_cost=accept_cost)
            await self._recoverable(verb, record.id)
        except OnetakeError as refusal:
            return ReplayQuote(record.id, verb, 0, "", refusal)
        return ReplayQuote(record.id, verb, 0, _no_new_money(record))

    async def replay(
        self,
        verb: ReplayVerb,
        generation_id: str,
        *,
        who: str,
        tenant: str | None = None,
        accept_cost: bool = False,
    ) -> Replayed:
        """Start one replay, or join the one that runs. Raises Refused (`generation_not_found`, `generation_running`,
        `nothing_to_replay`, `replay_cost_not_accepted`, and what `start` raises) and TryLater."""
        record = await self._record(generation_id, tenant)
        if verb == "regenerate":
            return await self._render(record, accept_cost=accept_cost)
        case = await self._recoverable(verb, record.id)
        return await self._recover(verb, case, who)

    async def recovered(self, generation_id: str, *, tenant: str | None = None) -> Recovered:
        """Wait until the recovery of a generation has ended, and say how. Raises what Temporal raises."""
        record = await self._record(generation_id, tenant)
        engine = await self._engine()
        handle = engine.get_workflow_handle(recovery_id_of(record.tenant, record.id), result_type=Recovered)
        return await handle.result()

    async def _record(self, generation_id: str, tenant: str | None) -> GenerationRecord:
        record = await self._generations.get(generation_id, tenant)
        if record is None:
            raise Refused("generation_not_found")
        return record

    async def _recoverable(self, verb: ReplayVerb, generation_id: str) -> RecoveryCase:
        case = await self._records.case(generation_id)
        if case.refusal is not None:
            raise Refused(case.refusal.code, case.refusal.detail)
        if verb == "repersist" and case.vendor_task_id is None:
            raise Refused("nothing_to_replay", "The vendor's id of its job is not known: reattach looks for it.")
        return case

    async def _recover(self, verb: ReplayVerb, case: RecoveryCase, who: str) -> Replayed:
        from temporalio.service import RPCError

        from onetake.engine.recovery import begin_recovery

        request = RecoveryRequest(
            generation_id=case.generation_id, tenant=case.tenant, goal=_GOALS[verb], who=who, why=f"replay {verb}"
        )
        queue = case.plan.queues.base if case.plan else self._task_queue
        try:
            handle = await begin_recovery(await self._engine(), request, task_queue=queue)
        except RPCError as error:
            # Whether it has begun or not is not known, and makes no difference: a repeat joins the one that runs.
            raise TryLater("engine_unavailable", f"It answered {error.status.name}.") from None
        return Replayed(case.generation_id, verb, handle.id, 0)

    async def _quote_render(self, record: GenerationRecord, *, accept_cost: bool) -> ReplayQuote:
        if (child := await self._records.child_of(record.id)) is not None:
            return ReplayQuote(record.id, "regenerate", 0, f"rendered again already, as {child.id} ({child.status})")
        plan = await self._priced(record, accept_cost=accept_cost)
        cost = plan.price.amount_micros
        return ReplayQuote(record.id, "regenerate", cost, f"a new hold of {format_usd(cost)} and a new render")

    async def _priced(self, record: GenerationRecord, *, accept_cost: bool) -> Plan:
        """The plan of the render, when it may be made. Raises Refused."""
        if record.status not in TERMINAL:
            raise Refused("generation_running")
        if record.status == "completed":
            raise Refused("nothing_to_replay", "It is completed.")
        if record.assets:
            raise Refused("nothing_to_replay", "It was canceled, and has its clip.")
        if record.cost.suspense_micros and not accept_cost:
            raise Refused("replay_cost_not_accepted", f"{format_usd(record.cost.suspense_micros)} is in suspense.")
        if not accept_cost and await self._may_be_fetched(record):
            paid = format_usd(record.cost.settled_micros)
            raise Refused("replay_cost_not_accepted", f"{paid} was paid; `onetake replay repersist` fetches its clip.")
        return await self._price(await self._request_again(record))

    async def _may_be_fetched(self, record: GenerationRecord) -> bool:
        """Whether a clip that was paid for is kept in our bucket, or may be kept by the vendor still."""
        code = record.error.code if record.error else ""
        if code not in PAID_WITHOUT_CLIP or not record.cost.settled_micros or not record.vendor_task_id:
            return False
        plan = (await self._records.case(record.id)).plan
        if code == "asset_unverified" or plan is None or record.ended_at is None:
            return True
        return datetime.now(UTC) - record.ended_at < timedelta(seconds=plan.result_lifetime_s)

    async def _render(self, record: GenerationRecord, *, accept_cost: bool) -> Replayed:
        child = await self._records.child_of(record.id)
        if child is not None:
            accept_cost = True  # it was accepted before; only a start that was cut off is finished
        plan = await self._priced(record, accept_cost=accept_cost)
        request = await self._request_again(record)
        engine = await self._engine()
        row = await self._generations.accept_once(
            request, workflow_id=workflow_id_of(record.tenant, new_generation_id()), plan=plan, parent_id=record.id
        )
        crashpoint("replay.after_row")
        again = await self._record(row.id, None)
        if again.parent_id != record.id:  # a caller's own, under the key that this replay would have
            raise Refused("idempotency_key_reused", f"It belongs to {row.id}.")
        assert row.plan is not None
        if again.status not in TERMINAL:
            await start_run(engine, row.workflow_id, request, row.plan, task_queue=self._task_queue)
        crashpoint("replay.after_start")
        cost = 0 if row.replayed else row.plan.price.amount_micros
        return Replayed(record.id, "regenerate", row.workflow_id, cost, row.id, row.replayed)

    async def _request_again(self, record: GenerationRecord) -> GenerationRequest:
        """The same request under a key of its own, so that it is rendered again once; its quote was for the first."""
        request = await self._generations.request_of(record.id)
        return request.model_copy(update={"idempotency_key": f"regenerate/{record.id}", "quote_id": None})


def _no_new_money(record: GenerationRecord) -> str:
    suspense = record.cost.suspense_micros
    if suspense and any(notice.code == COST_IN_REVIEW for notice in record.warnings):
        return f"no new money: {format_usd(suspense)} is in suspense until a person decides it"
    if suspense:
        return f"no new money: {format_usd(suspense)} is in suspense, and is posted when the clip is found"
    return f"no new money: {format_usd(record.cost.settled_micros)} is paid already"
