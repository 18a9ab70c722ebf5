"""The switch, the wall around what leaves, the end of a process, and what a driver says of an exchange."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence

import httpx
import pytest
from opentelemetry import baggage, trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext, StatusCode, TraceFlags, TraceState

from onetake import tracing
from onetake.core.calls import VendorCall
from onetake.core.errors import Refused, TryLater
from onetake.core.ids import new_generation_id, recovery_id_of, workflow_id_of
from onetake.core.settings import Settings
from onetake.engine.temporal import plugin
from onetake.tracing.export import ATTRIBUTES, Spans, bare, generation_in
from onetake.tracing.interceptor import IDS_ONLY, Tracing, trace_id_of
from providers import apixo
from providers.driver import Clients, Driver
from tests.faults.table import expect
from tests.providers.breaking import ACCEPTED, resetting
from tests.providers.parts import API_KEY, PATIENT, submission
from tests.providers.sockets import Play, answer, answering, free_port, serving
from tests.tracing.collector import LIMIT_S, Collector, names_of

CANARY = "canary of the sunken lighthouse"
OTHERS = SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(1), trace_state=TraceState([("other", "canary")]))


def settings() -> Settings:
    return Settings(insecure_plaintext_history=True)


# -- The switch --------------------------------------------------------------------------------------------------------


def test_without_a_collector_nothing_is_traced_and_nothing_is_loaded() -> None:
    code = """
import sys
from onetake.core.settings import Settings
from onetake.engine.temporal import plugin
import onetake.client, onetake.gateway, onetake.worker
names = [type(each).__name__ for each in plugin(Settings(insecure_plaintext_history=True)).interceptors]
loaded = [name for name in sys.modules if name.startswith("opentelemetry.sdk") or name == "requests"]
print(names, loaded)
"""
    environ = {"PATH": "/usr/bin:/bin"}
    run = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "['UnderWay', 'FailureText', 'Measuring', 'StrictArguments'] []"


def test_traces_are_outside_of_what_translates_failures(collector: Collector) -> None:
    assert collector.spans == []
    names = [type(each).__name__ for each in plugin(settings()).interceptors or ()]
    assert names == ["UnderWay", "Tracing", "FailureText", "Measuring", "StrictArguments"]


def test_the_standard_switch_turns_them_off(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(tracing.interceptors()) == 1
    monkeypatch.setenv("OTEL_SDK_DISABLED", "True")
    assert tracing.interceptors() == []
    assert collector.raw == b""


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://without-the-extra:4318")
    monkeypatch.setitem(sys.modules, "onetake.tracing.export", None)
    with pytest.raises(Refused, match=r"pip install 'onetake\[otel\]'") as refused:
        plugin(settings())
    assert refused.value.code == "settings_invalid"


def test_another_protocol_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://by-grpc:4317")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(Refused, match="OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf"):
        plugin(settings())


# -- The wall ----------------------------------------------------------------------------------------------------------


def a_span_that_says_too_much(spans: Spans) -> None:
    about = dict.fromkeys(ATTRIBUTES, CANARY) | {"prompt": "canary", "temporalWorkflowID": "gen/canary/of-a-tenant"}
    span = spans.tracer.start_span(f"{CANARY} and more", attributes=about, links=[Link(OTHERS, {"a": CANARY})])
    span.add_event(CANARY, {"a": CANARY})
    span.record_exception(ValueError(CANARY))
    span.set_status(StatusCode.ERROR, CANARY)
    span.end()


def test_no_text_leaves_whatever_a_library_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "theirs")
    memory = InMemorySpanExporter()
    spans = Spans(memory, "ours")
    a_span_that_says_too_much(spans)
    spans.provider.force_flush()
    (told,) = memory.get_finished_spans()
    seen = "a text" if "canary" in told.to_json() else "words of closed lists only"
    expect("S71", sees=seen, ledger=(), jobs=0, end="span")
    assert (told.name, told.status.status_code, told.events) == ("unnamed", StatusCode.ERROR, ())
    assert told.resource.attributes["service.name"] == "theirs"
    assert [link.context.trace_id for link in told.links] == [OTHERS.trace_id]


def test_ids_names_codes_and_times_leave() -> None:
    generation_id = new_generation_id()
    about = {
        "temporalWorkflowID": workflow_id_of("acme", generation_id),
        "error.type": "vendor_failed",
        "onetake.try": 3,
    }
    told = bare(ReadableSpan("RunActivity:gmi.submit", attributes=about, start_time=1, end_time=2))
    assert dict(told.attributes or {}) == {
        "onetake.generation_id": generation_id, "error.type": "vendor_failed", "onetake.try": 3,
    }  # fmt: skip
    assert (told.name, told.start_time, told.end_time) == ("RunActivity:gmi.submit", 1, 2)


def test_the_generation_is_known_by_our_own_workflow_ids_only() -> None:
    generation_id = new_generation_id()
    assert generation_in(workflow_id_of("a/b", generation_id)) == generation_id
    assert generation_in(recovery_id_of("acme", generation_id)) == generation_id
    assert generation_in(f"other/acme/{generation_id}") is None
    assert generation_in("gen/acme/canary") is None


def test_a_history_gets_ids_and_nothing_that_others_add() -> None:
    context = baggage.set_baggage("customer", "canary", trace.set_span_in_context(trace.NonRecordingSpan(OTHERS)))
    carrier: dict[str, str] = {}
    IDS_ONLY.inject(carrier, context)
    assert carrier == {"traceparent": f"00-{1:032x}-{2:016x}-01"}


def test_a_callers_span_and_the_generations_are_linked() -> None:
    memory = InMemorySpanExporter()
    ours, theirs = Spans(memory, "ours"), Spans(memory, "theirs")
    generation_id = new_generation_id()
    with theirs.tracer.start_as_current_span("caller"), Tracing(ours).around("StartWorkflow:Generation", generation_id):
        pass
    ours.provider.force_flush()
    theirs.provider.force_flush()
    started, caller = memory.get_finished_spans()
    assert started.context is not None
    assert caller.context is not None
    assert (started.parent, started.context.trace_id) == (None, trace_id_of(generation_id))
    assert [link.context.span_id for link in started.links] == [caller.context.span_id]
    assert [link.context.span_id for link in caller.links] == [started.context.span_id]


@pytest.mark.parametrize(("ratio", "kept"), [("0", 0), ("1", 8)])
def test_of_a_trace_all_or_nothing_is_kept(monkeypatch: pytest.MonkeyPatch, ratio: str, kept: int) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", ratio)
    memory = InMemorySpanExporter()
    spans = Spans(memory, "ours")
    for _ in range(4):
        generation_id = new_generation_id()
        with Tracing(spans).around("StartWorkflow:Generation", generation_id):
            pass
        Tracing(spans).write_callback("gmi", generation_id, 1, 2)
    spans.provider.force_flush()
    assert len(memory.get_finished_spans()) == kept


# -- The end of a process ----------------------------------------------------------------------------------------------


class Away(SpanExporter):
    """A collector that does not answer before it is told to."""

    def __init__(self) -> None:
        self.told = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        del spans
        self.told.wait()
        return SpanExportResult.FAILURE


async def test_a_collector_that_is_away_holds_up_no_end() -> None:
    away = Away()
    spans = Spans(away, "ours")
    spans.tracer.start_span("waits").end()
    await spans.flush(limit_s=0.05)
    assert not away.told.is_set()  # the flush has ended, and the collector has not answered
    away.told.set()


def test_a_process_ends_although_its_collector_never_answers() -> None:
    code = """
