"""What all workers know of a vendor together: the circuit, its silence after a 429, and what it really charged."""

from datetime import datetime, timedelta

from onetake.core.contracts import Value
from onetake.core.errors import Refused
from onetake.ledger.database import Database

PROBE_GAP_S = 60.0


class VendorState(Value):
    """One vendor as all workers see it. `paused_code` is the refusal that paused it."""

    vendor: str
    paused_code: str | None = None
    paused_since: datetime | None = None
    refusals_of_key: int = 0
    quiet_for_s: float = 0.0


class RouteCost(Value):
    """What a route was expected to cost and what its vendor reported, over the generations where it reported."""

    route: str
    generations: int
    expected_micros: int
    reported_micros: int

    @property
    def difference_micros(self) -> int:
        return self.reported_micros - self.expected_micros


class PostgresVendors:
    """The port `Vendors`, and what the command line shows and does."""

    def __init__(self, database: Database, *, probe_gap_s: float = PROBE_GAP_S) -> None:
        self._database = database
        self._probe_gap = timedelta(seconds=probe_gap_s)

    async def admit(self, vendor: str) -> None:
        """Return when a new generation may go to the vendor; one a minute may, while it is paused.

        Raises Refused(`vendor_paused`) with why and since when.
        """
        row = await self._database.answer("select * from onetake.admit_to_vendor($1, $2)", vendor, self._probe_gap)
        if row["verdict"] == "paused":
            raise Refused("vendor_paused", f"({row['code']} since {row['since']:%Y-%m-%d %H:%M:%S} UTC)")

    async def quiet_s(self, vendor: str) -> float:
        """Seconds for which nobody may call the vendor, 0 when it may be called."""
        row = await self._database.row(
            "select extract(epoch from quiet_until - clock_timestamp())::float8 as s from onetake.vendor_state"
            " where vendor = $1 and quiet_until > clock_timestamp()",
            vendor,
        )
        return row["s"] if row else 0.0

    async def slow_down(self, vendor: str, for_s: float) -> None:
        """Keep everybody away from the vendor for so long: it said that we are too fast."""
        await self._database.row("select onetake.quiet_vendor($1, $2)", vendor, timedelta(seconds=for_s))

    async def states(self) -> dict[str, VendorState]:
        """All vendors of which something is known."""
        rows = await self._database.rows(
            "select vendor, paused_code, paused_since, refusals_of_key, greatest(0, coalesce("
            "extract(epoch from quiet_until - clock_timestamp()), 0))::float8 as quiet_for_s from onetake.vendor_state"
        )
        return {row["vendor"]: VendorState.model_validate(dict(row)) for row in rows}

    async def reopen(self, vendor: str) -> bool:
        """Let new generations go to the vendor again; False when it was not paused. Repeatable."""
        row = await self._database.row(
            "update onetake.vendor_state set paused_code = null, paused_since = null, probe_after = null,"
            " refusals_of_key = 0 where vendor = $1 and paused_code is not null returning vendor",
            vendor,
        )
        return row is not None

    async def costs(self) -> list[RouteCost]:
        """Expected and reported cost by route, over what vendors reported."""
        rows = await self._database.rows(
            "select g.route, count(*) as generations, sum(h.amount_micros)::bigint as expected_micros,"
            " sum(coalesce(s.reported_micros, h.actual_micros))::bigint as reported_micros"
            " from onetake.hold h join onetake.generation g on g.id = h.generation_id"
            " left join onetake.submission s using (generation_id, attempt)"
            " where h.state = 'posted' and g.basis = 'vendor_reported' group by g.route order by g.route"
        )
        return [RouteCost.model_validate(dict(row)) for row in rows]
