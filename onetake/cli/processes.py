"""Verbs that run one part in the foreground: what deployments start, and what the development stack is made of."""

# ruff: noqa: PLC0415 - `--help` stays fast

from collections.abc import Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onetake.cli import environment
from onetake.cli.answer import Answer
from onetake.cli.options import listed, one_of, register
from onetake.core import crashpoints
from onetake.core.leaving import leave
from onetake.core.names import ROLES, Role
from onetake.dev.stack import RENDER_S

if TYPE_CHECKING:
    from onetake.ledger.migrate import Outlook


MOST_PORT = 65535


def _print_build_id(asked: bool) -> None:
    if asked:
        from onetake.engine.versioning import build_id

        typer.echo(build_id())
        raise typer.Exit


PrintBuildId = Annotated[
    bool,
    typer.Option(
        "--print-build-id",
        callback=_print_build_id,
        is_eager=True,
        help="Print a name for the code that decides what workflows do, for TEMPORAL_WORKER_BUILD_ID, and leave.",
    ),
]
Host = Annotated[str, typer.Option(help="Where to listen.", metavar="HOST")]


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    register(
        app,
        worker,
        "onetake worker",
        "onetake worker --role vendors --role media",
        "onetake worker --role media --health-host 0.0.0.0 --health-port 8081",
        "onetake worker --print-build-id",
    )
    register(app, gateway, "onetake gateway", "onetake gateway --host 0.0.0.0 --port 8080")
    register(app, simulator, "onetake simulator --port 8090", "onetake simulator --render-s 0.5")
    register(app, migrate, "onetake migrate", "onetake migrate --dry-run", "onetake migrate --timeout 600 --json")


def worker(
    role: Annotated[
        list[str] | None, typer.Option(help=f"{listed(ROLES)}; repeat. All by default.", metavar="ROLE")
    ] = None,
    health_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=MOST_PORT,
            help="Answer GET /healthz and /readyz here; 503 names what keeps it from work.",
            metavar="PORT",
        ),
    ] = None,
    health_host: Annotated[str, typer.Option(help="Where to answer them.", metavar="HOST")] = "127.0.0.1",
    print_build_id: PrintBuildId = False,
) -> None:
    """Serve Temporal's task queues. On SIGTERM or Ctrl-C it finishes what is under way."""
    del print_build_id
    roles: frozenset[Role] = frozenset(one_of("--role", name, ROLES) for name in role or ROLES)
    from onetake.core.signals import end_at_once

    end_at_once()
    settings = _foreground_settings()
    from onetake.worker import as_it_is, run_worker

    decorate = as_it_is
    if crashpoints.is_armed():
        from onetake.dev.crashing import decorate
    _serve(run_worker(settings, roles, health_host=health_host, health_port=health_port, decorate=decorate))


def gateway(
    host: Host = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=MOST_PORT, help="For vendors' callbacks and health.", metavar="PORT")
    ] = 8080,
    codec_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=MOST_PORT, help="Also serve the codec endpoint for the Temporal UI here.", metavar="PORT"
        ),
    ] = None,
) -> None:
    """Take vendors' callbacks. Stores them, wakes the workflow, believes nothing."""
    from onetake.core.signals import end_at_once

    end_at_once()
    settings = _foreground_settings()
    from onetake.gateway import run_gateway

    _serve(run_gateway(settings, host=host, port=port, codec_port=codec_port))


def simulator(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=MOST_PORT, help="0 takes a free one.", metavar="PORT")] = 8090,
    home: Annotated[
        Path | None, typer.Option(help="Keeps the journal and the clips here; without it they are not kept.")
    ] = None,
    render_s: Annotated[float, typer.Option(min=0, help="Seconds that a job takes.", metavar="S")] = RENDER_S,
) -> int:
    """Run the simulated vendors. Strict about requests, with real clips and a journal of what they charged."""
    from onetake.dev.simulator.server import main

    words = ["--host", host, "--port", str(port), "--render-s", str(render_s)]
    return main([*words, "--home", str(home)] if home else words)


def migrate(
    timeout_s: Annotated[
        float,
        typer.Option("--timeout", min=1, help="Seconds to wait for another program, and for a statement.", metavar="S"),
    ] = 120.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be applied, and change nothing.")] = False,
) -> Answer:
    """Bring the database's tables to this version. Safe to repeat."""
    settings = environment.settings()
    import asyncio

    from onetake.core.settings import require
    from onetake.ledger.migrate import outlook, upgrade

    require(settings, "database_url")
    url = settings.database_url.get_secret_value()
    if dry_run:
        return _outlook(asyncio.run(outlook(url, limit_s=timeout_s)))
    revision = asyncio.run(upgrade(url, limit_s=timeout_s))
    return Answer({"revision": revision}, lambda console: console.print(f"The tables are at revision {revision}."))


def _outlook(found: "Outlook") -> Answer:
    lines = [f"The tables are at revision {found.revision}." if found.revision else "There are no tables yet."]
    if found.missing_database:
        lines = [f"There is no database {found.missing_database!r}. It would be made."]
    if found.ahead:
        lines.append("A newer program made them; they would stay as they are.")
    for step in found.steps:
        how = "outside of a transaction" if step.concurrently else "in one transaction"
        lines.append(f"Would apply {step.revision} ({step.title}), {how}.")
    if not (found.steps or found.ahead):
        lines.append("Nothing would be applied.")
    return Answer(asdict(found), lambda console: console.print("\n".join(lines)))


def _serve(part: Coroutine[Any, Any, None]) -> None:
    """Run a part to its end, and leave: threads that hang at a server must not hold up who was asked to end."""
    import asyncio

    from onetake.core.signals import ASKED_TO

    async def and_leave() -> None:
        await part
        leave(ASKED_TO)

    asyncio.run(and_leave())


def _foreground_settings() -> Any:
    """A part takes its settings from its own environment only, and logs."""
    from onetake.core import logs
    from onetake.core.settings import load_settings

    crashpoints.refuse_mistake()
    settings = load_settings()
    logs.configure(settings.log_level)
    return settings
