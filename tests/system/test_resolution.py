"""A submission whose answer was lost, on real parts: found by a list, proven by a balance, or in suspense."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio

from activities.resolve import CHARGED
from onetake.client import Onetake
from onetake.core.contracts import GenerationResult
from onetake.core.errors import CATALOGUE
from onetake.dev.simulator.app import SimulatorConfig
from onetake.dev.simulator.server import running
from onetake.ledger import PostgresSubmissions
from onetake.ledger.migrate import upgrade
from tests.system.harness import ROUTE, Stack, ended, in_phase, money, unique

GMI = "gmi/wan-2.6/text-to-video"
AIVIDEOAPI = "aivideoapi/wan-2.6/text-to-video"
SCALE = "0.01"  # two looks lie 1.2 s apart, and an unknown outcome is given up after 18 s
LIMIT_S = 300.0

Seen = tuple[str, str | None, tuple[int, int, int]]

COMPLETED: Seen = ("completed", None, (500_000, 500_000, 0))
UNKNOWN: Seen = ("failed", "submission_outcome_unknown", (500_000, 0, 500_000))


@dataclass(frozen=True)
class End:
    """How a generation ended, and the ids of all jobs that the vendor has of its prompt, the oldest first."""

    result: GenerationResult
    jobs: list[str]

    @property
    def seen(self) -> Seen:
        code = self.result.error.code if self.result.error else None
        return self.result.status, code, money(self.result)


# -- By the vendor's list ----------------------------------------------------------------------------------------------

LOST = {
    "reset": "[[sim:submit-reset]]",
    "502": "[[sim:submit-502-accepted]]",
    "no id": "[[sim:submit-no-id]]",
    "seen late": "[[sim:submit-reset]][[sim:list-late=4]]",
    "never seen": "[[sim:submit-reset]][[sim:list-lost]]",
    "not taken": "[[sim:submit-reset-refused]]",
}
EQUALS = "[[sim:submit-reset]][[sim:submit-hang=18]]"  # both wait for their answers until they are released


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ends(stack: Stack) -> dict[str, list[End]]:
    """How the generations of every scenario ended; all scenarios are played side by side."""
    plays = [_by_list(stack), _after_the_end(stack), _zombie(stack), _alone(stack), _crowded(stack), _shared(stack)]
    return {name: found for play in await asyncio.gather(*plays) for name, found in play.items()}


async def _by_list(stack: Stack) -> dict[str, list[End]]:
    queue = "resolve-by-list"
    async with (
        stack.worker(queue, ONETAKE_TIME_SCALE=SCALE),
        stack.client(task_queue=queue, time_scale=SCALE) as onetake,
    ):
        found = await asyncio.gather(
            *(_alike(stack, onetake, marker) for marker in LOST.values()),
            _alike(stack, onetake, EQUALS, number=2, seed=7),
            _after_an_equal_one(stack, onetake),
        )
    return dict(zip([*LOST, "equals", "after an equal one"], found, strict=True))


async def _after_the_end(stack: Stack) -> dict[str, list[End]]:
    """The list shows the job when the generation has long ended; the stack's reconciler has it looked for again."""
    prompt, queue = unique("listed after the end [[sim:submit-reset]][[sim:list-late=1000]]"), "resolve-after-the-end"
    async with (
        stack.worker(queue, ONETAKE_TIME_SCALE="0.004"),
        stack.client(task_queue=queue, time_scale="0.004") as onetake,
    ):
        first = await ended(onetake, (await onetake.start(**_request(prompt))).id, LIMIT_S)
        await stack.release(prompt)
        async with asyncio.timeout(LIMIT_S):
            while (record := await onetake.get(first.id)).correction is None:
                await asyncio.sleep(0.2)
    return {"after the end": [await _end(stack, each, prompt) for each in (first, record)]}


async def _alike(stack: Stack, onetake: Onetake, marker: str, number: int = 1, seed: int | None = None) -> list[End]:
    """Start equal generations at once, and wait for their ends."""
    prompt = unique(f"a lost answer {marker}")
    started = [await onetake.start(**_request(prompt, seed)) for _ in range(number)]
    if marker == EQUALS:
        await until(lambda: stack.jobs_of(prompt), number)
        await stack.release(prompt)
    results = [await ended(onetake, each.id, LIMIT_S) for each in started]
    return [await _end(stack, result, prompt) for result in results]


async def _after_an_equal_one(stack: Stack, onetake: Onetake) -> list[End]:
    """One request twice: the first is answered, the worker that sends the second dies before it hears the answer."""
    prompt, queue = unique("the second answer is lost"), "resolve-after-an-equal-one"
    first = await ended(onetake, (await onetake.start(**_request(prompt, 11))).id, LIMIT_S)
    async with stack.client(task_queue=queue, time_scale=SCALE) as other:
        async with stack.worker(queue, crash="submit.after_send", ONETAKE_TIME_SCALE=SCALE) as name:
            second = await other.start(**_request(prompt, 11))
            await stack.died(name)
        async with stack.worker(queue, ONETAKE_TIME_SCALE=SCALE):
            return [await _end(stack, each, prompt) for each in (first, await ended(other, second.id, LIMIT_S))]


