"""Every message that crosses a process boundary, and nothing else.

Messages between our own parts are frozen, carry a version and ignore fields they do not know, so that a newer
part can talk to an older one. What a caller sends (`GenerationRequest`) refuses unknown fields: a
dropped field would be a different, billed job. Errors never echo the values they refuse.

Units are in the names: `_s` seconds, `_micros` millionths of a US dollar, `_bytes` bytes.
"""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StrictBool,
    StrictInt,
    StrictStr,
    model_serializer,
)

Status = Literal["queued", "in_progress", "completed", "failed", "canceled"]
Phase = Literal[
    "accepted", "validating", "reserving", "submitting", "resolving", "generating", "persisting", "settling", "done"
]
PHASES: tuple[Phase, ...] = (
    "accepted",
    "validating",
    "reserving",
    "submitting",
    "resolving",
    "generating",
    "persisting",
    "settling",
    "done",
)
TERMINAL: frozenset[Status] = frozenset({"completed", "failed", "canceled"})

WORKFLOW_TYPE = "Generation"
RECOVERY_WORKFLOW_TYPE = "Recovery"
RECONCILE_WORKFLOW_TYPE = "Reconcile"
WAKE_SIGNAL = "vendor_callback"


class SearchAttribute:
    """The names that operators filter by in the Temporal UI; all are of type Keyword and hold ids and enums only."""

    TENANT = "OnetakeTenant"
    VENDOR = "OnetakeVendor"
    ROUTE = "OnetakeRoute"
    PHASE = "OnetakePhase"
    ERROR_CODE = "OnetakeErrorCode"
    DAY = "OnetakeDay"
    ALL = (TENANT, VENDOR, ROUTE, PHASE, ERROR_CODE, DAY)


FailedJobCost = Literal["free", "refunded", "charged", "unknown"]
InputKind = Literal["image", "video", "audio"]
CostBasis = Literal["estimate", "vendor_reported", "pinned_price"]

Tenant = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Label = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Value(BaseModel):
    """A part of a message, or of a document for the outside."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Message(Value):
    """A message between our own parts."""

    version: int = 1


class GenerationRequest(BaseModel):
    """What a service asks for: one shape over all routes, and the argument of the workflow `Generation`.

    A field the route does not know is refused by admission, never dropped. `None` leaves a choice to the route's own
    default, which Onetake always sends explicitly where it decides the price.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    route: StrictStr
    prompt: StrictStr
    negative_prompt: StrictStr | None = None
    duration_s: StrictInt | None = None
    resolution: StrictStr | None = None
    aspect_ratio: StrictStr | None = None
    image: StrictStr | None = None
    videos: tuple[StrictStr, ...] = ()
    references: tuple[StrictStr, ...] = ()
    audio_url: StrictStr | None = None
    sound: StrictBool | None = None
    shot_type: StrictStr | None = None
    prompt_extend: StrictBool | None = None
    seed: StrictInt | None = None
    watermark: StrictBool | None = None

    tenant: Tenant = "default"
    user: Label | None = None
    feature: Label | None = None

    max_cost_usd: Annotated[Decimal, Field(ge=0, allow_inf_nan=False)] | None = None
    deadline_s: Annotated[StrictInt, Field(ge=1, le=86_400)] | None = None
    idempotency_key: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")] | None = None
    labels: dict[Label, Label] = Field(default_factory=dict[str, str])

    @model_serializer(mode="wrap")
    def _only_what_was_given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A field that a newer version adds does not trouble an older one while nobody uses it.
        return {name: value for name, value in handler(self).items() if value not in (None, (), [], {})}


class Cadence(Value):
    """When a vendor's status is read: seconds after acceptance, then growing gaps."""

    first_read_s: float
    interval_s: float
    growth: float
    max_interval_s: float


class Queues(Value):
    """The task queues of one generation, named by the deployment and pinned in the plan."""

    submit: str
    read: str
    media: str


class Price(Value):
    """What the generation is expected to cost, from one dated table."""

    amount_micros: int
    unit: str
    table_version: str
    usd_per_credit: Decimal | None = None


