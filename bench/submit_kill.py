"""Workers killed around the POST, a hundred times with ten generations in flight: `python -m bench.submit_kill`.

Each kill is a real SIGKILL of the process that submits, at one of six places around the POST, each as often as the
others, at one of the first hits of that place. What counts stands in the vendors' own journal: no second render, no
lost one, and every outcome that nobody can know visible and priced. It never looks at what we believe alone.
"""

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NoReturn

from onetake.core.contracts import GenerationRequest
from onetake.core.leaving import leave
from tests.chaos.evidence import Evidence
from tests.chaos.invariants import INVARIANTS
from tests.chaos.plan import RICH, SECONDS, VENDORS
from tests.chaos.run import Say, say_on_stderr
from tests.chaos.vendor import found
from tests.chaos.world import World, world

PLACES: Final = (
    "submit.before_intent",
    "submit.after_intent",
    "submit.before_body",  # the head of the POST has left
    "submit.after_body",  # all of it has left, and the answer is on its way
    "submit.after_send",  # the vendor's answer was read and not yet written down
    "submit.after_record",
)
IN_FLIGHT: Final = 10
LATEST_HIT: Final = 0.6  # of those in flight
DEATH_LIMIT_S: Final = 240.0  # its worker has to start first
END_LIMIT_S: Final = 600.0
BACKLOG: Final = 150  # so many open generations are brought to their ends before more are started
LEAST_ACCEPTED: Final = 0.3  # of the generations: or the kills would have met nothing
WORKERS: Final = ("orchestrate", "media", "vendors")
# Those that the database and the vendors' journal decide.
CHECKED: Final = ("I1", "I2", "I3", "I4", "I5", "I9", "I10", "I24", "lost", "found")


@dataclass(frozen=True)
class Kill:
    """Where the worker dies, and at which hit."""

    place: str
    hit: int


@dataclass(frozen=True)
class Outcome:
    """What came of it. `missed`: kills whose place was not reached often enough, so that nobody died; `unknown`:
    submissions of which the database cannot say whether they arrived; `hidden`: those that do not show it."""

    generations: int
    deaths: Counter[str]
    missed: int
    accepted: int
    second_renders: int
    lost_renders: int
    unknown: int
    hidden: int
    ends: Counter[str]
    violations: dict[str, list[str]]
    took_s: float

    @property
    def broken(self) -> list[str]:
        """What must not be, in words; empty when the promise held."""
        wrong = {
            f"{self.accepted} of {self.generations} accepted": self.accepted < LEAST_ACCEPTED * self.generations,
            f"{self.second_renders} second renders": self.second_renders > 0,
            f"{self.lost_renders} lost renders": self.lost_renders > 0,
            f"{self.hidden} unknown outcomes that do not say so, or have no price": self.hidden > 0,
            f"{self.missed} kills that killed nobody": self.missed > 0,
        }
        found = [f"{number}: {line}" for number, lines in self.violations.items() for line in lines]
        return [words for words, is_so in wrong.items() if is_so] + found


def kills_of(seed: int, number: int, in_flight: int) -> list[Kill]:
    """So many kills, each place as often as the others, in an order and at hits that the seed decides."""
    chance = random.Random(seed)
    places = [PLACES[each % len(PLACES)] for each in range(number)]
    chance.shuffle(places)
    return [Kill(place, chance.randint(1, max(1, round(LATEST_HIT * in_flight)))) for place in places]


