"""The failovers of the database, in small: a few of those that `python -m tests.system.failover` draws."""

import pytest

from tests.servers import Servers
from tests.system.failover import IN_FLIGHT, Kill, failover, kills_of

# What each takes: the intent of a POST under way, its record, and the hold with all that came after it.
KILLS = (
    Kill("intent", "sent", worker_dies=True),
    Kill("intended", "recorded", worker_dies=True),
    Kill("hold", "recorded", worker_dies=False),
    Kill("recorded", "settlement", worker_dies=False),
)
# A vendor that lists its jobs shows what became of a lost intent: there the outcome would not stay unknown.
UNLISTED = ("apixo/wan-2.6/text-to-video", "wan26ai/wan-2.6/text-to-video")


def test_kills_are_drawn_around_the_intent_and_the_record() -> None:
    drawn = kills_of(seed=1, number=200)
    assert {"intent", "intended", "sent", "recorded"} <= {kill.cut for kill in drawn} | {kill.death for kill in drawn}
    assert {kill.worker_dies for kill in drawn} == {True, False}
    assert drawn == kills_of(seed=1, number=200)


async def test_a_failover_that_loses_commits_sends_nothing_twice_and_releases_no_paid_job(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE"):
        monkeypatch.setenv(name, "")  # and so it is put back afterwards
    outcome = await failover(servers, KILLS, routes=UNLISTED)
    assert outcome.broken == []
    assert outcome.generations > IN_FLIGHT
    assert outcome.ambiguous >= 1, "the intent that was lost with its worker"
