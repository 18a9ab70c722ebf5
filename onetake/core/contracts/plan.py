"""The plan: all that a run knows of its route, pinned when the generation was accepted."""

from decimal import Decimal
from typing import Annotated, Self

from pydantic import Field

from onetake.core.contracts.base import Message, Value
from onetake.core.contracts.policy import CountLimit
from onetake.core.contracts.request import GenerationRequest
from onetake.core.names import FailedJobCost, InputKind, media_queue, read_queue, submit_queue


class Cadence(Value):
    """When a vendor's status is read: seconds after acceptance, then growing gaps."""

    first_read_s: float
    interval_s: float
    growth: float
    max_interval_s: float


class Pace(Value):
    """What is known of a vendor's callbacks and of renders like one.

    `usual_s`: seconds from acceptance by the vendor to the end that we saw, the median of the latest; None when fewer
    than 5 are known."""

    callbacks_arrive: bool = False
    usual_s: float | None = None


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
        return cls(
            base=base,
            submit=submit_queue(base, vendor),
            read=read_queue(base, vendor),
            media=media_queue(base, vendor),
        )


class Price(Value):
    """What the generation is expected to cost, from one dated table."""

    amount_micros: int
    unit: str
    table_version: str
    usd_per_credit: Decimal | None = None


class Plan(Message):
    """All that the workflow knows of a route, pinned when the generation was accepted.

    Times are already scaled by `time_scale` (1 in production; tests and the demo shorten them). `policies` are those
    that decided something, in words; `limits` are kept by the ledger when the plan is stored. Costs that the vendor
    reports are booked without a person up to `reported_cost_most` times the price. A clip that was paid for is sought
    for `result_lifetime_s` seconds. A vendor that `bills_generated` seconds only reserves for those that were ordered.
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
    watermark: bool | None = None
    prompt_extend: bool | None = None
    policies: tuple[str, ...] = ()
    limits: tuple[CountLimit, ...] = ()
    cadence: Cadence
    deadline_s: float
    unknown_deadline_s: float
    unreachable_limit_s: float
    heartbeat_timeout_s: float
    failed_job_cost: FailedJobCost
    reported_cost_most: Annotated[Decimal, Field(ge=1, allow_inf_nan=False)] = Decimal(3)
    bills_generated: bool = False
    callbacks: bool
    cancelable: bool
    takes_seed: bool
    lists_jobs: bool = False
    reads_balance: bool = False
    absence_window_s: float = 120.0
    queues: Queues
    max_asset_bytes: int
    duration_tolerance_s: float
    result_lifetime_s: float = 21_600.0
    time_scale: float = 1.0

    def decided(self, request: GenerationRequest) -> GenerationRequest:
        """The request with what policies decided in the caller's place: what is sent."""
        ours = {"watermark": self.watermark, "prompt_extend": self.prompt_extend}
        return request.model_copy(update={name: value for name, value in ours.items() if value is not None})
