"""The spans of a generation: the SDK's inside workflows, which add none in a replay; and ours around what starts or
wakes a run, around each attempt of an activity, and around each exchange with a vendor.

It is the outermost interceptor: failures that reach it are translated already. It keeps their codes only.
"""

import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Final, cast

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from temporalio import activity
from temporalio.api.common.v1 import Payload
from temporalio.client import OutboundInterceptor, SignalWorkflowInput, StartWorkflowInput, WorkflowHandle
from temporalio.contrib.opentelemetry import TracingInterceptor, TracingWorkflowInboundInterceptor
from temporalio.converter import PayloadConverter
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory, WorkflowAlreadyStartedError
from temporalio.service import RPCError
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

from onetake.core import logs
from onetake.core.calls import VendorCall
from onetake.core.errors import CATALOGUE
from onetake.tracing import calls
from onetake.tracing.export import GENERATION_ID, Spans, generation_in, trace_id

ERROR: Final = "error.type"
_PARENT: Final = "traceparent"

_log = logs.logger(__name__)


def trace_id_of(generation_id: str) -> int:
    """The trace of a generation: the first half of its id's sha256."""
    return int.from_bytes(sha256(generation_id.encode()).digest()[:16])


class _IdsOnly(TextMapPropagator):
    """`traceparent` alone: what others keep in `tracestate` and `baggage` would stand in the history in clear."""

    def __init__(self) -> None:
        self._inner = TraceContextTextMapPropagator()

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        return self._inner.extract(carrier, context, getter)

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        all_of_it: dict[str, str] = {}
        self._inner.inject(all_of_it, context)
        if _PARENT in all_of_it:
            setter.set(carrier, _PARENT, all_of_it[_PARENT])

    @property
    def fields(self) -> set[str]:
        return {_PARENT}


IDS_ONLY: Final = _IdsOnly()


class _Readable(PayloadConverter):
    """Headers as the SDK writes them. Others may send any under the same name: what cannot be read counts as none, for
    no run and no answer may fail of it."""

    def to_payloads(self, values: Sequence[Any]) -> list[Payload]:
        return self.default.to_payloads(values)

    def from_payloads(self, payloads: Sequence[Payload], type_hints: list[type] | None = None) -> list[Any]:
        try:
            carriers = self.default.from_payloads(payloads, type_hints)
        except Exception:  # noqa: BLE001 - a converter raises whatever its bytes lead it to
            return [{}] * len(payloads)
        return [each if _is_carrier(each) else {} for each in carriers]


def _is_carrier(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(each, str) for each in cast("dict[object, object]", value).values()
    )


READABLE: Final = _Readable()


@dataclass
class Attempt:
    """One attempt of an activity, from its begin; `code` is the failure that it ended with."""

    info: activity.Info
    generation_id: str | None
    calls: list[VendorCall] = field(default_factory=list[VendorCall])
    began_ns: int = field(default_factory=time.time_ns)
    code: str | None = None
    benign: bool = False

    def fails_with(self, error: BaseException) -> None:
        if isinstance(error, ApplicationError):
            self.benign = error.category is ApplicationErrorCategory.BENIGN
        self.code = code_of(error)

    @property
    def is_told(self) -> bool:
        """A render of 20 minutes is read a hundred times, and a full vendor is asked about as often: attempts that are
        part of the wait are left out, unless they have submitted."""
        return not self.benign or any(call.method == "POST" for call in self.calls)


class Tracing(TracingInterceptor):
    """Give it to a client, which gives it to its workers."""

    def __init__(self, spans: Spans) -> None:
        super().__init__(spans.tracer, always_create_workflow_spans=False)
        self.spans = spans
        self.text_map_propagator = IDS_ONLY
        self.payload_converter = READABLE

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:  # noqa: A002
        return _Client(next, self)

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        return _Activity(next, self)

    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: A002
    ) -> type[TracingWorkflowInboundInterceptor]:
        super().workflow_interceptor_class(input)
        return _Workflow

    def _completed_workflow_span(self, params: Any) -> Any:
        """See TracingInterceptor. The failure of a workflow becomes its code."""
        if params.exception is not None:
            attributes = {**params.attributes, ERROR: code_of(params.exception)}
            params = replace(params, exception=None, attributes=attributes)
        return super()._completed_workflow_span(params)

    @contextmanager
    def around(self, name: str, generation_id: str) -> Generator[Mapping[str, Payload]]:
        """A span that begins the generation's trace, or joins it, around a call to Temporal; yields the call's headers.

        A caller's own trace is not gone on with: its span and this one are linked to each other."""
        caller = trace.get_current_span()
        with (
            _in_trace_of(generation_id),
            self.tracer.start_as_current_span(
                name,
                Context(),
                SpanKind.CLIENT,
                {GENERATION_ID: generation_id},
                links_to(caller.get_span_context()),
                record_exception=False,
                set_status_on_exception=False,
            ) as span,
        ):
            if caller.is_recording():
                caller.add_link(span.get_span_context())
            try:
                yield self._context_to_headers({})
            except Exception as error:
                if not isinstance(error, WorkflowAlreadyStartedError):
                    span.set_status(Status(StatusCode.ERROR))
                span.set_attribute(ERROR, code_of(error))
                raise

    def write_callback(self, vendor: str, generation_id: str, began_ns: int, ended_ns: int) -> None:
        """A callback that came and was stored."""
        about = {GENERATION_ID: generation_id, "onetake.vendor": vendor, "http.request.method": "POST"}
        with _in_trace_of(generation_id):
            span = self.tracer.start_span(
                f"callback {vendor}", Context(), SpanKind.SERVER, about, start_time=began_ns, record_exception=False
            )
        span.end(ended_ns)

    def write_attempt(self, attempt: Attempt, headers: Mapping[str, Payload]) -> None:
        """An attempt and its exchanges. A run that no tracing client started has no parent to offer: they join the
        generation's trace by its id. What belongs to no generation is not told."""
        parent = self._context_from_headers(headers)
        if not attempt.is_told or (parent is None and attempt.generation_id is None):
            return
        with _in_trace_of(attempt.generation_id):
            span = self.tracer.start_span(
                f"RunActivity:{attempt.info.activity_type}",
                parent or Context(),
                SpanKind.SERVER,
                dict(_about(attempt)),
                start_time=attempt.began_ns,
            )
        for call in attempt.calls:
            self._write_call(call, trace.set_span_in_context(span, Context()))
        if attempt.code and not attempt.benign:
            span.set_status(Status(StatusCode.ERROR))
        span.end()

    def _write_call(self, call: VendorCall, context: Context) -> None:
        status = {} if call.status is None else {"http.response.status_code": call.status}
        about = {
            "onetake.vendor": call.vendor,
            "onetake.outcome": call.outcome,
            "http.request.method": call.method,
            "server.address": call.host,
        }
        name = f"{call.method} {call.vendor}"
        span = self.tracer.start_span(name, context, SpanKind.CLIENT, about | status, start_time=call.began_ns)
        span.end(call.ended_ns)


