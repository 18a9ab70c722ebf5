"""A vendor is paused for all of its models when our account or key is refused, and for one model when only that is."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from onetake.core.contracts import ErrorInfo, Price, ReserveInput
from onetake.core.errors import Refused
from onetake.core.names import RefusedOf
from onetake.core.ports import Begun
from onetake.ledger import Database, PostgresLedger, PostgresSubmissions
from onetake.ledger.vendors import PostgresVendors

Accept = Callable[..., Awaitable[str]]
Begin = Callable[..., Awaitable[Begun]]
Refuse = Callable[..., Awaitable[None]]
Held = Callable[[str], Awaitable[str]]


@pytest.fixture
def vendors(database: Database) -> PostgresVendors:
    return PostgresVendors(database, probe_gap_s=60)


@pytest.fixture
def held(database: Database, ledger: PostgresLedger, accept: Accept, order: Callable[..., ReserveInput]) -> Held:
    """Make a generation of this model with its hold."""

    async def held(model: str) -> str:
        generation_id = await accept()
        plan = f'{{"vendor_model": "{model}"}}'
        await database.row("update onetake.generation set plan = $2 where id = $1", generation_id, plan)
        await ledger.reserve(order(generation_id))
        return generation_id

    return held


@pytest.fixture
def refuse(submissions: PostgresSubmissions, begin: Begin, held: Held) -> Refuse:
    """Have the vendor refuse so many submissions of a model."""

    async def refuse(model: str, code: str, about: RefusedOf, times: int = 1) -> None:
        for _ in range(times):
            generation_id = await held(model)
            await begin(generation_id)
            error = ErrorInfo.of(code)
            await submissions.record(generation_id, 1, state="rejected", error=error, about=about)

    return refuse


def asking(generation_id: str) -> ReserveInput:
    price = Price(amount_micros=1, unit="u", table_version="t")
    return ReserveInput(
        generation_id=generation_id,
        attempt=1,
        tenant="acme",
        user=None,
        feature=None,
        route="r",
        vendor="apixo",
        price=price,
    )


async def paused(vendors: PostgresVendors, generation_id: str) -> str:
    """Why the generation is refused; empty when it is admitted."""
    try:
        await vendors.admit(asking(generation_id))
    except Refused as refused:
        return refused.detail
    return ""


async def hold_back_probes(database: Database) -> None:
    await database.row("update onetake.circuit set probe_after = now() + interval '1 hour'")


async def test_three_refusals_of_one_model_pause_that_model_and_no_other(
    database: Database, vendors: PostgresVendors, held: Held, refuse: Refuse
) -> None:
    await refuse("flash", "vendor_auth", "model", times=3)
    await hold_back_probes(database)
    assert "vendor_auth for flash since" in await paused(vendors, await held("flash"))
    assert await paused(vendors, await held("standard")) == ""
    (state,) = (await vendors.states()).values()
    assert (state.paused_code, [each.model for each in state.paused_models]) == (None, ["flash"])


async def test_three_refusals_of_the_key_pause_every_model(
    database: Database, vendors: PostgresVendors, held: Held, refuse: Refuse
) -> None:
    await refuse("flash", "vendor_auth", "account", times=2)
    assert await paused(vendors, await held("flash")) == ""
    await refuse("standard", "vendor_auth", "account")
    await hold_back_probes(database)
    for model in ("flash", "standard", "another"):
        assert "vendor_auth since" in await paused(vendors, await held(model))


@pytest.mark.parametrize("code", ["vendor_account_empty", "vendor_account_limit"])
async def test_one_refusal_of_the_account_pauses_every_model(
    database: Database, vendors: PostgresVendors, held: Held, refuse: Refuse, code: str
) -> None:
    await refuse("flash", code, "account")
    await hold_back_probes(database)
    assert code in await paused(vendors, await held("standard"))


async def test_refusals_of_two_models_do_not_add_up(vendors: PostgresVendors, held: Held, refuse: Refuse) -> None:
    await refuse("flash", "vendor_auth", "model", times=2)
    await refuse("standard", "vendor_auth", "model", times=2)
    assert [await paused(vendors, await held(model)) for model in ("flash", "standard")] == ["", ""]


@pytest.mark.parametrize(("accepted", "still_paused"), [("flash", False), ("standard", True)])
async def test_an_acceptance_opens_its_own_model_and_the_account(
    vendors: PostgresVendors,
    submissions: PostgresSubmissions,
    begin: Begin,
    held: Held,
    refuse: Refuse,
    accepted: str,
    still_paused: bool,
) -> None:
    await refuse("flash", "vendor_auth", "model", times=3)
    await refuse("flash", "vendor_account_empty", "account")
    generation_id = await held(accepted)
    await begin(generation_id)
    await submissions.record(generation_id, 1, state="accepted", vendor_task_id="task-1")
    states = await vendors.states()
    assert [each.model for each in states["apixo"].paused_models] == ["flash"] if still_paused else states == {}
    assert all(state.paused_code is None for state in states.values())


async def test_one_of_many_takes_the_probe_and_may_come_back_for_it(
    vendors: PostgresVendors, held: Held, refuse: Refuse
) -> None:
    await refuse("flash", "vendor_account_empty", "account")
    ids = [await held("flash") for _ in range(6)]
    assert all([await vendors.admit(asking(each)) for each in ids]), "each may try"
    verdicts = await asyncio.gather(*(vendors.probe("apixo", each) for each in ids), return_exceptions=True)
    (probing,) = [each for each, verdict in zip(ids, verdicts, strict=True) if verdict is None]
    assert {type(verdict) for verdict in verdicts if verdict is not None} == {Refused}
    await vendors.probe("apixo", probing)
    assert await vendors.admit(asking(probing))
    assert "vendor_account_empty" in await paused(vendors, await held("flash"))


async def test_asking_takes_no_probe(vendors: PostgresVendors, held: Held, refuse: Refuse) -> None:
    """Who is refused by a budget afterwards leaves the probe to others."""
    await refuse("flash", "vendor_account_empty", "account")
    for _ in range(3):
        assert await vendors.admit(asking(await held("flash")))


async def test_a_probe_that_was_given_back_is_the_next_ones_and_nobody_gives_back_anothers(
    vendors: PostgresVendors, held: Held, refuse: Refuse
) -> None:
    await refuse("flash", "vendor_account_empty", "account")
    broke, following, last = [await held("flash") for _ in range(3)]
    await vendors.probe("apixo", broke)
    assert "vendor_account_empty" in await paused(vendors, following)
    await vendors.leave_probe("apixo", broke)
    await vendors.probe("apixo", following)
    await vendors.leave_probe("apixo", broke)
    assert "vendor_account_empty" in await paused(vendors, last)


async def test_a_vendor_that_is_reopened_is_open_for_every_model(
    vendors: PostgresVendors, held: Held, refuse: Refuse
) -> None:
    await refuse("flash", "vendor_auth", "model", times=3)
    await refuse("flash", "vendor_account_empty", "account")
    assert await vendors.reopen("apixo")
    assert not await vendors.reopen("apixo")
    assert await vendors.states() == {}
    assert not await vendors.admit(asking(await held("flash")))
    await refuse("flash", "vendor_auth", "model")
    assert await vendors.states() == {}, "the count has begun again"


async def test_a_refusal_of_anything_else_pauses_nothing(vendors: PostgresVendors, refuse: Refuse, held: Any) -> None:
    for code in ("vendor_rejected", "content_rejected", "vendor_route_missing"):
        await refuse("flash", code, "account", times=4)
    assert await vendors.states() == {}
    assert not await vendors.admit(asking(await held("flash")))
