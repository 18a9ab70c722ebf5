"""Submitting when nobody can say what came of it: refused connections, lost answers, dead workers, late news.

All scenes are played at once, on workers whose proxy to the simulated vendor does what the prompt says; each test then
compares its own. Answers that are understood are in `test_submit_answers.py`.
"""

import asyncio
import signal
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio
from temporalio.exceptions import ApplicationError
from temporalio.exceptions import TimeoutError as ActivityTimeoutError

from onetake.client import Onetake, Started
from providers.driver import SHORTEST_ANSWER_S
from tests.faults.proxy import FaultyProxy, open_proxy
from tests.faults.scenes import LIMIT_S, SCALE, Ends, begin, ends_of, own_worker, play, route_of, together, why_again
from tests.faults.table import shows
from tests.providers.sockets import LOOPBACK, answer, answering, own_certificate, serving
from tests.system.harness import ROUTE, Stack, ended, in_phase, money

# At `SCALE` an outcome that nobody can know is given up soon. What is to be found is looked for by a plan that gives
# nothing up before a hung machine would be noticed.
PATIENT_SCALE: Final = "0.2"  # an unknown outcome is given up after 6 minutes, an unreachable vendor after 2
PRODUCTION: Final = "1"
UNREACHABLE_SCALE: Final = "0.5"  # after 5 minutes; the full queue alone takes ten seconds a try
LATER_S: Final = int(SHORTEST_ANSWER_S) + 3  # than a worker at such scales waits for an answer
LOST: Final = "[[sim:no-callback]]"
UNREACHABLE: Final = ("apixo", "gptimage2", "wan26ai", "aivideoapi")

# What each scene tells the proxy and the simulator. APIXO has neither a key nor a list for us: after a doubt, only the
# callback with our token can tell.
FOUND: Final = {
    "reset": "[[sim:submit-reset]]",
    "late": f"[[sim:submit-slow={LATER_S}]]",
    "502": "[[sim:submit-502-accepted]]",
    "504": "[[proxy:status=504]]",
    "page": "[[proxy:page]]",
    "malformed": "[[proxy:malformed]]",
    "truncated": "[[proxy:truncated]]",
    "text": "[[proxy:text]]",
    "bomb": "[[proxy:bomb]]",
    "endless": "[[proxy:endless]]",
    "no id": "[[sim:submit-no-id]]",
    "empty id": "[[proxy:id=empty]]",
    "long id": "[[proxy:id=long]]",
    "newline id": "[[proxy:id=newline]]",
    "path id": "[[proxy:id=path]]",
    "early callback": "[[sim:callback-first]]",
}
UNKNOWN: Final = {
    "reset, lost": f"[[sim:submit-reset]]{LOST}",
    "reset, not taken": "[[sim:submit-reset-refused]]",
    "late, lost": f"[[sim:submit-slow={LATER_S}]]{LOST}",
    "half": f"[[proxy:half]] {'and so on ' * 130}",
    "500": "[[sim:submit-500]]",
    "502, lost": f"[[sim:submit-502-accepted]]{LOST}",
    "503": "[[sim:busy=1,7]]",
    "408": "[[proxy:refuse=408]]",
    "409": "[[proxy:refuse=409]]",
    "login page": "[[sim:submit-html]]",
    "page, lost": f"[[proxy:page]]{LOST}",
    "bomb, lost": f"[[proxy:bomb]]{LOST}",
    "path id, lost": f"[[proxy:id=path]]{LOST}",
}
# GMI calls nobody back and lists our jobs: after a doubt it is looked up, twice.
LISTED: Final = {
    "reset": "[[sim:submit-reset]]",
    "late": f"[[sim:submit-slow={LATER_S}]]",
    "502": "[[sim:submit-502-accepted]]",
    "page": "[[proxy:page]]",
    "truncated": "[[proxy:truncated]]",
    "path id": "[[proxy:id=path]]",
}
NOT_LISTED: Final = {"reset, not taken": "[[sim:submit-reset-refused]]", "half": UNKNOWN["half"]}
LISTED_SCALE: Final = "0.06"  # two looks, seven seconds apart, in two minutes
GMI: Final = "gmi/wan-2.6/text-to-video"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def proxy(stack: Stack) -> AsyncGenerator[FaultyProxy]:
    async with open_proxy(stack.simulator_url) as proxy:
        yield proxy


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ends(stack: Stack, proxy: FaultyProxy, tmp_path_factory: pytest.TempPathFactory) -> Ends:
    """How every scene ended, and its prompt."""
    return await together(
        through_the_proxy(stack, proxy),
        never_reached(stack, tmp_path_factory.mktemp("never")),
        reached_later(stack, tmp_path_factory.mktemp("later")),
        killed(stack),
        stopped(stack, proxy),
    )


