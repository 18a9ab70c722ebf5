"""The end of each phase, told once: a line in the log, and what is counted.

It stands around the activities, where it sees typed orders and answers, and not in workflow code, which a replay
repeats. A try that ends no phase tells nothing, and a process tells the end of a run's phase once. Another process may
tell it again: when the first died before Temporal had the answer, or when the read that a callback cut short found the
same end. The ledger has the exact sums.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, cast

from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from onetake.core import logs, names
from onetake.core.contracts import (
    ErrorInfo,
    GenerationResult,
    InspectInput,
    Persisted,
    PersistInput,
    ReadInput,
    Reserved,
    ReserveInput,
    ResolveInput,
    SettleInput,
    StatusReading,
    Submission,
    SubmitInput,
    Validated,
    ValidateInput,
)
from onetake.core.errors import OnetakeError, Refused, TryLater
from onetake.core.ids import is_generation_id, made_at
from onetake.core.names import Phase
from onetake.metrics import instruments

# After these a run goes on with the same phase: records are written again, or the vendor is asked once more.
_GOES_ON: Final = frozenset({"records_lost", "vendor_protocol_error", "vendor_failed"})

MOST_REMEMBERED: Final = 10_000

_log = logs.logger(__name__)


@dataclass(frozen=True)
class PhaseEnd:
    """The end of one phase of a generation. `before_s` is what it had taken before this activity was scheduled; None
    when it ended where this activity began, so that `seconds` is all of it."""

    phase: Phase
    outcome: str
    generation_id: str
    tenant: str
    vendor: str
    code: str = ""
    before_s: float = 0.0
    seconds: float | None = None
    micros: int | None = None
    count: Callable[[], None] = field(default=lambda: None, compare=False)


class Measuring(Interceptor):
    """Tells the ends of phases to the log and the instruments."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        return _Measuring(next)


class Told:
    """The ends that this process has told; the oldest are forgotten."""

    def __init__(self, most: int = MOST_REMEMBERED) -> None:
        self._ends = dict[tuple[str, Phase], None]()
        self._most = most

    def is_new(self, run_id: str, phase: Phase) -> bool:
        """Whether nobody has asked this before."""
        if (run_id, phase) in self._ends:
            return False
        self._ends[run_id, phase] = None
        if len(self._ends) > self._most:
            del self._ends[next(iter(self._ends))]
        return True


_told: Final = Told()


