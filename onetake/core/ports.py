"""What the activities ask for, shaped by the activities and not by the adapters that answer.

An activity imports this module and never an adapter; the worker builds the adapters and injects them. All methods
raise `onetake.core.errors` only: `Refused` and `Failed` end the generation, `TryLater` is retried by Temporal.

It is over 400 lines because it is one list: every port, with what passes through it.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Final, Literal, Protocol

from onetake.core.contracts import (
    CorrectInput,
    ErrorInfo,
    GenerationRequest,
    GenerationResult,
    Pace,
    Plan,
    Policy,
    RecoveryCase,
    Reserved,
    ReserveInput,
    Restored,
    RestoreInput,
    SettleInput,
    StatusReading,
    Submission,
)
from onetake.core.names import InputKind, Phase, RefusedOf, SubmissionState

# -- Admission ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MediaLimit:
    """What an input may be when its bytes are of this kind: pixels count for images, seconds for the others."""

    kind: InputKind
    formats: tuple[str, ...]
    most_bytes: int
    least_px: int = 0
    most_px: int = 0
    alpha: bool = True
    least_s: float = 0.0
    most_s: float = 0.0


@dataclass(frozen=True)
class InputRule:
    """One input: where it stands in the request (a JSON pointer), its address, and one limit for each kind allowed."""

    pointer: str
    url: str = field(repr=False)
    limits: tuple[MediaLimit, ...]


@dataclass(frozen=True)
class MediaRules:
    """The inputs of one request, and how many of its references may be of each kind."""

    inputs: tuple[InputRule, ...] = ()
    most_references: Mapping[InputKind, int] = field(default_factory=dict[InputKind, int])


@dataclass(frozen=True)
class Quoted:
    """The quote that a request names. `fits`: it was made for the same request."""

    plan: Plan
    expires_at: datetime
    fits: bool


@dataclass(frozen=True)
class Terms:
    """What the ledger says about one request at the moment `at`, by the database's clock. `quote` is None when the
    request names none, or none of its tenant."""

    at: datetime
    policies: tuple[Policy, ...] = ()
    quote: Quoted | None = None


class TermsReader(Protocol):
    """Reads what the ledger says about a request before it is admitted."""

    async def of(self, request: GenerationRequest) -> Terms:
        """The terms of one request now. Changes nothing. Raises TryLater(`ledger_unavailable`)."""
        ...


class Admission(Protocol):
    """The catalogue: what a route accepts and what it costs."""

    def plan(self, request: GenerationRequest, terms: Terms | None = None, *, base_queue: str) -> Plan:
        """Pin a plan; without terms it is what the catalogue alone says today. Raises Refused (`request_invalid` lists
        all violations, `route_unknown`, `policy_refused`, `max_cost_exceeded`, `vendor_key_missing`). A request that
        names a quote gets the quoted price and choices, or Refused (`quote_not_found`, `quote_differs`,
        `quote_expired`). Pure: the same request on the same terms gives the same plan."""
        ...

    def check(self, request: GenerationRequest) -> None:
        """All of `plan` but the price: the rules of the route, and the vendor's key. Raises Refused
        (`request_invalid`, `route_unknown`, `vendor_key_missing`)."""
        ...

    def media_rules(self, request: GenerationRequest) -> MediaRules:
        """What the inputs of a request that has a plan may be. Pure."""
        ...


# -- Input media -------------------------------------------------------------------------------------------------------


class InputInspector(Protocol):
    """Looks at the media that a request names, through the guard that downloads use."""

    async def inspect(self, rules: MediaRules, *, last_look: bool) -> Mapping[str, InputKind]:
        """Fetch every input and hold it against its rule; the kinds that the bytes showed, by pointer.

        Takes 14 s at most and leaves no file behind. Raises Refused with all violations at once: `request_invalid`
        for a broken limit, `input_not_usable` for what cannot be read or is of no use here. Raises TryLater
        (`input_not_usable`) when a host failed quickly, unless this is the `last_look`, and TryLater(`inputs_busy`)
        before any look when one of its hosts has too many.
        """
        ...


# -- The vendor --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SubmitOrder:
    """One POST to be made: the caller's request, with what the plan decided in the caller's place.

    `callback_url` carries the attempt's token and stays out of the request's hash.
    """

    plan: Plan
    request: GenerationRequest
    callback_url: str | None
    seed: int | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "request", self.plan.decided(self.request))


@dataclass(frozen=True)
class SubmitOutcome:
    """Exactly one of five ends of a submission; an `ambiguous` one is never sent again by anyone. `about`: whom a
    refusal of our key concerns, everything at the vendor or only the model. `key_unknown`: the vendor itself says that
    it does not know the key, so that it has looked at nothing else."""

    outcome: Literal["accepted", "rejected", "throttled", "not_sent", "ambiguous"]
    vendor_task_id: str | None = None
    error: ErrorInfo | None = None
    retry_after_s: float | None = None
    reported_units: Decimal | None = None
    reported_micros: int | None = None
    note: str = ""
    about: RefusedOf = "account"
    key_unknown: bool = False


@dataclass(frozen=True)
class VendorStatus:
    """One authoritative read: the reading for the workflow, the links, which never leave the activity, and the
    id of the job that was answered about, where the vendor says it. `cost_unusable`: it names a cost that is none.
    An open job with links shows its clip under a word that does not say so: seen twice, the clip may be taken.
    `still_working`: the word means that the job is not over, and is not merely unknown.

    `created_at` is when the vendor made the job, by its own clock in Unix seconds; `least_age_s` is how old the job is
    at least, where that can be told."""

    reading: StatusReading
    links: tuple[str, ...] = ()
    vendor_task_id: str | None = None
    reported_units: Decimal | None = None
    cost_unusable: bool = False
    alarm: str = ""
    still_working: bool = False
    created_at: float | None = None
    least_age_s: float | None = None

    @property
    def shows_clip(self) -> bool:
        return self.reading.state == "open" and bool(self.links)


@dataclass(frozen=True)
class Account:
    """What a vendor says of our account, in its own units: what is left, and what it has charged so far."""

    balance: Decimal
    charged: Decimal


# What a body must bring while it is waited for; what is slower is given up, and an attempt lasts as long as this needs.
LEAST_BYTES_PER_S: Final = 16 * 1024


@dataclass(frozen=True)
class Body:
    """A response body being read: its declared length, and its chunks."""

    declared_bytes: int | None
    content_type: str
    chunks: AsyncIterator[bytes]


class VendorClient(Protocol):
    """One vendor over HTTP. The only sender."""

    def request_sha256(self, order: SubmitOrder) -> bytes: ...

    def chosen_seed(self, plan: Plan, request: GenerationRequest) -> int | None:
        """The caller's seed, or a random one where the vendor takes seeds: it makes an orphan findable."""
        ...

    async def submit(self, order: SubmitOrder) -> SubmitOutcome:
        """Send one POST. Never raises for anything the network or the vendor does."""
        ...

    async def read_status(self, plan: Plan, vendor_task_id: str) -> VendorStatus:
        """Read the job with our own key. Raises TryLater (`vendor_unavailable`, `vendor_auth`, `vendor_throttled`)."""
        ...

    async def find_jobs(self, order: SubmitOrder, sent_at: datetime) -> tuple[str, ...]:
        """The ids of all jobs in the vendor's list with exactly this order's model and payload, made since then.

        Only where `plan.lists_jobs`. A job that is not there may exist all the same. Raises TryLater as `read_status`.
        """
        ...

    async def read_account(self) -> Account:
        """Read our account. Only where `plan.reads_balance`. Raises TryLater as `read_status`."""
        ...

    def download(self, url: str) -> AbstractAsyncContextManager[Body]:
        """Open a result link without our key. Raises Failed (`asset_unavailable`, `asset_url_blocked`) or TryLater."""
        ...


