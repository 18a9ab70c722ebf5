"""Messages between our own parts: one in and one out for each activity, the signal, recoveries and reconciling."""

from datetime import datetime
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
    RefusedOf,
    Resolution,
    SubmissionState,
)

# -- Activities: one message in, one message out ----------------------------------------------------------------------


class ValidateInput(Message):
    request: GenerationRequest
    workflow_id: str
    run_id: str


class InspectInput(Message):
    """A request that is admitted under this plan, but for the media that it names."""

    generation_id: str
    request: GenerationRequest
    plan: Plan


class Validated(Message):
    """The accepted generation with its plan, or with the error that refuses it before any money is reserved."""

    generation_id: str
    plan: Plan | None = None
    error: ErrorInfo | None = None


class ReserveInput(Message):
    """What to hold, and how long to wait for the vendor before that: `deadline_s` from the generation's acceptance,
    which was `age_s` seconds ago. `gap_s` is the least pause between two questions. A paused vendor is waited for only
    where the generation `parks`. A `patient` order is tried again until then; one that is not answers why it waits."""

    generation_id: str
    attempt: int
    tenant: str
    user: str | None
    feature: str | None
    route: str
    vendor: str
    price: Price
    gap_s: float = 5.0
    deadline_s: float = 1800.0
    age_s: float = 0.0
    parks: bool = False
    patient: bool = False


class Reserved(Message):
    """What is held, on how many budgets, and the database's epoch in which it was answered; or nothing yet, and why the
    generation has to wait."""

    amount_micros: int
    budgets: int
    epoch: str | None = None
    waits_for: ErrorInfo | None = None


class SubmitInput(Message):
    """`waited_s` is how long earlier activities have tried; the generation was accepted `age_s` seconds ago. A
    `patient` one is tried again until the plan's limits are over; one that is not answers `not_sent`, with the reason,
    as soon as the vendor took nothing.

    `epoch` is that of the hold. `may_be_sent`: an activity before this one may have sent it without telling."""

    generation_id: str
    attempt: int
    workflow_id: str
    plan: Plan
    request: GenerationRequest
    waited_s: float = 0.0
    age_s: float = 0.0
    patient: bool = False
    epoch: str | None = None
    may_be_sent: bool = False


class Submission(Message):
    """How a submission stands: accepted with the vendor's id, rejected with an error, not sent, or not known.

    `post` is the POST that an attempt learned it of, for the attempt that stores it. `about` says whom a refusal of our
    key concerns: everything at the vendor, or only the model. An accepted job's first read is due `first_read_s`
    seconds after the answer; None where nobody can say more than the plan. `unrecorded`: the ledger was away and does
    not know it yet. `unsure`: this try sent nothing, but one before it did not tell.
    """

    state: SubmissionState
    vendor_task_id: str | None = None
    error: ErrorInfo | None = None
    reported_micros: int | None = None
    post: int | None = None
    unrecorded: bool = False
    about: RefusedOf = "account"
    first_read_s: float | None = None
    unsure: bool = False


class SubmitTries(Message):
    """What tries at a submission leave to the next: up to which one all have told how they ended, and an outcome that
    is not stored."""

    told: int = 0
    learned: Submission | None = None


class RecordInput(Message):
    """What a submission's activity learned and could not store."""

    generation_id: str
    attempt: int
    submission: Submission


class ResolveInput(Message):
    """`doubted`: the id of an accepted job is in doubt, so that what our own token named is looked at instead.
    `behind`: a recovery's, which calls the vendor when nobody else waits to."""

    generation_id: str
    attempt: int
    plan: Plan
    last_look: bool = False
    epoch: str | None = None
    doubted: bool = False
    behind: bool = False


class ReadInput(Message):
    """An order to read a job that the vendor accepted `elapsed_s` seconds ago. A vendor that cannot be asked is asked
    again; `until_over` asks for that, too, while the job is open, which is an answer otherwise. `behind`: a recovery's,
    which calls the vendor when nobody else waits to."""

    generation_id: str
    attempt: int
    plan: Plan
    vendor_task_id: str
    until_over: bool = False
    elapsed_s: float = 0.0
    behind: bool = False


