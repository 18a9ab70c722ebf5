"""A vendor that takes so many jobs at once and answers 429 beyond: all wait for it in a fair line, and complete."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

from temporalio.api.history.v1 import HistoryEvent

from onetake.client import Onetake, Started
from onetake.ledger.vendors import PostgresVendors
from tests.system.harness import LIMIT_S, Stack, activity_ids, ended, in_phase, money, unique

VENDOR: Final = "wan26ai"
FULL: Final = f"{VENDOR}/wan-2.6/text-to-video"
OTHER: Final = "gptimage2/wan-2.6/text-to-video"
TAKES: Final = 4
FIRST: Final = 8
MANY: Final = 22
FEW: Final = 10
DEADLINE_S: Final = 6
HASTE: Final = "0.02"  # the scale at which the read at the deadline is tried for 6 s
MOST_REFUSED: Final = 60
READS: Final = ("read-", "poll-")


@asynccontextmanager
async def taking(stack: Stack, jobs: int, vendor: str = VENDOR) -> AsyncGenerator[None]:
    """The vendor takes so many jobs at once; afterwards it takes all, and nobody remembers."""
    await stack.control("limits", vendor=vendor, jobs=jobs)
    try:
        yield
    finally:
        await stack.control("limits", vendor=vendor)
        async with stack.database() as database:
            for table in ("vendor_rate", "vendor_room", "vendor_line"):
                await database.row(f"delete from onetake.{table} where vendor = $1", vendor)


async def start(onetake: Onetake, tenant: str, text: str = "", *, route: str = FULL, deadline_s: int = 600) -> Started:
    prompt = unique(f"crowd {text}")
    return await onetake.start(route=route, prompt=prompt, duration_s=5, tenant=tenant, deadline_s=deadline_s)


async def room_is_known(stack: Stack) -> None:
    async with asyncio.timeout(LIMIT_S), stack.database() as database:
        while True:
            known = (await PostgresVendors(database).states()).get(VENDOR)
            if known is not None and known.room is not None:
                return
            await asyncio.sleep(0.1)


async def book(stack: Stack) -> dict[str, Any]:
    return (await asyncio.to_thread(stack.get, "/control/limits"))[VENDOR]


async def test_more_than_a_vendor_takes_wait_in_a_fair_line_and_all_complete(stack: Stack, onetake: Onetake) -> None:
    async with taking(stack, TAKES):
        first = [await start(onetake, "many", "[[sim:delay=5]]") for _ in range(FIRST)]
        await room_is_known(stack)
        many = [await start(onetake, "many") for _ in range(MANY)]
        few = [await start(onetake, "few") for _ in range(FEW)]
        others = [await start(onetake, "other", route=OTHER) for _ in range(3)]
        places = set[int]()
        async with asyncio.timeout(LIMIT_S):
            while len(places) <= MANY / 4:
                waiting = [await onetake.get(each.id) for each in many]
                places |= {each.waiting.place for each in waiting if each.phase == "reserving" and each.waiting}
        elsewhere = [await ended(onetake, each.id) for each in others]
        results = [await ended(onetake, each.id, 3 * LIMIT_S) for each in (*first, *many, *few)]
        assert {result.status for result in (*results, *elsewhere)} == {"completed"}
        async with stack.database() as database:
            rows = await database.rows(
                """select g.tenant from onetake.hold h join onetake.generation g on g.id = h.generation_id
                where g.vendor = $1 and g.id = any ($2::text[]) order by h.created_at""",
                VENDOR,
                [each.id for each in (*many, *few)],
            )
        tenants = [row["tenant"] for row in rows]
        last_of_few = max(place for place, tenant in enumerate(tenants) if tenant == "few")
        assert Counter(tenants[: last_of_few + 1])["many"] <= FEW + TAKES + FIRST
        found = await book(stack)
        assert found["most_jobs"] <= TAKES
        assert found["refused_submits"] <= len(results) / 2
        longest = max([len(await stack.history(each.workflow_id)) for each in (*many, *few)])
        assert longest <= 60
        assert await stack.ledger_violations() == []


async def test_whoever_waits_in_the_line_holds_nothing_can_be_canceled_and_ends_at_its_own_deadline(
    stack: Stack, onetake: Onetake
) -> None:
    async with taking(stack, 1):
        running = await start(onetake, "many", "[[sim:never]]")
        await in_phase(onetake, running.id, "generating")
        holding = await start(onetake, "many")
        await room_is_known(stack)
        canceled, late = await start(onetake, "many"), await start(onetake, "many", deadline_s=DEADLINE_S)
        for each in (canceled, late):
            async with asyncio.timeout(LIMIT_S):
                while "line" not in activity_ids(await stack.history(each.workflow_id)):
                    await asyncio.sleep(0.1)
        await onetake.cancel(canceled.id)
        ends = [await ended(onetake, each.id) for each in (canceled, late)]
        assert [(end.status, end.error and end.error.code) for end in ends] == [
            ("canceled", "canceled"),
            ("failed", "vendor_throttled"),
        ]
        assert [money(end) for end in ends] == [(0, 0, 0)] * 2
        assert ends[1].error is not None
        assert "It waited for " in ends[1].error.message
        await onetake.cancel(holding.id)
        assert (await ended(onetake, holding.id)).status == "canceled"
        await stack.give_up(running)


async def test_a_paused_vendor_is_waited_for_by_who_named_a_deadline_and_refuses_who_did_not(
    stack: Stack, onetake: Onetake
) -> None:
    async with stack.database() as database:
        await database.row(
            """insert into onetake.circuit (vendor, model, paused_code, paused_since, probe_after)
            values ($1, '', 'vendor_account_empty', now(), 'infinity') on conflict (vendor, model) do update
            set paused_code = excluded.paused_code, paused_since = now(), probe_after = 'infinity'""",
            VENDOR,
        )
    try:
        patient = await start(onetake, "many", deadline_s=600)
        await in_phase(onetake, patient.id, "reserving")
        hasty = await onetake.start(route=FULL, prompt=unique("hasty"), duration_s=5)
        refused = await ended(onetake, hasty.id)
        assert (refused.status, refused.error and refused.error.code) == ("failed", "vendor_paused")
        parked = await onetake.get(patient.id)
        assert (parked.status, parked.phase, money(parked)) == ("in_progress", "reserving", (0, 0, 0))
    finally:
        await stack.reopen(VENDOR)
    assert (await ended(onetake, patient.id)).status == "completed"


async def test_a_deadline_does_not_pass_while_the_vendor_says_that_we_read_too_fast(
    stack: Stack, onetake: Onetake
) -> None:
    async with taking(stack, 100), stack.client(time_scale=HASTE) as hasty:
        await stack.control("limits", vendor=VENDOR, reads_per_s=0)
        started = await start(hasty, "many", "[[sim:no-callback]]", deadline_s=DEADLINE_S)
        async with asyncio.timeout(LIMIT_S):
            while (await onetake.get(started.id)).status != "failed":
                late = late_reads(await stack.history(started.workflow_id))
                if late > 1:  # more than the one that decides otherwise
                    break
                await asyncio.sleep(0.2)
        assert (await onetake.get(started.id)).status == "in_progress"
        refused = (await book(stack))["refused_reads"]
        await stack.control("limits", vendor=VENDOR)
        assert (await ended(onetake, started.id)).status == "completed"
        assert 0 < refused < MOST_REFUSED


def late_reads(events: Sequence[HistoryEvent]) -> int:
    """How many reads were scheduled after the deadline, which counts from the first timer on."""
    begun = [each.event_time.ToDatetime() for each in events if each.timer_started_event_attributes.timer_id]
    reads = [each for each in events if each.activity_task_scheduled_event_attributes.activity_id.startswith(READS)]
    late = timedelta(seconds=DEADLINE_S)
    return sum(each.event_time.ToDatetime() > begun[0] + late for each in reads)