# -- The database ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bracket:
    """Our account just before a POST. At `at` nothing else of ours was under way at the vendor."""

    account: Account
    at: datetime


@dataclass(frozen=True)
class Begun:
    """`fresh` means: this call committed the intent and nobody has sent it; only then may bytes leave. `post` counts
    the POSTs of the submission, this one included: those before it were turned away. `canceled` means: a cancellation
    is noted in the row, nothing was sent, and nothing will be."""

    fresh: bool
    submission: Submission
    post: int = 1
    canceled: bool = False


@dataclass(frozen=True)
class Accepted:
    """The row of a generation. `plan` is what whoever came first has pinned; None when nobody has."""

    generation_id: str
    plan: Plan | None


class Generations(Protocol):
    """The generation row: what people list and search."""

    async def accept(self, request: GenerationRequest, *, workflow_id: str, run_id: str | None) -> Accepted:
        """Write the row once, or find it. With a `run_id` (the workflow's original run) it is bound to that run.
        Raises Refused (`idempotency_key_reused`, `workflow_id_reused`)."""
        ...

    async def pin(self, generation_id: str, plan: Plan) -> Plan:
        """Keep the plan that is stored, with the given `reference_kinds`; store the given plan where there is none.
        Returns what is stored. Repeatable."""
        ...

    async def enter(self, generation_id: str, phase: Phase) -> None:
        """Move the phase forward; a call that would move it back changes nothing."""
        ...


