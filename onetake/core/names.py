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
Defaults = Literal["cheapest", "vendor"]
CostBasis = Literal["estimate", "vendor_reported", "pinned_price"]
FailedJobCost = Literal["free", "refunded", "charged", "unknown"]
RefusedOf = Literal["account", "model"]
InputKind = Literal["image", "video", "audio"]
Scope = Literal["tenant", "user", "feature", "route", "vendor"]
Period = Literal["day", "month", "total"]
PolicyScope = Literal["everyone", "tenant", "user", "feature"]
Force = Literal["forced", "forbidden"]
SpendGroup = Literal["day", "tenant", "user", "feature", "route", "vendor", "model"]
SpendDays = Literal["utc", "tenant"]
RecoveryGoal = Literal["attach", "persist"]
ReplayVerb = Literal["reattach", "repersist", "regenerate"]
FindingKind = Literal["never_started", "run_closed", "cancel_undelivered", "suspense", "stuck", "lost", "not_looked_at"]
ReconcileAction = Literal["started", "expired", "canceled", "settled", "recovery_started", "restored", "none"]
Role = Literal["orchestrate", "vendors", "media"]

# Which attempt at a vendor a hold and a submission are of; failover to another vendor would count up.
FIRST_ATTEMPT: Final = 1

STATUSES: Final = cast("tuple[Status, ...]", get_args(Status))
TERMINAL: Final = frozenset[Status](get_args(EndStatus))
PHASES: Final = cast("tuple[Phase, ...]", get_args(Phase))
DECISIONS: Final = cast("tuple[Decision, ...]", get_args(Decision))
SCOPES: Final = cast("tuple[Scope, ...]", get_args(Scope))
PERIODS: Final = cast("tuple[Period, ...]", get_args(Period))
FORCES: Final = cast("tuple[Force, ...]", get_args(Force))
SPEND_GROUPS: Final = cast("tuple[SpendGroup, ...]", get_args(SpendGroup))
SPEND_DAYS: Final = cast("tuple[SpendDays, ...]", get_args(SpendDays))
REPLAY_VERBS: Final = cast("tuple[ReplayVerb, ...]", get_args(ReplayVerb))
ROLES: Final = cast("tuple[Role, ...]", get_args(Role))

# Why a vendor took no job now: nothing was accepted, so that it may be sent again.
TURNED_AWAY: Final = frozenset({"vendor_throttled", "vendor_unreachable"})

COST_IN_REVIEW: Final = "vendor_cost_in_review"  # the warning of a cost that only a person books

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
SWEEP_WORKFLOW: Final = "Sweep"
WAKE_SIGNAL: Final = "vendor_callback"

VALIDATE: Final = "validate"
INSPECT: Final = "inspect"
RESERVE: Final = "reserve"
PERSIST: Final = "persist"
RECORD: Final = "record_submission"
SETTLE: Final = "settle"
RESTORE: Final = "restore"
EXAMINE: Final = "examine"
CORRECT: Final = "correct"
RECONCILE: Final = "reconcile"
SWEEP: Final = "sweep"

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


def media_queue(base: str, vendor: str) -> str:
    """Where one vendor's clips wait to be stored: none waits for another vendor's slow downloads."""
    return f"{base}-media-{vendor}"


def inputs_queue(base: str) -> str:
    """Where requests wait whose input media are to be looked at."""
    return f"{base}-inputs"


def sweep_queue(base: str) -> str:
    """Where the bucket's daily sweep waits for a media worker."""
    return f"{base}-sweep"


class SearchAttribute:
    """What operators filter runs by in the Temporal UI; all are of type Keyword and hold ids and enums only."""

    TENANT: Final = "OnetakeTenant"
    VENDOR: Final = "OnetakeVendor"
    ROUTE: Final = "OnetakeRoute"
    PHASE: Final = "OnetakePhase"
    ERROR_CODE: Final = "OnetakeErrorCode"
    DAY: Final = "OnetakeDay"
    ALL: Final = (TENANT, VENDOR, ROUTE, PHASE, ERROR_CODE, DAY)
