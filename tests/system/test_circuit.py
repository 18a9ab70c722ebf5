"""An empty account or a refused key pauses a vendor for all workers; one probe a minute tries it again."""

from collections.abc import AsyncGenerator

import pytest_asyncio

from onetake.client import Onetake
from onetake.core.contracts import GenerationResult
from onetake.ledger.vendors import PostgresVendors
from tests.system.harness import ROUTE, Stack, ended, money, unique


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def open_again(stack: Stack) -> AsyncGenerator[None]:
    await stack.reopen("apixo")
    yield
    await stack.reopen("apixo")


async def play(onetake: Onetake, text: str) -> GenerationResult:
    started = await onetake.start(route=ROUTE, prompt=unique(text), duration_s=2)
    return await ended(onetake, started.id)


async def no_probe_is_due(stack: Stack) -> None:
    """At the session's scale the next one would be due in three seconds."""
    async with stack.database() as database:
        await database.row("update onetake.circuit set probe_after = now() + interval '1 hour' where vendor = 'apixo'")


def code_of(result: GenerationResult) -> str | None:
    return result.error.code if result.error else None


async def test_an_empty_account_ends_free_and_pauses_the_vendor_before_any_reservation(
    stack: Stack, onetake: Onetake
) -> None:
    empty = await play(onetake, "empty [[sim:reject=402]]")
    assert (empty.status, code_of(empty), money(empty)) == ("failed", "vendor_account_empty", (200_000, 0, 0))
    await play(onetake, "the probe [[sim:reject=402]]")
    await no_probe_is_due(stack)
    prompt = unique("too late")
    started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
    refused = await ended(onetake, started.id)
    assert (code_of(refused), money(refused)) == ("vendor_paused", (0, 0, 0))
    assert await stack.submits_of(prompt) == []


async def test_a_probe_that_succeeds_opens_the_vendor(stack: Stack, onetake: Onetake) -> None:
    await play(onetake, "empty [[sim:reject=402]]")
    assert (await play(onetake, "the probe")).status == "completed"
    assert (await play(onetake, "everybody")).status == "completed"
    async with stack.database() as database:
        state = (await PostgresVendors(database).states()).get("apixo")
        assert state is None or state.paused_code is None


async def test_three_refusals_of_the_key_pause_and_one_does_not(stack: Stack, onetake: Onetake) -> None:
    ends = [code_of(await play(onetake, "no right [[sim:reject=401]]")) for _ in range(3)]
    assert ends == ["vendor_auth"] * 3
    assert code_of(await play(onetake, "still no right [[sim:reject=401]]")) == "vendor_auth", "the probe"
    await no_probe_is_due(stack)
    assert code_of(await play(onetake, "still no right [[sim:reject=401]]")) == "vendor_paused"


async def test_a_tenant_without_money_takes_no_probe(stack: Stack, onetake: Onetake) -> None:
    await stack.set_budget("tenant", "broke", "total", "0.01")
    await play(onetake, "empty [[sim:reject=402]]")
    started = await onetake.start(route=ROUTE, prompt=unique("no money"), duration_s=2, tenant="broke")
    assert code_of(await ended(onetake, started.id)) == "budget_exceeded"
    assert (await play(onetake, "the probe")).status == "completed"