class Ledger(Protocol):
    """Holds and their one resolution."""

    async def reserve(self, order: ReserveInput) -> Reserved:
        """Hold the price on every budget that applies, or on none. The same key returns the same hold.
        Raises NoMoney; Refused(`canceled`) when the generation has ended meanwhile; Refused(`generation_not_found`)."""
        ...

    async def settle(self, order: SettleInput) -> GenerationResult:
        """Resolve the hold and end the generation in one transaction, once; a repeat returns the first result.
        Raises Failed(`records_lost`) and Refused(`generation_not_found`)."""
        ...

    async def decide(self, order: CorrectInput) -> GenerationResult | None:
        """Resolve a hold in suspense as a job without a clip ended; None when the hold is not in suspense."""
        ...


class Restorations(Protocol):
    """Writes again what a database lost when it failed over."""

    async def restore(self, order: RestoreInput) -> Restored:
        """Write the generation, its hold and its submission where they are missing; no budget refuses it.
        Repeatable."""
        ...


class RecoveryRecords(Protocol):
    """The records of a generation after its end."""

    async def case(self, generation_id: str) -> RecoveryCase:
        """What is known of a generation. Raises Refused(`generation_not_found`)."""
        ...

    async def correct(self, order: CorrectInput) -> GenerationResult:
        """Take a late clip, once; a repeat returns what the first one made. Raises Refused."""
        ...


class Submissions(Protocol):
    """The intent rows: the memory that stops a second POST."""

    async def begin(
        self,
        generation_id: str,
        attempt: int,
        *,
        vendor: str,
        token_sha256: bytes | None,
        request_sha256: bytes,
        seed: int | None,
        bracket: Bracket | None = None,
        epoch: str | None = None,
        may_be_sent: bool = False,
    ) -> Begun:
        """Commit the intent before the first byte. Not fresh when another call has sent it or the generation ended.
        The token is that of the address for callbacks; None when the vendor is given none. In another epoch than that
        of the hold, what `may_be_sent` is ambiguous. Raises Failed(`records_lost`) there when the hold is missing."""
        ...

    async def idle_at(self, vendor: str) -> datetime | None:
        """The time now, when no submission to the vendor could still change our balance there; else None."""
        ...

    async def record(
        self,
        generation_id: str,
        attempt: int,
        *,
        state: SubmissionState,
        vendor_task_id: str | None = None,
        error: ErrorInfo | None = None,
        reported_micros: int | None = None,
        post: int | None = None,
        about: RefusedOf = "account",
    ) -> Submission:
        """Compare-and-set the outcome and return what is stored now, which a zombie attempt may have decided first.
        Of an earlier `post` than the last only an acceptance counts.
        Raises Failed(`vendor_protocol_error`) when another generation owns the vendor's id, Failed(`records_lost`) when
        there is no such submission."""
        ...

    async def reassign(self, generation_id: str, attempt: int, *, wrong: str, right: str) -> str:
        """Give an accepted submission the job that its own token named; the id that it has afterwards. Repeatable."""
        ...

    async def read(self, generation_id: str, attempt: int, *, epoch: str | None = None) -> Submission:
        """How the submission stands; `not_sent` when it was never begun. In another epoch than that of the hold, a row
        that is absent, or says `not_sent`, proves nothing: then it is `ambiguous`."""
        ...

    async def claims(self, generation_id: str, attempt: int) -> tuple[str, ...]:
        """The vendor ids that callbacks with this attempt's tokens have named; unverified."""
        ...


class JobEnds(Protocol):
    """What vendors said last of the ends of jobs."""

    async def note_end(
        self, generation_id: str, attempt: int, *, failed: bool, shows_charge: bool, least_age_s: float | None = None
    ) -> bool:
        """Keep whether the job has failed, and whether the vendor shows a charge for it. Repeatable.

        The first call also keeps when the end was seen, and whether a callback had announced it. False, and nothing is
        kept, when it is another's job: tokens say so, or one of at least this age is older than our POST."""
        ...


