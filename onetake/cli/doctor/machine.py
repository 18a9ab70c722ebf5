"""This machine and this process's environment: our packages, what only tests set, the metrics' port, and the disk."""

# ruff: noqa: PLC0415 - each examination imports what it examines

import os
from typing import Final

from onetake.cli.doctor.findings import Finding, broken, fine, warning
from onetake.cli.doctor.setup import Setup
from onetake.core.errors import CATALOGUE

ANSWER_S: Final = 5.0
OURS: Final = ("temporal_", "onetake_")  # what metrics of ours begin with


async def packages(_: Setup) -> Finding:
    """Whether what we import is ours."""
    from onetake.worker import refuse_foreign_packages

    refuse_foreign_packages()
    return fine("workflows, activities and providers are ours")


async def process(setup: Setup) -> Finding | list[Finding]:
    """What tests set and a deployment must not, and the port of the metrics."""
    findings: list[Finding] = []
    if os.environ.get("ONETAKE_CRASH"):
        found = "ONETAKE_CRASH is set: workers with it kill themselves on purpose"
        findings.append(
            broken("crash_armed", found, "Unset ONETAKE_CRASH and restart the workers.", "settings_invalid")
        )
    if setup.settings.time_scale != 1 and setup.is_real:
        found = f"ONETAKE_TIME_SCALE is {setup.settings.time_scale:g}, and a vendor is real: it is given up too early"
        fix = "Unset ONETAKE_TIME_SCALE and restart all processes."
        findings.append(broken("time_scaled", found, fix, "settings_invalid"))
    return findings + await _of_metrics() or fine("nothing that only tests set is set")


async def _of_metrics() -> list[Finding]:
    """What listens on the metrics' port here is a process of ours, or nothing."""
    import httpx

    bind = os.environ.get("ONETAKE_METRICS_BIND", "").strip()
    host, _, port = bind.rpartition(":")
    if not port.isdecimal():
        return []
    near = "127.0.0.1" if host in {"", "0.0.0.0", "[::]"} else host  # noqa: S104 - compared, not bound
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=ANSWER_S) as client:
            said = (await client.get(f"http://{near}:{port}/metrics")).text
    except httpx.ConnectError:
        return []
    except httpx.HTTPError as error:
        said = type(error).__name__
    if any(line.startswith(OURS) for line in said.splitlines()) or not said:
        return []
    found = f"something else listens on {near}:{port}, where ONETAKE_METRICS_BIND puts the metrics"
    fix = "Stop it, or give ONETAKE_METRICS_BIND another port."
    return [broken("metrics_port_taken", found, fix, "settings_invalid")]


async def spool(setup: Setup) -> Finding:
    """Look at this machine's disk: workers elsewhere say at their own health port whether theirs is full."""
    from onetake.worker import spool_of

    here = spool_of(setup.settings)
    if not here.place.is_dir():
        found, fix = f"there is no folder {here.place} on this machine", "Make it, or correct ONETAKE_SPOOL_DIR."
        return broken("spool_missing", found, fix, "settings_invalid")
    found = f"room for {here.free_bytes / 1e6:.0f} MB of clips in {here.place} on this machine"
    if not here.free_bytes:
        return broken("spool_full", found, CATALOGUE["spool_full"].hint, "spool_full")
    most = setup.settings.asset_max_bytes
    if here.free_bytes < most:
        return warning("spool_small", f"{found}, and a clip may have {most / 1e6:.0f} MB", "Free some of it.")
    return fine(found)
