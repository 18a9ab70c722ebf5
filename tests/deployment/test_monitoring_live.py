"""A real Prometheus watches a real stack: all is silent while it is calm, faults fire their alerts, and every query of
every panel and rule has an answer in the end.

The tests of this file are one story, in their order. Times are scaled down (`tests.deployment.monitoring.scaled`).
"""

import asyncio
import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from onetake.client import Onetake
from onetake.dev.devstack.ports import LOOPBACK, free_port
from onetake.dev.devstack.progress import SilentProgress
from onetake.dev.stack import own_command, running_stack
from tests.deployment.monitoring import ROOT, Prometheus, alerts, panels, prometheus, rules, scaled
from tests.deployment.tools import program
from tests.system.harness import Stack, bare_environ, in_phase
from tests.system.own_temporal import OwnTemporal

TIME_SCALE = "0.05"
MOST_SERIES = 2_000
CANARY = "CANARY-zebra"
TENANT = "tenant-of-this-test"
EVERYWHERE = (
    "apixo/wan-2.6/text-to-video",
    "gptimage2/wan-2.6/text-to-video",
    "wan26ai/wan-2.6/text-to-video",
    "gmi/wan-2.6/text-to-video",
)
# They tell slowness. Scaled down, they tell it of a busy machine, too: a calm run says nothing about them.
TELL_SLOWNESS = {
    "OnetakeNothingEnds",
    "OnetakePersistStuck",
    "OnetakeReconcilerSilent",
    "OnetakeSlotsFull",
    "OnetakeWakesLate",
    "OnetakeWorkflowTasksWait",
    "OnetakeBackupOld",  # a day has twenty seconds here
}
CALM_S = 10.0