class Pacing(Protocol):
    """What the deployment has learned of how soon an end is to be expected, and who tells of it."""

    async def pace(self, plan: Plan) -> Pace:
        """What is known of the vendor's callbacks and of renders like this one. Never raises; a ledger that is away is
        answered as nothing known."""
        ...


@dataclass(frozen=True)
class Sent:
    """What was sent, for finding it again. `at`: when, or before; `equal_is_sending`: another submission of equal bytes
    waits for its answer."""

    request: GenerationRequest = field(repr=False)
    seed: int | None
    at: datetime
    equal_is_sending: bool


@dataclass(frozen=True)
class Undisturbed:
    """Our account before the POST, when nothing else has touched it since. `post_is_over`: its own sender said so."""

    account: Account
    post_is_over: bool


class Evidence(Protocol):
    """What our own rows say about a submission whose outcome is not known."""

    async def sent(self, generation_id: str, attempt: int) -> Sent | None:
        """What was sent; None when nothing was begun."""
        ...

    async def unowned(self, generation_id: str, attempt: int, task_ids: Sequence[str]) -> tuple[str, ...]:
        """Those of the vendor's ids that belong to no other submission, in the same order."""
        ...

    async def undisturbed(self, generation_id: str, attempt: int) -> Undisturbed | None:
        """Our account before the POST; None when it was not read, the outcome is known, the generation has ended, or
        another submission may have moved the balance since."""
        ...

    async def note(self, generation_id: str, attempt: int, error: ErrorInfo) -> None:
        """Replace what is told of an unknown outcome; a known one keeps its error."""
        ...


class Vendors(Protocol):
    """What all workers know of a vendor together."""

    async def admit(self, order: ReserveInput) -> bool:
        """Return when the generation may take its hold; True when its vendor is paused and may be probed by this one.
        Raises Refused(`vendor_paused`), and TryLater(`vendor_full`) with its place in the line and when to ask
        again."""
        ...

    async def probe(self, vendor: str, generation_id: str) -> None:
        """Take the probe of a paused vendor, before the generation holds its price. Repeatable. Raises
        Refused(`vendor_paused`) when another has taken it."""
        ...

    async def leave_probe(self, vendor: str, generation_id: str) -> None:
        """Give the probe back that this generation took, for others to take at once. Repeatable."""
        ...


class Rates(Protocol):
    """How fast a vendor may be called that has answered 429. One that never has is called at once."""

    async def read_turn_s(self, vendor: str, *, returning: bool = False, behind: bool = False) -> float:
        """Seconds until the caller may read; 0 means now, and is counted. Who is `returning` has waited already; who is
        `behind` goes when nobody else waits."""
        ...

    async def read_refused(self, vendor: str, silence_s: float | None) -> float:
        """A read was answered 429, with the time that the vendor named. When the caller may come back, in seconds."""
        ...

    async def submit_turn_s(self, vendor: str, generation_id: str, *, returning: bool, gap_s: float) -> float:
        """Seconds until a generation that holds its price may submit; 0 means now, and is counted. `gap_s` is the pause
        while the vendor has no room."""
        ...

    async def submission_refused(
        self, vendor: str, generation_id: str, silence_s: float | None, *, gap_s: float
    ) -> float:
        """A submission was answered 429, and recorded as not sent. When the caller may come back, in seconds."""
        ...


# -- Storage -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stored:
    """An object as stored."""

    key: str
    sha256: str
    size_bytes: int


class ObjectStore(Protocol):
    """The bucket. Keys are made of generated ids only; an object is never overwritten."""

    async def put_stream(self, key: str, body: Body, *, content_type: str, max_bytes: int, spool: Path) -> Stored:
        """Stream a body through sha256 and the size limit into the bucket and, on the way, into the file `spool`.
        Raises Failed (`asset_too_large`, `asset_truncated`, `storage_conflict`), TryLater (`storage_unavailable`).
        Leaves nothing in the bucket when it fails."""
        ...

    async def look(self, key: str) -> Stored | None:
        """What the bucket holds under a key: by the word of a store that verifies what it is sent, else read back.
        None when there is no such object."""
        ...

    async def fetch(self, key: str, target: Path, *, moved: Callable[[int], None]) -> Stored | None:
        """Read a stored object back in ranges into a file, hashing; None when there is no such object."""
        ...

    async def put_document(self, key: str, document: bytes) -> bytes:
        """Write a small document, unless there is one: the first writer's stands. Returns what is held now."""
        ...

    async def get_document(self, key: str) -> bytes | None: ...
