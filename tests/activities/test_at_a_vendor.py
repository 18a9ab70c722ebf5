"""What the activities do at a vendor, each alone in a call of its own: a real ledger, real drivers, a simulated vendor.

The engine's part is the one that is made up: how late an attempt is, and what the one before it left.

It is over 400 lines because submitting and finding out what became of it are tested on the same vendors and rows.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import sha256
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
import pytest
from temporalio.testing import ActivityEnvironment

from activities.cadence import GAP_OF_AGE, ReadTimes
from activities.resolve import Resolve
from activities.submit import Record, Submit
from activities.wait import SPARE_S, ReadStatus
from onetake.core.contracts import (
    ErrorInfo,
    GenerationRequest,
    Message,
    Plan,
    ReadInput,
    RecordInput,
    ReserveInput,
    ResolveInput,
    Submission,
    SubmitInput,
    SubmitTries,
)
from onetake.core.errors import Failed, TryLater
from onetake.core.ports import Bracket
from onetake.dev.simulator.app import VENDORS, SimulatorConfig
from onetake.dev.simulator.server import running
from onetake.ledger import Callbacks, Database, Epochs, PostgresLedger, PostgresSubmissions
from onetake.ledger.callbacks import token_sha256
from onetake.ledger.pacing import PostgresPacing
from onetake.ledger.rates import PostgresRates
from onetake.media.outbound import Outbound
from providers.admission import RouteAdmission
from providers.driver import Clients, configured_drivers
from tests.providers.parts import settings
from tests.servers import LIMIT_S
from tests.system.harness import unique

Accept = Callable[..., Awaitable[str]]
Order = Callable[..., ReserveInput]
FailOver = Callable[[], Awaitable[None]]

SILENT = "[[sim:no-callback]]"
TOKEN = "t" * 22
SILENCE_IS_OVER = "delete from onetake.vendor_rate"


def in_engine(
    *, late_s: float = 0, limit_s: float | None = None, kept: Message | None = None, number: int = 1
) -> ActivityEnvironment:
    """The attempt of this number, so long after the activity was scheduled, with what the last one kept."""
    environment = ActivityEnvironment()
    environment.info = replace(
        environment.info,
        attempt=number,
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
    restorations: Epochs
    rates: PostgresRates
    times: ReadTimes
    url: str
    epoch: str | None
    heard: list[Any] = field(default_factory=list[Any])

    def submit(
        self,
        environment: ActivityEnvironment | None = None,
        *,
        patient: bool = True,
        callback_base: str | None = None,
        may_be_sent: bool = False,
    ) -> Awaitable[Submission]:
        activity = Submit(
            self.vendor,
            self.driver,
            self.submissions,
            self.restorations,
            self.rates,
            callback_base,
            self.times,
        )
        order = SubmitInput(
            generation_id=self.generation_id,
            attempt=1,
            workflow_id="w",
            plan=self.plan,
            request=self.request,
            patient=patient,
            epoch=self.epoch,
            may_be_sent=may_be_sent,
        )
        environment = environment or in_engine()
        environment.on_heartbeat = lambda *kept: self.heard.append(kept[0] if kept else None)
        return environment.run(activity.submit, order)

    def resolve(
        self, environment: ActivityEnvironment | None = None, *, last_look: bool = False, doubted: bool = False
    ) -> Awaitable[Submission]:
        """What this look keeps for the next is in `heard`."""
        environment = environment or in_engine()
        environment.on_heartbeat = lambda *kept: self.heard.append(kept[0] if kept else None)
        activity = Resolve(self.vendor, self.driver, self.submissions, self.submissions, self.rates)
        return environment.run(
            activity.resolve,
            ResolveInput(
                generation_id=self.generation_id,
                attempt=1,
                plan=self.plan,
                epoch=self.epoch,
                doubted=doubted,
                last_look=last_look or doubted,
            ),
        )

    def read(
        self, task_id: str, environment: ActivityEnvironment, *, elapsed_s: float = 0, until_over: bool = True
    ) -> Awaitable[Any]:
        order = ReadInput(
            generation_id=self.generation_id,
            attempt=1,
            plan=self.plan,
            vendor_task_id=task_id,
            until_over=until_over,
            elapsed_s=elapsed_s,
        )
        activity = ReadStatus(self.vendor, self.driver, self.rates, self.submissions, self.times)
        return environment.run(activity.read_status, order)

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

    async def state(self) -> str:
        return (await self.submissions.read(self.generation_id, 1)).state

    async def known_to_vendor(self, what: str) -> list[Any]:
        """Those of its `submits` or `jobs` that are of this prompt."""
        digest = sha256(self.request.prompt.encode()).hexdigest()
        async with httpx.AsyncClient(trust_env=False, timeout=LIMIT_S) as http:
            found = (await http.get(f"{self.url}/journal")).json()[what]
        return [each for each in found if each["prompt_sha256"] == digest]

    async def is_rendered(self) -> None:
        """Return when its job has ended at the vendor."""
        async with asyncio.timeout(LIMIT_S):
            while [job["finished_at"] for job in await self.known_to_vendor("jobs")] in ([], [None]):
                await asyncio.sleep(0.02)


class OlderJobs:
    """A vendor that has made every job so many seconds earlier."""

    def __init__(self, driver: Any, older_s: float) -> None:
        self._driver = driver
        self._older_s = older_s

    async def read_status(self, plan: Plan, task_id: str) -> Any:
        status = await self._driver.read_status(plan, task_id)
        return replace(status, least_age_s=status.least_age_s + self._older_s)


class Unreadable:
    """A vendor that answers this error whenever it is asked about some jobs. `asked` holds the ids it was asked for."""

    def __init__(self, driver: Any, code: str, *task_ids: str) -> None:
        self._driver, self._code, self._task_ids = driver, code, task_ids
        self.asked: list[str] = []

    async def read_status(self, plan: Plan, task_id: str) -> Any:
        self.asked.append(task_id)
        if task_id in self._task_ids:
            raise TryLater(self._code, "(HTTP 500)")
        return await self._driver.read_status(plan, task_id)


class Answering:
    """A vendor whose answer to a POST is on the way until the test lets it come."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self.has_answered, self._comes = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    async def submit(self, order: Any) -> Any:
        outcome = await self._driver.submit(order)
        self.has_answered.set()
        await self._comes.wait()
        return outcome

    def let_it_come(self) -> None:
        self._comes.set()


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
        clients = await cleanup.enter_async_context(Clients.opened())
        drivers = configured_drivers(known, admission.catalogue, clients=lambda: clients, outbound=outbound)

        async def arrive(marker: str = SILENT, vendor: str = "apixo", *, held: bool = True) -> At:
            fields = {"route": f"{vendor}/wan-2.6/text-to-video", "prompt": unique(f"alone {marker}")}
            request = GenerationRequest.model_validate(fields | {"resolution": "720p", "tenant": "acme"})
            generation_id = await accept(**fields, resolution="720p")
            epoch = None
            if held:
                epoch = (await ledger.reserve(order(generation_id, vendor=vendor, route=request.route))).epoch
            return At(
                vendor,
                generation_id,
                admission.plan(request, base_queue="onetake"),
                request,
                drivers[vendor],
                PostgresSubmissions(database),
                Epochs(database),
                PostgresRates(database),
                ReadTimes(PostgresPacing(database, callbacks_asked=True)),
                simulator_url,
                epoch,
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
    assert (await at.submit(in_engine(kept=SubmitTries(learned=learned)))).vendor_task_id == learned.vendor_task_id
    assert (await at.state(), await at.known_to_vendor("submits")) == ("accepted", [])


@pytest.mark.parametrize(("marker", "state"), [("", "accepted"), ("[[sim:reject=400]]", "rejected")])
@pytest.mark.parametrize("hangs", [False, True])
async def test_what_was_learned_is_the_answer_while_the_ledger_is_away(
    arrive: Arrive, monkeypatch: pytest.MonkeyPatch, marker: str, state: str, *, hangs: bool
) -> None:
    monkeypatch.setattr("activities.submit.RECORD_LIMIT_S", 0.5)
    at = await arrive(f"{marker}{SILENT}")
    away = Away(at.submissions, hangs=hangs)
    told = await replace(at, submissions=cast("Any", away)).submit()
    assert (told.state, told.unrecorded, await at.state()) == (state, True, "sending")
    jobs = await at.known_to_vendor("jobs")
    assert told.vendor_task_id == (jobs[0]["task_id"] if jobs else None)
    order = RecordInput(generation_id=at.generation_id, attempt=1, submission=told)
    with pytest.raises(TryLater):
        await in_engine().run(Record(cast("Any", Away(at.submissions, hangs=False))).record, order)
    stored = await in_engine().run(Record(at.submissions).record, order)
    assert (stored.state, stored.vendor_task_id, stored.unrecorded) == (state, told.vendor_task_id, False)
    assert await at.state() == state


class Away:
    """A ledger that takes no outcome: it refuses the connection, or does not answer."""

    def __init__(self, submissions: PostgresSubmissions, *, hangs: bool) -> None:
        self._submissions = submissions
        self._hangs = hangs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._submissions, name)

    async def record(self, *_: object, **__: object) -> Submission:
        if self._hangs:
            await asyncio.sleep(60)
        raise TryLater("ledger_unavailable", "It refuses connections.")


