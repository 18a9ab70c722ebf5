"""Where spans go: to a collector by OTLP over HTTP, in batches, from a thread of its own, and through a wall."""

import asyncio
import os
import re
import threading
from collections.abc import Sequence
from contextlib import suppress
from contextvars import ContextVar
from importlib.metadata import version
from typing import Final, Self

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import Link, SpanContext, Status
from opentelemetry.util.types import Attributes, AttributeValue

from onetake.core import logs
from onetake.core.ids import is_generation_id

FLUSH_LIMIT_S: Final = 1.0  # at the end of a process; with the collector away the SDK would take ten times that
GENERATION_ID: Final = "onetake.generation_id"
WORKFLOW_ID: Final = "temporalWorkflowID"  # holds the tenant's name
ATTRIBUTES: Final = frozenset({
    GENERATION_ID, "temporalRunID", "temporalActivityID", "onetake.try", "onetake.vendor", "onetake.outcome",
    "error.type", "http.request.method", "http.response.status_code", "server.address",
})  # fmt: skip
_NAME: Final = re.compile(r"[A-Za-z]+(?:[: ][\w.]{1,80})?")
_WORD: Final = re.compile(r"[\w.:/-]{1,200}")
_SECRET_HEADERS: Final = ("OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS")

# The trace that a span without a parent begins, or joins.
trace_id: ContextVar[int | None] = ContextVar("trace_id", default=None)

_log = logs.logger(__name__)


class Spans:
    """A tracer of this package's own: whoever has set a global one keeps it. `OTEL_TRACES_SAMPLER` says which traces
    are kept; of one trace all processes keep all or nothing."""

    def __init__(self, exporter: SpanExporter, service: str) -> None:
        ours = Resource({"service.name": service, "service.version": version("onetake")})
        self.provider = TracerProvider(
            resource=Resource.create().merge(ours).merge(OTELResourceDetector().detect()),
            id_generator=_Ids(),
            shutdown_on_exit=False,
        )
        self.provider.add_span_processor(BatchSpanProcessor(Wall(exporter)))
        self.tracer = self.provider.get_tracer("onetake")

    @classmethod
    def to_collector(cls, service: str) -> Self:
        """To where the environment says."""
        for name in _SECRET_HEADERS:
            for pair in os.environ.get(name, "").split(","):
                logs.mask(pair.partition("=")[2].strip())
        return cls(OTLPSpanExporter(), service)

    async def flush(self, limit_s: float = FLUSH_LIMIT_S) -> None:
        """Send what waits, for so long at most; what is not sent then is lost."""
        loop, sent = asyncio.get_running_loop(), asyncio.Event()

        def send() -> None:
            self.provider.force_flush()
            with suppress(RuntimeError):  # nobody waits any more
                loop.call_soon_threadsafe(sent.set)

        # Not a thread of the loop's: asyncio would wait for that one at its end.
        threading.Thread(target=send, name="onetake-last-spans", daemon=True).start()
        with suppress(TimeoutError):
            await asyncio.wait_for(sent.wait(), limit_s)


class _Ids(RandomIdGenerator):
    def generate_trace_id(self) -> int:
        return trace_id.get() or super().generate_trace_id()


class Wall(SpanExporter):
    """Passes on ids, names, codes and times only, whatever a library has written into a span."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._reached = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export([bare(span) for span in spans])
        reached = result is SpanExportResult.SUCCESS
        if reached != self._reached:
            said = _log.info if reached else _log.warning
            said("traces_sent" if reached else "traces_not_sent", count=len(spans))
        self._reached = reached
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def bare(span: ReadableSpan) -> ReadableSpan:
    """The span without events, descriptions, and attributes that are not listed or not one word."""
    return ReadableSpan(
        name=span.name if _NAME.fullmatch(span.name) else "unnamed",
        context=_ids_of(span.get_span_context()),
        parent=_ids_of(span.parent),
        resource=span.resource,
        attributes=_words_of(span.attributes),
        links=[Link(ids) for link in span.links if (ids := _ids_of(link.context))],
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def generation_in(workflow_id: str) -> str | None:
    """The generation that a workflow of our own form serves: its run, or a recovery."""
    kind, _, rest = workflow_id.partition("/")
    candidate = rest.rpartition("/")[2]
    return candidate if kind in {"gen", "recover"} and is_generation_id(candidate) else None


def _words_of(attributes: Attributes) -> dict[str, AttributeValue]:
    given = dict(attributes or {})
    workflow_id = given.get(WORKFLOW_ID)
    if isinstance(workflow_id, str) and (generation_id := generation_in(workflow_id)):
        given[GENERATION_ID] = generation_id
    return {name: value for name, value in given.items() if name in ATTRIBUTES and _is_word(value)}


def _is_word(value: object) -> bool:
    return isinstance(value, int) or (isinstance(value, str) and _WORD.fullmatch(value) is not None)


def _ids_of(context: SpanContext | None) -> SpanContext | None:
    """Without the state that tracers of others add to it."""
    if context is None:
        return None
    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags)