class _Measuring(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        begun, order = time.monotonic(), input.args[0] if input.args else None
        try:
            answer = await super().execute_activity(input)
        except OnetakeError as error:
            tell(order, error, begun)
            raise
        tell(order, answer, begun)
        return answer


def tell(order: Any, answer: Any, begun: float) -> None:
    """Never fails the activity: its answer may be that of a POST."""
    try:
        info = activity.info()
        if info.workflow_type == names.GENERATION_WORKFLOW:
            took_s = (info.current_attempt_scheduled_time - info.scheduled_time).total_seconds()
            for end in ends_of(order, answer, tenant=_tenant_in(info.workflow_id or "")):
                if _told.is_new(info.workflow_run_id or "", end.phase):
                    _tell_end(end, took_s + time.monotonic() - begun)
    except Exception as error:  # noqa: BLE001 - what is measured goes on, whatever is wrong with measuring
        _log.error("not_measured", error_type=type(error).__name__)


def _tell_end(end: PhaseEnd, took_s: float) -> None:
    seconds = end.seconds if end.seconds is not None else end.before_s + took_s
    instruments().phase_ended(end.phase, end.vendor, seconds)
    _log.info("phase_ended", **_fields(end, seconds))
    end.count()


def _fields(end: PhaseEnd, seconds: float) -> dict[str, Any]:
    return {
        "generation_id": end.generation_id,
        "tenant": end.tenant,
        "vendor": end.vendor or None,
        "phase": end.phase,
        "outcome": end.outcome,
        "code": end.code or None,
        "duration_s": round(seconds, 3),
        "amount_micros": end.micros,
    }


def _tenant_in(workflow_id: str) -> str:
    """Where the order names none; empty for an id that a plain client chose."""
    parts = workflow_id.split("/")
    return parts[1] if len(parts) == 3 and parts[0] == "gen" else ""


# -- What ends a phase -------------------------------------------------------------------------------------------------


def ends_of(order: Any, answer: Any, *, tenant: str = "") -> tuple[PhaseEnd, ...]:
    """The phases that ended with this answer to this order, or with this error."""
    ends = _ENDS.get(cast("type[object]", type(order)))
    if ends is None or isinstance(answer, TryLater):
        return ()
    if isinstance(answer, OnetakeError) and answer.code in _GOES_ON:
        return ()
    return tuple(replace(end, tenant=end.tenant or tenant) for end in ends(order, answer))


def _failed(of: PhaseEnd, error: OnetakeError) -> PhaseEnd:
    return replace(of, outcome="refused" if isinstance(error, Refused) else "failed", code=error.code)


def _validated(order: ValidateInput | InspectInput, answer: Validated | OnetakeError) -> list[PhaseEnd]:
    vendor = order.request.route.partition("/")[0]
    end = PhaseEnd("validating", "done", "", order.request.tenant, vendor)
    if isinstance(answer, OnetakeError):
        known = order.generation_id if isinstance(order, InspectInput) else ""
        return [_failed(replace(end, generation_id=known), answer)]
    end = replace(end, generation_id=answer.generation_id)
    if answer.plan is None:
        return [replace(end, outcome="refused", code=_code(answer.error))]
    goes_on = isinstance(order, ValidateInput) and order.request.names_media
    return [] if goes_on else [replace(end, vendor=answer.plan.vendor, micros=answer.plan.price.amount_micros)]


def _reserved(order: ReserveInput, answer: Reserved | OnetakeError) -> list[PhaseEnd]:
    end = PhaseEnd("reserving", "done", order.generation_id, order.tenant, order.vendor)
    if isinstance(answer, OnetakeError):
        return [_failed(end, answer)]
    return [] if answer.waits_for else [replace(end, micros=answer.amount_micros, count=partial(_count_hold, answer))]


def _submitted(order: SubmitInput, answer: Submission | OnetakeError) -> list[PhaseEnd]:
    end = PhaseEnd("submitting", "", order.generation_id, order.request.tenant, order.plan.vendor)
    end = replace(end, before_s=order.waited_s)
    if isinstance(answer, OnetakeError):
        return [_failed(end, answer)]
    return _outcome(end, answer)


def _resolved(order: ResolveInput, answer: Submission | OnetakeError) -> list[PhaseEnd]:
    end = PhaseEnd("resolving", "", order.generation_id, "", order.plan.vendor)
    if order.doubted:  # a look beside a phase that goes on
        return []
    return [_failed(end, answer)] if isinstance(answer, OnetakeError) else _outcome(end, answer)


def _outcome(end: PhaseEnd, answer: Submission) -> list[PhaseEnd]:
    code = _code(answer.error)
    if answer.state == "not_sent":
        return [replace(end, outcome="canceled", code=code)] if code == "canceled" else []
    outcome = "ambiguous" if answer.state == "sending" else answer.state
    return [replace(end, outcome=outcome, code=code, micros=answer.reported_micros)]


def _read(order: ReadInput, answer: StatusReading | OnetakeError) -> list[PhaseEnd]:
    end = PhaseEnd("generating", "done", order.generation_id, "", order.plan.vendor, before_s=order.elapsed_s)
    if isinstance(answer, OnetakeError):
        return [_failed(end, answer)]
    return _over(end, answer)


def _over(end: PhaseEnd, reading: StatusReading) -> list[PhaseEnd]:
    if reading.state == "open":
        return []
    if reading.state == "succeeded":
        return [replace(end, micros=reading.reported_micros)]
    code = "vendor_task_lost" if reading.state == "missing" else _code(reading.error) or "vendor_failed"
    return [replace(end, outcome="failed", code=code, micros=reading.reported_micros)]


def _persisted(order: PersistInput, answer: Persisted | OnetakeError) -> list[PhaseEnd]:
    generating = PhaseEnd("generating", "done", order.generation_id, order.tenant, order.plan.vendor)
    persisting = replace(generating, phase="persisting")
    if isinstance(answer, OnetakeError):
        return [_failed(persisting, answer)]
    first = _over(replace(generating, seconds=order.elapsed_s), answer.reading) if order.woken else []
    stored = replace(persisting, count=partial(_count_assets, answer))
    return [*first, stored] if answer.assets else first


def _settled(order: SettleInput, answer: GenerationResult | OnetakeError) -> list[PhaseEnd]:
    end = PhaseEnd("settling", "done", order.generation_id, order.tenant, "")
    if isinstance(answer, OnetakeError):
        return [_failed(end, answer)]
    vendor, settled = answer.route.partition("/")[0], answer.cost.settled_micros
    whole = _age_s(order.generation_id)
    ended = PhaseEnd(
        phase="done",
        outcome=answer.status,
        generation_id=order.generation_id,
        tenant=order.tenant,
        vendor=vendor,
        code=_code(answer.error),
        seconds=whole,
        micros=settled,
        count=partial(count_end, answer),
    )
    return [replace(end, vendor=vendor, micros=settled), ended]


def _age_s(generation_id: str) -> float:
    """Since the generation was made, by the clocks of whoever made it and of this worker."""
    made = made_at(generation_id) if is_generation_id(generation_id) else datetime.now(UTC)
    return max((datetime.now(UTC) - made).total_seconds(), 0.0)


def _code(error: ErrorInfo | None) -> str:
    return error.code if error else ""


_ENDS: Final[Mapping[type[object], Callable[[Any, Any], list[PhaseEnd]]]] = {
    ValidateInput: _validated,
    InspectInput: _validated,
    ReserveInput: _reserved,
    SubmitInput: _submitted,
    ResolveInput: _resolved,
    ReadInput: _read,
    PersistInput: _persisted,
    SettleInput: _settled,
}


# -- What is counted beside --------------------------------------------------------------------------------------------


def count_end(result: GenerationResult) -> None:
    """A generation has ended: count it, and what became of its money."""
    cost = result.cost
    instruments().generation_ended(result.route, result.status, _code(result.error))
    instruments().money("post", cost.settled_micros)
    instruments().money("suspense", cost.suspense_micros)
    instruments().money("release", cost.reserved_micros - cost.settled_micros - cost.suspense_micros)
    instruments().money("overrun", cost.settled_micros - cost.reserved_micros)


def _count_hold(reserved: Reserved) -> None:
    instruments().money("hold", reserved.amount_micros)


def _count_assets(persisted: Persisted) -> None:
    instruments().stored(sum(asset.size_bytes for asset in persisted.assets))