async def test_what_was_learned_of_an_earlier_post_lets_nothing_be_sent_beside_the_present_one(arrive: Arrive) -> None:
    at = await arrive()
    await at.begin()
    await at.submissions.record(at.generation_id, 1, state="not_sent", post=1)
    await at.begin(token="u" * 22)
    assert (
        await at.submit(in_engine(kept=SubmitTries(learned=Submission(state="not_sent", post=1))))
    ).state == "sending"
    assert (await at.state(), await at.known_to_vendor("submits")) == ("sending", [])


async def test_an_attempt_that_is_canceled_during_its_post_tells_the_outcome(arrive: Arrive) -> None:
    at, environment = await arrive(), in_engine()
    posting = Answering(at.driver)
    submitting = asyncio.ensure_future(replace(at, driver=posting).submit(environment))
    await posting.has_answered.wait()
    environment.cancel()
    await asyncio.sleep(0.05)
    assert not submitting.done()
    posting.let_it_come()
    (job,) = await at.known_to_vendor("jobs")
    assert (await submitting).vendor_task_id == job["task_id"]
    assert await at.state() == "accepted"


async def test_a_vendor_that_is_asked_too_fast_is_not_asked_beyond_the_limit(arrive: Arrive) -> None:
    at = await arrive("[[sim:throttle=1000,7]]")
    with pytest.raises(TryLater) as later:
        await at.submit()
    assert later.value.code == "vendor_throttled"
    with pytest.raises(Failed) as failed:
        await at.submit(in_engine(late_s=at.plan.deadline_s))
    assert failed.value.code == "vendor_throttled"


