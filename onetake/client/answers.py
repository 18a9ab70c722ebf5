"""What the client answers beside the records of generations."""

from dataclasses import dataclass
from datetime import datetime

from onetake.core.contracts import Plan


@dataclass(frozen=True)
class Started:
    """A generation that was accepted. `replayed`: the idempotency key had started this one before."""

    id: str
    workflow_id: str
    price_micros: int
    replayed: bool
    ui_url: str | None


@dataclass(frozen=True)
class Quote:
    """A price that holds until `expires_at` for the same request of the same tenant, given as its `quote_id`."""

    id: str
    plan: Plan
    expires_at: datetime
