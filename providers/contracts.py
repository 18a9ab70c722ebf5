"""What contracts say a failed job costs: dated entries of the operator's file, which go before a vendor's documents."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from difflib import get_close_matches
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from onetake.core.errors import Refused
from onetake.core.names import VENDOR_NAMES, FailedJobCost


class FailedJobContract(BaseModel):
    """From the start of `valid_from` (UTC) on, what a failed job costs at a vendor, until the vendor's next entry."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vendor: str
    valid_from: date
    cost: FailedJobCost
    source: Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]


def refuse_wrong_contracts(contracts: Sequence[FailedJobContract]) -> None:
    """Raises Refused(`settings_invalid`) for a vendor that is unknown, and for two entries of one vendor and date."""
    seen = set[tuple[str, date]]()
    for each in contracts:
        if each.vendor not in VENDOR_NAMES:
            (nearest,) = get_close_matches(each.vendor, VENDOR_NAMES, n=1, cutoff=0)
            raise _wrong(f"{each.vendor[:32]!r} is no vendor; the nearest is {nearest!r}")
        if (each.vendor, each.valid_from) in seen:
            raise _wrong(f"{each.vendor} has two entries of {each.valid_from}")
        seen.add((each.vendor, each.valid_from))


def contract_at(
    contracts: Sequence[FailedJobContract], vendor: str, at: datetime | None = None
) -> FailedJobContract | None:
    """The latest entry of a vendor that is in force on the day of `at` in UTC, today by default; None before any."""
    day = (at or datetime.now(UTC)).astimezone(UTC).date()
    of_vendor = [each for each in contracts if each.vendor == vendor and each.valid_from <= day]
    return max(of_vendor, key=lambda each: each.valid_from, default=None)


def _wrong(problem: str) -> Refused:
    return Refused("settings_invalid", f"In [[failed_job_cost]] of the file ONETAKE_PRICES names: {problem}.")