async def test_nothing_is_sent_once_a_cancellation_is_noted(arrive: Arrive, database: Database) -> None:
    at = await arrive()
    await database.row("update onetake.generation set cancel_requested = true where id = $1", at.generation_id)
    told = await at.submit()
    assert (told.state, told.error and told.error.code) == ("not_sent", "canceled")
    assert await at.known_to_vendor("submits") == []


async def test_a_vendor_that_takes_nothing_now_is_told_at_once_to_who_does_not_wait_for_it(arrive: Arrive) -> None:
    at = await arrive("[[sim:throttle=1000,7]]")
    told = await at.submit(patient=False)
    assert told.error is not None
    assert (told.state, told.error.code, await at.state()) == ("not_sent", "vendor_throttled", "not_sent")


async def test_an_accepted_job_is_read_first_when_the_vendor_documents_it(arrive: Arrive) -> None:
    at = await arrive()
    assert (await at.submit()).first_read_s == at.plan.cadence.first_read_s


@pytest.mark.parametrize(("callback_base", "tokens"), [(None, 0), ("http://127.0.0.1:1", 1)])
async def test_a_token_is_kept_only_of_an_address_that_the_vendor_was_given(
    arrive: Arrive, database: Database, callback_base: str | None, tokens: int
) -> None:
    at = await arrive()
    assert (await at.submit(callback_base=callback_base)).state == "accepted"
    rows = await database.rows("select from onetake.callback_token where generation_id = $1", at.generation_id)
    assert len(rows) == tokens