# -- The connection ----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def nowhere(stack: Stack, folder: Path) -> AsyncGenerator[dict[str, str]]:
    """A worker's variables with which no vendor can be reached, each for another reason."""
    with full_queue() as full, nobody_listening() as refused:
        async with serving(answering(answer(200, b"{}")), tls=own_certificate(folder)) as untrusted:
            yield {
                "ONETAKE_APIXO_BASE_URL": "https://nowhere.invalid/api/v1",
                "ONETAKE_GPTIMAGE2_BASE_URL": f"{untrusted.url}/v1",
                "ONETAKE_WAN26AI_BASE_URL": f"http://{refused}/api",
                "ONETAKE_AIVIDEOAPI_BASE_URL": f"http://{full}/v1",
                "ONETAKE_TRUSTED_HOSTS": ",".join((stack.environment["ONETAKE_TRUSTED_HOSTS"], refused, full)),
            }


@contextmanager
def full_queue() -> Generator[str]:
    """The address of a socket whose accept queue is full: connecting to it is never answered."""
    with socket.socket() as listening:
        listening.bind((LOOPBACK, 0))
        listening.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listening.getsockname())
        try:
            yield f"{LOOPBACK}:{listening.getsockname()[1]}"
        finally:
            for one in waiting:
                one.close()


@contextmanager
def nobody_listening() -> Generator[str]:
    """The address of a port that is taken, so that no other program comes to listen there."""
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        yield f"{LOOPBACK}:{taken.getsockname()[1]}"


async def reached_later(stack: Stack, folder: Path) -> Ends:
    """Nobody can be reached; then another worker, whose network is well, takes over."""
    queue = "reached-later"
    async with stack.client(task_queue=queue, time_scale=UNREACHABLE_SCALE) as onetake:
        async with nowhere(stack, folder) as env, own_worker(stack, queue, UNREACHABLE_SCALE, **env) as (_, name):
            begun = {f"{vendor}, later": await begin(onetake, "", route_of(vendor)) for vendor in UNREACHABLE}
            for started, _ in begun.values():
                why = await why_again(stack, started.workflow_id)
                assert isinstance(why, ApplicationError)
                assert why.type == "vendor_unreachable"
                assert (await onetake.get(started.id)).phase == "submitting"
            stack.kill(name, signal.SIGTERM)
            await stack.died(name)
        async with own_worker(stack, queue, UNREACHABLE_SCALE):
            return await ends_of(onetake, begun)


async def never_reached(stack: Stack, folder: Path) -> Ends:
    async with nowhere(stack, folder) as env, own_worker(stack, "never-reached", **env) as (onetake, _):
        return await together(*(play(onetake, f"{vendor}, never", "", route_of(vendor)) for vendor in UNREACHABLE))


async def test_a_vendor_that_cannot_be_reached_is_waited_for(stack: Stack, ends: Ends) -> None:
    for vendor in UNREACHABLE:
        result, prompt = ends[f"{vendor}, later"]
        await shows("F033", stack, result, prompt)
        async with stack.database() as database:
            (posts,) = await database.rows(
                "select max(post) as most from onetake.callback_token where generation_id = $1", result.id
            )
        assert posts["most"] > 1  # the intent was taken back, and begun afresh


async def test_a_vendor_that_stays_unreachable_ends_it_free_of_charge(stack: Stack, ends: Ends) -> None:
    for vendor in UNREACHABLE:
        result, prompt = ends[f"{vendor}, never"]
        await shows("F034", stack, result, prompt)
        assert money(result)[0] > 0
        assert money(result)[1:] == (0, 0)


# -- Dead workers ------------------------------------------------------------------------------------------------------


async def killed(stack: Stack) -> Ends:
    """Workers die one after the other, each in another submission; the last takes over what they left."""
    queue, deaths = "killed-at-submit", dict[str, tuple[Started, str]]()
    async with (
        stack.client(task_queue=queue, time_scale=SCALE) as onetake,
        stack.client(task_queue=queue, time_scale=PATIENT_SCALE) as patient,
        stack.client(task_queue=queue, time_scale=LISTED_SCALE) as listed,
    ):
        for name, crash, told, route, client in (
            ("killed before", "submit.after_intent", "", ROUTE, onetake),
            ("killed after", "submit.after_send", "", ROUTE, patient),
            ("killed after, listed", "submit.after_send", "", GMI, listed),
            ("killed after, lost", "submit.after_send", LOST, ROUTE, onetake),
        ):
            async with stack.worker(queue, crash=crash, ONETAKE_TIME_SCALE=SCALE) as worker:
                deaths[name] = await begin(client, told, route)
                assert await stack.died(worker) == crash
        async with stack.worker(queue, ONETAKE_TIME_SCALE=SCALE):
            return await ends_of(onetake, deaths)


