"""What all workers know of a vendor together: its circuits, its room and its rates, and what it really charged."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from onetake.core.contracts import ReserveInput, Value
from onetake.core.errors import Refused, TryLater
from onetake.core.spans import span
from onetake.ledger.database import Database, Row

PROBE_GAP_S = 60.0

# One statement: while nobody has to wait, the line costs no round trip.
_ADMIT: Final = """
select a.verdict, a.model, a.code, a.since, l.wait_s, l.place, l.about_s from onetake.admit_to_vendor($1, $2) a
cross join lateral onetake.take_place(a.verdict, $1, $2, $3, $4, $5) l
"""

# Rates are forgotten after an hour.
_STATES: Final = """
with vendor_rate as (
    select * from onetake.vendor_rate r where r.slowed_at > clock_timestamp() - interval '1 hour' * $1
)
select vendor, m.jobs as room,
    (select count(*) from onetake.vendor_line l where l.vendor = v.vendor and l.granted_at is null)::int as waiting,
    (select r.per_s from vendor_rate r where r.vendor = v.vendor and r.purpose = 'submit') as submits_per_s,
    (select r.per_s from vendor_rate r where r.vendor = v.vendor and r.purpose = 'read') as reads_per_s,
    greatest(0, coalesce((select max(extract(epoch from r.quiet_until - clock_timestamp()))
        from vendor_rate r where r.vendor = v.vendor), 0))::float8 as quiet_for_s
from (select vendor from onetake.circuit where paused_code is not null union select vendor from onetake.vendor_room
      union select vendor from vendor_rate) v
left join onetake.vendor_room m using (vendor)
order by vendor
"""


class PausedModel(Value):
    """A model to which no new generations go, for the vendor refuses it to our key."""

    model: str
    paused_code: str
    paused_since: datetime


class VendorState(Value):
    """One vendor as all workers see it. `paused_code` is the refusal that paused all of it. What its 429s have taught:
    for how many jobs it has `room`, how many generations are `waiting`, and how fast it may be called."""

    vendor: str
    paused_code: str | None = None
    paused_since: datetime | None = None
    paused_models: tuple[PausedModel, ...] = ()
    quiet_for_s: float = 0.0
    room: int | None = None
    waiting: int = 0
    submits_per_s: float | None = None
    reads_per_s: float | None = None


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

    def __init__(self, database: Database, *, probe_gap_s: float = PROBE_GAP_S, time_scale: float = 1.0) -> None:
        self._database = database
        self._scale = time_scale
        self._probe_gap = timedelta(seconds=probe_gap_s)

    async def admit(self, order: ReserveInput) -> bool:
        """Return when a new generation may take its hold; True when its vendor is paused and this one may probe it,
        which `probe` decides.

        Raises Refused(`vendor_paused`) with why and since when; TryLater(`vendor_full`) with its place in the line and
        when to ask again, when the vendor has no room or others come first.
        """
        row = await self._database.answer(
            _ADMIT, order.vendor, order.generation_id, order.tenant, order.gap_s, self._scale
        )
        _refuse_if_paused(row)
        if row["wait_s"] > 0:
            where = f"(waiting for {order.vendor}: place {row['place']}, about {span(row['about_s'])})"
            raise TryLater("vendor_full", where, after_s=row["wait_s"])
        return row["verdict"] == "due"

    async def probe(self, vendor: str, generation_id: str) -> None:
        """Take this minute's probe of a paused vendor for a generation, before it holds its price. Repeatable.

        Raises Refused(`vendor_paused`) when another generation has taken it."""
        _refuse_if_paused(
            await self._database.answer(
                "select * from onetake.probe_vendor($1, $2, $3)", vendor, generation_id, self._probe_gap
            )
        )

    async def leave_probe(self, vendor: str, generation_id: str) -> None:
        """Give back the probe that this generation took and will not use: another may take it at once. Repeatable."""
        await self._database.row("select onetake.leave_probe($1, $2)", vendor, generation_id)

    async def states(self) -> dict[str, VendorState]:
        """All vendors of which something is known."""
        circuits = await self._database.rows(
            "select vendor, model, paused_code, paused_since from onetake.circuit where paused_code is not null"
            " order by vendor, model"
        )
        return {row["vendor"]: _state(row, circuits) for row in await self._database.rows(_STATES, self._scale)}

    async def reopen(self, vendor: str) -> bool:
        """Let new generations go to the vendor and all its models again; False when nothing was paused. Repeatable."""
        rows = await self._database.rows(
            "with paused as (select model from onetake.circuit where vendor = $1 and paused_code is not null"
            " order by model for update)"
            " update onetake.circuit c set paused_code = null, paused_since = null, probe_after = null,"
            " probe_of = null, refusals = 0 from paused p where c.vendor = $1 and c.model = p.model returning vendor",
            vendor,
        )
        return bool(rows)

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


def _refuse_if_paused(row: Row) -> None:
    if row["verdict"] == "paused":
        model = f" for {row['model']}" if row["model"] else ""
        raise Refused("vendor_paused", f"({row['code']}{model} since {row['since']:%Y-%m-%d %H:%M:%S} UTC)")


def _state(known: Row, circuits: Sequence[Row]) -> VendorState:
    own: list[dict[str, Any]] = [dict(row) for row in circuits if row["vendor"] == known["vendor"]]
    nothing: dict[str, Any] = {}
    account = next((row for row in own if not row["model"]), nothing)
    paused: dict[str, Any] = {name: account.get(name) for name in ("paused_code", "paused_since")}
    models = [PausedModel.model_validate(row) for row in own if row["model"]]
    return VendorState.model_validate({**known, **paused, "paused_models": models})