async def submit_kill(
    seed: int, kills: int, *, in_flight: int = IN_FLIGHT, time_scale: float = 0.01, say: Say = lambda _: None
) -> Outcome:
    """Carry it out in a bench of its own."""
    began = time.monotonic()
    async with world("a lighthouse", workers=WORKERS, time_scale=time_scale) as at:
        deaths, missed = Counter[str](), 0
        for number, kill in enumerate(kills_of(seed, kills, in_flight)):
            point = await _kill(at, kill, range(number * in_flight, (number + 1) * in_flight))
            deaths.update([point] if point else [])
            missed += point is None
            say(f"kill {number + 1} of {kills}: {point or f'nobody died at {kill.place}'}")
            if await at.open() > BACKLOG:
                await _drained(at, BACKLOG // 3, say)
        await _drained(at, 0, say)
        await _found(at, say)
        evidence = await at.ledger_evidence()
    return _outcome(evidence, deaths, missed, time.monotonic() - began)


async def _kill(at: World, kill: Kill, numbers: range) -> str | None:
    """One worker armed, so many generations, one death. What the death before left over is taken up meanwhile."""
    point = f"{kill.place}:{kill.hit}"
    await at.fleet.replace("vendors", point)
    await asyncio.gather(*(at.onetake.start(_request(at, number)) for number in numbers))
    async with asyncio.timeout(2 * DEATH_LIMIT_S):
        while (died_at := await at.fleet.died("vendors", DEATH_LIMIT_S)) is None and at.fleet.has_ended("vendors"):
            await at.fleet.replace("vendors", point)  # it could not start: its servers were slow
    return died_at


def _request(at: World, number: int) -> GenerationRequest:
    """Every third one's vendor never calls back: its outcome cannot be known where the vendor offers no list."""
    vendor, marker = VENDORS[number % len(VENDORS)], "[[sim:no-callback]]" if number % 3 == 0 else ""
    return GenerationRequest(
        route=f"{vendor}/wan-2.6/text-to-video",
        prompt=f"{at.prompt} number {number} {marker}",
        duration_s=SECONDS.get(vendor, 2),
        resolution="720p",
        tenant=RICH[number % len(RICH)],
    )


async def _drained(at: World, down_to: int, say: Say) -> None:
    """Let a worker that nobody kills bring the open ones to their ends. What does not end is counted afterwards."""
    await at.fleet.replace("vendors")
    with suppress(TimeoutError):
        async with asyncio.timeout(END_LIMIT_S):
            while (left := await at.open()) > down_to:
                say(f"{left} under way")
                await asyncio.sleep(1)


async def _found(at: World, say: Say) -> None:
    """Wait until the recoveries have found what there is to find."""
    with suppress(TimeoutError):
        async with asyncio.timeout(END_LIMIT_S):
            while left := len(found(await at.ledger_evidence())):
                say(f"{left} still to be found")
                await asyncio.sleep(1)


def _outcome(evidence: Evidence, deaths: Counter[str], missed: int, took_s: float) -> Outcome:
    jobs = [len(evidence.jobs_of(each)) for each in evidence.generations]
    unknown = [intent.generation_id for intent in evidence.intents if intent.state in {"sending", "ambiguous"}]
    codes = {each.id: each.error_code for each in evidence.generations}
    priced = {hold.generation_id for hold in evidence.holds if hold.state == "suspended" and hold.amount_micros > 0}
    checked = {number: INVARIANTS[number](evidence) for number in CHECKED}
    return Outcome(
        generations=len(evidence.generations),
        deaths=deaths,
        missed=missed,
        accepted=len(evidence.jobs),
        second_renders=sum(max(0, number - 1) for number in jobs),
        lost_renders=len(checked["lost"]),
        unknown=len(unknown),
        hidden=sum(codes[each] != "submission_outcome_unknown" or each not in priced for each in unknown),
        ends=Counter(
            f"{each.status}/{each.error_code}" if each.error_code else each.status for each in evidence.generations
        ),
        violations={number: found for number, found in checked.items() if found},
        took_s=took_s,
    )


def show(outcome: Outcome) -> None:
    """The figures, for people."""
    facts = {
        "generations": outcome.generations,
        "deaths": sum(outcome.deaths.values()),
        **{f"  at {place}": outcome.deaths[place] for place in PLACES},
        "accepted by the vendors": outcome.accepted,
        "second renders": outcome.second_renders,
        "lost renders": outcome.lost_renders,
        "unknown, in suspense": outcome.unknown,
        **{f"  {end}": number for end, number in sorted(outcome.ends.items())},
        "seconds": round(outcome.took_s),
    }
    sys.stdout.write("\n" + "".join(f"{name:<28} {value}\n" for name, value in facts.items()))
    sys.stdout.write("".join(f"BROKEN: {line}\n" for line in outcome.broken) or "the promise held\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run it; the exit code is 1 when anything is broken."""
    parser = argparse.ArgumentParser(prog="python -m bench.submit_kill", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="ten generations each (default: 100)")
    parser.add_argument("--seed", type=int, default=1, help="decides the order of the places, and the hits")
    options = parser.parse_args(arguments)
    outcome = asyncio.run(submit_kill(options.seed, options.kills, say=say_on_stderr))
    show(outcome)
    leave(1 if outcome.broken else 0)


if __name__ == "__main__":
    main()
