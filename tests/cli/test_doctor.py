"""Misconfigurations, each made alone: `onetake doctor` finds each by its code, and says what mends it.

It is over 400 lines because it is one table, with some lines for each misconfiguration.
"""

import asyncio
import base64
import ipaddress
import re
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import SecretStr
from temporalio.api.common.v1 import WorkerVersionCapabilities
from temporalio.api.deployment.v1 import WorkerDeploymentOptions
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.taskqueue.v1 import PollerInfo
from temporalio.client import Client

from onetake.cli.doctor import bucket, engine, gateway, ledger, machine, table, vendors, versions
from onetake.cli.doctor.findings import Finding
from onetake.cli.doctor.patience import Look, bounded
from onetake.cli.doctor.setup import Setup
from onetake.core.errors import OnetakeError
from onetake.core.names import SearchAttribute
from onetake.core.settings import Settings
from onetake.engine.temporal import connect, ensure_search_attributes
from onetake.gateway.whoami import answer_whoami
from onetake.ledger import Database
from onetake.ledger.vendors import PostgresVendors
from onetake.operations.versions import (
    BuildStanding,
    Queue,
    Standing,
    doubts_of_codes,
    doubts_of_standing,
    versioned_queues,
)
from tests.media.storage.parts import Server
from tests.providers.sockets import answer, answering, free_port, own_certificate, serving
from tests.servers import Servers

PLAIN = {"insecure_plaintext_history": True}
KEY = base64.b64encode(bytes(32)).decode()
CODES_OF_TABLE = 20
DOCUMENT = Path(__file__).parents[2] / "docs/reference/doctor.md"


async def found_by(look: Look, settings: dict[str, Any]) -> dict[str, Finding]:
    """What one examination finds, by code; without what is fine, or fine and slow on a busy machine."""
    async with Setup(Settings.model_validate(settings)) as setup:
        findings = await bounded("part", ("ONETAKE_PART",), look, setup)
    return {each.code: each for each in findings if each.verdict != "fine" and each.code != "slow"}


def is_told(found: dict[str, Finding], code: str, *fix: str, verdict: str = "broken") -> None:
    """It is found alone, with what mends it, and fails the command when it is broken."""
    assert list(found) == [code], found
    finding = found[code]
    assert (finding.verdict, bool(finding.exit_code)) == (verdict, verdict == "broken")
    assert all(words in finding.fix for words in fix), finding.fix


# -- Keys of the codec -------------------------------------------------------------------------------------------------


async def test_1_a_codec_key_that_is_missing() -> None:
    is_told(await found_by(engine.codec, {}), "codec_key_missing", "ONETAKE_CODEC_KEY", "openssl rand -base64 32")


@pytest.mark.parametrize(
    "keys",
    [{"codec_key": "c2hvcnQ="}, {"codec_key": "no base64!"}, {"codec_key": KEY, "codec_old_keys": "c2hvcnQ="}],
    ids=["short", "no base64", "an old one"],
)
async def test_2_a_codec_key_that_is_none(keys: dict[str, str]) -> None:
    found = await found_by(engine.codec, keys)
    is_told(found, "codec_key_malformed", "ONETAKE_CODEC_")
    assert "c2hvcnQ" not in str(found)


# -- Temporal ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(servers: Servers) -> dict[str, str]:
    """A namespace and a bucket of this file's own."""
    return servers.of_ones_own("doctor")


@asynccontextmanager
async def temporal_at(place: dict[str, str], patch: pytest.MonkeyPatch, namespace: str = "") -> AsyncGenerator[Client]:
    patch.setenv("TEMPORAL_ADDRESS", place["TEMPORAL_ADDRESS"])
    patch.setenv("TEMPORAL_NAMESPACE", namespace or place["TEMPORAL_NAMESPACE"])
    yield await connect(Settings.model_validate(PLAIN))


