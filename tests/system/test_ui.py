"""What an operator sees of a generation in the Temporal UI, read the way the UI reads it."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from google.protobuf.json_format import MessageToDict, ParseDict
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import WorkflowExecutionStatus
from temporalio.common import SearchAttributeKey

from onetake.client import Onetake
from onetake.core.names import SearchAttribute
from onetake.engine.starting import SUMMARY_BYTES
from tests.docs.markdown import names, page, section, table
from tests.system.harness import LIMIT_S, ROUTE, Stack, ended, in_phase, unique

CANARY = "canary-of-the-drowned-bell-tower"
ENDS = {
    "completed": ("[[sim:delay=0.5]]", "acme", WorkflowExecutionStatus.COMPLETED, None),
    "refused": ("", "pauper", WorkflowExecutionStatus.FAILED, "budget_exceeded"),
    "rejected": ("[[sim:reject=400]]", "acme", WorkflowExecutionStatus.FAILED, "vendor_rejected"),
    "failed": ("[[sim:fail=Timeout]]", "acme", WorkflowExecutionStatus.FAILED, "vendor_failed"),
    "canceled": ("[[sim:held]]", "acme", WorkflowExecutionStatus.CANCELED, "canceled"),
}
STAYS = {
    "submitting": "[[sim:submit-hang=18]]",
    "resolving": "[[sim:submit-reset]][[sim:no-callback]]",
    "generating": "[[sim:never]]",
    "persisting": "[[sim:no-callback]][[sim:asset-slow=1]]",
}


@dataclass(frozen=True)
class Page:
    """A run as its page in the UI has it: everything decoded by the codec endpoint."""

    status: WorkflowExecutionStatus | None
    summary: str
    details: str
    current: str
    attributes: dict[str, str | None]
    steps: dict[str, str]
    events: Sequence[HistoryEvent]

    @property
    def shown(self) -> str:
        """All that is on the page outside of payloads."""
        texts = (self.summary, self.details, self.current, *self.steps.values(), *map(str, self.attributes.values()))
        return "\n".join(texts)


async def decoded(stack: Stack, *payloads: Payload) -> list[Any]:
    """What the codec endpoint answers to a UI that was opened as `localhost`."""
    at = stack.running.addresses
    origin = str(at.temporal_ui_url).replace("127.0.0.1", "localhost")
    headers = {"X-Namespace": at.temporal_namespace, "Origin": origin}
    async with httpx.AsyncClient(trust_env=False) as ui:
        asked = MessageToDict(Payloads(payloads=payloads))
        answer = await ui.post(f"http://127.0.0.1:{at.codec_port}/decode", json=asked, headers=headers)
    assert answer.status_code == 200
    return [json.loads(each.data) for each in ParseDict(answer.json(), Payloads()).payloads]


async def page_of(stack: Stack, workflow_id: str) -> Page:
    engine = await stack.plain_temporal()  # as the UI: without our codec
    description = await engine.get_workflow_handle(workflow_id).describe()
    metadata = description.raw_description.execution_config.user_metadata
    events = await stack.history(workflow_id)
    scheduled = [event for event in events if event.activity_task_scheduled_event_attributes.activity_id]
    read: WorkflowMetadata = await (
        (await stack.temporal())
        .get_workflow_handle(workflow_id)
        .query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    )
    written = [metadata.summary, metadata.details, *(event.user_metadata.summary for event in scheduled)]
    summary, details, *steps = await decoded(stack, *written)
    keys = {name: SearchAttributeKey.for_keyword(name) for name in SearchAttribute.ALL}
    return Page(
        status=description.status,
        summary=summary,
        details=details,
        current=read.current_details,
        attributes={name: description.typed_search_attributes.get(key) for name, key in keys.items()},
        steps={
            event.activity_task_scheduled_event_attributes.activity_id: text
            for event, text in zip(scheduled, steps, strict=True)
        },
        events=events,
    )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def runs(stack: Stack, onetake: Onetake) -> dict[str, str]:
    """A run that has come to each end, by the name of the end."""
    await stack.set_budget("tenant", "pauper", "total", "0.01")
    prompts = {name: unique(f"{CANARY} {marker}") for name, (marker, _, _, _) in ENDS.items()}
    started = {
        name: await onetake.start(route=ROUTE, prompt=prompts[name], duration_s=2, tenant=tenant)
        for name, (_, tenant, _, _) in ENDS.items()
    }
    await in_phase(onetake, started["canceled"].id, "generating")
    await stack.cancel(onetake, started["canceled"])
    await stack.release(prompts["canceled"])
    await asyncio.gather(*(ended(onetake, each.id) for each in started.values()))
    await asyncio.gather(*(stack.closed_history(each.workflow_id) for each in started.values()))
    return {name: each.workflow_id for name, each in started.items()}


@pytest.mark.parametrize("name", ENDS)
async def test_every_end_is_told_on_the_page_of_its_run(stack: Stack, runs: dict[str, str], name: str) -> None:
    _, tenant, status, code = ENDS[name]
    seen = await page_of(stack, runs[name])
    assert seen.status == status
    assert seen.summary == f"{ROUTE} · 2 s · 720p · {tenant} · $0.20"
    assert len(seen.summary.encode()) <= SUMMARY_BYTES
    assert runs[name].rpartition("/")[2] in seen.details
    assert f"**done**: {status.name.lower()}" in seen.current
    assert (f"`{code}`: " in seen.current) if code else ("onetake download" in seen.current)
    day = seen.attributes.pop("OnetakeDay")
    assert day is not None
    assert len(day) == len("2026-01-31")
    assert seen.attributes == {
        "OnetakeTenant": tenant,
        "OnetakeVendor": "apixo",
        "OnetakeRoute": ROUTE,
        "OnetakePhase": "done",
        "OnetakeErrorCode": code,
    }
    assert all(seen.steps.values()), "each activity has a summary"
    assert CANARY not in seen.shown


async def test_money_is_shown_as_money_and_not_as_mathematics(stack: Stack, runs: dict[str, str]) -> None:
    """The UI renders what stands between two dollar signs as a formula."""
    seen = await page_of(stack, runs["completed"])
    assert r"reserved \$0.20, settled \$0.20" in seen.current
    for text in (seen.current, seen.details):
        assert "$" not in text.replace(r"\$", "")
    assert seen.summary.count("$") == 1


async def test_a_failed_run_says_why_in_its_failure_and_carries_its_result(stack: Stack, runs: dict[str, str]) -> None:
    failure = (await page_of(stack, runs["failed"])).events[-1].workflow_execution_failed_event_attributes.failure
    assert "Timeout" in failure.message
    assert failure.application_failure_info.type == "vendor_failed"
    assert not failure.HasField("cause"), "a cause would show our own exceptions to the operator"
    (result,) = await decoded(stack, *failure.application_failure_info.details.payloads)
    assert (result["status"], result["cost"]["suspense_micros"]) == ("failed", 200_000)


async def test_every_phase_that_lasts_is_told_while_it_lasts(stack: Stack, onetake: Onetake) -> None:
    started = {
        phase: await onetake.start(route=ROUTE, prompt=unique(f"{CANARY} {marker}"), duration_s=5, deadline_s=600)
        for phase, marker in STAYS.items()
    }

    # What people filter for; an ordinary phase stands there only after such a one, when the run waited for its vendor.
    filtered = {phase: {phase} if phase == "resolving" else {phase, None} for phase in STAYS}

    async def seen_in(phase: str) -> Page:
        async with asyncio.timeout(LIMIT_S):
            while True:
                seen = await page_of(stack, started[phase].workflow_id)
                if f"**{phase}**: " in seen.current and seen.attributes["OnetakePhase"] in filtered[phase]:
                    return seen
                await asyncio.sleep(0.1)  # the index lags behind the history

    pages = dict(zip(STAYS, await asyncio.gather(*map(seen_in, STAYS)), strict=True))
    await stack.give_up(*started.values())
    for seen in pages.values():
        assert seen.status == WorkflowExecutionStatus.RUNNING
        assert CANARY not in seen.shown
    assert "task_" in pages["generating"].current
    assert all(word in pages["generating"].current for word in ("Next", "Deadline", "UTC"))
    assert "nothing is sent again" in pages["resolving"].current
    assert "task_" not in pages["resolving"].current


async def test_a_plain_start_has_current_details_and_attributes(stack: Stack, onetake: Onetake) -> None:
    engine = await stack.plain_temporal()
    workflow_id = f"order-{uuid4()}"
    await engine.start_workflow(
        "Generation", {"route": ROUTE, "prompt": CANARY, "duration_s": 99}, id=workflow_id, task_queue="onetake"
    )
    async with asyncio.timeout(LIMIT_S):
        while not (found := [r for r in await onetake.list(limit=100) if r.workflow_id == workflow_id]):
            await asyncio.sleep(0.05)
    await ended(onetake, found[0].id)
    await stack.closed_history(workflow_id)
    handle = (await stack.temporal()).get_workflow_handle(workflow_id)
    read = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    assert "**done**: failed" in read.current_details
    assert "`request_invalid`: " in read.current_details
    assert CANARY not in read.current_details
    attributes = (await handle.describe()).typed_search_attributes
    assert attributes.get(SearchAttributeKey.for_keyword("OnetakeErrorCode")) == "request_invalid"


def queries_of_the_guide() -> list[str]:
    rows = table(section(page("docs/operators.md"), "## The list of runs"))
    return [names(row[0])[0] for row in rows]


@pytest.mark.parametrize("query", queries_of_the_guide())
async def test_every_query_of_the_operators_guide_is_accepted(stack: Stack, query: str) -> None:
    engine = await stack.temporal()
    _ = [run.id async for run in engine.list_workflows(query, limit=5)]


async def test_the_queries_find_what_they_say(stack: Stack, runs: dict[str, str]) -> None:
    engine = await stack.temporal()
    wanted = {
        'OnetakeErrorCode = "vendor_failed"': "failed",
        'ExecutionStatus = "Canceled"': "canceled",
        'OnetakeErrorCode = "budget_exceeded" AND OnetakeTenant = "pauper"': "refused",
        'OnetakeErrorCode IN ("vendor_auth", "vendor_rejected")': "rejected",
    }
    for query, name in wanted.items():
        async with asyncio.timeout(LIMIT_S):  # the server's index lags behind its histories
            while runs[name] not in [run.id async for run in engine.list_workflows(query)]:
                await asyncio.sleep(0.1)