class Plan(Message):
    """All that the workflow knows of a route, pinned when the generation was accepted.

    Times are already scaled by `time_scale` (1 in production; tests and the demo shorten them).
    """

    route: str
    vendor: str
    vendor_model: str
    price: Price
    duration_s: int
    resolution: str
    aspect_ratio: str | None = None
    reference_kinds: tuple[InputKind, ...] = ()
    width: int | None = None
    height: int | None = None
    sound: bool | None = None
    cadence: Cadence
    deadline_s: float
    unknown_deadline_s: float
    throttle_limit_s: float
    unreachable_limit_s: float
    heartbeat_timeout_s: float
    failed_job_cost: FailedJobCost
    callbacks: bool
    cancelable: bool
    takes_seed: bool
    lists_jobs: bool = False
    reads_balance: bool = False
    absence_window_s: float = 120.0
    queues: Queues
    max_asset_bytes: int
    duration_tolerance_s: float
    time_scale: float = 1.0


class ErrorInfo(Value):
    """An error as the outside sees it: a code of the catalogue, one sentence, what to do."""

    code: str
    message: str
    hint: str


class Notice(Value):
    """Something about a completed generation that its owner should know."""

    code: str
    message: str


class Cost(Value):
    """What the ledger says of one generation."""

    reserved_micros: int = 0
    settled_micros: int = 0
    suspense_micros: int = 0
    currency: str = "USD"
    basis: CostBasis = "estimate"


class Asset(Value):
    """One stored file. `url` is a signed link, made on demand by the client and never written to a history."""

    key: str
    url: str | None = None
    sha256: str
    size_bytes: int
    content_type: str
    duration_s: float
    width: int
    height: int
    fps: float
    codec: str
    has_audio: bool


class GenerationResult(Value):
    """One generation as the outside sees it, live or ended."""

    id: str
    status: Status
    phase: Phase
    route: str
    vendor_task_id: str | None = None
    error: ErrorInfo | None = None
    cost: Cost = Cost()
    assets: tuple[Asset, ...] = ()
    warnings: tuple[Notice, ...] = ()
    workflow_id: str
    ui_url: str | None = None


class Correction(Value):
    """The one change after the end: a late result, found and stored by recovery, with who or what brought it."""

    at: datetime
    who: str
    why: str
    from_status: Status
    from_code: str | None = None


class GenerationRecord(GenerationResult):
    """A generation in a list: the result and what people search by. `parent_id` is the generation it renders again."""

    tenant: str
    user: str | None = None
    feature: str | None = None
    labels: dict[str, str] = Field(default_factory=dict[str, str])
    created_at: datetime
    ended_at: datetime | None = None
    cancel_requested: bool = False
    parent_id: str | None = None
    correction: Correction | None = None


# -- Activities: one message in, one message out ----------------------------------------------------------------------


class ValidateInput(Message):
    request: GenerationRequest
    workflow_id: str
    run_id: str


class Validated(Message):
    """The accepted generation with its plan, or with the error that refuses it before any money is reserved."""

    generation_id: str
    plan: Plan | None = None
    error: ErrorInfo | None = None


class ReserveInput(Message):
    generation_id: str
    attempt: int
    tenant: str
    user: str | None
    feature: str | None
    route: str
    vendor: str
    price: Price


class Reserved(Message):
    amount_micros: int
    budgets: int


class SubmitInput(Message):
    generation_id: str
    attempt: int
    workflow_id: str
    plan: Plan
    request: GenerationRequest


SubmissionState = Literal["sending", "not_sent", "accepted", "rejected", "ambiguous"]


class Submission(Message):
    """How a submission stands: accepted with the vendor's id, rejected with an error, not sent, or not known.

    `post` is the POST that an attempt learned it of, for the attempt that stores it.
    """

    state: SubmissionState
    vendor_task_id: str | None = None
    error: ErrorInfo | None = None
    reported_micros: int | None = None
    post: int | None = None


