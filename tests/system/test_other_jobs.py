"""The vendor answers one order without its id, and the next order with that id: each ends with its own clip."""

import asyncio

import pytest

from onetake.client import Onetake
from tests.system.harness import LIMIT_S, Stack, ended, money, unique


@pytest.mark.parametrize("route", ["apixo/wan-2.6/text-to-video", "aivideoapi/wan-2.6/text-to-video"])
async def test_two_orders_whose_answers_were_mixed_up_end_each_with_its_own_clip(
    stack: Stack, onetake: Onetake, route: str
) -> None:
    first, second = unique("no id [[sim:submit-no-id]][[sim:held]]"), unique("other id [[sim:submit-other-id]]")
    lost = await onetake.start(route=route, prompt=first, duration_s=2, resolution="720p")
    async with asyncio.timeout(LIMIT_S):
        while not await stack.jobs_of(first):
            await asyncio.sleep(0.1)
    mixed = await onetake.start(route=route, prompt=second, duration_s=2, resolution="720p")
    async with asyncio.timeout(LIMIT_S):
        while not await stack.jobs_of(second):
            await asyncio.sleep(0.1)
    await stack.release(first)
    results = await asyncio.gather(ended(onetake, lost.id), ended(onetake, mixed.id))
    for prompt, result in zip((first, second), results, strict=True):
        (job,) = await stack.jobs_of(prompt)
        assert (result.status, result.vendor_task_id) == ("completed", job["task_id"])
        assert money(result)[0] == money(result)[1] > 0
