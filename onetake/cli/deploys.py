"""Verbs for deploys: which build of the workers is current, making one so, ramping one, and waiting until one is done.

They are for workers that are versioned, which is the role `orchestrate` alone, and thin: what they do is three calls to
Temporal, after it was seen that workers of the build poll all of its queues.
"""

# ruff: noqa: PLC0415 - `--help` stays fast

import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from onetake.cli import environment
from onetake.cli.answer import Answer, say
from onetake.cli.options import group_of_verbs, register
from onetake.core.errors import Refused

if TYPE_CHECKING:
    from rich.console import Console

    from onetake.cli.waiting import Interruption
    from onetake.operations.deploys import Deploys
    from onetake.operations.versions import BuildStanding, Standing

T = TypeVar("T")

_BUILD = "The build, TEMPORAL_WORKER_BUILD_ID of its workers."


def _no_empty_build(build: str | None) -> str | None:
    if build is not None and not build.strip():
        raise typer.BadParameter("a build has a name.")
    return build


Build = Annotated[str, typer.Argument(help=_BUILD, metavar="BUILD", callback=_no_empty_build)]
BuildOrNone = Annotated[str | None, typer.Argument(help=_BUILD, metavar="BUILD", callback=_no_empty_build)]
OfDeployment = Annotated[
    str | None,
    typer.Option("--deployment", help="Its name; TEMPORAL_DEPLOYMENT_NAME by default.", metavar="NAME"),
]
WaitS = Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait for its workers.", metavar="S")]
DrainS = Annotated[
    float, typer.Option("--timeout", min=0, help="Seconds to wait; Temporal looks every few minutes.", metavar="S")
]
Percent = Annotated[float, typer.Option("--percent", min=0, max=100, help="The share; 0 ends the ramp.", metavar="P")]


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    deploy = group_of_verbs(app, "deploy", "Which build of the workers runs the workflows.")
    register(deploy, status, "onetake deploy status", "onetake deploy status --json")
    register(
        deploy,
        current,
        "onetake deploy current w3f2a9c41d07b",
        "onetake deploy current BUILD --timeout 300",
        "onetake deploy current --none",
    )
    register(deploy, ramp, "onetake deploy ramp w3f2a9c41d07b --percent 10", "onetake deploy ramp BUILD --percent 0")
    register(deploy, drain, "onetake deploy drain w8191fdd799d3", "onetake deploy drain BUILD --timeout 1800")


def status(deployment: OfDeployment = None) -> Answer:
    """Show every build: its state, the workers that poll, and the open runs that were last seen on it."""

    async def work(deploys: "Deploys") -> "Standing":
        return await deploys.standing()

    return _shown(_with_deploys(work, deployment))


def current(
    build: BuildOrNone = None,
    none: Annotated[bool, typer.Option("--none", help="No build: workers without builds get the work.")] = False,
    deployment: OfDeployment = None,
    timeout: WaitS = 120.0,
) -> Answer:
    """Let a build run all workflows. Waits until its workers poll every queue, and changes nothing when they do not."""
    if (build is None) != none:
        raise typer.BadParameter("give either a build or --none.")

    async def work(deploys: "Deploys") -> "tuple[Standing, bool]":
        return await deploys.make_current(build, limit_s=timeout, say=say)

    standing, changed = _with_deploys(work, deployment)
    if not changed:
        say(f"{build or 'No build'} was current already.")
    return _shown(standing, changed=changed)


def ramp(build: Build, percent: Percent, deployment: OfDeployment = None, timeout: WaitS = 120.0) -> Answer:
    """Let a build run a share of the workflows. Waits for its workers as `current` does."""

    async def work(deploys: "Deploys") -> "Standing":
        return await deploys.ramp(build, percent, limit_s=timeout, say=say)

    return _shown(_with_deploys(work, deployment))


def drain(build: Build, deployment: OfDeployment = None, timeout: DrainS = 1800.0) -> Answer:
    """Wait until a build is no longer needed. Its workers can be stopped then."""

    async def work(deploys: "Deploys") -> "BuildStanding":
        return await deploys.drain(build, limit_s=timeout, say=say)

    found = _with_deploys(work, deployment)
    text = f"{build} is {found.state}: its workers can be stopped."
    return Answer(_document_of(found), lambda console: console.print(text))


def _with_deploys(work: "Callable[[Deploys], Awaitable[T]]", deployment: str | None) -> T:
    from onetake.cli.waiting import run
    from onetake.engine.temporal import connect
    from onetake.engine.versioning import NAME_VARIABLE
    from onetake.operations.deploys import Deploys

    settings = environment.settings()
    name = deployment or os.environ.get(NAME_VARIABLE, "").strip()
    if not name:
        raise Refused(
            "settings_invalid",
            f"No deployment is named: give --deployment, or set {NAME_VARIABLE}. Workers without one have no builds.",
        )

    async def working(_: "Interruption") -> T:
        return await work(Deploys(await connect(settings), settings.task_queue, name))

    return run(working)


def _shown(standing: "Standing", **more: bool) -> Answer:
    document = {
        "deployment": standing.deployment,
        "current": standing.current,
        "ramping": standing.ramping,
        "percent": standing.percent,
        "builds": [_document_of(each) for each in standing.builds],
    }
    return Answer(document | more, lambda console: _show(console, standing))


def _document_of(build: "BuildStanding") -> dict[str, Any]:
    pollers = [{"queue": queue.name, "kind": queue.kind, "pollers": many} for queue, many in build.pollers.items()]
    return {"build": build.build, "state": build.state, "open_runs": build.open_runs, "queues": pollers}


def _show(console: "Console", standing: "Standing") -> None:
    from rich.table import Table

    table = Table("build", "state", "open runs", "workers by queue", box=None, pad_edge=False)
    for each in standing.builds:
        state = f"ramping {standing.percent:g} %" if each.state == "ramping" else each.state
        polled = ", ".join(f"{queue}: {number}" for queue, number in each.pollers.items())
        table.add_row(each.build, state, str(each.open_runs), polled)
    console.print(table)
    if standing.current is None:
        console.print(f"No build of {standing.deployment} is current: its workers get no work.", soft_wrap=True)
