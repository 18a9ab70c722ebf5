"""What `onetake doctor` calls slow, and what it calls broken: a server on a busy machine is not down."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from temporalio.service import RPCError, RPCStatusCode

from onetake.cli.doctor import patience
from onetake.cli.doctor.findings import Finding, fine
from onetake.cli.doctor.patience import bounded
from onetake.cli.doctor.setup import Setup
from onetake.core.errors import OnetakeError, Refused, TryLater
from onetake.core.settings import Settings
from tests.clock import Clock

AWAY = TryLater("ledger_unavailable", "No answer.")


class Part:
    """Fails so often, each time after so many seconds, and then answers after as many."""

    def __init__(self, error: OnetakeError | RPCError, times: int, clock: Clock, takes_s: float = 0.0) -> None:
        self._error, self._left, self._clock, self._takes_s = error, times, clock, takes_s
        self.asked = 0

    async def __call__(self, _: Setup) -> Finding:
        self.asked += 1
        self._clock.now_s += self._takes_s
        if self._left:
            self._left -= 1
            raise self._error
        return fine("it answers")


async def examined(look: Callable[[Setup], Awaitable[Finding]]) -> Finding:
    (found,) = await bounded("part", ("ONETAKE_PART",), look, Setup(Settings()))
    return found


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(patience, "time", clock)
    monkeypatch.setattr(patience, "GAP_S", 0.0)
    return clock


async def test_what_answers_at_once_is_fine(clock: Clock) -> None:
    found = await examined(Part(AWAY, 0, clock))
    assert (found.part, found.verdict, found.settings) == ("part", "fine", ("ONETAKE_PART",))


@pytest.mark.parametrize("error", [AWAY, RPCError("", RPCStatusCode.DEADLINE_EXCEEDED, b"")], ids=["ours", "theirs"])
async def test_what_answers_late_is_slow_and_not_broken(clock: Clock, error: OnetakeError | RPCError) -> None:
    """Two times out of five seconds pass before a busy server has time."""
    part = Part(error, 2, clock, takes_s=5.0)
    found = await examined(part)
    assert (found.verdict, found.exit_code, part.asked) == ("warning", 0, 3)
    assert "it answers; slow: it took 15 s" in found.found
    assert found.took_s == 15


async def test_what_never_answers_is_broken_when_the_time_is_over(clock: Clock) -> None:
    part = Part(AWAY, 1000, clock, takes_s=5.0)
    found = await examined(part)
    assert (found.verdict, found.exit_code) == ("broken", 9)
    assert part.asked == patience.LIMIT_S // 5 + 1


async def test_what_hangs_is_broken_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "LIMIT_S", 0.1)

    async def hangs(_: Setup) -> Finding:
        await asyncio.sleep(3600)
        return fine("it answers")

    found = await examined(hangs)
    assert (found.verdict, found.exit_code) == ("broken", 9)
    assert "No answer within" in found.found


async def test_what_refuses_at_once_is_asked_a_few_times_only(clock: Clock) -> None:
    part = Part(AWAY, 1000, clock)
    assert (await examined(part)).verdict == "broken"
    assert part.asked == 3


@pytest.mark.parametrize(
    "error",
    [Refused("settings_invalid", "no"), RPCError("", RPCStatusCode.PERMISSION_DENIED, b"")],
    ids=["ours", "theirs"],
)
async def test_what_time_does_not_cure_is_asked_once(clock: Clock, error: OnetakeError | RPCError) -> None:
    part = Part(error, 1, clock)
    assert (await examined(part)).verdict == "broken"
    assert part.asked == 1
