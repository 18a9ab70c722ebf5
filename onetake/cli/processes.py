"""Verbs that run one part in the foreground: what deployments start, and what the development stack is made of."""

# ruff: noqa: PLC0415 - `--help` stays fast

from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from onetake.cli import environment
from onetake.cli.answer import Answer
from onetake.cli.options import listed, one_of, register
from onetake.core import crashpoints
from onetake.core.names import ROLES, Role
from onetake.dev.stack import RENDER_S

Host = Annotated[str, typer.Option(help="Where to listen.", metavar="HOST")]


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    register(app, worker, "onetake worker", "onetake worker --role vendors --role media")
    register(app, gateway, "onetake gateway", "onetake gateway --host 0.0.0.0 --port 8080")
    register(app, simulator, "onetake simulator --port 8090", "onetake simulator --render-s 0.5")
    register(app, migrate, "onetake migrate", "onetake migrate --json")


def worker(
    role: Annotated[
        list[str] | None, typer.Option(help=f"{listed(ROLES)}; repeat. All by default.", metavar="ROLE")
    ] = None,
    health_port: Annotated[
        int | None, typer.Option(help="Answer GET / on this loopback port once it polls.", metavar="PORT")
    ] = None,
) -> None:
    """Serve Temporal's task queues. On SIGTERM or Ctrl-C it finishes what is under way."""
    roles: frozenset[Role] = frozenset(one_of("--role", name, ROLES) for name in role or ROLES)
    settings = _foreground_settings()
    from onetake.worker import as_it_is, run_worker

    decorate = as_it_is
    if crashpoints.is_armed():
        from onetake.dev.crashing import decorate
    _serve(run_worker(settings, roles, health_port=health_port, decorate=decorate))


def gateway(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(help="For vendors' callbacks and health.", metavar="PORT")] = 8080,
    codec_port: Annotated[
        int | None, typer.Option(help="Also serve the codec endpoint for the Temporal UI here.", metavar="PORT")
    ] = None,
) -> None:
    """Take vendors' callbacks. Stores them, wakes the workflow, believes nothing."""
    settings = _foreground_settings()
    from onetake.gateway import run_gateway

    _serve(run_gateway(settings, host=host, port=port, codec_port=codec_port))


def simulator(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", metavar="PORT")] = 8090,
    home: Annotated[
        Path | None, typer.Option(help="Keeps the journal and the clips here; without it they are not kept.")
    ] = None,
    render_s: Annotated[float, typer.Option(min=0, help="Seconds that a job takes.", metavar="S")] = RENDER_S,
) -> int:
    """Run the simulated vendors. Strict about requests, with real clips and a journal of what they charged."""
    from onetake.dev.simulator.server import main

    words = ["--host", host, "--port", str(port), "--render-s", str(render_s)]
    return main([*words, "--home", str(home)] if home else words)


def migrate() -> Answer:
    """Bring the database's tables to this version. Safe to repeat."""
    settings = environment.settings()
    import asyncio

    from onetake.core.settings import require
    from onetake.ledger.migrate import upgrade

    require(settings, "database_url")
    revision = asyncio.run(upgrade(settings.database_url.get_secret_value()))
    return Answer({"revision": revision}, lambda console: console.print(f"The tables are at revision {revision}."))


def _serve(part: Coroutine[Any, Any, None]) -> None:
    """Run a part to its end. One that was asked to end has ended well, however its server passes Ctrl-C on."""
    import asyncio

    with suppress(KeyboardInterrupt):
        asyncio.run(part)


def _foreground_settings() -> Any:
    """A part takes its settings from its own environment only, and logs."""
    from onetake.core import logs
    from onetake.core.settings import load_settings

    settings = load_settings()
    logs.configure(settings.log_level)
    return settings
