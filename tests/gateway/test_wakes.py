"""The pure part of coalescing, on a clock that only moves when told to."""

import asyncio
import heapq
import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from onetake.core.errors import TryLater
from onetake.gateway.wakes import Wakes
from onetake.ledger import Wake


class Clock:
    """Sleepers wake in order of their time, and only in `advance`."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._numbers = itertools.count()

    async def sleep(self, duration_s: float) -> None:
        event = asyncio.Event()
        heapq.heappush(self._sleepers, (self.now_s + duration_s, next(self._numbers), event))
        await event.wait()

    async def advance(self, duration_s: float) -> None:
        end_s = self.now_s + duration_s
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end_s:
            self.now_s, _, event = heapq.heappop(self._sleepers)
            event.set()
            await settle()
        self.now_s = end_s


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class Sent:
    """What went out, and when."""

    def __init__(self, clock: Clock, takes_s: float = 0.0) -> None:
        self.log: list[tuple[float, str | None]] = []
        self.under_way = self.most_under_way = 0
        self._clock = clock
        self._takes_s = takes_s

    async def __call__(self, wake: Wake) -> None:
        self.log.append((self._clock.now_s, wake.claimed_task_id))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        if self._takes_s:
            await self._clock.sleep(self._takes_s)
        self.under_way -= 1


def wake(claim: str, token: bytes = b"t") -> Wake:
    return Wake(token, "g", 1, "acme", "w", None, False, False, claim, datetime.now(UTC))


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_the_first_goes_at_once_and_the_last_is_never_lost(clock: Clock) -> None:
    sent = Sent(clock)
    wakes = Wakes(sent, sleep=clock.sleep)
    for number in range(100):
        wakes.wake(wake(str(number)))
        await clock.advance(0.04)
    assert sent.log == [(0.0, "0")]
    await clock.advance(10)
    assert sent.log == [(0.0, "0"), (5.0, "99")]
    await wakes.aclose()


async def test_a_storm_gets_one_signal_an_interval(clock: Clock) -> None:
    sent = Sent(clock)
    wakes = Wakes(sent, sleep=clock.sleep)
    for number in range(3000):
        wakes.wake(wake(str(number)))
        await clock.advance(0.01)
    await clock.advance(20)
    times = [at for at, _ in sent.log]
    assert len(times) <= 30 / 5 + 2
    assert all(after - before >= 5 for before, after in itertools.pairwise(times))
    assert sent.log[-1][1] == "2999"
    await wakes.aclose()


async def test_what_comes_while_a_signal_is_being_sent_is_sent_afterwards(clock: Clock) -> None:
    sent = Sent(clock, takes_s=8)
    wakes = Wakes(sent, sleep=clock.sleep)
    wakes.wake(wake("first"))
    await clock.advance(1)
    wakes.wake(wake("second"))
    await clock.advance(30)
    assert sent.log == [(0.0, "first"), (13.0, "second")]
    await wakes.aclose()


async def test_tokens_do_not_wait_for_each_other_but_for_room(clock: Clock) -> None:
    sent = Sent(clock, takes_s=1)
    wakes = Wakes(sent, sleep=clock.sleep, most_at_once=4)
    for number in range(12):
        wakes.wake(wake("x", token=bytes([number])))
    await clock.advance(2.5)
    assert len(sent.log) == 12
    assert sent.most_under_way == 4
    await wakes.aclose()


async def test_memory_is_bounded_and_freed(clock: Clock) -> None:
    sent = Sent(clock)
    wakes = Wakes(sent, sleep=clock.sleep, most_tokens=2)
    assert [wakes.wake(wake("x", token=bytes([number]))) for number in range(3)] == [True, True, False]
    await clock.advance(5)
    assert wakes.wake(wake("y", token=b"\x02"))
    await wakes.aclose()


async def test_closing_drops_what_waits(clock: Clock) -> None:
    sent = Sent(clock)
    wakes = Wakes(sent, sleep=clock.sleep)
    wakes.wake(wake("first"))
    await clock.advance(0)
    wakes.wake(wake("second"))
    await wakes.aclose()
    await clock.advance(10)
    assert sent.log == [(0.0, "first")]


async def test_what_a_sweep_read_before_a_callback_came_takes_its_place_no_more(clock: Clock) -> None:
    sent = Sent(clock)
    wakes = Wakes(sent, sleep=clock.sleep)
    wakes.wake(wake("first"))
    await clock.advance(1)
    newest = wake("newest")
    wakes.wake(newest)
    wakes.wake(replace(wake("read before"), heard_at=newest.heard_at - timedelta(seconds=1)))
    await clock.advance(10)
    assert sent.log == [(0.0, "first"), (5.0, "newest")]
    await wakes.aclose()


class Turns:
    """Another gateway has the turn until a moment, and has woken for everything from another moment on."""

    def __init__(self, clock: Clock, until_s: float, woken_s: float = float("inf")) -> None:
        self._clock = clock
        self._until_s = until_s
        self._woken_s = woken_s

    async def __call__(self, wake: Wake) -> float | None:
        del wake
        if self._clock.now_s >= self._woken_s:
            return None
        return max(self._until_s - self._clock.now_s, 0.0)


async def test_another_gateways_turn_is_waited_for(clock: Clock) -> None:
    sent = Sent(clock)
    wakes = Wakes(sent, turn=Turns(clock, until_s=3), sleep=clock.sleep)
    wakes.wake(wake("first"))
    await clock.advance(1)
    wakes.wake(wake("second"))
    await clock.advance(20)
    assert sent.log == [(3.0, "second")]
    await wakes.aclose()


async def test_what_another_gateway_has_woken_for_is_dropped(clock: Clock) -> None:
    sent = Sent(clock)
    wakes = Wakes(sent, turn=Turns(clock, until_s=3, woken_s=2), sleep=clock.sleep, most_tokens=1)
    wakes.wake(wake("first"))
    await clock.advance(20)
    assert sent.log == []
    assert wakes.wake(wake("x", token=b"other"))  # it takes no room any more
    await wakes.aclose()


async def test_whoever_has_the_turn_keeps_it_for_what_comes_meanwhile(clock: Clock) -> None:
    sent = Sent(clock)
    wakes = Wakes(sent, turn=Turns(clock, until_s=3), sleep=clock.sleep)
    wakes.wake(replace(wake("first"), has_turn=True))
    wakes.wake(wake("second"))
    await clock.advance(1)
    assert sent.log == [(0.0, "second")]
    await wakes.aclose()


async def test_a_database_that_is_away_loses_no_wake(clock: Clock) -> None:
    sent, answers = Sent(clock), iter([TryLater("ledger_unavailable"), None])

    async def turn(_: Wake) -> float | None:
        if (error := next(answers)) is not None:
            raise error
        return 0.0

    wakes = Wakes(sent, turn=turn, sleep=clock.sleep)
    wakes.wake(wake("first"))
    await clock.advance(20)
    assert sent.log == [(5.0, "first")]
    await wakes.aclose()
