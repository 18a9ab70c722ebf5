"""A generation as the outside sees it: errors, costs, assets, results and records."""

from datetime import datetime
from typing import Self

from pydantic import Field

from onetake.core.contracts.base import Value
from onetake.core.errors import CATALOGUE, OnetakeError
from onetake.core.names import CostBasis, Phase, Status


class ErrorInfo(Value):
    """An error as the outside sees it: a code of the catalogue, one sentence, what to do."""

    code: str
    message: str
    hint: str

    @classmethod
    def of(cls, code: str, detail: str = "") -> Self:
        """The catalogue's error of this code; `detail` says what was measured."""
        entry = CATALOGUE[code]
        return cls(code=code, message=f"{entry.sentence} {detail}".strip(), hint=entry.hint)

    @classmethod
    def from_error(cls, error: OnetakeError) -> Self:
        """What an exception of ours says."""
        return cls(code=error.code, message=str(error), hint=error.hint)

    @property
    def detail(self) -> str:
        """What was measured: the message without the catalogue's sentence."""
        return self.message.removeprefix(CATALOGUE[self.code].sentence).strip() if self.code in CATALOGUE else ""


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


class Waiting(Value):
    """A generation's place in the line for its vendor, and about how many seconds that will take."""

    place: int
    about_s: float


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
    waiting: Waiting | None = None
