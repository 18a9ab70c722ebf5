"""The development stack with our own parts in it: what `onetake dev`, the demo and the tests run.

`onetake.dev.devstack` knows servers and processes; this knows which of ours there are, in which order, and how each is
asked whether it is well.
"""

# ruff: noqa: PLC0415 - `--help` stays fast

import os
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from onetake.core.names import VENDOR_NAMES

if TYPE_CHECKING:
    from onetake.dev.devstack import DevStack, Part, Progress, StackAddresses
    from onetake.dev.devstack.ports import PortChoice

RENDER_S = 6.0
WORKERS = {"worker": ("orchestrate", "vendors"), "media": ("media",)}


@dataclass(frozen=True)
class RunningStack:
    """A stack whose every part is well. `environment` is what a client of it needs; `simulator_url` is None when
    every vendor is real. `metrics` is where each part of ours exports, by its name."""

    devstack: "DevStack"
    environment: dict[str, str]
    simulator_url: str | None
    metrics: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def addresses(self) -> "StackAddresses":
        return self.devstack.addresses


def own_command(*arguments: str) -> tuple[str, ...]:
    """The command line that runs a verb of ours with this very Python."""
    return (sys.executable, "-m", "onetake.cli", *arguments)


@contextmanager
def running_stack(
    home: Path,
    *,
    progress: "Progress",
    environ: Mapping[str, str] | None = None,
    ports: "PortChoice" = "default",
    render_s: float = RENDER_S,
    always_simulate: bool = False,
    ephemeral: bool = False,
    temporal_in_memory: bool = False,
    metrics: bool = False,
) -> Generator[RunningStack]:
    """Bring everything up and hold it for the block. `always_simulate` ignores a real vendor's address: the demo must
    not be able to spend money. With `metrics` each part of ours exports. Raises DevStackError and OnetakeError."""
    from onetake.core.names import SearchAttribute
    from onetake.dev.devstack import DevStack

    given = dict(os.environ if environ is None else environ)
    if always_simulate:
        given = {name: value for name, value in given.items() if name not in _vendor_variables()}
    stack = DevStack(
        home,
        progress=progress,
        ports=ports,
        search_attributes=SearchAttribute.ALL,
        environ=given,
        ephemeral=ephemeral,
        temporal_in_memory=temporal_in_memory,
    )
    with stack:
        stack.start_servers()
        yield _with_parts(stack, given, progress, render_s, _metrics() if metrics else {})


def _metrics() -> dict[str, str]:
    from onetake.dev.devstack.ports import LOOPBACK, free_port

    return {name: f"{LOOPBACK}:{free_port(set())}" for name in ("gateway", *WORKERS)}


def _with_parts(
    stack: "DevStack", given: Mapping[str, str], progress: "Progress", render_s: float, metrics: Mapping[str, str]
) -> RunningStack:
    vendors, simulate = vendor_environment(given, stack.addresses.simulator_url)
    environment = stack.environment() | vendors
    _apply_migrations(environment["ONETAKE_DATABASE_URL"], progress)
    _start_side_by_side(stack, tuple(_parts(stack, vendors, render_s, metrics, simulate=simulate)))
    return RunningStack(stack, environment, stack.addresses.simulator_url if simulate else None, metrics)


def vendor_environment(given: Mapping[str, str], simulator_url: str) -> tuple[dict[str, str], bool]:
    """The variables of the vendors that nobody configured, which are simulated, and whether there is one."""
    from onetake.dev.simulator import app, prices

    addresses = {name: given.get(f"ONETAKE_{name.upper()}_BASE_URL") for name in app.VENDORS}
    simulated = [name for name, url in addresses.items() if not url]
    vendors = {} if given.get("ONETAKE_PRICES") else {"ONETAKE_PRICES": str(prices.FILE)}
    for name in simulated:
        vendors[f"ONETAKE_{name.upper()}_BASE_URL"] = f"{simulator_url}{app.VENDORS[name].base_path}"
        vendors[f"ONETAKE_{name.upper()}_API_KEY"] = app.SimulatorConfig().api_key(name)
    elsewhere = any(url and not _is_loopback(url) for url in addresses.values())
    if elsewhere and not given.get("ONETAKE_CALLBACK_BASE_URL"):
        vendors["ONETAKE_CALLBACK_BASE_URL"] = ""  # nobody elsewhere reaches our loopback gateway: polling only
    return vendors, bool(simulated)


def _is_loopback(url: str) -> bool:
    from urllib.parse import urlsplit

    host = urlsplit(url).hostname or ""
    return host == "localhost" or host.startswith("127.") or host == "::1"


def _vendor_variables() -> set[str]:
    return {f"ONETAKE_{name.upper()}_{kind}" for name in VENDOR_NAMES for kind in ("BASE_URL", "API_KEY")}


def _apply_migrations(database_url: str, progress: "Progress") -> None:
    import asyncio

    from onetake.dev.devstack import step
    from onetake.ledger import migrate

    with step(progress, "tables", "applying migrations") as current:
        asyncio.run(migrate.upgrade(database_url))
        current.text = "up to date"


def _start_side_by_side(stack: "DevStack", parts: Sequence["Part"]) -> None:
    """None of our parts needs another one to start. As soon as one fails, or on Ctrl-C, all of them are given up."""
    from concurrent.futures import ThreadPoolExecutor, as_completed

    with ThreadPoolExecutor(len(parts)) as pool:
        pending = [pool.submit(stack.start_part, part) for part in parts]
        try:
            for future in as_completed(pending):
                future.result()
        except BaseException:
            stack.close()
            raise


def _parts(
    stack: "DevStack", vendors: dict[str, str], render_s: float, metrics: Mapping[str, str], *, simulate: bool
) -> Iterator["Part"]:
    from onetake.dev.devstack import Part
    from onetake.dev.devstack.ports import LOOPBACK, free_port

    at = stack.addresses
    if simulate:
        serve = ("--host", LOOPBACK, "--port", str(at.simulator_port), "--home", str(stack.home / "simulator"))
        argv = own_command("simulator", *serve, "--render-s", str(render_s))
        yield Part(name="simulator", argv=argv, env=vendors, health=f"{at.simulator_url}/healthz")
    exported = {name: vendors | {"ONETAKE_METRICS_BIND": metrics.get(name, "")} for name in ("gateway", *WORKERS)}
    argv = own_command(
        "gateway", "--host", LOOPBACK, "--port", str(at.gateway_port), "--codec-port", str(at.codec_port)
    )
    yield Part(name="gateway", argv=argv, env=exported["gateway"], health=f"{at.gateway_url}/status")
    for name, roles in WORKERS.items():
        port = free_port(set())
        asked = [word for role in roles for word in ("--role", role)]
        argv = own_command("worker", *asked, "--health-port", str(port))
        yield Part(name=name, argv=argv, env=exported[name], health=f"http://{LOOPBACK}:{port}/readyz")