@dataclass
class Watched:
    """A stack, and who watches it."""

    stack: Stack = field(repr=False)  # it knows passwords
    prometheus: Prometheus
    calm_at: float = 0.0

    def fires(self, *names: str, since: float | None = None) -> None:
        """Wait until all of these have fired since then, else since now, together or one after the other."""
        wanted, begun = set(names), since or time.time()
        found = self.prometheus.until(lambda: wanted <= self.prometheus.fired(begun))
        assert found, f"silent: {wanted - self.prometheus.fired(begun)}"

    def is_calm(self) -> bool:
        """Whether nothing fires for a while; a scrape that a busy machine missed only begins the while again."""
        begun = time.monotonic()

        def calm() -> bool:
            nonlocal begun
            if self.prometheus.firing() - TELL_SLOWNESS:
                begun = time.monotonic()
            return time.monotonic() - begun > CALM_S

        return self.prometheus.until(calm)

    def called_back(self, prompts: Sequence[str]) -> bool:
        """Whether the gateway has taken a callback of the job of each."""
        jobs = [job for prompt in prompts for job in asyncio.run(self.stack.jobs_of(prompt))]
        return len(jobs) == len(prompts) and all(job["callback_acknowledged"] for job in jobs)

    def run(self, work: Callable[[Onetake], Awaitable[None]]) -> None:
        async def opened() -> None:
            async with self.stack.client() as client:
                await work(client)

        asyncio.run(opened())

    def kill(self, part: str, number: signal.Signals) -> None:
        self.stack.running.devstack.kill_part(part, number)

    @contextmanager
    def stopped(self, part: str) -> Generator[None]:
        """As if its host hung."""
        self.kill(part, signal.SIGSTOP)
        try:
            yield
        finally:
            self.kill(part, signal.SIGCONT)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Generator[Watched]:
    program("prometheus")
    environ = bare_environ() | {"ONETAKE_TIME_SCALE": TIME_SCALE}
    late = f"{LOOPBACK}:{free_port(set())}"  # of a process that a fault starts
    with (
        running_stack(
            tmp_path_factory.mktemp("stack"),
            progress=SilentProgress(),
            environ=environ,
            ports="free",
            render_s=1.0,
            always_simulate=True,
            ephemeral=True,
            temporal_in_memory=True,
            metrics=True,
        ) as running,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name in ("TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE"):
            patch.setenv(name, running.environment[name])
        patch.setenv("LATE", late)
        stack = Stack(running, environ | running.environment)
        with prometheus(tmp_path_factory.mktemp("prometheus"), dict(running.metrics) | {"late": late}) as server:
            yield Watched(stack, server)


async def generations(client: Onetake, *wanted: tuple[str, str]) -> list[str]:
    """Start these routes and prompts; how each ended."""
    started = [await client.start(route=route, prompt=f"{prompt} {CANARY}", tenant=TENANT) for route, prompt in wanted]
    return [(await client.result(each.id, timeout_s=600)).status for each in started]


def test_a_calm_run_is_silent(watched: Watched) -> None:
    async def calm(client: Onetake) -> None:
        assert set(await generations(client, *((route, "a fox") for route in EVERYWHERE))) == {"completed"}
        async with watched.stack.database() as database:
            await database.row("select onetake.note_backup('base', 'b1')")

    watched.run(calm)
    assert watched.is_calm(), watched.prometheus.firing()
    watched.calm_at = time.time()


def test_vendors_do_what_alerts_are_about(watched: Watched) -> None:
    async def faults(client: Onetake) -> None:
        fails = [("gptimage2/wan-2.6/text-to-video", f"[[sim:fail=internal_error]] {number}") for number in range(5)]
        ends = await generations(
            client,
            *fails,
            ("apixo/wan-2.6/text-to-video", "[[sim:submit-reset]]"),
            ("apixo/wan-2.6/text-to-video", "[[sim:fail=internal_error]]"),
            ("gmi/wan-2.6/text-to-video", "[[sim:charge=200]]"),
            ("wan26ai/wan-2.6/text-to-video", "[[sim:charge=200]]"),
            ("aivideoapi/wan-2.6/text-to-video", "[[sim:reject=402]]"),
        )
        assert ends.count("failed") >= 7
        await client.start(route="gptimage2/wan-2.6/text-to-video", prompt=f"[[sim:asset-404]] {CANARY}", tenant=TENANT)

    watched.run(faults)


def test_a_gateway_whose_key_ends_soon_of_another_build_fires_both_alerts(watched: Watched) -> None:
    body = base64.urlsafe_b64encode(json.dumps({"exp": time.time() + 86_400}).encode()).decode().rstrip("=")
    env = watched.stack.environment | {
        "ONETAKE_METRICS_BIND": os.environ["LATE"],
        "TEMPORAL_API_KEY": f"e30.{body}.sig",
        "TEMPORAL_DEPLOYMENT_NAME": "onetake",
        "TEMPORAL_WORKER_BUILD_ID": "older",
    }
    argv = own_command("gateway", "--host", LOOPBACK, "--port", str(free_port(set())))
    with subprocess.Popen(argv, env=env, cwd=ROOT, stderr=subprocess.DEVNULL) as gateway:
        try:
            watched.fires("OnetakeCredentialEnds", "OnetakeVersionsMixed")
        finally:
            gateway.terminate()


def test_broken_workflow_code_fires_its_alerts(watched: Watched) -> None:
    argv = (sys.executable, "-m", "tests.deployment.broken", os.environ["TEMPORAL_ADDRESS"], os.environ["LATE"])
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as worker:
        try:
            watched.fires(
                "OnetakeNonDeterminism", "OnetakeWorkflowTaskFails", "OnetakePayloadTooLarge", "OnetakeSlotsFull"
            )
        finally:
            worker.kill()


def test_a_temporal_that_refuses_calls_fires_its_alert(watched: Watched, tmp_path: Path) -> None:
    temporal = OwnTemporal(tmp_path, "frontend.namespaceRPS.visibility=1")
    asyncio.run(temporal.start())
    argv = (sys.executable, "-m", "tests.deployment.refused", temporal.address, os.environ["LATE"])
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as client:
        try:
            watched.fires("OnetakeTemporalRefuses")
        finally:
            client.kill()
            temporal.kill()


def test_what_vendors_did_has_fired_the_alerts_on_money_and_vendors(watched: Watched) -> None:
    watched.fires(
        "OnetakeGenerationsFail",
        "OnetakeSubmissionsAmbiguous",
        "OnetakeSuspenseGrows",
        "OnetakeSuspenseOld",
        "OnetakeVendorPaused",
        "OnetakeVendorCostDrift",
        "OnetakePersistStuck",
        "OnetakeBackupOld",
        "OnetakeNothingEnds",
        since=watched.calm_at,
    )


def test_series_are_bounded_and_no_text_of_a_request_is_in_one(watched: Watched) -> None:
    for part, address in watched.stack.running.metrics.items():
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=300) as answer:
            text = answer.read().decode()
        lines = [line for line in text.splitlines() if line.startswith("onetake_")]
        assert 0 < len(lines) < MOST_SERIES, part
        assert CANARY not in text
        assert TENANT not in text
        documented = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8")
        names = {re.sub("_(bucket|sum|count)$", "", line.partition("{")[0]) for line in lines}
        assert {name for name in names if f"`{name}" not in documented} == set()


