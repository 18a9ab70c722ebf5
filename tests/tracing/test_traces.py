"""Traces of whole generations on the real stack: one trace from the client to the vendor, and never a text in it."""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import pytest

from onetake.client import Onetake
from onetake.core.contracts import GenerationResult
from onetake.engine.histories import replay_run
from tests.system.harness import ROUTE, TIME_SCALE, Stack, activity_ids, ended, unique
from tests.system.test_secrecy import leaks
from tests.tracing.collector import Collector, attributes_of, names_of

CANARY = "canary-of-the-sunken-lighthouse"
TENANT = "tenant-of-the-canary"
QUEUE = "traced"
UNHURRIED = {"ONETAKE_TIME_SCALE": "1"}  # the first read is due half a minute after the callback
# What goes wrong in each phase, with texts of the vendor's where it says some, and the code that the trace then tells.
TROUBLE = {
    "validate": ("[[sim:delay=0.1]]", "input_"),
    "reserve": ("[[sim:delay=0.1]]", "budget_exceeded"),
    "submit": ("[[sim:reject=400]]", "vendor_rejected"),
    "resolve": ("[[sim:submit-502-accepted]][[sim:delay=0.5]]", ""),
    "wait": ("[[sim:fail=SensitiveContent]][[sim:status-500=2]]", "vendor_"),
    "persist": ("[[sim:asset-html]][[sim:delay=0.1]]", "asset_"),
}


def secrets_of(stack: Stack) -> dict[str, str]:
    return {
        "prompt": CANARY,
        "tenant": TENANT,
        "vendor's words": "canary-of-the-vendor",
        "vendor key": stack.environment["ONETAKE_APIXO_API_KEY"],
        "codec key": stack.environment["ONETAKE_CODEC_KEY"],
        "S3 secret": stack.environment["ONETAKE_S3_SECRET_KEY"],
        "vendor link": "/files/task_",
        "signed link": "X-Amz-Signature",
        "callback": "/callbacks/apixo/",
        "exception": "Traceback (most recent call last)",
    }


@asynccontextmanager
async def traced(stack: Stack, collector: Collector, **env: str) -> AsyncGenerator[Onetake]:
    """A gateway, a worker and a client that all send to the collector; their last spans have come after the block."""
    on = collector.environ | env
    async with AsyncExitStack() as parts:
        gateway, url = await parts.enter_async_context(stack.gateway(**on))
        worker = await parts.enter_async_context(stack.worker(QUEUE, ONETAKE_CALLBACK_BASE_URL=url, **on))
        async with stack.client(task_queue=QUEUE, time_scale=on.get("ONETAKE_TIME_SCALE", str(TIME_SCALE))) as onetake:
            yield onetake
        for part in (worker, gateway):
            stack.kill(part, signal.SIGTERM)
            await stack.died(part)


async def run(onetake: Onetake, kind: str, marker: str) -> GenerationResult:
    given: dict[str, Any] = {"route": ROUTE, "prompt": unique(f"{CANARY} {marker}"), "duration_s": 2, "tenant": TENANT}
    if kind == "validate":  # a host that nobody trusts
        given |= {"route": ROUTE.replace("text", "image"), "image": f"http://127.0.0.1:9/{CANARY}.png"}
    if kind == "reserve":
        given |= {"user": "poor"}
    if kind == "persist":  # at the scale of its plan its time would be over before it has begun
        given |= {"deadline_s": 3600}
    started = await onetake.start(**given)
    return await ended(onetake, started.id)


ONCE = {"StartWorkflow:Generation", "CompleteWorkflow:Generation", "StartActivity:apixo.submit", "POST apixo"}
OTHERS = {
    "RunWorkflow:Generation",
    *(f"{begun}:{step}" for begun in ("StartActivity", "RunActivity") for step in ("validate", "reserve", "settle")),
    *("RunActivity:apixo.submit", "callback apixo", "SignalWorkflow:vendor_callback", "HandleSignal:vendor_callback"),
    *("StartActivity:persist", "RunActivity:persist", "GET apixo"),
}


async def test_one_trace_from_the_client_over_the_gateway_to_the_vendor(
    stack: Stack, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the history of a run that was traced is one that the code without traces would have written."""
    async with traced(stack, collector, **UNHURRIED) as onetake:
        done = await run(onetake, "", "[[sim:delay=0.5]]")
        await asyncio.to_thread(collector.until, lambda: {*names_of(collector.of(done.id))} >= ONCE | OTHERS)
    assert done.status == "completed"
    names = Counter(names_of(collector.of(done.id)))
    assert names.keys() == ONCE | OTHERS
    assert {name for name in names if names[name] == 1} >= ONCE  # a step that a busy ledger refused is begun again
    assert collector.services == {"onetake-client", "onetake-gateway", "onetake-worker"}
    (sent,) = [span for span in collector.of(done.id) if span.name == "POST apixo"]
    assert attributes_of(sent) == {
        "onetake.vendor": "apixo",
        "onetake.outcome": "accepted",
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
    }
    events = await stack.closed_history(done.workflow_id)
    assert [*dict.fromkeys(activity_ids(events))] == ["validate", "reserve", "submit-1", "persist-1", "settle"]
    headers = events[0].workflow_execution_started_event_attributes.header.fields
    assert list(json.loads(headers["_tracer-data"].data)) == ["traceparent"]
    assert leaks(collector.raw, secrets_of(stack)) == []
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert (await replay_run(stack.settings(), done.workflow_id)).difference is None


def is_told(collector: Collector, generation_id: str, code: str) -> bool:
    """Whether a span of the generation has an error with such a code; any span will do where none is asked for."""
    told = (str(attributes_of(span).get("error.type", "")) for span in collector.of(generation_id))
    return any(each.startswith(code) for each in told)


async def test_no_trouble_of_any_phase_brings_a_text_into_a_span(stack: Stack, collector: Collector) -> None:
    await stack.set_budget("user", f"{TENANT}/poor", "total", "0.01")
    # At a tenth of the scale, copies that are no clip are fetched for two seconds and not for half a minute.
    async with traced(stack, collector) as onetake, stack.client(task_queue=QUEUE, time_scale="0.005") as hasty:
        clients = {"persist": hasty}
        runs = [run(clients.get(phase, onetake), phase, marker) for phase, (marker, _) in TROUBLE.items()]
        results = await asyncio.gather(*runs)
        for result, (_, code) in zip(results, TROUBLE.values(), strict=True):
            await asyncio.to_thread(collector.until, partial(is_told, collector, result.id, code))
    for result, (phase, (_, code)) in zip(results, TROUBLE.items(), strict=True):
        spans = collector.of(result.id)
        assert spans, phase
        assert is_told(collector, result.id, code), (phase, names_of(spans), result.error)
        assert all(not span.events and not span.status.message for span in spans)
    assert leaks(collector.raw, secrets_of(stack)) == []