# -- After a failover --------------------------------------------------------------------------------------------------


async def test_after_a_failover_a_second_try_sends_nothing_where_the_first_did_not_tell(
    arrive: Arrive, fail_over: FailOver
) -> None:
    at = await arrive()
    await fail_over()
    assert (await at.submit(in_engine(number=2))).state == "ambiguous"
    assert (await at.state(), await at.known_to_vendor("submits")) == ("ambiguous", [])


async def test_after_a_failover_a_try_that_follows_an_untold_activity_sends_nothing(
    arrive: Arrive, fail_over: FailOver
) -> None:
    at = await arrive()
    await fail_over()
    assert (await at.submit(may_be_sent=True)).state == "ambiguous"
    assert await at.known_to_vendor("submits") == []


async def test_after_a_failover_a_try_may_send_when_all_before_it_told_that_they_sent_nothing(
    arrive: Arrive, fail_over: FailOver, database: Database
) -> None:
    at = await arrive(f"[[sim:throttle=1,0]]{SILENT}")
    with pytest.raises(TryLater):
        await at.submit()
    await fail_over()
    await database.row(SILENCE_IS_OVER)
    assert (await at.submit(in_engine(number=2, kept=at.heard[-1]))).state == "accepted"


async def test_a_try_before_which_one_died_stays_unsure_of_it(
    arrive: Arrive, fail_over: FailOver, database: Database
) -> None:
    at = await arrive()
    await at.rates.submission_refused("apixo", at.generation_id, 60, gap_s=1)
    told = await at.submit(in_engine(number=2), patient=False)
    assert (told.state, told.unsure) == ("not_sent", True)
    await fail_over()
    await database.row(SILENCE_IS_OVER)
    assert (await at.submit(in_engine(number=3, kept=at.heard[-1]))).state == "ambiguous"
    assert await at.known_to_vendor("submits") == []


async def test_a_job_that_was_accepted_while_the_database_failed_over_is_recorded(
    arrive: Arrive, fail_over: FailOver, database: Database
) -> None:
    at = await arrive()
    posting = Answering(at.driver)
    submitting = asyncio.ensure_future(replace(at, driver=posting).submit())
    await posting.has_answered.wait()
    await database.row("delete from onetake.submission where generation_id = $1", at.generation_id)
    await fail_over()
    posting.let_it_come()
    (job,) = await at.known_to_vendor("jobs")
    assert (await submitting).vendor_task_id == job["task_id"]
    assert await at.state() == "accepted"


async def test_after_a_failover_an_absent_intent_is_not_resolved_as_not_sent(
    arrive: Arrive, fail_over: FailOver
) -> None:
    at = await arrive()
    await fail_over()
    with pytest.raises(TryLater):
        await at.resolve()
    assert (await at.resolve(last_look=True)).state == "ambiguous"


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


@pytest.mark.parametrize("exists", [True, False])
async def test_an_accepted_job_is_given_up_for_the_one_that_our_token_named_when_the_vendor_knows_it(
    arrive: Arrive, callbacks: Callbacks, exists: bool
) -> None:
    at, rendered = await arrive(), await arrive()
    other = (await rendered.submit()).vendor_task_id or ""
    await at.submissions.reassign(rendered.generation_id, 1, wrong=other, right="somebody-elses")  # nobody has it now
    await at.begin()
    await at.submissions.record(at.generation_id, 1, state="accepted", vendor_task_id="task-theirs")
    assert (await at.resolve(doubted=True)).vendor_task_id == "task-theirs"
    named = other if exists else "task-nobody-has"
    await callbacks.take(
        "apixo", TOKEN, claimed_task_id=named, claimed_state="success", body_sha256=bytes(32), size_bytes=9
    )
    assert (await at.resolve(doubted=True)).vendor_task_id == (other if exists else "task-theirs")


