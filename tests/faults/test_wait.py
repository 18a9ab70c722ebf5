"""Waiting: whatever a vendor answers to our reads, one job, one end, and the money where the truth is.

All generations of this file begin together and render side by side; a test looks at those that it names.
It is over 400 lines because what they are told stands in one table, and the tests read it.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import get_args

import httpx
import pytest_asyncio
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.sdk.v1 import WorkflowMetadata

from onetake.client import Onetake
from onetake.core.contracts import GenerationRecord, GenerationResult, RecoveryRequest
from onetake.core.names import Phase, SearchAttribute
from onetake.engine.recovery import begin_recovery
from tests.faults.table import shows
from tests.system.harness import Stack, activity_ids, ended, money, unique

LIMIT_S = 300.0
SECONDS = {"apixo": 2, "gptimage2": 2, "aivideoapi": 2, "wan26ai": 5, "gmi": 5}
ALL_FAULTS = ("500", "reset", "html", "malformed", "array", "hang", "403")
SWIFT = "0.0003"  # a day is 30 s, twenty minutes are less than one
TWENTY_MINUTES_S = 1200
PHASES = get_args(Phase)
POLLED = "[[sim:no-callback]]"


@dataclass(frozen=True)
class Case:
    """One generation: what the simulator is told, at which vendor, whether a swift worker serves it, what to wait for
    in the reads under way, and whether its suspense will be resolved after the end."""

    marker: str
    vendor: str = "apixo"
    deadline_s: int = 240
    swift: bool = False
    watch: str = ""
    resolved: bool = False


@dataclass(frozen=True)
class Played:
    """How a case went: at its `first` end and at its last. `said` is what Temporal showed of a read that failed."""

    prompt: str
    workflow_id: str
    result: GenerationRecord
    first: GenerationResult
    said: str


CASES = {
    "all faults": Case(f"{''.join(f'[[sim:status-{kind}=1]]' for kind in ALL_FAULTS)}{POLLED}"),
    "down": Case(f"[[sim:status-down=9999]]{POLLED}", "gmi", deadline_s=100, swift=True, watch="vendor_unavailable"),
    "told to stay away": Case(f"[[sim:status-429=2,4]]{POLLED}", "aivideoapi"),
    "throttled": Case(f"[[sim:status-429=3]][[sim:delay=24]]{POLLED}", "gptimage2"),
    "key mended": Case(f"[[sim:status-401=1]]{POLLED}", watch="vendor_auth"),
    "key refused": Case(f"[[sim:status-403=1000]]{POLLED}", deadline_s=12),
    "not visible": Case("[[sim:status-404=2]][[sim:delay=0.5]]"),
    "vanished": Case(f"[[sim:status-lost=3]][[sim:never]]{POLLED}"),
    "found again": Case(f"[[sim:status-lost=2]][[sim:delay=4]]{POLLED}", resolved=True),
    "word": Case(f'[[sim:status-word="REVIEWING"]][[sim:held]]{POLLED}', watch="REVIEWING"),
    "case": Case(f'[[sim:status-word="success"]][[sim:delay=4]]{POLLED}', "wan26ai"),
    "null": Case(f"[[sim:status-word=null]][[sim:delay=4]]{POLLED}", "gmi"),
    "number": Case(f"[[sim:status-word=7]][[sim:delay=4]]{POLLED}", "aivideoapi"),
    "odd end": Case(f'[[sim:end-word="REVIEWING"]][[sim:shape=objects]]{POLLED}', "gptimage2"),
    "odd end, called": Case("[[sim:end-word=null]][[sim:shape=text]]", "aivideoapi"),
    "another word for the end": Case(f'[[sim:end-word="Finished"]][[sim:shape=json]]{POLLED}', "wan26ai"),
    "waits again": Case(f"[[sim:status-regress]][[sim:delay=6]]{POLLED}", "gptimage2"),
    "runs again": Case("[[sim:status-relapse=2]]"),
    "fails after success, refunded": Case("[[sim:status-success=4]][[sim:fail=Timeout]]", "wan26ai"),
    "fails after success, unknown": Case("[[sim:status-success=4]][[sim:fail=Timeout]]"),
    "says more later": Case("[[sim:status-relapse=1000,20]]"),
    "no link": Case("[[sim:no-url]]", deadline_s=60, swift=True),
    "bad result": Case("[[sim:bad-result]]", deadline_s=60, swift=True),
    "bad list": Case("[[sim:bad-result]]", "aivideoapi", 60, swift=True),
    "late link": Case("[[sim:no-url=4]]"),
    "several links": Case("[[sim:urls=3]]"),
    "failed at apixo": Case("[[sim:fail=Timeout]]"),
    "failed at gptimage2": Case("[[sim:fail=service_error]]", "gptimage2"),
    "failed at aivideoapi": Case("[[sim:fail=upstream_error]]", "aivideoapi"),
    "failed at wan26ai": Case("[[sim:fail=Timeout]]", "wan26ai"),
    "failed at gmi": Case("[[sim:fail=backend_error]]", "gmi"),
    "unsafe": Case("[[sim:fail=SensitiveContent]]"),
    "refunded late": Case("[[sim:fail=Timeout]][[sim:refund-late=9999]]", "wan26ai", resolved=True),
    "never refunded": Case("[[sim:fail=Timeout]][[sim:no-refund]]", "wan26ai", 60, swift=True, resolved=True),
    "most of a day": Case(f"[[sim:delay=20]]{POLLED}", deadline_s=86_400, swift=True),
    "never ends": Case(f"[[sim:never]]{POLLED}", deadline_s=4),
    "ends late": Case(f"[[sim:held]]{POLLED}", deadline_s=4, resolved=True),
}


class Plays:
    """All cases under way; `await plays["name"]` is how one went."""

    def __init__(self, stack: Stack, onetake: Onetake, swift: Onetake) -> None:
        self._stack = stack
        self._tasks = {
            name: asyncio.create_task(self._play(case, swift if case.swift else onetake))
            for name, case in CASES.items()
        }

    def __getitem__(self, name: str) -> Awaitable[Played]:
        return self._tasks[name]

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _play(self, case: Case, onetake: Onetake) -> Played:
        prompt = unique(f"a wait {case.marker}")
        async with asyncio.timeout(LIMIT_S):
            started = await onetake.start(
                route=f"{case.vendor}/wan-2.6/text-to-video",
                prompt=prompt,
                duration_s=SECONDS[case.vendor],
                resolution="720p",
                deadline_s=case.deadline_s,
            )
            said = await self._said(started.workflow_id, case.watch) if case.watch else ""
            if said:
                await asyncio.sleep(2 * TWENTY_MINUTES_S * float(SWIFT))
                await self._stack.release(prompt)
            first = await ended(onetake, started.id, limit_s=LIMIT_S)
            if case.resolved:
                await self._stack.release(prompt)
            record = await onetake.get(started.id)
            while case.resolved and record.cost.suspense_micros:
                await asyncio.sleep(0.3)
                record = await onetake.get(started.id)
        return Played(prompt, started.workflow_id, record, first, said)

    async def _said(self, workflow_id: str, word: str) -> str:
        """Wait until the read under way shows this word as the reason of its last failure, or the current details as
        the vendor's. Who looks too late finds the reason in the history, which keeps that of each step's last one."""
        handle = (await self._stack.temporal()).get_workflow_handle(workflow_id)
        while (run := await handle.describe()).close_time is None:
            failures = [pending.last_failure for pending in run.raw_description.pending_activities]
            if said := _naming(word, failures):
                return said
            read = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
            if word in read.current_details:
                return read.current_details
            await asyncio.sleep(0.3)
        started = [event.activity_task_started_event_attributes for event in await self._stack.history(workflow_id)]
        return _naming(word, [each.last_failure for each in started])


def _naming(word: str, failures: Sequence[Failure]) -> str:
    """The first failure whose code or text holds this word; empty when none does."""
    said = [f"{failure.application_failure_info.type} {failure.message}" for failure in failures]
    return next((each for each in said if word in each), "")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def plays(stack: Stack, onetake: Onetake) -> AsyncGenerator[Plays]:
    async with AsyncExitStack() as cleanup:
        swift_worker = {"ONETAKE_TIME_SCALE": SWIFT, "ONETAKE_RECONCILE_EVERY_S": "0"}
        await cleanup.enter_async_context(stack.worker("wait-swift", **swift_worker))
        swift = await cleanup.enter_async_context(stack.client(task_queue="wait-swift", time_scale=SWIFT))
        plays = Plays(stack, onetake, swift)
        cleanup.push_async_callback(plays.close)
        yield plays


async def reads_of(stack: Stack, played: Played) -> int:
    return int((await stack.job(played.result.vendor_task_id))["status_reads"])


async def tries_of(stack: Stack, played: Played, activity_id: str) -> list[int]:
    """How many tries each activity took whose id begins so."""
    events = await stack.history(played.workflow_id)
    scheduled = {
        event.event_id
        for event in events
        if event.activity_task_scheduled_event_attributes.activity_id.startswith(activity_id)
    }
    started = [event.activity_task_started_event_attributes for event in events]
    return [each.attempt for each in started if each.scheduled_event_id in scheduled]


# -- Outages of the vendor ---------------------------------------------------------------------------------------------


async def test_reads_that_say_nothing_are_asked_again(stack: Stack, plays: Plays) -> None:
    played = await plays["all faults"]
    await shows("F056", stack, played.result, played.prompt)
    assert await reads_of(stack, played) > len(ALL_FAULTS)
    assert money(played.result) == (200_000, 200_000, 0)


async def test_a_vendor_that_is_down_for_twenty_minutes_is_waited_for(stack: Stack, plays: Plays) -> None:
    """And for much longer, by the clock of this worker: only the deadline ends it."""
    played = await plays["down"]
    assert "HTTP 503" in played.said
    await shows("F056", stack, played.result, played.prompt)


async def test_a_throttled_read_stays_away_as_long_as_it_was_told(stack: Stack, plays: Plays) -> None:
    played = await plays["told to stay away"]
    await shows("F057", stack, played.result, played.prompt)
    assert took_s(played) >= 2 * 4
    # Two refusals, the end, and the links. A read that a busy machine lost is repeated three seconds later.
    assert 2 + 2 <= await reads_of(stack, played) <= took_s(played)


async def test_throttled_reads_come_at_growing_gaps(stack: Stack, plays: Plays) -> None:
    """How long the gaps are, and that they end, is asked of the activity alone: there no machine is too slow for it."""
    played = await plays["throttled"]
    await shows("F057", stack, played.result, played.prompt)
    assert 3 + 2 <= await reads_of(stack, played) <= 24, "three refusals, the end, and the links"


def took_s(played: Played) -> float:
    assert played.result.ended_at is not None
    return (played.result.ended_at - played.result.created_at).total_seconds()


async def test_a_refused_key_is_tried_again_slowly_and_named_at_the_deadline(stack: Stack, plays: Plays) -> None:
    mended, refused = await plays["key mended"], await plays["key refused"]
    assert "HTTP 401" in mended.said
    await shows("F058", stack, mended.result, mended.prompt, end="mended")
    assert took_s(mended) > 10, "five minutes, scaled"
    await shows("F058", stack, refused.result, refused.prompt, end="deadline")
    assert money(refused.result) == (200_000, 0, 200_000)


# -- Jobs that come and go ---------------------------------------------------------------------------------------------


async def test_a_job_that_is_not_visible_yet_is_waited_for(stack: Stack, plays: Plays) -> None:
    played = await plays["not visible"]
    await shows("F059", stack, played.result, played.prompt)


async def test_a_job_that_vanishes_is_lost_and_its_amount_in_suspense(stack: Stack, plays: Plays) -> None:
    played = await plays["vanished"]
    await shows("F060", stack, played.result, played.prompt, end="lost")
    assert money(played.result) == (200_000, 0, 200_000)


async def test_a_lost_job_that_comes_back_completes_its_generation(stack: Stack, plays: Plays) -> None:
    played = await plays["found again"]
    assert played.first.error is not None
    assert played.first.error.code == "vendor_task_lost"
    await shows("F060", stack, played.result, played.prompt, end="found")
    assert (money(played.result), len(played.result.assets)) == ((200_000, 200_000, 0), 1)


async def test_a_state_that_no_document_names_is_a_job_under_way(stack: Stack, plays: Plays) -> None:
    ends = ("odd end", "odd end, called", "another word for the end")
    for name in ("word", "case", "null", "number", *ends):
        played = await plays[name]
        await shows("F061", stack, played.result, played.prompt)
    assert "REVIEWING" in (await plays["word"]).said


async def test_a_job_that_waits_again_does_not_move_the_phase_back(stack: Stack, plays: Plays) -> None:
    played = await plays["waits again"]
    await shows("F062", stack, played.result, played.prompt)
    phases = phases_in(await stack.closed_history(played.workflow_id))
    assert phases == sorted(set(phases), key=PHASES.index)
    assert phases[-1] == "done"


def phases_in(events: list[HistoryEvent]) -> list[str]:
    """The phases that a run has filed for people to filter by, in their order."""
    filed = [event.upsert_workflow_search_attributes_event_attributes.search_attributes for event in events]
    fields = [
        each.indexed_fields[SearchAttribute.PHASE] for each in filed if SearchAttribute.PHASE in each.indexed_fields
    ]
    return [json.loads(field.data) for field in fields]


async def test_a_success_that_runs_again_is_waited_for(stack: Stack, plays: Plays) -> None:
    played = await plays["runs again"]
    await shows("F063", stack, played.result, played.prompt, end="running")


async def test_a_success_that_turns_into_a_failure_ends_by_its_last_word(stack: Stack, plays: Plays) -> None:
    refunded, unknown = await plays["fails after success, refunded"], await plays["fails after success, unknown"]
    await shows("F063", stack, refunded.result, refunded.prompt, end="refunded")
    assert money(refunded.result) == (400_000, 0, 0)
    await shows("F063", stack, unknown.result, unknown.prompt, end="unknown")
    assert money(unknown.result) == (200_000, 0, 200_000)
    for played in (refunded, unknown):
        assert any(each.startswith("confirm-") for each in activity_ids(await stack.history(played.workflow_id)))
        assert played.result.error is not None
        assert "Timeout" in played.result.error.message


async def test_a_completed_generation_stays_completed_whatever_the_vendor_says_later(
    stack: Stack, onetake: Onetake, plays: Plays
) -> None:
    played = await plays["says more later"]
    request = RecoveryRequest(generation_id=played.result.id, tenant="default", who="a test", why="it says more")
    recovery = await begin_recovery(await stack.temporal(), request, task_queue="onetake")
    recovered = await recovery.result()
    assert (recovered.changed, recovered.error and recovered.error.code) == (False, "nothing_to_replay")
    await shows("F063", stack, await onetake.get(played.result.id), played.prompt, end="sticky")


# -- Results -----------------------------------------------------------------------------------------------------------


async def test_a_link_that_comes_after_the_success_is_followed(stack: Stack, plays: Plays) -> None:
    played = await plays["late link"]
    await shows("F064", stack, played.result, played.prompt, end="comes late")
    (job,) = await stack.jobs_of(played.prompt)
    assert job["status_reads"] > 4
    assert job["asset_requests"] >= 1


async def test_a_success_without_a_link_is_asked_again_and_was_paid(stack: Stack, plays: Plays) -> None:
    for name in ("no link", "bad result", "bad list"):
        played = await plays[name]
        await shows("F064", stack, played.result, played.prompt, end="never comes")
        assert sum(await tries_of(stack, played, "persist-")) > 1, "at least how many is asked of the activity alone"
        reserved, settled, suspense = money(played.result)
        assert (settled, suspense) == (reserved, 0)


async def test_several_links_are_all_kept_in_their_order(stack: Stack, plays: Plays) -> None:
    played = await plays["several links"]
    await shows("F065", stack, played.result, played.prompt)
    assert money(played.result) == (200_000, 200_000, 0)
    prefix = f"default/{played.result.id}/1"
    assert [asset.key.rpartition("-")[0] for asset in played.result.assets] == [f"{prefix}/{n}" for n in range(3)]
    async with httpx.AsyncClient(trust_env=False, timeout=LIMIT_S) as http:
        clips = [(await http.get(asset.url or "")).content for asset in played.result.assets]
    task_id = str(played.result.vendor_task_id)
    ends = [clip.rpartition(task_id.encode())[2] for clip in clips]
    assert ends == [b"", b"/1", b"/2"], "the simulator writes the number of a further clip behind it"


async def test_a_failed_render_costs_what_its_vendor_documents(stack: Stack, plays: Plays) -> None:
    for vendor in ("gptimage2", "wan26ai", "aivideoapi"):
        played = await plays[f"failed at {vendor}"]
        await shows("F066", stack, played.result, played.prompt, end="free")
        assert money(played.result)[1:] == (0, 0)
        (job,) = await stack.jobs_of(played.prompt)
        assert job["refunded_micros"] == job["charged_micros"] > 0
        says(played, job["fail_code"])
    for vendor in ("apixo", "gmi"):
        played = await plays[f"failed at {vendor}"]
        await shows("F066", stack, played.result, played.prompt, end="unknown")
        reserved, settled, suspense = money(played.result)
        assert (settled, suspense) == (0, reserved)
        says(played, (await stack.jobs_of(played.prompt))[0]["fail_code"])
    unsafe = await plays["unsafe"]
    await shows("F066", stack, unsafe.result, unsafe.prompt, end="content")


def says(played: Played, code: str) -> None:
    assert played.result.error is not None
    assert code in played.result.error.message


# -- After the end -----------------------------------------------------------------------------------------------------


async def test_a_late_refund_releases_what_was_in_suspense(stack: Stack, plays: Plays) -> None:
    played = await plays["refunded late"]
    assert money(played.first) == (400_000, 0, 400_000)
    await shows("F067", stack, played.result, played.prompt)
    assert money(played.result) == (400_000, 0, 0)


async def test_a_charge_without_a_refund_is_posted_when_the_day_is_over(stack: Stack, plays: Plays) -> None:
    played = await plays["never refunded"]
    assert money(played.first) == (400_000, 0, 400_000)
    await shows("F067", stack, played.result, played.prompt)
    assert money(played.result) == (400_000, 400_000, 0)


async def test_a_job_that_never_ends_is_given_up_at_the_deadline(stack: Stack, plays: Plays) -> None:
    played = await plays["never ends"]
    await shows("F077", stack, played.result, played.prompt, end="never")
    assert money(played.result) == (200_000, 0, 200_000)


async def test_a_job_that_ends_after_the_deadline_completes_its_generation(stack: Stack, plays: Plays) -> None:
    played = await plays["ends late"]
    assert played.first.error is not None
    assert (played.first.error.code, money(played.first)) == ("vendor_timeout", (200_000, 0, 200_000))
    await shows("F077", stack, played.result, played.prompt, end="late")
    assert (money(played.result), len(played.result.assets)) == ((200_000, 200_000, 0), 1)
    assert played.result.correction is not None
    assert (played.result.correction.from_status, played.result.correction.from_code) == ("failed", "vendor_timeout")


async def test_a_wait_of_most_of_a_day_leaves_a_short_history(stack: Stack, plays: Plays) -> None:
    played = await plays["most of a day"]
    await shows("F078", stack, played.result, played.prompt)
    assert await reads_of(stack, played) >= 2, "how many more there are depends on the machine"
    assert len(await stack.history(played.workflow_id)) < 2000


async def test_the_ledger_is_whole_afterwards(stack: Stack, plays: Plays) -> None:
    for name in CASES:
        await plays[name]
    assert await stack.ledger_violations() == []