async def test_3_a_codec_key_that_is_not_the_one_that_wrote_the_open_histories(
    place: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with temporal_at(place, monkeypatch):
        writer = await connect(Settings.model_validate({"codec_key": KEY}))
        name = f"gen/doctor/{secrets.token_hex(4)}"
        run = await writer.start_workflow("Generation", "x", id=name, task_queue="doctor-nobody")
        await _until_listed(writer, name)
        other = base64.b64encode(secrets.token_bytes(32)).decode()
        is_told(await found_by(engine.codec, {"codec_key": other}), "codec_key_differs", "ONETAKE_CODEC_OLD_KEYS")
        assert await found_by(engine.codec, {"codec_key": other, "codec_old_keys": KEY}) == {}
        await run.terminate()


async def _until_listed(client: Client, workflow_id: str) -> None:
    async with asyncio.timeout(240):
        while not (await client.count_workflows(f'WorkflowId = "{workflow_id}"')).count:
            await asyncio.sleep(0.1)


async def test_4_a_namespace_that_does_not_exist(place: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    async with temporal_at(place, monkeypatch, "not-there"):
        found = await found_by(engine.temporal, PLAIN)
    is_told(found, "namespace_missing", "temporal operator namespace create --namespace not-there")


async def test_5_a_namespace_that_keeps_runs_for_less_than_a_recovery_may_need(
    place: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with temporal_at(place, monkeypatch) as client:
        await ensure_search_attributes(client)
        assert await found_by(engine.temporal, PLAIN) == {}
        monkeypatch.setattr("workflows.options.LATE_WINDOW_S", 86_401.0)
        found = await found_by(engine.temporal, PLAIN)
    is_told(found, "retention_short", f"namespace update --namespace {place['TEMPORAL_NAMESPACE']} --retention 720h")


async def test_6_and_7_search_attributes_that_are_missing_or_of_another_type(
    servers: Servers, place: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = (await servers.namespace(f"doctor-names-{secrets.token_hex(4)}")).namespace
    async with temporal_at(place, monkeypatch, bare) as client:
        is_told(await found_by(engine.temporal, PLAIN), "search_attribute_missing", "search-attribute create")
        kinds = {SearchAttribute.PHASE: IndexedValueType.INDEXED_VALUE_TYPE_INT}
        request = AddSearchAttributesRequest(namespace=client.namespace, search_attributes=kinds)
        await client.operator_service.add_search_attributes(request)
        found = await found_by(engine.temporal, PLAIN)
    is_told(found, "search_attribute_type", "search-attribute remove", "search-attribute create")
    assert SearchAttribute.PHASE in found["search_attribute_type"].found


async def test_8_a_queue_that_nobody_serves_is_named(place: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    async with temporal_at(place, monkeypatch):
        found = await found_by(engine.workers, PLAIN | {"apixo_api_key": "key"})
    is_told(found, "queue_without_poller", "onetake worker")
    named = found["queue_without_poller"].found
    assert all(queue in named for queue in ("onetake-submit-apixo", "onetake-inputs", "onetake-sweep"))


async def test_19_a_schedule_that_is_missing(place: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    async with temporal_at(place, monkeypatch):
        is_told(await found_by(engine.schedule, PLAIN), "schedule_missing", "onetake worker")


# -- Versions of workers -----------------------------------------------------------------------------------------------

SERVED = dict.fromkeys(versioned_queues("onetake"), 1)
NOBODY = dict.fromkeys(SERVED, 0)
INPUTS = Queue("onetake-inputs", "activity")
OLD = BuildStanding("b1", "draining", NOBODY, open_runs=0)
NEW = BuildStanding("b2", "current", SERVED, open_runs=7)
HEALTHY = Standing("onetake", "b2", None, 0, (NEW, OLD))


def _polled_by(*codes: str) -> list[PollerInfo]:
    now = Timestamp()
    now.GetCurrentTime()
    options = [WorkerDeploymentOptions(deployment_name="onetake", build_id=code) for code in codes]
    return [PollerInfo(last_access_time=now, deployment_options=each) for each in options]


def test_9_two_builds_on_a_queue_without_versions() -> None:
    queue = Queue("onetake-media-apixo", "activity")
    assert doubts_of_codes({queue: _polled_by("c1", "c1", "")}) == []
    (found,) = map(versions.of_doubt, doubts_of_codes({queue: _polled_by("c1", "c2"), INPUTS: _polled_by("c1")}))
    assert (found.code, found.verdict) == ("builds_mixed", "warning")
    assert "onetake-media-apixo" in found.found
    assert "onetake-inputs" not in found.found


def test_9_two_builds_that_serve_one_queue_by_workflows_and_activities() -> None:
    """A poller says its build in one of two places."""
    older = PollerInfo(worker_version_capabilities=WorkerVersionCapabilities(build_id="c2"))
    older.last_access_time.GetCurrentTime()
    polled = {Queue("onetake", "workflow"): _polled_by("c1"), Queue("onetake", "activity"): [older]}
    assert [each.kind for each in doubts_of_codes(polled)] == ["two_codes"]


@pytest.mark.parametrize(
    ("standing", "code", "fix"),
    [
        (HEALTHY, "", ""),
        (replace(HEALTHY, builds=()), "", ""),
        (replace(HEALTHY, current=None, builds=()), "", ""),
        (replace(HEALTHY, current=None, builds=(OLD, NEW)), "version_not_current", "onetake deploy current b2"),
        (replace(HEALTHY, current=None, builds=(OLD,)), "version_not_current", "onetake deploy current b1"),
        (
            replace(HEALTHY, builds=(replace(NEW, pollers=SERVED | {INPUTS: 0}), replace(OLD, pollers=SERVED))),
            "current_lacks_queue",
            "make another build current",
        ),
        (replace(HEALTHY, builds=(replace(NEW, pollers=NOBODY, open_runs=0), OLD)), "current_lacks_queue", "--role"),
        (
            replace(HEALTHY, builds=(NEW, replace(OLD, state="ramping"))),
            "current_lacks_queue",
            "onetake worker --role orchestrate",
        ),
        (replace(HEALTHY, builds=(replace(NEW, pollers=NOBODY), OLD)), "version_without_pollers", "workers of b2"),
        (replace(HEALTHY, builds=(NEW, replace(OLD, open_runs=3))), "version_without_pollers", "workers of b1"),
        (
            replace(HEALTHY, builds=(NEW, replace(OLD, state="drained", pollers=NOBODY | {INPUTS: 1}))),
            "drained_version_polled",
            "Stop its workers",
        ),
        (replace(HEALTHY, builds=(NEW, replace(OLD, state="drained", open_runs=3))), "", ""),
    ],
    ids=[
        "healthy",
        "without builds",
        "unknown",
        "10",
        "10 nobody polls",
        "11",
        "11 nobody polls",
        "11 a ramp",
        "12 open runs at the current one",
        "12 open runs",
        "12 drained",
        "12 drained, and its runs have yet to move",
    ],
)
def test_10_to_12_versions(standing: Standing, code: str, fix: str) -> None:
    found = [versions.of_doubt(each) for each in doubts_of_standing(standing)]
    assert [each.code for each in found] == ([code] if code else [])
    assert all(fix in each.fix for each in found)


# -- The database ------------------------------------------------------------------------------------------------------


async def test_13_a_database_at_an_older_revision_or_without_tables(database: Database, database_url: str) -> None:
    given = {"database_url": database_url}
    assert await found_by(ledger.tables, given) == {}
    await database.row("delete from onetake.alembic_version")
    is_told(await found_by(ledger.tables, given), "database_older", "onetake migrate")
    await database.row("drop table onetake.alembic_version")
    is_told(await found_by(ledger.tables, given), "database_older", "onetake migrate")


async def test_14_a_database_at_a_newer_revision(database: Database, database_url: str) -> None:
    await database.row("update onetake.alembic_version set version_num = '9999'")
    is_told(
        await found_by(ledger.tables, {"database_url": database_url}), "database_newer", "deploy", verdict="warning"
    )


async def test_15_more_connections_than_the_server_gives(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"database_url": database_url, "database_pool": 32}
    monkeypatch.setattr(ledger, "_processes", _answers(2))
    assert await found_by(ledger.connections, given) == {}
    monkeypatch.setattr(ledger, "_processes", _answers(4))
    found = await found_by(ledger.connections, given)
    is_told(found, "connections_too_many", "max_connections", "ONETAKE_DATABASE_POOL", verdict="warning")
    assert "4 processes may take 65 connections each" in found["connections_too_many"].found


def _answers(number: int) -> Callable[..., Awaitable[int]]:
    async def answers(*_: object) -> int:
        return number

    return answers


class Pooled:
    """A session through a transaction pooler: it has another process when one is busy."""

    def __init__(self, processes: list[int]) -> None:
        self._processes = processes

    async def fetchval(self, *_: object) -> int:
        return self._processes[0]

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[None]:
        self._processes.append(self._processes.pop(0))
        yield


async def test_15_a_pooler_that_gives_each_transaction_another_session(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    processes = [1, 2]
    monkeypatch.setattr(ledger, "_session", _answered(Pooled(processes)))
    monkeypatch.setattr(ledger, "_processes", _answers(1))
    is_told(await found_by(ledger.connections, {"database_url": database_url}), "transaction_pooler", "pool_mode")


def _answered(session: Pooled) -> Callable[..., Awaitable[Pooled]]:
    async def answered(*_: object) -> Pooled:
        return session

    return answered


async def test_19_a_pass_that_is_too_old(database: Database, database_url: str) -> None:
    given = {"database_url": database_url}
    await database.row("select onetake.note_pass(1, 0, null)")
    assert await found_by(ledger.passes, given) == {}
    await database.row("update onetake.pass set good_at = good_at - interval '301 seconds'")
    is_told(await found_by(ledger.passes, given), "passes_old", "log of `onetake worker`")


async def test_a_backup_that_did_not_come_is_missed(database: Database, database_url: str) -> None:
    given = {"database_url": database_url}
    is_told(await found_by(ledger.backups, given), "backup_not_noted", "base.sh", verdict="absent")
    await database.row("select onetake.note_backup('base', 'monday')")
    assert await found_by(ledger.backups, given) == {}
    await database.row("update onetake.backup set ended_at = ended_at - interval '27 hours'")
    is_told(await found_by(ledger.backups, given), "backup_old", "base.sh", verdict="warning")


async def test_backups_without_the_log_between_them_are_told(database: Database, database_url: str) -> None:
    given = {"database_url": database_url}
    for kind in ("base", "archive"):
        await database.row(f"select onetake.note_backup('{kind}', 'monday')")
    assert await found_by(ledger.backups, given) == {}
    await database.row("update onetake.backup set ended_at = ended_at - interval '27 hours' where kind = 'archive'")
    is_told(await found_by(ledger.backups, given), "archive_old", "archive_mode", verdict="warning")


async def test_the_sessions_of_doctor_cannot_write(database: Database, database_url: str) -> None:
    async with Setup(Settings.model_validate({"database_url": database_url})) as setup:
        reading = await setup.database()
        with pytest.raises(OnetakeError, match="25006"):
            await reading.row("select onetake.note_backup('base', 'x')")
    assert await database.rows("select from onetake.backup") == []


# -- The bucket --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(servers: Servers, place: dict[str, str]) -> Server:
    name = place["ONETAKE_S3_BUCKET"]
    return Server(servers.addresses.s3_endpoint, servers.keys, name, servers.objects / name)


def at(store: Server, **others: object) -> dict[str, Any]:
    given = {"s3_endpoint": store.endpoint, "s3_bucket": store.bucket, "s3_secure": False}
    keys = {"s3_access_key": SecretStr(store.keys.access_key), "s3_secret_key": SecretStr(store.keys.secret_key)}
    return given | keys | others


async def test_16_a_bucket_that_is_missing_or_not_writable(store: Server) -> None:
    assert await found_by(bucket.bucket, at(store)) == {}
    missing = await found_by(bucket.bucket, at(store, s3_bucket="not-there"))
    is_told(missing, "bucket_missing", "not-there")
    wrong = await found_by(bucket.bucket, at(store, s3_secret_key="wrong"))
    is_told(wrong, "bucket_not_writable", "ONETAKE_S3_ACCESS_KEY")
    assert {each.exit_code for each in (*missing.values(), *wrong.values())} == {2}, "no time mends a setting"


@pytest.mark.parametrize(("minutes", "words"), [(6, "6 min ahead of"), (-90, "90 min behind")])
async def test_16_a_bucket_whose_clock_is_off(store: Server, minutes: int, words: str) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(minutes=minutes), usegmt=True)
    async with serving(answering(answer(403, b"", f"date: {date}"))) as skewed:
        found = await found_by(bucket.bucket, at(store, s3_endpoint=skewed.url))
    is_told(found, "bucket_clock", "NTP")
    assert words in found["bucket_clock"].found


async def test_17_a_public_endpoint_with_another_certificate_or_nothing(store: Server, tmp_path: Path) -> None:
    assert await found_by(bucket.links, at(store)) == {}
    assert await found_by(bucket.links, at(store, s3_public_endpoint=store.endpoint)) == {}
    async with serving(answering(answer(200, b"")), tls=own_certificate(tmp_path)) as strange:
        found = await found_by(bucket.links, at(store, s3_public_endpoint=strange.url))
    is_told(found, "public_endpoint_certificate", "certificate")
    nothing = await found_by(bucket.links, at(store, s3_public_endpoint=f"http://127.0.0.1:{free_port()}"))
    is_told(nothing, "public_endpoint_unreachable", "ONETAKE_S3_PUBLIC_ENDPOINT")


# -- Callbacks and vendors ---------------------------------------------------------------------------------------------

REAL = {"gmi_api_key": "key"}


async def test_18_an_address_for_callbacks_that_is_not_https() -> None:
    given = REAL | {"callback_base_url": "http://callbacks.example"}
    is_told(await found_by(gateway.callbacks, given), "callback_not_https", "TLS")


async def test_18_an_address_for_callbacks_that_is_private(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "_addresses", _resolving("10.1.2.3", "fd00::1"))
    given = REAL | {"callback_base_url": "https://callbacks.example"}
    is_told(await found_by(gateway.callbacks, given), "callback_private", "public address")


def _resolving(*addresses: str) -> Callable[[str], Awaitable[list[object]]]:
    async def resolving(_: str) -> list[object]:
        return [ipaddress.ip_address(each) for each in addresses]

    return resolving


async def test_18_an_address_for_callbacks_that_a_stranger_serves(database_url: str, tmp_path: Path) -> None:
    given = {"database_url": database_url}
    async with serving(answering(answer(200, b'{"status":"ok"}'))) as stranger:
        found = await found_by(gateway.callbacks, given | {"callback_base_url": stranger.url})
    is_told(found, "callback_not_ours", "ONETAKE_CALLBACK_BASE_URL")
    async with serving(answering(answer(200, b"")), tls=own_certificate(tmp_path)) as strange:
        found = await found_by(gateway.callbacks, given | {"callback_base_url": strange.url})
    is_told(found, "callback_certificate", "certificate")


async def test_20_a_route_without_a_price_and_a_key_for_a_vendor_that_is_paused(
    database: Database, database_url: str
) -> None:
    async with serving(answering(answer(200, b""))) as somebody:
        host = somebody.url.removeprefix("http://")
        given = {"gmi_api_key": "key", "gmi_base_url": somebody.url, "trusted_hosts": host}
        found = await found_by(vendors.vendor("gmi"), given)
        is_told(found, "route_without_price", "ONETAKE_PRICES", verdict="warning")
    given |= {"database_url": database_url}
    assert await found_by(vendors.pauses, given) == {}
    for vendor in ("gmi", "apixo"):
        await _pause(database, vendor)
    found = await found_by(vendors.pauses, given)
    is_told(found, "vendor_paused", "onetake vendors reopen gmi", verdict="warning")


async def _pause(database: Database, vendor: str) -> None:
    assert await PostgresVendors(database).states() is not None
    await database.row(
        "insert into onetake.circuit (vendor, paused_code, paused_since) values ($1, 'vendor_account_empty', now())",
        vendor,
    )


# -- This machine ------------------------------------------------------------------------------------------------------


async def test_beyond_what_only_tests_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await found_by(machine.process, REAL) == {}
    is_told(await found_by(machine.process, REAL | {"time_scale": 0.5}), "time_scaled", "ONETAKE_TIME_SCALE")
    monkeypatch.setenv("ONETAKE_CRASH", "submit.after_send:1")
    is_told(await found_by(machine.process, REAL), "crash_armed", "ONETAKE_CRASH")


async def test_beyond_a_port_for_metrics_that_somebody_else_has(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(answering(answer(200, b"<html>welcome</html>"))) as stranger:
        monkeypatch.setenv("ONETAKE_METRICS_BIND", f"0.0.0.0:{stranger.port}")
        is_told(await found_by(machine.process, {}), "metrics_port_taken", "ONETAKE_METRICS_BIND")
    async with serving(answering(answer(200, b"# HELP x\ntemporal_num_pollers 1\n"))) as ours:
        monkeypatch.setenv("ONETAKE_METRICS_BIND", f"0.0.0.0:{ours.port}")
        assert await found_by(machine.process, {}) == {}
    monkeypatch.setenv("ONETAKE_METRICS_BIND", f"0.0.0.0:{free_port()}")
    assert await found_by(machine.process, {}) == {}


async def test_beyond_a_disk_without_room_for_a_clip(tmp_path: Path) -> None:
    given = {"spool_dir": str(tmp_path), "spool_reserve_bytes": 0}
    assert await found_by(machine.spool, given) == {}
    is_told(await found_by(machine.spool, given | {"asset_max_bytes": 1 << 60}), "spool_small", verdict="warning")
    is_told(await found_by(machine.spool, given | {"spool_reserve_bytes": 1 << 60}), "spool_full")


async def test_beyond_a_spool_that_is_not_there(tmp_path: Path) -> None:
    found = await found_by(machine.spool, {"spool_dir": str(tmp_path / "nope")})
    is_told(found, "spool_missing", "ONETAKE_SPOOL_DIR")
    assert found["spool_missing"].exit_code == 2
    assert "there is no folder" in found["spool_missing"].found


async def test_a_gateway_answers_what_only_its_database_knows(database: Database) -> None:
    app = answer_whoami(FastAPI(), database)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://gateway") as http:
        nonce = secrets.token_hex(16)
        said = await http.get(f"/whoami/{nonce}")
        row = await database.answer("select onetake.whoami($1) as answer", nonce)
        assert (said.status_code, said.text) == (200, row["answer"])
        assert (await http.get("/whoami/short")).status_code == 404
        await database.row("update onetake.secret set value = 'another'")
        assert (await http.get(f"/whoami/{nonce}")).text != said.text
        await database.row("drop table onetake.secret")
        assert (await http.get(f"/whoami/{nonce}")).status_code == 503


class _Slow:
    """A database that answers when it may; how many ask at once."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.asking = self.most = 0

    async def answer(self, *_: object) -> dict[str, str]:
        self.asking += 1
        self.most = max(self.most, self.asking)
        try:
            await self.may_answer.wait()
        finally:
            self.asking -= 1
        return {"answer": "ours"}


async def test_whoever_asks_a_gateway_takes_one_connection_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = _Slow()
    app = answer_whoami(FastAPI(), cast("Database", slow))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://gateway") as http:
        ask = partial(http.get, f"/whoami/{secrets.token_hex(16)}")
        monkeypatch.setattr("onetake.gateway.whoami.ANSWER_S", 0.2)
        answers = await asyncio.gather(*(ask() for _ in range(20)))
        assert {each.status_code for each in answers} == {503}
        monkeypatch.setattr("onetake.gateway.whoami.ANSWER_S", 240)
        slow.may_answer.set()
        answers = await asyncio.gather(*(ask() for _ in range(20)))
        assert {each.status_code for each in answers} == {200}
    assert slow.most == 1


def test_every_code_is_documented() -> None:
    sources = "".join(path.read_text() for path in Path(table.__file__).parent.glob("*.py"))
    codes = set(re.findall(r'(?:broken|warning|absent)\(\s*"([a-z_]+)"|return "(bucket_[a-z_]+)"', sources))
    listed = re.findall(r"^\| `([a-z_]+)` \|", DOCUMENT.read_text(), re.MULTILINE)
    assert {first or second for first, second in codes} == set(listed)
    assert len(listed) == len(set(listed)) > 2 * CODES_OF_TABLE


def test_every_part_is_asked_once() -> None:
    parts = [part for part, _, _ in (*table.BEFORE_VENDORS, *table.AFTER_VENDORS)]
    assert len(parts) == len(set(parts)) > CODES_OF_TABLE - 1
