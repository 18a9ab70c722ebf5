"""Tenants: the time zones in which their days and months begin."""

from collections.abc import Sequence
from datetime import date
from difflib import get_close_matches
from typing import Final

from pydantic import TypeAdapter, ValidationError

from onetake.core.contracts import Tenant, Value
from onetake.core.errors import Refused
from onetake.core.names import PolicyScope, Scope
from onetake.ledger.database import Database

_TENANT: Final = TypeAdapter[str](Tenant)

# Each step finds the next tenant by the index, so that no row but the first of a tenant is read.
_TENANTS: Final = """
with recursive seen (tenant) as (
    (select g.tenant from onetake.generation g order by g.tenant limit 1)
    union all
    select (select g.tenant from onetake.generation g where g.tenant > s.tenant order by g.tenant limit 1)
    from seen s where s.tenant is not null
), known as (select tenant from seen where tenant is not null union select tenant from onetake.tenant_zone),
month as (select date_trunc('month', now() at time zone 'UTC')::date as this)
select k.tenant, onetake.zone_of(k.tenant, m.this) as time_zone,
       next.time_zone as next_time_zone, next.month as next_from
from known k cross join month m
left join lateral (
    select c.month, onetake.zone_of(k.tenant, c.month) as time_zone from (
        select (date_trunc('month', z.since at time zone 'UTC' + interval '1 day') + interval '1 month')::date as month
        from onetake.tenant_zone z where z.tenant = k.tenant) c
    where c.month > m.this and onetake.zone_of(k.tenant, c.month) <> onetake.zone_of(k.tenant, m.this)
    order by c.month limit 1) next on true
where k.tenant = coalesce($1, k.tenant) order by k.tenant
"""


class TenantZone(Value):
    """Where a tenant's days and months begin. `time_zone` is this month's; `next_time_zone` counts from the month that
    begins with `next_from`, the first one in which it is another. Both are None when no other one was set."""

    tenant: str
    time_zone: str
    next_time_zone: str | None = None
    next_from: date | None = None


class Tenants:
    """What the command line does with tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set_zone(self, tenant: str, time_zone: str) -> TenantZone:
        """Set where a tenant's days and months begin, from the next month that begins more than a day from now; from
        ever when nothing of the tenant is booked yet. Repeatable. Raises Refused(`usage`)."""
        check_tenant(tenant)
        await check_zone(self._database, time_zone)
        await self._database.answer("select onetake.set_zone($1, $2)", tenant, time_zone)
        return (await self.zones(tenant))[0]

    async def zones(self, tenant: str | None = None) -> Sequence[TenantZone]:
        """Every tenant of a generation or with a zone, or this one; empty when it is not known."""
        return [TenantZone.model_validate(dict(row)) for row in await self._database.rows(_TENANTS, tenant)]


def check_tenant(name: str) -> None:
    """Raises Refused(`usage`) for a name that no request may bear: nothing would ever be of that tenant."""
    try:
        _TENANT.validate_python(name)
    except ValidationError:
        raise Refused(
            "usage",
            f"No tenant can be {name!r}: names are of a-z, 0-9, _ and -, at most 63, and begin with a-z or 0-9.",
        ) from None


def check_tenant_of(scope: Scope | PolicyScope, key: str) -> None:
    """`check_tenant` for the key of a scope, where that names one: a user's and a feature's are `TENANT/NAME`."""
    if scope == "tenant":
        check_tenant(key)
    elif scope in ("user", "feature"):
        check_tenant(key.partition("/")[0])


async def check_zone(database: Database, name: str) -> None:
    """Raises Refused(`usage`) for a time zone that the database does not know, with the nearest one that it does."""
    rows = await database.rows("select name from pg_timezone_names where name !~ '^posix'")
    zones = {row["name"].lower(): row["name"] for row in rows}
    if name not in zones.values():
        near = get_close_matches(name.lower(), zones, n=1)
        hint = f" Did you mean {zones[near[0]]!r}?" if near else ""
        raise Refused("usage", f"There is no time zone {name!r}.{hint}")
