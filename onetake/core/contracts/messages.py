"""Messages between our own parts: one in and one out for each activity, the signal, recoveries and reconciling."""

from typing import Annotated, Literal

from pydantic import Field

from onetake.core.contracts.base import Message, Value
from onetake.core.contracts.plan import Plan, Price
from onetake.core.contracts.request import GenerationRequest
from onetake.core.contracts.results import Asset, ErrorInfo, GenerationResult, Notice
from onetake.core.names import (
    FIRST_ATTEMPT,
    CostBasis,
    EndStatus,
    FindingKind,
    HoldState,
    ReconcileAction,
    RecoveryGoal,
    Resolution,
    SubmissionState,
)

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


class SettleInput(Message):
    """How a generation ends: its public state, what becomes of the hold, and what it made."""

    generation_id: str
    attempt: int
    status: EndStatus
    resolution: Resolution
    actual_micros: Annotated[int, Field(ge=0)] | None = None
    basis: CostBasis = "pinned_price"
    error: ErrorInfo | None = None
    assets: tuple[Asset, ...] = ()
    warnings: tuple[Notice, ...] = ()
    vendor_task_id: str | None = None


class WakeSignal(Message):
    """What the gateway tells a workflow: a callback came. Nothing in it is believed; it only wakes."""

    attempt: int = FIRST_ATTEMPT
    claimed_task_id: str | None = None


# -- Recovery: what is done for a generation after its end -------------------------------------------------------------


class RecoveryRequest(Message):
    """Look again for the job of a generation that has ended. `attach` waits for the job; `persist` wants it done.

    `who` asked (gateway, reconciler, or a person) and `why` are kept with what comes of it.
    """

    generation_id: str
    tenant: str
    goal: RecoveryGoal = "attach"
    who: str
    why: str


class RecoveryCase(Message):
    """What the ledger says of a generation that may be recovered. `refusal` says why it may not."""

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


# -- Reconciling: what a pass over the ledger found and did ------------------------------------------------------------


class ReconcileInput(Message):
    dry_run: bool = False


class Finding(Value):
    """One thing that a pass found. `action` says what was done; `none` leaves it to people, as `found` explains."""

    kind: FindingKind
    generation_id: str
    found: str
    action: ReconcileAction


class Reconciled(Message):
    """What one pass found. `looked_at` counts the generations it looked at; `found` counts all findings where
    `findings` does not hold all of them."""

    looked_at: int
    findings: tuple[Finding, ...] = ()
    found: int | None = None