async def until(found: Callable[[], Awaitable[Sequence[object]]], number: int) -> None:
    """Wait until so many are there."""
    async with asyncio.timeout(LIMIT_S):
        while len(await found()) < number:
            await asyncio.sleep(0.1)


def _request(prompt: str, seed: int | None = None) -> dict[str, Any]:
    return {"route": GMI, "prompt": prompt, "resolution": "720p", "seed": seed}


async def _end(stack: Stack, result: GenerationResult, prompt: str) -> End:
    return End(result, [job["task_id"] for job in await stack.jobs_of(prompt)])


@pytest.mark.parametrize("lost", ["reset", "502", "no id", "seen late"])
async def test_a_job_whose_answer_was_lost_is_found_in_the_list(ends: dict[str, list[End]], lost: str) -> None:
    (end,) = ends[lost]
    assert (end.seen, end.jobs) == (COMPLETED, [end.result.vendor_task_id])


async def test_a_job_that_is_listed_after_the_end_still_completes_its_generation(ends: dict[str, list[End]]) -> None:
    before, after = ends["after the end"]
    assert (before.seen, after.seen) == (UNKNOWN, COMPLETED)
    assert after.jobs == [after.result.vendor_task_id]


async def test_an_outage_of_the_list_is_outlived(ends: dict[str, list[End]]) -> None:
    (end,) = ends["outage"]
    assert (end.seen, end.jobs) == (COMPLETED, [end.result.vendor_task_id])


@pytest.mark.parametrize(("lost", "jobs"), [("never seen", 1), ("not taken", 0)])
async def test_absence_from_the_list_proves_nothing(ends: dict[str, list[End]], lost: str, jobs: int) -> None:
    (end,) = ends[lost]
    assert (end.seen, len(end.jobs)) == (UNKNOWN, jobs)


async def test_two_equal_requests_with_a_seed_of_the_callers_are_not_told_apart(ends: dict[str, list[End]]) -> None:
    assert [end.seen for end in ends["equals"]] == [UNKNOWN, UNKNOWN]
    assert len(ends["equals"][0].jobs) == 2


async def test_a_job_that_belongs_to_an_equal_request_is_left_out(ends: dict[str, list[End]]) -> None:
    first, second = ends["after an equal one"]
    assert (first.seen, second.seen) == (COMPLETED, COMPLETED)
    assert [first.result.vendor_task_id, second.result.vendor_task_id] == second.jobs


async def test_the_end_says_how_the_answer_was_lost(ends: dict[str, list[End]]) -> None:
    (end,) = ends["never seen"]
    assert end.result.error is not None
    assert end.result.error.message == f"{CATALOGUE['submission_outcome_unknown'].sentence} (ReadError)"


# -- By an attempt that comes late -------------------------------------------------------------------------------------


async def _zombie(stack: Stack) -> dict[str, list[End]]:
    """Nobody calls back and APIXO has no list: only the attempt that seemed dead can know the id."""
    prompt, queue = unique("a zombie knows [[sim:submit-reset]][[sim:no-callback]]"), "resolve-zombie"
    async with (
        stack.worker(queue, ONETAKE_TIME_SCALE="0.05"),
        stack.client(task_queue=queue, time_scale="0.05") as onetake,
        stack.database() as database,
    ):
        started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2)
        await in_phase(onetake, started.id, "resolving")
        (job,) = await stack.jobs_of(prompt)
        await PostgresSubmissions(database).record(started.id, 1, state="accepted", vendor_task_id=job["task_id"])
        return {"zombie": [await _end(stack, await ended(onetake, started.id, LIMIT_S), prompt)]}


async def test_what_a_zombie_records_while_the_outcome_is_sought_counts(ends: dict[str, list[End]]) -> None:
    (end,) = ends["zombie"]
    assert (end.seen, end.jobs) == (("completed", None, (200_000, 200_000, 0)), [end.result.vendor_task_id])


# -- By the balance ----------------------------------------------------------------------------------------------------


TOOK_NOTHING: Seen = ("failed", "vendor_took_nothing", (240_000, 0, 0))
IN_DOUBT: Seen = ("failed", "submission_outcome_unknown", (240_000, 0, 240_000))

HELD = "[[sim:submit-slow=18]]"  # until it is released; the worker waits 20 s for an answer
REFUSED = "[[sim:submit-reset-refused]]"
TAKEN = "[[sim:submit-reset]][[sim:no-callback]]"