@pytest.mark.parametrize("doubted", [False, True])
async def test_a_claim_that_cannot_be_read_hides_no_other(arrive: Arrive, callbacks: Callbacks, doubted: bool) -> None:
    """A callback may name an event's id, say, to which the vendor answers 500 for ever."""
    at, rendered = await arrive(), await arrive()
    ours = (await rendered.submit()).vendor_task_id or ""
    await at.submissions.reassign(rendered.generation_id, 1, wrong=ours, right=f"not-{ours}")  # nobody has it now
    await at.begin()
    state, task_id = ("accepted", "task-theirs-too") if doubted else ("ambiguous", None)
    await at.submissions.record(at.generation_id, 1, state=state, vendor_task_id=task_id)
    at = replace(at, driver=Unreadable(at.driver, "vendor_unavailable", "odd"))
    await claim(callbacks, "odd")
    with pytest.raises(TryLater):
        await at.resolve(doubted=doubted)
    await claim(callbacks, ours)
    assert (await at.resolve(doubted=doubted)).vendor_task_id == ours


async def test_looks_that_have_one_turn_each_ask_for_one_claim_after_another(
    arrive: Arrive, callbacks: Callbacks, database: Database
) -> None:
    at = await arrive()
    await at.begin()
    await at.submissions.record(at.generation_id, 1, state="ambiguous")
    vendor = Unreadable(at.driver, "vendor_throttled", "odd", "other")
    at = replace(at, driver=vendor)
    for named in ("odd", "other"):
        await claim(callbacks, named)
    for number in (1, 2, 3):
        with pytest.raises(TryLater):
            await at.resolve(in_engine(number=number))
        await database.row(SILENCE_IS_OVER)
    assert vendor.asked == ["odd", "other", "odd"]


async def claim(callbacks: Callbacks, named: str) -> None:
    """A callback with the token of `begin` that names this job."""
    await callbacks.take(
        "apixo",
        TOKEN,
        claimed_task_id=named,
        claimed_state="success",
        body_sha256=sha256(named.encode()).digest(),
        size_bytes=9,
    )


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


async def test_gaps_double_with_each_read_that_is_throttled_and_are_then_as_before(
    arrive: Arrive, database: Database
) -> None:
    at = await arrive(f"[[sim:status-429=2]][[sim:never]]{SILENT}")
    accepted = await at.submit()
    assert accepted.vendor_task_id
    gaps: list[float] = []
    kept: list[Any] = [None]
    for _ in range(4):
        environment = in_engine(late_s=100, kept=kept[-1])
        environment.on_heartbeat = lambda *details: kept.append(details[0] if details else None)
        with pytest.raises(TryLater) as later:
            await at.read(accepted.vendor_task_id, environment)
        assert later.value.after_s is not None
        gaps.append(later.value.after_s)
        await database.row("delete from onetake.vendor_rate where vendor = $1", at.vendor)
    doubled, again, then, last = (gap / max(at.plan.cadence.max_interval_s, GAP_OF_AGE * 100) for gap in gaps)
    assert (round(doubled / 2), round(again / 4), round(then), round(last)) == (1, 1, 1, 1)


async def test_an_open_job_is_an_answer_with_the_time_of_the_next_read(arrive: Arrive) -> None:
    at = await arrive(f"[[sim:never]]{SILENT}")
    accepted = await at.submit()
    assert accepted.vendor_task_id
    young, old = [
        await at.read(accepted.vendor_task_id, in_engine(), elapsed_s=waited_s, until_over=False)
        for waited_s in (at.plan.cadence.first_read_s, 1000.0)
    ]
    assert (young.state, old.state) == ("open", "open")
    assert round(young.again_s / at.plan.cadence.interval_s) == 1
    assert round(old.again_s / (GAP_OF_AGE * 1000)) == 1


