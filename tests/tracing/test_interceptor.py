"""The spans of a run on a real server: its tree, what replays add, what failures say, and what has no span."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from io import StringIO
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from temporalio.api.common.v1 import Payload
from temporalio.client import (
    Client,
    Interceptor,
    OutboundInterceptor,
    SignalWorkflowInput,
    StartWorkflowInput,
    WorkflowFailureError,
    WorkflowHandle,
)
from temporalio.testing import ActivityEnvironment
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Worker

from onetake.core import logs
from onetake.core.calls import VendorCall
from onetake.core.contracts import WakeSignal
from onetake.core.ids import new_generation_id, workflow_id_of
from onetake.core.settings import Settings
from onetake.engine.temporal import connect
from onetake.tracing import interceptors, note_call
from onetake.tracing.export import Spans
from onetake.tracing.interceptor import Tracing
from tests.servers import Servers
from tests.tracing.collector import LIMIT_S, Collector, attributes_of, names_of
from tests.tracing.parts import PATIENT, TRIES, Step, Stepping, step

QUEUE = "traces"
CANARY = "canary-of-the-sunken-lighthouse"
WHOLE = [
    "StartWorkflow:Stepping", "RunWorkflow:Stepping", "StartActivity:step", "RunActivity:step", "StartActivity:step",
    "RunActivity:step", "SignalWorkflow:wake", "HandleSignal:wake", "CompleteWorkflow:Stepping",
]  # fmt: skip


@pytest.fixture(scope="module")
def at(servers: Servers) -> Mapping[str, str]:
    return servers.of_ones_own("traces")


@pytest.fixture
async def client(collector: Collector, at: Mapping[str, str]) -> Client:
    """Traced: the collector is a new one for each test."""
    assert collector.url
    return await _connected(at)


async def _connected(at: Mapping[str, str]) -> Client:
    settings = Settings(insecure_plaintext_history=True)
    return await connect(settings, address=at["TEMPORAL_ADDRESS"], namespace=at["TEMPORAL_NAMESPACE"])


async def spans_of(client: Client, collector: Collector, kinds: str, *, cached: int = 100) -> list[Span]:
    """Run one that does these steps, and wake it."""
    order = Step(generation_id=new_generation_id(), kind=kinds, prompt=CANARY)
    workflow_id = workflow_id_of("tenant-of-the-canary", order.generation_id)
    worker = Worker(
        client, task_queue=QUEUE, workflows=[Stepping], activities=[step], max_cached_workflows=cached,
        max_concurrent_workflow_task_polls=2 if cached else 1,
    )  # fmt: skip
    async with worker:
        handle = await client.start_workflow(
            Stepping.run, order, id=workflow_id, task_queue=QUEUE, task_timeout=PATIENT
        )
        await asyncio.sleep(0.3)  # it waits by then, or is woken before: its spans are the same
        await handle.signal(Stepping.wake, WakeSignal(attempt=1))
        try:
            await handle.result()
        except WorkflowFailureError:
            assert {"failed", "bug"} & set(kinds.split())
    (tracing,) = interceptors()
    await tracing.spans.flush(LIMIT_S)
    return collector.of(order.generation_id)


async def test_a_run_is_one_trace_from_its_start(client: Client, collector: Collector) -> None:
    spans = await spans_of(client, collector, "well")
    assert Counter(names_of(spans)) == Counter(WHOLE)
    assert len(collector.spans) == len(spans)  # in this trace, and in no other
    root, by_id = spans[0], {span.span_id: span.name for span in spans}
    parents = {span.name: by_id.get(span.parent_span_id) for span in spans}
    assert root.name == "StartWorkflow:Stepping"
    assert parents == {
        "StartWorkflow:Stepping": None,
        "RunWorkflow:Stepping": "StartWorkflow:Stepping",
        "StartActivity:step": "StartWorkflow:Stepping",
        "RunActivity:step": "StartActivity:step",
        "SignalWorkflow:wake": None,
        "HandleSignal:wake": "StartWorkflow:Stepping",
        "CompleteWorkflow:Stepping": "StartWorkflow:Stepping",
    }
    (handled,) = [span for span in spans if span.name == "HandleSignal:wake"]
    assert [by_id[link.span_id] for link in handled.links] == ["SignalWorkflow:wake"]


async def test_replays_add_no_span(client: Client, collector: Collector) -> None:
    """Without a cache each task of the workflow begins with a replay."""
    assert Counter(names_of(await spans_of(client, collector, "well", cached=0))) == Counter(WHOLE)


@pytest.mark.parametrize(("kind", "code", "tries"), [("failed", "vendor_failed", 1), ("bug", "internal_error", TRIES)])
async def test_a_failure_is_told_by_its_code_alone(
    client: Client, collector: Collector, kind: str, code: str, tries: int
) -> None:
    spans = await spans_of(client, collector, kind)
    failed = [span for span in spans if span.status.code == Status.STATUS_CODE_ERROR]
    assert names_of(failed) == ["RunActivity:step"] * tries
    assert {attributes_of(span)["error.type"] for span in failed} == {code}
    (ended,) = [span for span in spans if span.name == "CompleteWorkflow:Stepping"]
    assert attributes_of(ended)["error.type"] == "ActivityError"
    assert b"canary" not in collector.raw
    assert all(not span.events and not span.status.message for span in spans)


async def test_attempts_that_find_the_job_open_have_no_span(client: Client, collector: Collector) -> None:
    spans = await spans_of(client, collector, "open")
    runs = [attributes_of(span)["onetake.try"] for span in spans if span.name == "RunActivity:step"]
    assert sorted(runs) == [1, 3]  # the local step, and the try that ended it


async def test_no_tenant_is_named(client: Client, collector: Collector) -> None:
    spans = await spans_of(client, collector, "well")
    assert b"tenant-of" not in collector.raw
    assert all("onetake.generation_id" in attributes_of(span) for span in spans)


async def test_a_run_that_no_traced_client_started_is_told_by_its_activities(
    collector: Collector, at: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    generation_id = new_generation_id()
    order = Step(generation_id=generation_id, kind="well", prompt=CANARY)
    traced = await _connected(at)
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    plain = await _connected(at)
    monkeypatch.delenv("OTEL_SDK_DISABLED")
    async with Worker(traced, task_queue=QUEUE, workflows=[Stepping], activities=[step]):
        handle = await plain.start_workflow(
            Stepping.run, order, id="chosen-by-others", task_queue=QUEUE, task_timeout=PATIENT
        )
        started = await anext(handle.fetch_history_events())
        assert "_tracer-data" not in started.workflow_execution_started_event_attributes.header.fields
        await handle.signal(Stepping.wake, WakeSignal(attempt=1))
        await handle.result()
    (tracing,) = interceptors()
    await tracing.spans.flush(LIMIT_S)
    assert names_of(collector.of(generation_id)) == ["RunActivity:step"] * 2
    assert len(collector.spans) == 2


# -- Whatever goes wrong with tracing ----------------------------------------------------------------------------------

UNREADABLE = (
    Payload(metadata={"encoding": b"binary/encrypted"}, data=b"\x00"),
    Payload(metadata={"encoding": b"json/plain"}, data=b"{"),
    Payload(metadata={"encoding": b"json/plain"}, data=b"[1]"),
    Payload(metadata={"encoding": b"json/plain"}, data=b'{"traceparent": 7}'),
    Payload(metadata={"encoding": b"json/plain"}, data=b'{"traceparent": "00-nonsense"}'),
)


class _Posted(ActivityInboundInterceptor):
    """Has sent a POST, which was accepted."""

    def __init__(self) -> None: ...

    async def execute_activity(self, input: ExecuteActivityInput) -> str:  # noqa: A002
        del input
        note_call(VendorCall("apixo", "POST", "vendor.example", "accepted", 200, 1, 2))
        return "accepted"


async def _answer_of(tracing: Tracing, headers: Mapping[str, Payload]) -> object:
    posted = tracing.intercept_activity(_Posted())
    order = Step(generation_id=new_generation_id(), kind="well", prompt=CANARY)
    given = ExecuteActivityInput(fn=step, args=[order], executor=None, headers=headers)
    return await ActivityEnvironment().run(posted.execute_activity, given)


@pytest.mark.parametrize("header", UNREADABLE)
async def test_an_accepted_submission_survives_a_header_that_cannot_be_read(header: Payload) -> None:
    memory = InMemorySpanExporter()
    tracing = Tracing(Spans(memory, "onetake"))
    assert await _answer_of(tracing, {tracing.header_key: header}) == "accepted"
    tracing.spans.provider.force_flush()
    assert sorted(span.name for span in memory.get_finished_spans()) == ["POST apixo", "RunActivity:unknown"]


async def test_an_accepted_submission_survives_a_tracer_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    tracing = Tracing(Spans(InMemorySpanExporter(), "onetake"))

    def failing(*_: object) -> None:
        raise LookupError(CANARY)

    monkeypatch.setattr(tracing, "write_attempt", failing)
    stream = StringIO()
    logs.configure(stream=stream)
    assert await _answer_of(tracing, {}) == "accepted"
    assert "attempt_not_traced" in stream.getvalue()
    assert CANARY not in stream.getvalue()


class _Meddling(Interceptor):
    """A client whose headers nobody can read."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:  # noqa: A002
        return _Headers(next)


