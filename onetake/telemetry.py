"""The one runtime of a process: Core's lines in our log, and its metrics with ours at one address when asked for."""

import logging
import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from temporalio.envconfig import ClientConfig
from temporalio.runtime import (
    LogForwardingConfig,
    LoggingConfig,
    PrometheusConfig,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)

from onetake.core.errors import Refused
from onetake.core.settings import Settings
from onetake.engine.cloud import api_key, end_of_key
from onetake.engine.schedule import pass_every_s
from onetake.engine.temporal import namespace_in_use
from onetake.metrics import BUCKETS, instruments, record_into
from providers.catalogue import load_catalogue

# Through our own log, which masks links and keys: Core's lines quote failures.
CORE: Final = logging.getLogger("temporalio.core")
LOGGING: Final = LoggingConfig(
    filter=TelemetryFilter(core_level="WARN", other_level="ERROR"),
    forwarding=LogForwardingConfig(logger=CORE),
)
RETRIES: Final = "temporalio_client::retry"
REFUSED: Final = "Status { code: ResourceExhausted,"


def start_telemetry(settings: Settings, roles: Collection[str]) -> Runtime:
    """The runtime for this process's client. `ONETAKE_METRICS_BIND` says where it exports; empty exports nothing.

    Raises Refused(`settings_invalid`) for an address that is taken or is none.
    """
    if not settings.metrics_bind:
        return Runtime(telemetry=TelemetryConfig(logging=LOGGING))
    runtime = _exporting(settings.metrics_bind)
    every_s = pass_every_s(settings) if settings.reconcile_every_s > 0 else 0.0
    record_into(runtime.metric_meter, load_catalogue().route_names()).begin(roles, credentials(), every_s)
    CORE.addFilter(count_refusals)
    return runtime


def count_refusals(record: logging.LogRecord) -> bool:
    """Count calls that Temporal goes on refusing for their rate; every line stays. Core's own counter of failed calls
    lacks them, and its log has them from a call's fifth repetition on."""
    line = getattr(record, "temporal_log", None)
    if line is not None and line.target == RETRIES and str(line.fields.get("error", "")).startswith(REFUSED):
        instruments().temporal_refused()
    return True


def _exporting(address: str) -> Runtime:
    metrics = PrometheusConfig(
        bind_address=address,
        counters_total_suffix=True,
        unit_suffix=True,
        durations_as_seconds=True,
        histogram_bucket_overrides=BUCKETS,
    )
    config = TelemetryConfig(logging=LOGGING, metrics=metrics, global_tags=_tags(), attach_service_name=False)
    try:
        return Runtime(telemetry=config)
    except ValueError:
        problem = (
            f"Metrics cannot be served on ONETAKE_METRICS_BIND={address}: it is taken, or no IP:PORT of this host."
        )
    raise Refused("settings_invalid", problem)


def _tags() -> dict[str, str]:
    """What autoscalers tell the versions of workers by, where there are versions."""
    name, build = os.environ.get("TEMPORAL_DEPLOYMENT_NAME", ""), os.environ.get("TEMPORAL_WORKER_BUILD_ID", "")
    versioned = {"temporal_worker_deployment_name": name.replace("/", "_"), "temporal_worker_build_id": build}
    return {"temporal_namespace": namespace_in_use()} | (versioned if name and build else {})


# -- When credentials end ----------------------------------------------------------------------------------------------


def credentials() -> dict[str, float]:
    """When the credentials that `connect` would use end, in Unix seconds; without those that say nothing about it.

    Raises Refused(`settings_invalid`) for a key's file that cannot be read.
    """
    config: Mapping[str, Any] = {}
    with suppress(RuntimeError, ValueError, OSError):
        config = ClientConfig.load_client_connect_config()
    tls = config.get("tls")
    found = {
        "client_certificate": _end_of_certificate(getattr(tls, "client_cert", None)),
        "api_key": end_of_key((config.get("api_key") or "").strip() or api_key()),
    }
    return {name: ends for name, ends in found.items() if ends is not None}


def _end_of_certificate(pem: object) -> float | None:
    """The first certificate's end: those after it are of the authorities."""
    if isinstance(pem, Path):
        pem = pem.read_bytes()
    if isinstance(pem, bytes):
        with suppress(ValueError):
            return x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()
    return None
