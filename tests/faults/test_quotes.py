"""Quotes: a price that rises between the quote and the reservation is the quoted one, or it is told."""

from pathlib import Path

import pytest

from onetake.client import Onetake
from onetake.core.contracts import GenerationRequest
from onetake.core.errors import Refused
from onetake.core.ids import new_quote_id
from tests.faults.table import expect, shows
from tests.system.harness import ROUTE, Stack, ended, unique

DEARER = f'[usd_per_second."{ROUTE}"]\n720p = "0.20"\n1080p = "0.40"\n'


async def test_a_price_that_rises_after_its_quote_is_held_or_told_and_never_taken_silently(
    stack: Stack, onetake: Onetake, tmp_path: Path
) -> None:
    (tmp_path / "dearer.toml").write_text(DEARER)
    tenant = unique("t").replace(" #", "-")
    request = GenerationRequest(route=ROUTE, prompt=unique("quoted"), duration_s=2, resolution="720p", tenant=tenant)
    quote = await onetake.quote(request)
    async with stack.client(prices=str(tmp_path / "dearer.toml")) as later:
        assert (await later.plan(request)).price.amount_micros == 400_000
        with pytest.raises(Refused) as refused:
            await later.start(request.model_copy(update={"quote_id": await expired(stack, quote.id)}))
        assert await onetake.list(tenant=tenant) == ()
        jobs = await stack.jobs_of(request.prompt)
        expect("F032", sees=refused.value.code, ledger=(), jobs=len(jobs), end="expired")
        assert "It costs $0.40 now." in str(refused.value)
        started = await later.start(request.model_copy(update={"quote_id": quote.id}))
        result = await ended(later, started.id)
    assert (quote.plan.price.amount_micros, started.price_micros) == (200_000, 200_000)
    assert (result.cost.reserved_micros, result.cost.settled_micros) == (200_000, 200_000)
    await shows("F032", stack, result, request.prompt, end="held")


async def expired(stack: Stack, quote_id: str) -> str:
    """The id of the same quote, made an hour earlier."""
    older = new_quote_id()
    async with stack.database() as database:
        await database.row(
            """insert into onetake.quote
            select $2, tenant, request_sha256, plan, made_at - interval '1 hour', expires_at - interval '1 hour'
            from onetake.quote where id = $1""",
            quote_id,
            older,
        )
    return older
