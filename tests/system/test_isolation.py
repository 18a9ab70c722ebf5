"""Hung vendor calls and downloads at a byte a second hold up nobody else."""

import asyncio
import statistics
import time

from onetake.client import Onetake, Started
from tests.system.harness import ROUTE, Stack, ended, in_phase, unique

SAMPLES = 5
LARGEST_RATIO = 1.5
ROUNDING_S = 15.0  # below it a ratio measures the machine; who waits for a hung call waits for longer


async def life_s(onetake: Onetake, text: str) -> float:
    began = time.monotonic()
    started = await onetake.start(route=ROUTE, prompt=unique(f"{text} [[sim:delay=0.3]]"), duration_s=2)
    assert (await ended(onetake, started.id)).status == "completed"
    return time.monotonic() - began


async def typical_s(onetake: Onetake, text: str) -> float:
    return statistics.median([await life_s(onetake, text) for _ in range(SAMPLES)])


async def test_hung_submissions_and_dripping_downloads_leave_the_others_alone(stack: Stack, onetake: Onetake) -> None:
    await life_s(onetake, "warm-up")
    calm_s = await typical_s(onetake, "calm")
    hung = [await stuck(onetake, "hung [[sim:submit-hang=50]]") for _ in range(8)]
    drips = [await stuck(onetake, "drip [[sim:asset-slow=1]]") for _ in range(3)]
    await asyncio.gather(*(in_phase(onetake, each.id, "submitting", "resolving") for each in hung))
    await asyncio.gather(*(in_phase(onetake, each.id, "persisting") for each in drips))
    beside_s = await typical_s(onetake, "beside")
    assert "done" not in {(await onetake.get(each.id)).phase for each in hung + drips}
    await stack.give_up(*hung, *drips)
    assert beside_s <= calm_s * LARGEST_RATIO + ROUNDING_S


async def stuck(onetake: Onetake, text: str) -> Started:
    return await onetake.start(route=ROUTE, prompt=unique(text), duration_s=2, tenant="stuck")
