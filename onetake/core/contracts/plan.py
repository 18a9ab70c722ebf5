"""The plan: all that a run knows of its route, pinned when the generation was accepted."""

from decimal import Decimal
from typing import Self

from onetake.core.contracts.base import Message, Value
from onetake.core.names import FailedJobCost, InputKind, media_queue, read_queue, submit_queue


class Cadence(Value):
    """When a vendor's status is read: seconds after acceptance, then growing gaps."""

    first_read_s: float
    interval_s: float
    growth: float
    max_interval_s: float


class Queues(Value):
    """The task queues of one generation, named by the deployment and pinned in the plan. `base` serves workflows and
    the short activities on the ledger."""

    base: str
    submit: str
    read: str
    media: str

    @classmethod
    def of(cls, base: str, vendor: str) -> Self:
        """The queues of one vendor's generations in the deployment whose own queue is `base`."""
        return cls(base=base, submit=submit_queue(base, vendor), read=read_queue(base, vendor), media=media_queue(base))


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