class _Workflow(TracingWorkflowInboundInterceptor):
    def __init__(self, next: WorkflowInboundInterceptor) -> None:  # noqa: A002
        super().__init__(next)
        self.text_map_propagator = IDS_ONLY
        self.payload_converter = READABLE


class _Client(OutboundInterceptor):
    """Spans around what starts or wakes the run of a generation, and around nothing else."""

    def __init__(self, next: OutboundInterceptor, tracing: Tracing) -> None:  # noqa: A002
        super().__init__(next)
        self._tracing = tracing

    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:  # noqa: A002
        if (generation_id := generation_in(input.id)) is None:
            return await super().start_workflow(input)
        kind = "SignalWithStartWorkflow" if input.start_signal else "StartWorkflow"
        with self._tracing.around(f"{kind}:{input.workflow}", generation_id) as headers:
            input.headers = {**input.headers, **headers}
            return await super().start_workflow(input)

    async def signal_workflow(self, input: SignalWorkflowInput) -> None:  # noqa: A002
        if (generation_id := generation_in(input.id)) is None:
            return await super().signal_workflow(input)
        with self._tracing.around(f"SignalWorkflow:{input.signal}", generation_id) as headers:
            input.headers = {**input.headers, **headers}
            return await super().signal_workflow(input)


class _Activity(ActivityInboundInterceptor):
    """Writes an attempt's spans when it is over: until then nobody knows whether it is worth telling."""

    def __init__(self, next: ActivityInboundInterceptor, tracing: Tracing) -> None:  # noqa: A002
        super().__init__(next)
        self._tracing = tracing

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        info = activity.info()
        message = input.args[0] if input.args else None
        generation_id = getattr(message, "generation_id", None) or generation_in(info.workflow_id or "")
        attempt = Attempt(info, generation_id)
        before = calls.set(attempt.calls)
        try:
            return await super().execute_activity(input)
        except BaseException as error:
            attempt.fails_with(error)
            raise
        finally:
            calls.reset(before)
            self._write(attempt, input.headers)

    def _write(self, attempt: Attempt, headers: Mapping[str, Payload]) -> None:
        """Never fails the activity: its answer may be that of a POST."""
        try:
            self._tracing.write_attempt(attempt, headers)
        except Exception as error:  # noqa: BLE001 - what is traced goes on, whatever is wrong with tracing
            _log.error("attempt_not_traced", error_type=type(error).__name__)


def code_of(error: BaseException) -> str:
    """What may be told of an error: its code in our catalogue, the status of a call to Temporal, or its class."""
    if isinstance(error, RPCError):
        return error.status.name
    if isinstance(error, ApplicationError) and error.type in CATALOGUE:
        return error.type
    return type(error).__name__


def links_to(context: SpanContext) -> list[Link]:
    """A link to a span, if there is one."""
    return [Link(context)] if context.is_valid else []


@contextmanager
def _in_trace_of(generation_id: str | None) -> Generator[None]:
    """What begins here without a parent is in the trace of this generation."""
    before = trace_id.set(trace_id_of(generation_id) if generation_id else None)
    try:
        yield
    finally:
        trace_id.reset(before)


def _about(attempt: Attempt) -> Iterable[tuple[str, str | int]]:
    info = attempt.info
    yield "temporalActivityID", info.activity_id
    yield "onetake.try", info.attempt
    if info.workflow_run_id:
        yield "temporalRunID", info.workflow_run_id
    if attempt.generation_id:
        yield GENERATION_ID, attempt.generation_id
    if attempt.code:
        yield ERROR, attempt.code