@pytest.mark.parametrize(("word", "reads"), [("REVIEWING", 2), ("processing", 3), ("completed", 1)])
async def test_a_clip_under_an_odd_word_is_believed_when_it_is_seen_again(
    arrive: Arrive, word: str, reads: int
) -> None:
    """Beside a word for work it may be a preview, and must stand there for two minutes."""
    at = await arrive(f'[[sim:end-word="{word}"]]{SILENT}')
    accepted = await at.submit()
    assert accepted.vendor_task_id
    await at.is_rendered()
    states, gaps = list[str](), list[float]()
    kept: list[Any] = [None]
    for late_s in (100, 160, 280):
        environment = in_engine(late_s=late_s, kept=kept[-1])
        environment.on_heartbeat = lambda *details: kept.append(details[0] if details else None)
        try:
            states.append((await at.read(accepted.vendor_task_id, environment)).state)
            break
        except TryLater as later:
            states.append(later.code)
            gaps.append(later.after_s or 0)
    assert states == ["not_ready"] * (reads - 1) + ["succeeded"]
    assert all(gap >= at.plan.cadence.interval_s for gap in gaps), "a documented interval is a floor"


async def test_a_pause_that_a_vendor_asks_for_is_never_shorter_than_its_documented_interval(arrive: Arrive) -> None:
    at = await arrive(f"[[sim:status-page=429,1,1]][[sim:never]]{SILENT}")
    accepted = await at.submit()
    assert accepted.vendor_task_id
    with pytest.raises(TryLater) as later:
        await at.read(accepted.vendor_task_id, in_engine())
    assert later.value.code == "vendor_throttled"
    assert later.value.after_s is not None
    assert later.value.after_s >= at.plan.cadence.interval_s


async def test_a_job_that_was_made_before_our_post_is_nobodys_answer(arrive: Arrive) -> None:
    """The vendor named another order's job, a minute older than our POST."""
    theirs, at = await arrive(f"[[sim:delay=0]]{SILENT}"), await arrive()
    job = (await theirs.submit()).vendor_task_id or ""
    await theirs.submissions.reassign(theirs.generation_id, 1, wrong=job, right="somebody-elses")
    await at.begin()
    await at.submissions.record(at.generation_id, 1, state="accepted", vendor_task_id=job)
    await theirs.is_rendered()
    assert (await at.read(job, in_engine())).state == "succeeded"
    slow = replace(at, driver=OlderJobs(at.driver, 60.0))
    with pytest.raises(Failed) as failed:
        await slow.read(job, in_engine())
    assert failed.value.code == "vendor_protocol_error"


async def test_one_404_is_not_believed(arrive: Arrive) -> None:
    at = await arrive()
    with pytest.raises(TryLater):
        await at.read("task-nobody-has", in_engine(late_s=1000))


@pytest.mark.parametrize(("marker", "failed"), [("[[sim:fail=Timeout]]", True), ("", False)])
async def test_what_the_vendor_says_of_a_jobs_end_is_kept(
    arrive: Arrive, database: Database, marker: str, failed: bool
) -> None:
    at = await arrive(f"{marker}{SILENT}")
    accepted = await at.submit()
    assert accepted.vendor_task_id
    reading = None
    while reading is None:
        with suppress(TryLater):  # it still renders
            reading = await at.read(accepted.vendor_task_id, in_engine(late_s=1000))
        await asyncio.sleep(0.1)
    assert reading.state == ("failed" if failed else "succeeded")
    (row,) = await database.rows(
        "select failed, shows_charge from onetake.job_end where generation_id = $1", at.generation_id
    )
    assert (row["failed"], row["shows_charge"]) == (failed, False)