class _Headers(OutboundInterceptor):
    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:  # noqa: A002
        input.headers = {"_tracer-data": UNREADABLE[0]}
        return await super().start_workflow(input)

    async def signal_workflow(self, input: SignalWorkflowInput) -> None:  # noqa: A002
        input.headers = {"_tracer-data": UNREADABLE[2]}
        await super().signal_workflow(input)


async def test_a_run_goes_on_whatever_header_it_was_started_or_woken_with(
    client: Client, collector: Collector, at: Mapping[str, str]
) -> None:
    order = Step(generation_id=new_generation_id(), kind="well", prompt=CANARY)
    meddling = await Client.connect(
        at["TEMPORAL_ADDRESS"],
        namespace=at["TEMPORAL_NAMESPACE"],
        data_converter=client.data_converter,
        interceptors=[_Meddling()],
    )
    async with Worker(client, task_queue=QUEUE, workflows=[Stepping], activities=[step]):
        handle = await meddling.start_workflow(
            Stepping.run, order, id=f"by-{order.generation_id}", task_queue=QUEUE, task_timeout=PATIENT
        )
        await handle.signal(Stepping.wake, WakeSignal(attempt=1))
        over, _ = await asyncio.wait({asyncio.create_task(handle.result())}, timeout=LIMIT_S)
        assert [each.result() for each in over] == [CANARY], "the run stands still"
    (tracing,) = interceptors()
    await tracing.spans.flush(LIMIT_S)
    assert names_of(collector.of(order.generation_id)) == ["RunActivity:step"] * 2