@dataclass(frozen=True)
class Branch:
    """A stack with a ledger of its own, and an account at aivideoapi that nobody else uses."""

    stack: Stack
    database_url: str
    onetake: Onetake
    simulator_url: str

    async def ends(self, *markers: str) -> list[End]:
        """Start one generation for each at the same time, and wait for their ends. What holds up a POST ends when all
        are under way."""
        prompts = [unique(f"who paid {marker}") for marker in markers]
        request = {"route": AIVIDEOAPI, "duration_s": 2, "resolution": "720p"}
        started = [await self.onetake.start(**request, prompt=prompt) for prompt in prompts]
        if HELD in markers[0]:
            for each in started:
                await self.stack.intended(each.id, self.database_url)
            for prompt in prompts:
                await self._control("release", prompt_sha256=sha256(prompt.encode()).hexdigest())
        results = [await ended(self.onetake, each.id, LIMIT_S) for each in started]
        return [End(result, await self._jobs(prompt)) for result, prompt in zip(results, prompts, strict=True)]

    async def end_after_an_outage(self) -> End:
        """The answer is lost, and for a while the list is no list."""
        prompt = unique("the list is away [[sim:submit-reset]][[sim:list-late=1000]]")
        started = await self.onetake.start(**_request(prompt))
        await in_phase(self.onetake, started.id, "resolving")
        await self._control("outage", vendor="gmi", seconds=3)
        await self._control("release", prompt_sha256=sha256(prompt.encode()).hexdigest())
        return End(await ended(self.onetake, started.id, LIMIT_S), await self._jobs(prompt))

    async def _control(self, what: str, **body: object) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
            (await http.post(f"{self.simulator_url}/control/{what}", json=body)).raise_for_status()

    async def _jobs(self, prompt: str) -> list[str]:
        digest = sha256(prompt.encode()).hexdigest()
        async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
            jobs = (await http.get(f"{self.simulator_url}/journal")).json()["jobs"]
        return [job["task_id"] for job in jobs if job["prompt_sha256"] == digest]


@asynccontextmanager
async def branch(stack: Stack, name: str, exclusive_keys: str = "aivideoapi") -> AsyncGenerator[Branch]:
    database_url = f"{stack.environment['ONETAKE_DATABASE_URL']}_{name}"
    await upgrade(database_url)
    with running(SimulatorConfig(render_s=1)) as url:
        environment = {
            "ONETAKE_DATABASE_URL": database_url,
            "ONETAKE_AIVIDEOAPI_BASE_URL": f"{url}/aivideoapi/v1",
            "ONETAKE_GMI_BASE_URL": f"{url}/gmi",
            "ONETAKE_TRUSTED_HOSTS": f"{stack.environment['ONETAKE_TRUSTED_HOSTS']},{urlsplit(url).netloc}",
            "ONETAKE_EXCLUSIVE_KEYS": exclusive_keys,
            "ONETAKE_TIME_SCALE": SCALE,
        }
        async with (
            stack.worker(f"branch-{name}", **environment),
            stack.client(
                database_url=database_url, task_queue=f"branch-{name}", time_scale=SCALE, exclusive_keys=exclusive_keys
            ) as onetake,
        ):
            yield Branch(stack, database_url, onetake, url)


async def _alone(stack: Stack) -> dict[str, list[End]]:
    async with branch(stack, "alone") as alone:
        return {marker: await alone.ends(marker) for marker in ("", REFUSED, TAKEN)}


async def _crowded(stack: Stack) -> dict[str, list[End]]:
    async with branch(stack, "crowded") as crowded:
        beside_each_other = f"{HELD}{REFUSED}"  # however slow the machine is
        return {"crowded": await crowded.ends(beside_each_other, beside_each_other)}


async def _shared(stack: Stack) -> dict[str, list[End]]:
    async with branch(stack, "shared", exclusive_keys="") as shared:
        refused, found = await asyncio.gather(shared.ends(REFUSED), shared.end_after_an_outage())
        return {"shared": refused, "outage": [found]}


async def test_a_balance_that_stood_still_is_a_job_that_was_never_created(ends: dict[str, list[End]]) -> None:
    (good,), (refused,) = ends[""], ends[REFUSED]
    assert good.seen == ("completed", None, (240_000, 240_000, 0))
    assert (refused.seen, refused.jobs) == (TOOK_NOTHING, [])


async def test_a_balance_that_fell_by_the_price_is_shown_and_the_amount_stays_in_suspense(
    ends: dict[str, list[End]],
) -> None:
    (taken,) = ends[TAKEN]
    assert (taken.seen, len(taken.jobs)) == (IN_DOUBT, 1)
    assert taken.result.error is not None
    assert taken.result.error.message.endswith(CHARGED)


@pytest.mark.parametrize("branch", ["crowded", "shared"])
async def test_a_balance_that_others_can_move_proves_nothing(ends: dict[str, list[End]], branch: str) -> None:
    assert {each.seen for each in ends[branch]} == {IN_DOUBT}
    assert [job for each in ends[branch] for job in each.jobs] == []


async def test_the_ledger_is_right_after_all_of_them(stack: Stack, ends: dict[str, list[End]]) -> None:
    del ends
    assert await stack.ledger_violations() == []
