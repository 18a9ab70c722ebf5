"""The endpoint that a real runtime serves: its names, its labels, its zeros, and a port that is taken."""

import asyncio
import base64
import json
import logging
import math
import re
import socket
import urllib.request
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from temporalio.client import Client
from temporalio.common import MetricMeter
from temporalio.runtime import Runtime

from onetake.core.errors import Refused
from onetake.core.names import VENDOR_NAMES
from onetake.core.settings import Settings
from onetake.dev.devstack.ports import LOOPBACK, free_port
from onetake.engine.cloud import follow_api_key
from onetake.metrics import OTHER, OUTCOMES, RECEIVED, instruments, record_into
from onetake.telemetry import credentials, start_telemetry
from tests.faults.table import expect

MOST_SERIES = 2_000
ROUTE = "apixo/wan-2.6/text-to-video"


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Generator[str]:
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "ns")
    yield f"{LOOPBACK}:{free_port(set())}"
    record_into(MetricMeter.noop, ())


_runtimes: list[Runtime] = []  # a runtime that nobody holds serves nothing


def serve(settings: Settings, roles: list[str]) -> None:
    _runtimes.append(start_telemetry(settings, roles))


def scrape(address: str) -> list[str]:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
        return [line for line in answer.read().decode().splitlines() if not line.startswith("#")]


def test_counters_begin_at_zero_and_names_have_their_suffixes(address: str) -> None:
    serve(Settings(metrics_bind=address), ["orchestrate", "vendors", "media", "gateway"])
    found = scrape(address)
    for name, labels in (
        ("onetake_submissions_total", 'outcome="ambiguous",vendor="apixo"'),
        ("onetake_callbacks_total", 'result="not_stored",vendor="apixo"'),
        ("onetake_money_micros_total", 'event="suspense"'),
        ("onetake_reconciler_found_total", 'found="run_closed"'),
        ("onetake_database_errors_total", 'sqlstate_class="08"'),
    ):
        assert f'{name}{{{labels},temporal_namespace="ns"}} 0' in found
    ends = [line for line in found if line.startswith("onetake_generations_ended_total")]
    assert len(ends) == 3 * (len(VENDOR_NAMES) + 1)
    assert all(line.endswith(" 0") for line in ends)
    assert 'onetake_assets_bytes_total{temporal_namespace="ns"} 0' in found
    instruments().phase_ended("generating", "apixo", 2.0)
    instruments().woken(0.5)
    assert {line.partition("{")[0] for line in scrape(address) if "_bucket" in line} == {
        "onetake_phase_duration_seconds_bucket",
        "onetake_callback_wake_lag_seconds_bucket",
    }


@pytest.mark.parametrize(
    ("target", "error", "counted"),
    [
        ("temporalio_client::retry", 'Status { code: ResourceExhausted, message: "namespace rate limit exceeded" }', 1),
        ("temporalio_client::retry", 'Status { code: Unavailable, message: "code: ResourceExhausted" }', 0),
        ("temporalio_sdk_core::worker", 'Status { code: ResourceExhausted, message: "" }', 0),
        ("temporalio_client::retry", None, 0),
    ],
)
def test_calls_that_temporal_goes_on_refusing_are_counted(
    address: str, target: str, error: str | None, counted: int
) -> None:
    serve(Settings(metrics_bind=address), ["gateway"])
    record = logging.makeLogRecord({"name": "temporalio.core", "levelno": logging.WARNING, "msg": "retried"})
    record.temporal_log = SimpleNamespace(target=target, fields={} if error is None else {"error": error})
    logging.getLogger("temporalio.core").handle(record)
    logging.getLogger("temporalio.core").handle(logging.makeLogRecord({"levelno": logging.WARNING}))
    assert f'onetake_temporal_refusals_total{{temporal_namespace="ns"}} {counted}' in scrape(address)


def test_no_event_makes_a_new_series_of_a_counter_that_alerts_read(address: str) -> None:
    def series() -> set[str]:
        read = "onetake_(callbacks|database_errors|generations_ended|submissions)_total"
        return {line.rpartition(" ")[0] for line in scrape(address) if re.match(read, line)}

    serve(Settings(metrics_bind=address), ["orchestrate", "vendors", "media", "gateway"])
    at_start, told = series(), instruments()
    for vendor in (*VENDOR_NAMES, "unknown"):
        for end in ("completed", "failed", "canceled"):
            told.generation_ended(f"{vendor}/wan-2.6/text-to-video", end, "vendor_failed")
        for outcome in OUTCOMES:
            told.submitted(vendor, outcome)
        for result in RECEIVED:
            told.callback(vendor, result)
    for state in ("08006", "57P01", "40001", "P0001"):
        told.database_failed(state)
    assert series() == at_start


