"""What a failed activity, a failed render or a cancellation means for a generation, and what its run closes with."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, FailureError, RetryState
from temporalio.exceptions import TimeoutError as ActivityTimeoutError

with workflow.unsafe.imports_passed_through():
    from onetake.core.contracts import (
        Asset,
        ErrorInfo,
        GenerationResult,
        Notice,
        Plan,
        StatusReading,
        Submission,
        SubmitTries,
    )
    from onetake.core.errors import CATALOGUE
    from onetake.core.names import CostBasis, Resolution

MEASURED_TOLERANCE_S: Final = 0.25  # a second that has begun is billed, but for the last frames of a whole one


LOST = frozenset({"records_lost", "generation_not_found"})


def failure_of(error: FailureError) -> ErrorInfo | None:
    """The catalogue's error with which a step failed; None for a timeout, a cancellation or anything else."""
    if isinstance(error, ActivityError):
        return None if error.retry_state == RetryState.TIMEOUT else _said(error.cause)
    return _said(error)


def last_try_of(error: FailureError) -> ErrorInfo | None:
    """How the last try of a step ended whose time is over; None when it said nothing."""
    cause = error.cause if isinstance(error, ActivityError) else error
    return _said(cause.cause if isinstance(cause, ActivityTimeoutError) else cause)


def is_lost(error: FailureError) -> bool:
    """Whether a step on the ledger failed because the database lacks what it had answered before."""
    failure = failure_of(error)
    return failure is not None and failure.code in LOST


def learned_by(error: ActivityError) -> Submission | None:
    """What the last try of a submission had learned before its worker or its time was gone; None when nothing."""
    cause = error.cause
    kept = cause.last_heartbeat_details if isinstance(cause, ActivityTimeoutError) else ()
    return SubmitTries.model_validate(kept[0]).learned if kept and kept[0] is not None else None


def _said(cause: BaseException | None) -> ErrorInfo | None:
    if not isinstance(cause, ApplicationError) or cause.type not in CATALOGUE:
        return None
    return ErrorInfo(code=cause.type, message=cause.message, hint=CATALOGUE[cause.type].hint)


def cost_of_failure(plan: Plan, reading: StatusReading) -> Resolution:
    """Nothing is refunded on a guess: what the vendor said, else what its documents promise for the failures that they
    name, else suspense."""
    if reading.refunded is False:
        return "suspend"  # the vendor shows a charge for a failed job: a refund may still come
    if reading.by_synonym and reading.refunded is None:
        return "suspend"
    if reading.refunded is True or plan.failed_job_cost in {"free", "refunded"}:
        return "release"
    return "post" if plan.failed_job_cost == "charged" else "suspend"


@dataclass(frozen=True)
class Charge:
    """What a job is posted with: `micros`, None for the pinned price, and what its owner should know of it."""

    micros: int | None
    basis: CostBasis
    notices: tuple[Notice, ...] = ()


def reserved_or_billed(plan: Plan, micros: int | None) -> int | None:
    """What the answer to a submission says was charged; a vendor that bills what it generated has only reserved it."""
    return None if plan.bills_generated else micros


def charge_of(plan: Plan | None, reported_micros: int | None, assets: Sequence[Asset] = ()) -> Charge:
    """What the vendor reports; else, where it bills what it generated, the price of the seconds that were delivered;
    else the pinned price."""
    if reported_micros is not None:
        return Charge(reported_micros, "vendor_reported")
    if plan is None or not plan.bills_generated or not assets:
        return Charge(None, "pinned_price")
    measured_s = sum(asset.duration_s for asset in assets)
    billed_s = max(math.ceil(measured_s - MEASURED_TOLERANCE_S), 1)
    if billed_s >= plan.duration_s:
        return Charge(None, "pinned_price")
    micros = -(-plan.price.amount_micros * billed_s // plan.duration_s)
    told = f"{plan.vendor} bills what it generated: {billed_s} s of {plan.duration_s} s were posted"
    return Charge(micros, "pinned_price", (Notice(code="billed_as_measured", message=told),))


def what_canceling_did(plan: Plan | None, *, kept: bool) -> str:
    """Why a job that was canceled while it rendered may have cost something."""
    way = "" if plan is None or plan.cancelable else f"{plan.vendor} offers no way to cancel a job, so it went on."
    clip = "The vendor had been paid, so the clip was kept." if kept else ""
    return f"{way} {clip}".strip()


def closed_with(error: ErrorInfo, result: GenerationResult | None = None) -> ApplicationError:
    """What a run that failed closes with: the code, the message, and the result where there is one."""
    details = [] if result is None else [result]
    return ApplicationError(error.message, *details, type=error.code, non_retryable=True)
