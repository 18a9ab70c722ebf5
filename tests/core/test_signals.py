"""How a part ends that is cancelled, and not asked to end."""

import asyncio

import pytest

from onetake.core.signals import Stop, until_asked_to_end


async def test_who_cancels_a_part_goes_on_when_it_has_ended() -> None:
    started, has_ended = asyncio.Event(), False

    async def part(_: Stop) -> None:
        nonlocal has_ended
        try:
            started.set()
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.05)  # it closes its connections
            has_ended = True

    running = asyncio.create_task(until_asked_to_end(part))
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert has_ended
