"""Replaying what failed: each verb says its cost first, changes what it says, and can be repeated."""

import asyncio

import pytest

from onetake.client import Onetake
from onetake.core.errors import Refused
from onetake.core.names import ReplayVerb
from tests.system.harness import ROUTE, Stack, ended, in_phase, money, unique

WHO = "operator test"
HASTY = "0.0005"  # the scale at which a clip is sought for 11 s, and copies that are none are fetched 8 times
PAGES = "[[sim:no-callback]][[sim:asset-html=12]]"  # a try that was cut off is none of the 8; a replay has 8 of its own
REFUNDED = "wan26ai/wan-2.6/text-to-video"


async def failed(onetake: Onetake, text: str, *, tenant: str = "default", route: str = ROUTE) -> str:
    started = await onetake.start(
        route=route, prompt=unique(text), tenant=tenant, duration_s=SECONDS[route], deadline_s=240
    )
    assert (await ended(onetake, started.id)).status == "failed"
    return started.id


SECONDS = {ROUTE: 2, REFUNDED: 5}


async def kinds(stack: Stack, generation_id: str) -> list[str]:
    async with stack.database() as database:
        rows = await database.rows("select kind from onetake.event where generation_id = $1 order by id", generation_id)
    return [str(row["kind"]) for row in rows]


async def refused(onetake: Onetake, verb: ReplayVerb, generation_id: str, **more: object) -> str:
    """The code with which a replay is refused, by its quote and by itself."""
    quote = await onetake.replays().quote(verb, generation_id, **more)  # pyright: ignore[reportArgumentType]
    assert quote.refusal is not None
    with pytest.raises(Refused) as caught:
        await onetake.replays().replay(verb, generation_id, who=WHO, **more)  # pyright: ignore[reportArgumentType]
    assert caught.value.code == quote.refusal.code
    return quote.refusal.code


async def test_a_clip_that_could_not_be_fetched_is_fetched_again_without_new_money(
    stack: Stack, onetake: Onetake
) -> None:
    async with stack.client(time_scale=HASTY) as hasty:
        generation_id = await failed(hasty, f"not yet {PAGES}")
    assert await refused(onetake, "regenerate", generation_id) == "replay_cost_not_accepted"
    quote = await onetake.replays().quote("repersist", generation_id)
    assert (quote.refusal, quote.cost_micros) == (None, 0)
    replayed = await onetake.replays().replay("repersist", generation_id, who=WHO)
    assert replayed.workflow_id == f"recover/default/{generation_id}"
    recovered = await onetake.replays().recovered(generation_id)
    record = await onetake.get(generation_id)
    assert (recovered.changed, record.status, money(record)) == (True, "completed", (200_000, 200_000, 0))
    assert record.correction is not None
    assert (record.correction.who, record.correction.from_code) == (WHO, "asset_not_video")
    assert await kinds(stack, generation_id) == ["hold", "post"]
    assert await refused(onetake, "repersist", generation_id) == "nothing_to_replay"


async def test_a_link_that_has_expired_is_said_and_nothing_changes(stack: Stack, onetake: Onetake) -> None:
    async with stack.client(time_scale=HASTY) as hasty:
        generation_id = await failed(hasty, "gone [[sim:no-callback]][[sim:asset-403]]")
    await onetake.replays().replay("repersist", generation_id, who=WHO)
    recovered = await onetake.replays().recovered(generation_id)
    assert (recovered.changed, recovered.error and recovered.error.code) == (False, "asset_unavailable")
    assert (await onetake.get(generation_id)).correction is None


async def test_a_generation_is_rendered_again_once_however_often_it_is_asked(stack: Stack, onetake: Onetake) -> None:
    tenant = unique("again").replace(" ", "").replace("#", "-")
    await stack.set_budget("tenant", tenant, "total", "0.01")
    generation_id = await failed(onetake, "too poor", tenant=tenant)
    await stack.set_budget("tenant", tenant, "total", "5")
    quote = await onetake.replays().quote("regenerate", generation_id)
    assert (quote.refusal, quote.cost_micros) == (None, 200_000)
    first, second = await asyncio.gather(
        *(onetake.replays().replay("regenerate", generation_id, who=WHO) for _ in range(2))
    )
    assert first.new_id == second.new_id
    assert first.new_id is not None
    result = await ended(onetake, first.new_id)
    child = await onetake.get(first.new_id)
    assert (result.status, money(result), child.parent_id) == ("completed", (200_000, 200_000, 0), generation_id)
    prompt = (await onetake.list(tenant=tenant))[0].id
    assert prompt in {first.new_id, generation_id}
    again = await onetake.replays().quote("regenerate", generation_id)
    assert again.cost_micros == 0
    third = await onetake.replays().replay("regenerate", generation_id, who=WHO)
    assert (third.new_id, third.repeated, third.cost_micros) == (first.new_id, True, 0)


async def test_rendering_again_what_may_be_paid_needs_consent(onetake: Onetake) -> None:
    generation_id = await failed(onetake, "in doubt [[sim:fail=Timeout]]")
    assert await refused(onetake, "regenerate", generation_id) == "replay_cost_not_accepted"
    replayed = await onetake.replays().replay("regenerate", generation_id, who=WHO, accept_cost=True)
    assert replayed.new_id is not None
    assert (await ended(onetake, replayed.new_id)).status == "failed"


async def test_what_ended_without_cost_has_nothing_to_wait_for(onetake: Onetake) -> None:
    rejected, free = await asyncio.gather(
        failed(onetake, "no [[sim:reject=400]]"), failed(onetake, "refunded [[sim:fail=Timeout]]", route=REFUNDED)
    )
    for generation_id in (rejected, free):
        assert await refused(onetake, "reattach", generation_id) == "nothing_to_replay"


async def test_what_runs_is_finished_unknown_or_somebody_elses_is_not_replayed(stack: Stack, onetake: Onetake) -> None:
    prompt = unique("running [[sim:held]]")
    started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
    await in_phase(onetake, started.id, "generating")
    verbs: tuple[ReplayVerb, ...] = ("reattach", "repersist", "regenerate")
    for verb in verbs:
        assert await refused(onetake, verb, started.id) == "generation_running"
        for wrong in ({"tenant": "stranger"}, {"tenant": None, "generation_id": "gen_nobody"}):
            with pytest.raises(Refused) as caught:
                await onetake.replays().quote(verb, wrong.get("generation_id", started.id), tenant=wrong["tenant"])  # pyright: ignore[reportArgumentType]
            assert caught.value.code == "generation_not_found"
    await stack.release(prompt)
    result = await ended(onetake, started.id)
    for verb in verbs:
        assert await refused(onetake, verb, started.id) == "nothing_to_replay"
    assert money(await ended(onetake, started.id)) == money(result) == (200_000, 200_000, 0)
    assert len(await stack.jobs_of(prompt)) == 1