async def test_a_worker_killed_before_the_first_byte_leaves_a_doubt(stack: Stack, ends: Ends) -> None:
    await shows("F035", stack, *ends["killed before"])


async def test_a_worker_killed_after_the_vendor_accepted_is_saved_by_the_callback_or_the_list(
    stack: Stack, ends: Ends
) -> None:
    await shows("F036", stack, *ends["killed after"], end="callback")
    await shows("F036", stack, *ends["killed after, listed"], end="list")
    await shows("F036", stack, *ends["killed after, lost"], end="unknown")


# -- A worker that hangs -----------------------------------------------------------------------------------------------


async def stopped(stack: Stack, proxy: FaultyProxy) -> Ends:
    """A worker stands still until its attempts have timed out, then goes on with them beside their successors. It waits
    for an answer as long as in production, which is many times as long."""
    queue, trusted = "stopped-at-submit", stack.environment["ONETAKE_TRUSTED_HOSTS"]
    async with (
        own_worker(stack, queue, PRODUCTION, **proxy.environment("apixo", trusted=trusted)) as (_, name),
        stack.client(task_queue=queue, time_scale=PATIENT_SCALE) as onetake,
        stack.client(task_queue=queue, time_scale=SCALE) as quick,
    ):
        begun = {
            "zombie": await begin(onetake, f"[[proxy:hold=zombie]]{LOST}"),
            "zombie, callback": await begin(onetake, "[[proxy:hold=too-late]]"),
            "zombie, lost": await begin(quick, f"[[proxy:hold=never]]{LOST}"),
        }
        for _, prompt in begun.values():
            await accepted(stack, prompt)
        stack.kill(name, signal.SIGSTOP)
        for started, _ in begun.values():
            await why_again(stack, started.workflow_id, ActivityTimeoutError)
        stack.kill(name, signal.SIGCONT)
        await in_phase(onetake, begun["zombie"][0].id, "resolving")
        proxy.release("zombie")
        await ended(onetake, begun["zombie, callback"][0].id, LIMIT_S)
        proxy.release("too-late")
        ends = await ends_of(onetake, begun)
    for started, _ in begun.values():
        assert await timed_out(stack, started.workflow_id)
    return ends


async def timed_out(stack: Stack, workflow_id: str) -> bool:
    """Whether an attempt at the submission was given up, and another one was made."""
    made = [event.activity_task_started_event_attributes for event in await stack.history(workflow_id)]
    return any(attempt.attempt > 1 and attempt.last_failure.HasField("timeout_failure_info") for attempt in made)


async def accepted(stack: Stack, prompt: str) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not await stack.jobs_of(prompt):
            await asyncio.sleep(0.05)


async def test_what_a_timed_out_attempt_learns_late_is_recorded_once_or_ignored(stack: Stack, ends: Ends) -> None:
    await shows("F054", stack, *ends["zombie"], end="recorded")
    await shows("F054", stack, *ends["zombie, callback"], end="ignored")
    await shows("F054", stack, *ends["zombie, lost"], end="unknown")


# -- Damaged answers ---------------------------------------------------------------------------------------------------


async def through_the_proxy(stack: Stack, proxy: FaultyProxy) -> Ends:
    """One worker for everything that befalls a submission and its answer."""
    env = proxy.environment("apixo", "gmi", trusted=stack.environment["ONETAKE_TRUSTED_HOSTS"])
    async with (
        own_worker(stack, "the-proxy", **env) as (quick, _),
        stack.client(task_queue="the-proxy", time_scale=PATIENT_SCALE) as patient,
        stack.client(task_queue="the-proxy", time_scale=LISTED_SCALE) as listed,
        own_worker(stack, "the-answered", PRODUCTION, **env) as (onetake, _),
    ):
        return await together(
            *(play(patient, name, told) for name, told in FOUND.items()),
            *(play(quick, name, told) for name, told in UNKNOWN.items()),
            *(play(listed, f"{name}, listed", told, GMI) for name, told in LISTED.items()),
            *(play(quick, f"{name}, listed", told, GMI) for name, told in NOT_LISTED.items()),
            with_the_id_of_another(patient, quick),
            canceled(stack, onetake, proxy, "canceled", ""),
            canceled(stack, quick, proxy, "canceled, lost", f"[[sim:submit-reset]]{LOST}"),
            canceled(stack, onetake, proxy, "canceled, refused", "[[sim:reject=400]]"),
        )


async def with_the_id_of_another(patient: Onetake, quick: Onetake) -> Ends:
    """One is given its own id; two others are given it, too."""
    first = await play(patient, "first with the id", "[[proxy:same-id=pair]]")
    others = await together(
        play(patient, "same id", "[[proxy:same-id=pair]]"),
        play(quick, "same id, lost", f"[[proxy:same-id=pair]]{LOST}"),
    )
    return {**first, **others}