def test_no_label_takes_a_word_of_somebody_elses(address: str) -> None:
    serve(Settings(metrics_bind=address), ["orchestrate"])
    for number in range(3000):
        text = f"CANARY-{number}"
        instruments().generation_ended(f"{text}/{text}/{text}", "failed", text)
        instruments().phase_ended("submitting", text, 1.0)
        instruments().callback(text, "refused")
        instruments().database_failed(text)
    found = scrape(address)
    (ended,) = {line for line in found if line.startswith("onetake_generations_total{") and not line.endswith(" 0")}
    seen = OTHER if f'code="{OTHER}",outcome="failed",route="{OTHER}",vendor="{OTHER}"' in ended else ended
    expect("S71", sees="a text" if "CANARY" in "".join(found) else seen, ledger=(), jobs=0, end="label")
    assert len(found) < MOST_SERIES


def test_all_that_labels_allow_is_bounded(address: str) -> None:
    serve(Settings(metrics_bind=address), ["orchestrate", "vendors", "media", "gateway"])
    for vendor in (*VENDOR_NAMES, OTHER):
        for phase in ("validating", "reserving", "submitting", "resolving", "generating", "persisting", "settling"):
            instruments().phase_ended(phase, vendor, 1.0)
    instruments().open({})
    instruments().vendors((), {})
    instruments().backups({})
    instruments().books(0, 0, 0, 0.0)
    assert len(scrape(address)) < MOST_SERIES / 2  # the rest is for codes of ends


def test_versions_are_tags_of_every_series(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_DEPLOYMENT_NAME", "space/onetake")
    monkeypatch.setenv("TEMPORAL_WORKER_BUILD_ID", "b1")
    serve(Settings(metrics_bind=address), ["media"])
    tags = 'temporal_worker_deployment_name="space_onetake"', 'temporal_worker_build_id="b1"'
    assert all(tag in line for line in scrape(address) for tag in tags)


@pytest.mark.parametrize(("set_to", "shown"), [(900.0, "900"), (0.0, "0")])
def test_who_orchestrates_shows_how_often_passes_are_made(address: str, set_to: float, shown: str) -> None:
    serve(Settings(metrics_bind=address, reconcile_every_s=set_to), ["orchestrate"])
    assert f'onetake_reconciler_every{{temporal_namespace="ns"}} {shown}' in scrape(address)


def test_a_taken_port_is_a_clear_error(address: str) -> None:
    host, _, port = address.partition(":")
    with socket.create_server((host, int(port))), pytest.raises(Refused, match=re.escape(address)) as caught:
        start_telemetry(Settings(metrics_bind=address), ["media"])
    assert caught.value.code == "settings_invalid"


@pytest.mark.parametrize("address", ["9464", "everywhere:9464", "127.0.0.1:no"])
def test_an_address_that_is_none_is_a_clear_error(address: str) -> None:
    with pytest.raises(Refused, match="ONETAKE_METRICS_BIND"):
        start_telemetry(Settings(metrics_bind=address), ["media"])


def test_without_an_address_nothing_is_served_and_nothing_counted() -> None:
    serve(Settings(), ["media"])
    instruments().submitted("apixo", "accepted")


def certificate(ends: datetime) -> str:
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "t")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(ends - timedelta(days=30)).not_valid_after(ends)
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def key(ends: int) -> str:
    body = base64.urlsafe_b64encode(json.dumps({"exp": ends}).encode()).decode().rstrip("=")
    return f"e30.{body}.sig"


def test_when_credentials_end_is_read_from_them(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = datetime(2027, 1, 1, tzinfo=UTC)
    monkeypatch.setenv("TEMPORAL_API_KEY", key(1_800_000_000))
    monkeypatch.setenv("TEMPORAL_TLS_CLIENT_CERT_DATA", certificate(ends))
    monkeypatch.setenv("TEMPORAL_TLS_CLIENT_KEY_DATA", "unused")
    assert credentials() == {"api_key": 1_800_000_000.0, "client_certificate": ends.timestamp()}


def test_a_credential_that_says_nothing_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEMPORAL_API_KEY", "plain")
    assert credentials() == {}


def shown_end(address: str) -> float:
    (line,) = (line for line in scrape(address) if line.startswith('onetake_credential_ends{credential="api_key"'))
    return float(line.rpartition(" ")[2])


async def test_a_key_that_is_a_file_shows_its_end_and_that_of_the_next_one(
    address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "temporal_api_key"
    file.write_text(key(1_800_000_000))
    monkeypatch.setenv("ONETAKE_SECRETS_DIR", str(tmp_path))
    serve(Settings(metrics_bind=address), ["vendors"])
    assert shown_end(address) == 1_800_000_000
    client = SimpleNamespace(api_key=key(1_800_000_000))
    following = asyncio.create_task(follow_api_key(cast("Client", cast("Any", client)), every_s=0.01))
    await asyncio.sleep(0)  # it begins with the file as it is
    for written, ends in ((key(1_900_000_000), 1_900_000_000), ("plain", math.inf)):
        file.write_text(written)
        async with asyncio.timeout(240):
            while client.api_key != written:
                await asyncio.sleep(0.01)
        assert shown_end(address) == ends
    following.cancel()
