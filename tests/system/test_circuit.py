"""An empty account or a refused key pauses a vendor for all workers; one probe a minute tries it again."""

import asyncio
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


def code_of(result: GenerationResult) -> str | None:
    return result.error.code if result.error else None


async def test_an_empty_account_ends_free_and_pauses_the_vendor_before_any_reservation(
    stack: Stack, onetake: Onetake
) -> None:
    empty = await play(onetake, "empty [[sim:reject=402]]")
    assert (empty.status, code_of(empty), money(empty)) == ("failed", "vendor_account_empty", (200_000, 0, 0))
    await play(onetake, "the probe [[sim:reject=402]]")
    async with stack.database() as database:  # at the session's scale the next probe is due in three seconds
        await database.row("update onetake.vendor_state set probe_after = now() + interval '1 hour'")
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
        assert (await PostgresVendors(database).states())["apixo"].paused_code is None


async def test_one_probe_a_minute_and_a_command_that_reopens(stack: Stack) -> None:
    async with stack.database() as database:
        vendors = PostgresVendors(database, probe_gap_s=60)
        await database.row(
            "insert into onetake.vendor_state (vendor, paused_code, paused_since, probe_after)"
            " values ('test', 'vendor_auth', now(), now())"
        )
        verdicts = await asyncio.gather(*(vendors.admit("test") for _ in range(10)), return_exceptions=True)
        assert sum(verdict is None for verdict in verdicts) == 1
        assert await vendors.reopen("test")
        assert not await vendors.reopen("test")
        await vendors.admit("test")


async def test_three_refusals_of_the_key_pause_and_one_does_not(onetake: Onetake) -> None:
    ends = [code_of(await play(onetake, "no right [[sim:reject=401]]")) for _ in range(3)]
    assert ends == ["vendor_auth"] * 3
    probe_and_next = [code_of(await play(onetake, "still no right [[sim:reject=401]]")) for _ in range(2)]
    assert probe_and_next == ["vendor_auth", "vendor_paused"]


async def test_a_429_keeps_every_caller_away(stack: Stack) -> None:
    async with stack.database() as database:
        vendors = PostgresVendors(database)
        assert await vendors.quiet_s("calm") == 0
        await vendors.slow_down("calm", 30)
        await vendors.slow_down("calm", 5)
        assert 25 < await vendors.quiet_s("calm") <= 30