async def canceled(stack: Stack, onetake: Onetake, proxy: FaultyProxy, name: str, told: str) -> Ends:
    """Canceled while the submission is on its way: the vendor gets it afterwards."""
    word = name.replace(", ", "-")
    started, prompt = await begin(onetake, f"[[proxy:wait={word}]]{told}")
    await proxy.arrived(word)
    await stack.cancel(onetake, started)
    proxy.release(word)
    return {name: (await ended(onetake, started.id, LIMIT_S), prompt)}


async def test_a_reset_after_the_request_waits_for_the_callback(stack: Stack, ends: Ends) -> None:
    await shows("F037", stack, *ends["reset"], end="callback")
    await shows("F037", stack, *ends["reset, lost"], end="unknown")
    await shows("F037", stack, *ends["reset, listed"], end="list")
    for scene in ("reset, not taken", "reset, not taken, listed"):
        await shows("F037", stack, *ends[scene], end="not_taken")


async def test_a_submission_that_is_accepted_after_our_timeout_waits_for_the_callback(stack: Stack, ends: Ends) -> None:
    await shows("F038", stack, *ends["late"], end="callback")
    await shows("F038", stack, *ends["late, listed"], end="list")
    await shows("F038", stack, *ends["late, lost"], end="unknown")


async def test_a_connection_that_breaks_in_the_middle_of_the_body_is_a_doubt(stack: Stack, ends: Ends) -> None:
    for scene in ("half", "half, listed"):
        await shows("F039", stack, *ends[scene])


async def test_a_server_error_is_a_doubt_whether_or_not_there_is_a_job(stack: Stack, ends: Ends) -> None:
    for scene in ("500", "503", "408", "409"):
        await shows("F040", stack, *ends[scene], end="no_job")
    for scene in ("502", "504"):
        await shows("F040", stack, *ends[scene], end="callback")
    await shows("F040", stack, *ends["502, listed"], end="list")
    await shows("F040", stack, *ends["502, lost"], end="unknown")


async def test_a_page_instead_of_an_answer_is_a_doubt(stack: Stack, ends: Ends) -> None:
    await shows("F049", stack, *ends["login page"], end="no_job")
    await shows("F049", stack, *ends["page"], end="callback")
    await shows("F049", stack, *ends["page, listed"], end="list")
    await shows("F049", stack, *ends["page, lost"], end="unknown")


async def test_an_answer_that_cannot_be_read_is_a_doubt(stack: Stack, ends: Ends) -> None:
    for scene in ("malformed", "truncated", "text", "bomb", "endless"):
        await shows("F050", stack, *ends[scene], end="callback")
    await shows("F050", stack, *ends["truncated, listed"], end="list")
    await shows("F050", stack, *ends["bomb, lost"], end="unknown")


async def test_an_id_that_is_none_is_a_doubt_and_never_part_of_an_address(
    stack: Stack, proxy: FaultyProxy, ends: Ends
) -> None:
    for scene in ("no id", "empty id", "long id", "newline id", "path id"):
        await shows("F051", stack, *ends[scene], end="callback")
    await shows("F051", stack, *ends["path id, listed"], end="list")
    await shows("F051", stack, *ends["path id, lost"], end="unknown")
    known = {job["task_id"] for job in (await stack.simulator_journal())["jobs"]}
    reads = [urlsplit(line.split()[1]) for line in proxy.lines if line.startswith("GET /apixo/")]
    assert {parse_qs(read.query)["taskId"][0] for read in reads} <= known
    assert {read.path for read in reads} == {"/apixo/api/v1/statusTask/wan-2-6-video"}


async def test_the_id_of_another_generation_is_not_believed(stack: Stack, ends: Ends) -> None:
    await shows("F052", stack, *ends["first with the id"], end="first")
    await shows("F052", stack, *ends["same id"], end="callback")
    await shows("F052", stack, *ends["same id, lost"], end="second")


async def test_a_callback_before_the_answer_is_kept(stack: Stack, ends: Ends) -> None:
    await shows("F053", stack, *ends["early callback"])


async def test_a_cancel_during_the_post_tells_the_truth_about_money(stack: Stack, ends: Ends) -> None:
    await shows("F055", stack, *ends["canceled"], end="accepted")
    await shows("F055", stack, *ends["canceled, lost"], end="unknown")
    await shows("F055", stack, *ends["canceled, refused"], end="refused")


async def test_the_books_are_sound_after_all_scenes(stack: Stack, ends: Ends) -> None:
    assert ends
    assert await stack.ledger_violations() == []