import asyncio, sys
from onetake import tracing
async def main():
    async with tracing.traced_as("ends"):
        tracing.note_callback("gmi", "gen_01a22839-ef04-7506-8f67-e960bea7369d", 1)
        sys.stdin.read()
asyncio.run(main())
"""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_EXPORTER_OTLP_TIMEOUT": "86400"}
        environ |= {"OTEL_BSP_SCHEDULE_DELAY": "10"}
        words = [sys.executable, "-c", code]
        with subprocess.Popen(words, env=os.environ | environ, stdin=subprocess.PIPE) as process:
            silent.settimeout(LIMIT_S)
            asked, _ = silent.accept()  # and its end is held up by an answer that never comes
            with asked:
                process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0


async def test_what_waits_is_sent_at_the_end(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "86400000")
    async with tracing.traced_as("onetake-test"):
        tracing.note_callback("gmi", new_generation_id(), 1)
    collector.until(lambda: bool(collector.spans))  # on a busy machine the process goes on before they have come
    assert names_of(collector.spans) == ["callback gmi"]
    assert collector.services == {"onetake-test"}


# -- What a driver says ------------------------------------------------------------------------------------------------


async def calls_of(play: Play) -> list[VendorCall]:
    """What is said of a submission and a read."""
    noted: list[VendorCall] = []
    async with serving(play) as server, Clients.opened(PATIENT) as clients:
        driver = _driver(server.url, clients, noted)
        await driver.submit(submission())
        with pytest.raises(TryLater):
            await driver.read_status(submission().plan, "task")
    return noted


def _driver(url: str, clients: Clients, noted: list[VendorCall]) -> Driver:
    outbound = None
    return Driver("apixo", apixo, url, API_KEY, clients=clients, outbound=outbound, note=noted.append)  # type: ignore[arg-type]


def told(calls: list[VendorCall]) -> list[tuple[str, str, str, int | None]]:
    return [(call.method, call.host, call.outcome, call.status) for call in calls]


async def test_an_exchange_is_told_by_method_host_outcome_and_status() -> None:
    noted = await calls_of(answering(answer(200, ACCEPTED)))
    assert told(noted)[0] == ("POST", "127.0.0.1", "accepted", 200)
    assert noted[0].vendor == "apixo"
    assert noted[0].began_ns <= noted[0].ended_ns <= noted[1].began_ns
    assert told(await calls_of(answering(answer(429, b"{}"))))[1] == ("GET", "127.0.0.1", "vendor_throttled", 429)


async def test_an_exchange_without_an_answer_is_told_too() -> None:
    assert told(await calls_of(resetting)) == [
        ("POST", "127.0.0.1", "ambiguous", None),
        ("GET", "127.0.0.1", "vendor_unavailable", None),
    ]
    noted: list[VendorCall] = []
    async with Clients.opened(httpx.Timeout(5)) as clients:
        await _driver(f"http://127.0.0.1:{free_port()}", clients, noted).submit(submission())
    assert told(noted) == [("POST", "127.0.0.1", "not_sent", None)]
