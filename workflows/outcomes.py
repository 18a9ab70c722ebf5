"""What a failed activity, or a failed render, means for a generation."""

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, RetryState
from temporalio.exceptions import TimeoutError as ActivityTimeoutError

with workflow.unsafe.imports_passed_through():
    from onetake.core.contracts import ErrorInfo, Plan, StatusReading
    from onetake.core.errors import CATALOGUE
    from onetake.core.names import Resolution


def failure_of(error: ActivityError) -> ErrorInfo | None:
    """The catalogue's error inside a failed activity; None for a timeout, a cancellation or anything else."""
    return None if error.retry_state == RetryState.TIMEOUT else _said(error.cause)


def last_try_of(error: ActivityError) -> ErrorInfo | None:
    """How the last try of an activity ended whose time is over; None when it said nothing."""
    return _said(error.cause.cause if isinstance(error.cause, ActivityTimeoutError) else error.cause)


def _said(cause: BaseException | None) -> ErrorInfo | None:
    if not isinstance(cause, ApplicationError) or cause.type not in CATALOGUE:
        return None
    return ErrorInfo(code=cause.type, message=cause.message, hint=CATALOGUE[cause.type].hint)


def cost_of_failure(plan: Plan, reading: StatusReading) -> Resolution:
    """Nothing is refunded on a guess: what the vendor said, else what its documents promise, else suspense."""
    if reading.refunded is False:
        return "suspend"  # the vendor shows a charge for a failed job: a refund may still come
    if reading.refunded is True or plan.failed_job_cost in {"free", "refunded"}:
        return "release"
    return "post" if plan.failed_job_cost == "charged" else "suspend"
