"""Names that several parts must agree on: workflows, activities, task queues, signals, search attributes, and the words
of every closed list. Nothing here imports more than the standard library, so that the command line's `--help` stays
quick.
"""

from typing import Final, Literal, cast, get_args

# -- Words that stand in messages, tables, answers and the command line ------------------------------------------------

Status = Literal["queued", "in_progress", "completed", "failed", "canceled"]
EndStatus = Literal["completed", "failed", "canceled"]
Phase = Literal[
    "accepted", "validating", "reserving", "submitting", "resolving", "generating", "persisting", "settling", "done"
]
SubmissionState = Literal["sending", "not_sent", "accepted", "rejected", "ambiguous"]
Resolution = Literal["none", "post", "release", "suspend"]
HoldState = Literal["held", "posted", "released", "suspended"]
Decision = Literal["posted", "released"]
CostBasis = Literal["estimate", "vendor_reported", "pinned_price"]
FailedJobCost = Literal["free", "refunded", "charged", "unknown"]
InputKind = Literal["image", "video", "audio"]
Scope = Literal["tenant", "user", "feature", "route", "vendor"]
Period = Literal["day", "month", "total"]
RecoveryGoal = Literal["attach", "persist"]
ReplayVerb = Literal["reattach", "repersist", "regenerate"]
FindingKind = Literal["never_started", "run_closed", "suspense", "stuck"]
ReconcileAction = Literal["started", "expired", "settled", "recovery_started", "none"]
Role = Literal["orchestrate", "vendors", "media"]

# Which attempt at a vendor a hold and a submission are of; failover to another vendor would count up.
FIRST_ATTEMPT: Final = 1

STATUSES: Final = cast("tuple[Status, ...]", get_args(Status))
TERMINAL: Final = frozenset[Status](get_args(EndStatus))
PHASES: Final = cast("tuple[Phase, ...]", get_args(Phase))
DECISIONS: Final = cast("tuple[Decision, ...]", get_args(Decision))
SCOPES: Final = cast("tuple[Scope, ...]", get_args(Scope))
PERIODS: Final = cast("tuple[Period, ...]", get_args(Period))
REPLAY_VERBS: Final = cast("tuple[ReplayVerb, ...]", get_args(ReplayVerb))
ROLES: Final = cast("tuple[Role, ...]", get_args(Role))

DEFAULT_TENANT: Final = "default"  # who pays when a request names nobody
# -- Vendors -----------------------------------------------------------------------------------------------------------

# Every vendor. The settings follow this list; `providers.vendors` holds the adapter of each.
VENDOR_NAMES: Final = (
    "apixo",
    "gptimage2",
    "wan26ai",
    "aivideoapi",
    "gmi",
)

# -- Temporal ----------------------------------------------------------------------------------------------------------

GENERATION_WORKFLOW: Final = "Generation"
RECOVERY_WORKFLOW: Final = "Recovery"
RECONCILE_WORKFLOW: Final = "Reconcile"
WAKE_SIGNAL: Final = "vendor_callback"

VALIDATE: Final = "validate"
RESERVE: Final = "reserve"
PERSIST: Final = "persist"
SETTLE: Final = "settle"
EXAMINE: Final = "examine"
CORRECT: Final = "correct"
RECONCILE: Final = "reconcile"

VendorStep = Literal["submit", "read_status", "resolve"]


def vendor_activity(vendor: str, step: VendorStep) -> str:
    """The activity type of a step that is registered once for each vendor: `apixo.submit`."""
    return f"{vendor}.{step}"


def submit_queue(base: str, vendor: str) -> str:
    """Where one vendor's submissions wait. `base` is the deployment's own queue, ONETAKE_TASK_QUEUE."""
    return f"{base}-submit-{vendor}"


def read_queue(base: str, vendor: str) -> str:
    """Where one vendor's status reads wait."""
    return f"{base}-read-{vendor}"


def media_queue(base: str) -> str:
    """Where clips wait to be stored."""
    return f"{base}-media"


class SearchAttribute:
    """What operators filter runs by in the Temporal UI; all are of type Keyword and hold ids and enums only."""

    TENANT: Final = "OnetakeTenant"
    VENDOR: Final = "OnetakeVendor"
    ROUTE: Final = "OnetakeRoute"
    PHASE: Final = "OnetakePhase"
    ERROR_CODE: Final = "OnetakeErrorCode"
    DAY: Final = "OnetakeDay"
    ALL: Final = (TENANT, VENDOR, ROUTE, PHASE, ERROR_CODE, DAY)