class ResolveInput(Message):
    generation_id: str
    attempt: int
    plan: Plan
    last_look: bool = False


class ReadInput(Message):
    """`waiting` asks for retries until the job is over; otherwise one read answers whatever it finds."""

    generation_id: str
    attempt: int
    plan: Plan
    vendor_task_id: str
    waiting: bool
    elapsed_s: float = 0.0


class StatusReading(Message):
    """One authoritative read of a vendor's job. `state` is ours; `vendor_state` is the vendor's word, scrubbed."""

    state: Literal["open", "succeeded", "failed", "missing"]
    vendor_state: str
    error: ErrorInfo | None = None
    reported_micros: int | None = None
    refunded: bool | None = None
    progress: float | None = None


class PersistInput(Message):
    generation_id: str
    attempt: int
    tenant: str
    plan: Plan
    vendor_task_id: str


class Persisted(Message):
    assets: tuple[Asset, ...]
    warnings: tuple[Notice, ...] = ()
    manifest_key: str


Resolution = Literal["none", "post", "release", "suspend"]


class SettleInput(Message):
    """How a generation ends: its public state, what becomes of the hold, and what it made."""

    generation_id: str
    attempt: int
    status: Literal["completed", "failed", "canceled"]
    resolution: Resolution
    actual_micros: Annotated[int, Field(ge=0)] | None = None
    basis: CostBasis = "pinned_price"
    error: ErrorInfo | None = None
    assets: tuple[Asset, ...] = ()
    warnings: tuple[Notice, ...] = ()
    vendor_task_id: str | None = None


class WakeSignal(Message):
    """What the gateway tells a workflow: a callback came. Nothing in it is believed; it only wakes."""

    attempt: int = 1
    claimed_task_id: str | None = None


# -- Recovery: what is done for a generation after its end -------------------------------------------------------------

RecoveryGoal = Literal["attach", "persist"]


class RecoveryRequest(Message):
    """Look again for the job of a generation that has ended. `attach` waits for the job; `persist` wants it done.

    `who` asked (gateway, reconciler, or a person) and `why` are kept with what comes of it.
    """

    generation_id: str
    tenant: str
    goal: RecoveryGoal = "attach"
    who: str
    why: str


HoldState = Literal["held", "posted", "released", "suspended"]


class RecoveryCase(Message):
    """What the books say of a generation that may be recovered. `refusal` says why it may not."""

    generation_id: str
    attempt: int
    tenant: str
    plan: Plan | None = None
    hold: HoldState | None = None
    vendor_task_id: str | None = None
    reported_micros: int | None = None
    refusal: ErrorInfo | None = None


class CorrectInput(Message):
    """What a late look showed: a clip (`assets`), or the final cost of a job that made none."""

    generation_id: str
    attempt: int
    vendor_task_id: str
    resolution: Literal["post", "release"]
    actual_micros: Annotated[int, Field(ge=0)] | None = None
    basis: CostBasis = "pinned_price"
    assets: tuple[Asset, ...] = ()
    warnings: tuple[Notice, ...] = ()
    who: str
    why: str


class Recovered(Message):
    """How a recovery ended, and the generation as it stands now; `error` says why nothing changed."""

    changed: bool
    result: GenerationResult | None = None
    error: ErrorInfo | None = None


# -- Reconciling: what a pass over the books found and did -------------------------------------------------------------

FindingKind = Literal["never_started", "run_closed", "suspense", "stuck"]


class ReconcileInput(Message):
    dry_run: bool = False


class Finding(Value):
    """One thing that a pass found. `action` says what was done; `none` leaves it to people, as `found` explains."""

    kind: FindingKind
    generation_id: str
    found: str
    action: Literal["started", "expired", "settled", "recovery_started", "none"]


class Reconciled(Message):
    """What one pass found. `looked_at` counts the generations it looked at; `found` counts all findings where
    `findings` does not hold all of them."""

    looked_at: int
    findings: tuple[Finding, ...] = ()
    found: int | None = None