def test_temporal_that_hangs_makes_wakes_late(watched: Watched) -> None:
    prompts = [f"[[sim:delay=20]] {number} {CANARY}" for number in range(3)]

    async def rendering(client: Onetake) -> None:
        for route, prompt in zip(EVERYWHERE, prompts, strict=False):
            started = await client.start(route=route, prompt=prompt, tenant=TENANT)
            await in_phase(client, started.id, "generating")

    watched.run(rendering)
    with watched.stopped("temporal"):
        assert watched.prometheus.until(lambda: watched.called_back(prompts)), "the callbacks come meanwhile"
        time.sleep(20)  # so late is every wake at least
    watched.fires("OnetakeWakesLate")


def test_a_worker_that_hangs_makes_workflow_tasks_wait(watched: Watched) -> None:
    async def begun(client: Onetake) -> None:
        for number in range(8):
            prompt = f"{number} {CANARY}"
            await client.start(route="gptimage2/wan-2.6/text-to-video", prompt=prompt, tenant=TENANT)

    with watched.stopped("worker"):
        watched.run(begun)
        time.sleep(9)
    watched.fires("OnetakeWorkflowTasksWait")


def test_a_role_that_is_gone_fires_its_alert(watched: Watched) -> None:
    watched.stack.running.devstack.stop_part("media")
    watched.fires("OnetakeRoleMissing", "OnetakeNoPollers")


def test_temporal_that_is_gone_fires_its_alerts(watched: Watched) -> None:
    watched.kill("temporal", signal.SIGKILL)
    watched.fires("OnetakeTemporalAway", "OnetakeReconcilerSilent")


def callback(watched: Watched, token: str) -> int:
    """What the gateway answers to a callback."""
    address, headers = f"{watched.stack.gateway_url}/callbacks/apixo/{token}", {"Content-Type": "application/json"}
    request = urllib.request.Request(address, data=b"{}", headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_a_database_that_is_gone_fires_the_ledgers_alerts(watched: Watched) -> None:
    watched.stack.running.devstack.stop_part("postgres")
    assert [callback(watched, f"unknown-token-{number:04}") for number in range(3)] == [503, 503, 503]
    watched.fires("OnetakeCallbacksNotStored", "OnetakeLedgerErrors")


def test_each_alert_has_fired(watched: Watched) -> None:
    assert set(alerts()) - watched.prometheus.fired(watched.calm_at) == set()


def test_every_query_had_an_answer(watched: Watched) -> None:
    queries = {
        **panels(),
        **{rule.get("alert") or rule["record"]: without_comparison(rule["expr"]) for rule in rules()},
    }
    seconds = 3 * 3600  # more than the story takes
    silent = {
        name: text
        for name, text in queries.items()
        if not watched.prometheus.had(scaled(text.replace("$__rate_interval", "15s")), seconds)
    }
    assert not silent


def without_comparison(text: str) -> str:
    """What an alert reads, whether it is too much or not; what must be there at all stays."""
    return re.sub(r" [<>] (?!0(?![.\d]))[\d.]+( \* \d+)?", "", text)


def test_logs_have_the_end_of_each_phase_and_no_prompt(watched: Watched) -> None:
    text = "".join(watched.stack.running.devstack.log_of(part).read_text() for part in ("worker", "media", "gateway"))
    lines = [json.loads(line) for line in text.splitlines() if line]
    assert any(line["logger"].startswith("temporalio.core") for line in lines)  # Temporal was away
    ends = [line for line in lines if line["event"] == "phase_ended"]
    phases = {"validating", "reserving", "submitting", "resolving", "generating", "persisting", "settling", "done"}
    assert {end["phase"] for end in ends} == phases
    assert {end["tenant"] for end in ends} == {TENANT}
    assert CANARY not in text
