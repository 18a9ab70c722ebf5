"""Policies in PostgreSQL: points change one by one, every change is written down, and counts are exact under races."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onetake.core.contracts import GenerationRequest, Plan, SettleInput
from onetake.core.errors import Refused
from onetake.core.ids import new_generation_id, workflow_id_of
from onetake.core.names import PolicyScope
from onetake.ledger import Database, PostgresGenerations, PostgresLedger, PostgresTerms
from onetake.ledger.database import Row, Session, connect_once
from onetake.ledger.policies import Policies
from providers.admission import RouteAdmission
from providers.catalogue import load_catalogue
from providers.policies import Decided, matches
from tests.ledger.databases import WAITERS, fresh_database
from tests.providers import parts

ROUTE: Final = "apixo/wan-2.6/text-to-video"
WHY: Final = {"who": "operator ann", "why": "the budget of November"}
PATTERNS: Final = ("*", "apixo/*", "*/text-to-video", "apixo/wan-2.6/*", ROUTE, "gmi/*")
WHOM: Final = (("everyone", ""), ("tenant", "acme"), ("feature", "acme/ads"), ("user", "acme/ann"), ("tenant", "other"))
RANKS: Final = {"everyone": 0, "tenant": 1, "feature": 2, "user": 3}


@pytest.fixture
def policies(database: Database) -> Policies:
    return Policies(database)


async def test_points_change_one_by_one_and_every_change_is_written_down(policies: Policies) -> None:
    await policies.set_policy("tenant", "acme", "apixo/*", {"most_seconds": 5, "sound": "forbidden"}, **WHY)
    second = await policies.set_policy("tenant", "acme", "apixo/*", {"most_seconds": None, "most_open": 3}, **WHY)
    again = await policies.set_policy("tenant", "acme", "apixo/*", {"most_open": 3}, **WHY)
    assert second == again
    assert second is not None
    assert (second.most_seconds, second.most_open, second.sound) == (None, 3, "forbidden")
    await policies.remove_policy("tenant", "acme", "apixo/*", **WHY)
    assert await policies.all() == []
    changes = [(each.who, each.before, each.after) for each in await policies.changes()]
    assert changes == [
        ("operator ann", {"most_open": 3, "sound": "forbidden"}, None),
        ("operator ann", {"most_seconds": 5, "sound": "forbidden"}, {"most_open": 3, "sound": "forbidden"}),
        ("operator ann", None, {"most_seconds": 5, "sound": "forbidden"}),
    ]


async def test_however_many_changes_there_are_all_are_shown(policies: Policies, database: Database) -> None:
    await database.row(
        """insert into onetake.policy_change (who, why, scope, scope_key, route_pattern)
        select 'ann', number::text, 'everyone', '', '*' from generate_series(1, 1001) number"""
    )
    assert [int(each.why) for each in await policies.changes()] == list(range(1001, 0, -1))


async def test_a_policy_that_is_not_there_cannot_be_removed(policies: Policies) -> None:
    with pytest.raises(Refused, match="no policy of tenant acme"):
        await policies.remove_policy("tenant", "acme", "*", **WHY)
    assert await policies.changes() == []


@pytest.mark.parametrize(("scope", "key"), [("tenant", "Acme"), ("user", "Acme/ann"), ("feature", "/intro")])
async def test_a_policy_for_a_tenant_that_cannot_be_is_refused(
    policies: Policies, scope: PolicyScope, key: str
) -> None:
    with pytest.raises(Refused, match="No tenant can be"):
        await policies.set_policy(scope, key, "*", {"allowed": False}, **WHY)
    assert await policies.changes() == []


async def test_changes_at_one_time_are_written_down_one_after_the_other(policies: Policies) -> None:
    points = [{"most_seconds": number} for number in range(1, 9)]
    await asyncio.gather(*(policies.set_policy("everyone", "", "*", each, **WHY) for each in points))
    changes = list(await policies.changes())
    assert len(changes) == len(points)
    for later, earlier in pairwise(changes):
        assert later.before == earlier.after


@pytest.fixture(scope="module")
async def shared(server: Session, server_url: str, template_url: str) -> AsyncIterator[Database]:
    async with fresh_database(server, server_url, template_url) as url:
        opened = await Database.connect(url)
        yield opened
        await opened.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    made=st.dictionaries(
        st.tuples(st.sampled_from(WHOM), st.sampled_from(PATTERNS)),
        st.fixed_dictionaries({}, optional={"most_seconds": st.integers(1, 9), "most_micros": st.integers(0, 9)}),
        max_size=10,
    ),
    route=st.sampled_from((ROUTE, "apixo/wan-2.6/image-to-video", "gmi/wan-2.6/text-to-video")),
)
async def test_the_narrowest_policy_of_the_database_counts_on_each_point(
    shared: Database, made: dict[tuple[tuple[Any, str], str], dict[str, int]], route: str
) -> None:
    policies = Policies(shared)
    for each in await policies.all():
        await policies.remove_policy(each.scope, each.key, each.pattern, **WHY)
    for ((scope, key), pattern), points in made.items():
        if points:
            await policies.set_policy(scope, key, pattern, points, **WHY)
    terms = await PostgresTerms(shared).of_caller("acme", "ann", "ads")
    decided = Decided.of(terms.policies, route)
    for point in ("most_seconds", "most_micros"):
        speaking = [
            (RANKS[scope], len(pattern.replace("*", "")), pattern, points[point])
            for ((scope, key), pattern), points in made.items()
            if point in points and key != "other" and matches(pattern, route)
        ]
        assert decided.value(point) == (max(speaking)[3] if speaking else None)


async def started(database: Database, tenant: str = "acme", key: str | None = None, **fields: Any) -> str:
    """Accept a generation as a client does, on the terms of now."""
    request = parts.request_on(ROUTE, tenant=tenant, idempotency_key=key, **fields)
    plan = await planned(database, request)
    workflow_id = workflow_id_of(tenant, new_generation_id())
    return (await PostgresGenerations(database).accept_once(request, workflow_id=workflow_id, plan=plan)).id


async def planned(database: Database, request: GenerationRequest) -> Plan:
    admission = RouteAdmission(parts.settings(), load_catalogue())
    return admission.plan(request, await PostgresTerms(database).of(request), base_queue="onetake")


@pytest.mark.parametrize("point", ["most_open", "most_starts_per_minute"])
async def test_of_many_at_one_time_exactly_the_number_allowed_is_accepted(
    database: Database, policies: Policies, point: str
) -> None:
    await policies.set_policy("tenant", "acme", "apixo/*", {point: 3}, **WHY)
    tried = await asyncio.gather(*(started(database) for _ in range(12)), return_exceptions=True)
    accepted = [each for each in tried if isinstance(each, str)]
    refusals = [each for each in tried if isinstance(each, Refused)]
    assert (len(accepted), len(refusals)) == (3, 9)
    assert {each.code for each in refusals} == {"policy_refused"}
    assert "by the policy of tenant acme for apixo/*" in str(refusals[0])
    rows = await database.rows("select id from onetake.generation")
    assert sorted(row["id"] for row in rows) == sorted(accepted), "a refused one left a row"
    assert await started(database, "other")


@pytest.mark.parametrize("set_again", [False, True])
async def test_whoever_is_under_the_same_limit_waits_for_the_one_before(
    database: Database, policies: Policies, database_url: str, set_again: bool
) -> None:
    await policies.set_policy("tenant", "acme", "*", {"most_open": 1}, **WHY)
    session = await connect_once(database_url)

    async def answer(sql: str, *arguments: object) -> Row:
        return (await session.fetch(sql, *arguments))[0]

    request = parts.request_on(ROUTE, tenant="acme")
    plan, uncommitted = await planned(database, request), cast("Database", SimpleNamespace(answer=answer))
    async with session.transaction():
        workflow_id = workflow_id_of("acme", new_generation_id())
        await PostgresGenerations(uncommitted).accept_once(request, workflow_id=workflow_id, plan=plan)
        if set_again:
            await policies.remove_policy("tenant", "acme", "*", **WHY)
            await policies.set_policy("tenant", "acme", "*", {"most_open": 1}, **WHY)
        second = asyncio.create_task(started(database))
        while not second.done() and not (await database.answer(WAITERS))["count"]:
            await asyncio.sleep(0.01)
    await session.close()
    with pytest.raises(Refused, match="at most 1 open generations"):
        await second


async def test_one_that_has_ended_makes_room(database: Database, policies: Policies, ledger: PostgresLedger) -> None:
    await policies.set_policy("user", "acme/ann", "*", {"most_open": 1}, **WHY)
    first = await started(database, user="ann", key="one")
    assert await started(database, user="ben")
    assert await started(database, user="ann", key="one") == first, "a repeated key is no new generation"
    with pytest.raises(Refused):
        await started(database, user="ann")
    end = {"generation_id": first, "attempt": 1, "tenant": "acme", "status": "canceled", "resolution": "none"}
    await ledger.settle(SettleInput.model_validate(end))
    assert await started(database, user="ann")


@pytest.mark.parametrize("point", ["most_open", "most_starts_per_minute"])
@pytest.mark.parametrize("later", ["pinned", "accepted again"])
async def test_a_run_that_nobody_priced_before_is_counted_when_its_plan_is_pinned(
    database: Database, policies: Policies, generations: PostgresGenerations, point: str, later: str
) -> None:
    await policies.set_policy("everyone", "", "*", {point: 1}, **WHY)
    request = parts.request_on(ROUTE, tenant="acme")
    runs = [(workflow_id_of("acme", new_generation_id()), f"run{n}") for n in range(3)]
    rows = [await generations.accept_once(request, workflow_id=name, run_id=run_id) for name, run_id in runs]
    await database.rows("update onetake.generation set created_at = created_at - interval '61 seconds'")
    plan = await planned(database, request)
    calls: list[Awaitable[object]]
    if later == "pinned":
        calls = [generations.pin(row.id, plan) for row in rows]
    else:
        calls = [generations.accept_once(request, workflow_id=name, run_id=run_id, plan=plan) for name, run_id in runs]
    tried = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(each, Refused) for each in tried) == 2
    kept = await database.rows("select id from onetake.generation where plan is not null")
    assert len(kept) == 1
    assert await generations.pin(kept[0]["id"], plan) == plan


async def test_starts_of_the_minute_before_make_room_whenever_their_plan_was_pinned(
    database: Database, policies: Policies, generations: PostgresGenerations
) -> None:
    await policies.set_policy("tenant", "acme", "*", {"most_starts_per_minute": 2}, **WHY)
    assert await started(database)
    request = parts.request_on(ROUTE, tenant="acme")
    row = await generations.accept_once(request, workflow_id=workflow_id_of("acme", new_generation_id()))
    await generations.pin(row.id, await planned(database, request))
    with pytest.raises(Refused):
        await started(database)
    await database.rows(
        """update onetake.generation
        set created_at = created_at - interval '61 seconds', pinned_at = pinned_at - interval '61 seconds'"""
    )
    assert await started(database)
