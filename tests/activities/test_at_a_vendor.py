"""What the activities do at a vendor, each alone in a call of its own: a real ledger, real drivers, a simulated vendor.

The engine's part is the one that is made up: how late an attempt is, and what the one before it left.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from temporalio.testing import ActivityEnvironment

from activities.resolve import Resolve
from activities.submit import Submit
from activities.wait import SPARE_S, ReadStatus
from onetake.core.contracts import (
    ErrorInfo,
    GenerationRequest,
    Message,
    Plan,
    ReadInput,
    ReserveInput,
    ResolveInput,
    Submission,
    SubmitInput,
)
from onetake.core.errors import Failed, TryLater
from onetake.core.ports import Bracket
from onetake.dev.simulator.app import VENDORS, SimulatorConfig
from onetake.dev.simulator.server import running
from onetake.ledger import Callbacks, Database, PostgresLedger, PostgresSubmissions
from onetake.ledger.callbacks import token_sha256
from onetake.ledger.vendors import PostgresVendors
from onetake.media.outbound import Outbound
from providers.admission import RouteAdmission
from providers.driver import configured_drivers, new_http_client
from tests.providers.parts import settings
from tests.system.harness import unique

Accept = Callable[..., Awaitable[str]]
Order = Callable[..., ReserveInput]

SILENT = "[[sim:no-callback]]"
TOKEN = "t" * 22


def in_engine(*, late_s: float = 0, limit_s: float | None = None, kept: Message | None = None) -> ActivityEnvironment:
    """An attempt so long after the activity was scheduled, with what the last one kept."""
    environment = ActivityEnvironment()
    environment.info = replace(
        environment.info,
        current_attempt_scheduled_time=environment.info.scheduled_time + timedelta(seconds=late_s),
        schedule_to_close_timeout=None if limit_s is None else timedelta(seconds=limit_s),
        heartbeat_details=[kept] if kept else [],
    )
    return environment


@dataclass(frozen=True)
class At:
    """One vendor, and one generation that holds the price of one job there."""

    vendor: str
    generation_id: str
    plan: Plan
    request: GenerationRequest
    driver: Any
    submissions: PostgresSubmissions
    vendors: PostgresVendors
    url: str
    heard: list[Any] = field(default_factory=list[Any])

    def submit(self, environment: ActivityEnvironment | None = None) -> Awaitable[Submission]:
        activity = Submit(self.vendor, self.driver, self.submissions, self.vendors, None)
        order = SubmitInput(
            generation_id=self.generation_id, attempt=1, workflow_id="w", plan=self.plan, request=self.request
        )
        return (environment or in_engine()).run(activity.submit, order)

    def resolve(self, environment: ActivityEnvironment | None = None) -> Awaitable[Submission]:
        """What this look keeps for the next is in `heard`."""
        environment = environment or in_engine()
        environment.on_heartbeat = lambda *kept: self.heard.append(kept[0] if kept else None)
        activity = Resolve(self.vendor, self.driver, self.submissions, self.submissions, self.vendors)
        return environment.run(
            activity.resolve, ResolveInput(generation_id=self.generation_id, attempt=1, plan=self.plan)
        )

    def read(self, task_id: str, environment: ActivityEnvironment, *, elapsed_s: float = 0) -> Awaitable[Any]:
        order = ReadInput(
            generation_id=self.generation_id,
            attempt=1,
            plan=self.plan,
            vendor_task_id=task_id,
            waiting=True,
            elapsed_s=elapsed_s,
        )
        return environment.run(ReadStatus(self.vendor, self.driver, self.vendors).read_status, order)

    async def begin(self, bracket: Bracket | None = None, *, token: str = TOKEN) -> None:
        await self.submissions.begin(
            self.generation_id,
            1,
            vendor=self.vendor,
            token_sha256=token_sha256(token),
            request_sha256=bytes(32),
            seed=None,
            bracket=bracket,
        )

    async def state(self) -> str | None:
        stored = await self.submissions.read(self.generation_id, 1)
        return stored.state if stored else None

    async def known_to_vendor(self, what: str) -> list[Any]:
        """Those of its `submits` or `jobs` that are of this prompt."""
        digest = sha256(self.request.prompt.encode()).hexdigest()
        async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
            found = (await http.get(f"{self.url}/journal")).json()[what]
        return [each for each in found if each["prompt_sha256"] == digest]


Arrive = Callable[..., Awaitable[At]]


@pytest.fixture(scope="module")
def simulator_url() -> Generator[str]:
    with running(SimulatorConfig(render_s=0.2)) as url:
        yield url


@pytest.fixture
async def arrive(
    simulator_url: str, database: Database, ledger: PostgresLedger, accept: Accept, order: Order
) -> AsyncGenerator[Arrive]:
    """Make a generation at a vendor; with its hold, unless said otherwise."""
    named = {f"{vendor}_base_url": f"{simulator_url}{simulated.base_path}" for vendor, simulated in VENDORS.items()}
    keys = {f"{vendor}_api_key": SimulatorConfig().api_key(vendor) for vendor in VENDORS}
    known = settings(
        **named, **keys, trusted_hosts=urlsplit(simulator_url).netloc, exclusive_keys="aivideoapi", time_scale=1.0
    )
    admission = RouteAdmission(known)
    async with AsyncExitStack() as cleanup:
        outbound = Outbound(known.trusted_hosts)
        cleanup.push_async_callback(outbound.aclose)
        http = await cleanup.enter_async_context(new_http_client())
        drivers = configured_drivers(known, admission.catalogue, http=http, outbound=outbound)

        async def arrive(marker: str = SILENT, vendor: str = "apixo", *, held: bool = True) -> At:
            fields = {"route": f"{vendor}/wan-2.6/text-to-video", "prompt": unique(f"alone {marker}")}
            request = GenerationRequest.model_validate(fields | {"resolution": "720p", "tenant": "acme"})
            generation_id = await accept(**fields, resolution="720p")
            if held:
                await ledger.reserve(order(generation_id, vendor=vendor, route=request.route))
            return At(
                vendor,
                generation_id,
                admission.plan(request, base_queue="onetake"),
                request,
                drivers[vendor],
                PostgresSubmissions(database),
                PostgresVendors(database),
                simulator_url,
            )

        yield arrive


# -- Submit ------------------------------------------------------------------------------------------------------------


async def test_what_another_attempt_may_have_sent_is_in_doubt_and_not_sent(arrive: Arrive) -> None:
    at = await arrive()
    await at.begin()
    assert (await at.submit()).state == "ambiguous"
    assert await at.known_to_vendor("submits") == []


async def test_nothing_is_sent_whose_intent_cannot_be_written(arrive: Arrive) -> None:
    at = await arrive(held=False)
    with pytest.raises(Failed, match="submission_generation_id_attempt_fkey"):
        await at.submit()
    assert await at.known_to_vendor("submits") == []


async def test_what_an_attempt_learned_and_could_not_write_is_written_by_the_next(arrive: Arrive) -> None:
    at = await arrive()
    await at.begin()
    learned = Submission(state="accepted", vendor_task_id="task-1")
    assert await at.submit(in_engine(kept=learned)) == learned
    assert (await at.state(), await at.known_to_vendor("submits")) == ("accepted", [])


async def test_what_was_learned_of_an_earlier_post_lets_nothing_be_sent_beside_the_present_one(arrive: Arrive) -> None:
    at = await arrive()
    await at.begin()
    await at.submissions.record(at.generation_id, 1, state="not_sent", post=1)
    await at.begin(token="u" * 22)
    assert (await at.submit(in_engine(kept=Submission(state="not_sent", post=1)))).state == "sending"
    assert (await at.state(), await at.known_to_vendor("submits")) == ("sending", [])


async def test_an_attempt_that_is_canceled_during_its_post_tells_the_outcome(arrive: Arrive) -> None:
    at, environment = await arrive(f"[[sim:submit-hang=2]]{SILENT}"), in_engine()
    submitting = asyncio.ensure_future(at.submit(environment))
    async with asyncio.timeout(60):
        while not await at.known_to_vendor("jobs"):
            await asyncio.sleep(0.05)
    environment.cancel()
    (job,) = await at.known_to_vendor("jobs")
    assert (await submitting).vendor_task_id == job["task_id"]
    assert await at.state() == "accepted"


async def test_a_vendor_that_is_asked_too_fast_is_not_asked_beyond_the_limit(arrive: Arrive) -> None:
    at = await arrive("[[sim:throttle=1000,7]]")
    with pytest.raises(TryLater) as later:
        await at.submit()
    assert later.value.code == "vendor_throttled"
    with pytest.raises(Failed) as failed:
        await at.submit(in_engine(late_s=at.plan.throttle_limit_s))
    assert failed.value.code == "vendor_throttled"


# -- Resolve -----------------------------------------------------------------------------------------------------------


async def test_a_job_that_a_callback_names_is_asked_for_before_it_is_believed(
    arrive: Arrive, callbacks: Callbacks
) -> None:
    at = await arrive()
    await at.begin()
    await at.submissions.record(at.generation_id, 1, state="ambiguous")
    await callbacks.take(
        "apixo", TOKEN, claimed_task_id="task-x", claimed_state="success", body_sha256=bytes(32), size_bytes=9
    )
    with pytest.raises(TryLater):
        await at.resolve()
    assert await at.state() == "ambiguous"


async def test_a_listed_job_is_only_taken_when_a_later_look_sees_no_other(arrive: Arrive) -> None:
    at = await arrive("[[sim:submit-reset]]", "gmi")
    assert (await at.submit()).state == "ambiguous"
    with pytest.raises(TryLater):
        await at.resolve()
    assert await at.state() == "ambiguous"
    second = at.resolve(in_engine(late_s=at.plan.absence_window_s + 60, kept=at.heard[-1]))
    (job,) = await at.known_to_vendor("jobs")
    assert (await second).vendor_task_id == job["task_id"]


@pytest.mark.parametrize("over", [True, False])
async def test_a_balance_proves_something_when_it_stood_still_twice_after_the_end_of_the_post(
    arrive: Arrive, over: bool
) -> None:
    at = await arrive(vendor="aivideoapi")
    idle = await at.submissions.idle_at(at.vendor)
    assert idle is not None
    await at.begin(Bracket(await at.driver.read_account(), idle))
    error = ErrorInfo.of("submission_outcome_unknown") if over else None
    await at.submissions.record(at.generation_id, 1, state="ambiguous", error=error)
    late_s = at.plan.absence_window_s + 60
    with pytest.raises(TryLater):
        await at.resolve(in_engine(late_s=late_s))
    assert await at.state() == "ambiguous"
    kept = at.heard[-1] if at.heard else None
    second = at.resolve(in_engine(late_s=3 * late_s, kept=kept))
    if over:
        assert (await second).state == "rejected"
    else:
        with pytest.raises(TryLater):
            await second


# -- Wait --------------------------------------------------------------------------------------------------------------


async def test_the_last_read_comes_before_the_deadline(arrive: Arrive) -> None:
    """The server ends an activity as soon as its next try would come too late, and nobody would have looked."""
    at = await arrive(f"[[sim:never]]{SILENT}")
    accepted = await at.submit()
    assert accepted.vendor_task_id
    left_s = at.plan.cadence.interval_s / 2
    environment = in_engine(late_s=1000, limit_s=1000 + left_s)
    with pytest.raises(TryLater) as later:
        await at.read(accepted.vendor_task_id, environment)
    assert later.value.after_s == left_s - SPARE_S


async def test_one_404_is_not_believed(arrive: Arrive) -> None:
    at = await arrive()
    with pytest.raises(TryLater):
        await at.read("task-nobody-has", in_engine(late_s=1000))