class StatusReading(Message):
    """One authoritative read of a vendor's job. `state` is ours; `vendor_state` is the vendor's word, scrubbed.

    An open job's next read is due in `again_s` seconds. `error` is the vendor's reason for a failed job; for an open
    one it is why the vendor could not be asked. `by_synonym`: no document of the vendor names its word for the failure,
    so that what they say of failed jobs may not be said of this one.
    """

    state: Literal["open", "succeeded", "failed", "missing"]
    vendor_state: str
    error: ErrorInfo | None = None
    reported_micros: int | None = None
    refunded: bool | None = None
    by_synonym: bool = False
    progress: float | None = None
    again_s: float | None = None


class PersistInput(Message):
    """`woken`: a callback came, and nobody has asked the vendor since. The job may still be open, or have failed."""

    generation_id: str
    attempt: int
    tenant: str
    plan: Plan
    vendor_task_id: str
    woken: bool = False
    elapsed_s: float = 0.0


class Persisted(Message):
    """The vendor's word, and the clips that were stored; none unless the job has succeeded. The manifest is this
    message as JSON."""

    reading: StatusReading
    assets: tuple[Asset, ...] = ()
    warnings: tuple[Notice, ...] = ()
    manifest_key: str = ""


class SettleInput(Message):
    """How a generation ends: its public state, what becomes of the hold, and what it made.

    `epoch` is that of the hold and `submission` how the run knows it to stand; None from whoever is not the run."""

    generation_id: str
    attempt: int
    tenant: str
    status: EndStatus
    resolution: Resolution
    actual_micros: Annotated[int, Field(ge=0)] | None = None
    basis: CostBasis = "pinned_price"
    error: ErrorInfo | None = None
    assets: tuple[Asset, ...] = ()
    warnings: tuple[Notice, ...] = ()
    vendor_task_id: str | None = None
    epoch: str | None = None
    submission: SubmissionState | None = None


class RestoreInput(Message):
    """What a run knows of its generation, for a database that lost it. Nothing was held without an `epoch`."""

    generation_id: str
    attempt: int
    workflow_id: str
    plan: Plan
    request: GenerationRequest
    epoch: str | None = None
    submission: SubmissionState = "ambiguous"
    vendor_task_id: str | None = None


class Restored(Message):
    """What was missing and is written again: of `generation`, `hold` and `submission`."""

    was_lost: tuple[str, ...] = ()


class WakeSignal(Message):
    """What the gateway tells a workflow: a callback came. Nothing in it is believed: it wakes, and a claim about
    another job than ours makes the run look into it."""

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
    """What the ledger says of a generation that may be recovered. `refusal` says why it may not. `is_kept`: its clip
    could not be read and is in the bucket, or, where a cancellation named the end, may be: look there before the vendor
    is asked."""

    generation_id: str
    attempt: int
    tenant: str
    plan: Plan | None = None
    hold: HoldState | None = None
    epoch: str | None = None
    vendor_task_id: str | None = None
    reported_micros: int | None = None
    is_kept: bool = False
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


# -- Sweeping: copies of clips that no manifest names ------------------------------------------------------------------


class SweepInput(Message):
    """An order to go through the bucket once."""

    dry_run: bool = False


class Swept(Message):
    """What was removed, or would be with `dry_run`: of `looked_at` objects so many, which held so many bytes."""

    looked_at: int
    removed: int = 0
    freed_bytes: int = 0


# -- Reconciling: what a pass over the ledger found and did ------------------------------------------------------------


class ReconcileInput(Message):
    dry_run: bool = False


class AgedSuspense(Value):
    """What is in suspense at one vendor for longer than a recovery would look: left to people, and told as one."""

    vendor: str
    count: int
    amount_micros: int
    oldest_at: datetime


class Finding(Value):
    """One thing that a pass found. `action` says what was done; `none` leaves it to people, as `found` explains. It is
    about one generation, or about `aged`, all that is old at a vendor."""

    kind: FindingKind
    generation_id: str | None = None
    aged: AgedSuspense | None = None
    found: str
    action: ReconcileAction

    @property
    def subject(self) -> str:
        """What it is about: the id of its generation, or the vendor."""
        return self.generation_id or (self.aged.vendor if self.aged else "")


class Reconciled(Message):
    """What one pass found. `looked_at` counts the generations it looked at; `found` counts all findings where
    `findings` does not hold all of them. `every_s` is how often the workers want a pass."""

    looked_at: int
    every_s: float = 60.0
    findings: tuple[Finding, ...] = ()
    found: int | None = None
