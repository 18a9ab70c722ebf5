"""Verbs that run the development stack: keep it in the foreground, or play the demo on it."""

# ruff: noqa: PLC0415 - `--help` stays fast

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onetake.cli import environment
from onetake.cli.answer import Answer, Problem, Stopped, say
from onetake.cli.options import register
from onetake.dev.stack import RENDER_S

if TYPE_CHECKING:
    from rich.console import Console

    from onetake.dev.demo import Story
    from onetake.dev.devstack import DevStackError
    from onetake.dev.stack import RunningStack

Home = Annotated[Path, typer.Option(help="Where its data, logs and keys are kept.", metavar="DIR")]


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    register(app, dev, "onetake dev", "onetake dev --render-s 30")
    register(app, demo, "onetake demo", "onetake demo --json")


def dev(
    home: Home = environment.HOME,
    render_s: Annotated[float, typer.Option(min=0, help="Seconds that a simulated job takes.", metavar="S")] = RENDER_S,
) -> None:
    """Run everything here until Ctrl-C. Temporal, PostgreSQL, S3, the simulator, the gateway and the workers.

    Other terminals in this folder find it by themselves. What TEMPORAL_ADDRESS, ONETAKE_DATABASE_URL,
    ONETAKE_S3_ENDPOINT or a vendor's base URL name already is used as it is.
    """
    from onetake.dev.devstack import DevStackError, progress_for
    from onetake.dev.stack import running_stack

    try:
        with (
            running_stack(home, progress=progress_for(), render_s=render_s) as stack,
            environment.offering(home, stack.environment) as file,
        ):
            _greet(stack, file)
            stack.devstack.wait()
            say("Stopping everything.")
    except DevStackError as error:
        raise Stopped(_stack_problem(error)) from error


def _greet(stack: "RunningStack", file: Path) -> None:
    at = stack.addresses
    addresses = {
        "Temporal": at.temporal_address,
        "Temporal UI": at.temporal_ui_url or "not known (ONETAKE_TEMPORAL_UI_URL)",
        "PostgreSQL": "the address is in the file below",
        "S3": f"{at.s3_endpoint}, bucket {at.s3_bucket}",
        "Gateway": at.gateway_url,
        "Callbacks": stack.environment["ONETAKE_CALLBACK_BASE_URL"]
        or "none: vendors elsewhere are polled until ONETAKE_CALLBACK_BASE_URL names a public address",
        "Codec": at.codec_url,
        "Simulator": f"{stack.simulator_url}, its journal at {stack.simulator_url}/journal"
        if stack.simulator_url
        else "none",
        "Logs": str(stack.devstack.home / "logs"),
    }
    sys.stdout.write("\n".join(f"{name:<12} {address}" for name, address in addresses.items()))
    sys.stdout.write(
        f"\n\nIn this folder every command finds this stack by itself. Elsewhere: `. {file.absolute()}`\n"
        '  onetake generate apixo/wan-2.6/text-to-video "a harbour at dawn" --duration 5\n'
        "Ctrl-C stops everything; the data stay.\n"
    )
    sys.stdout.flush()


def demo(home: Home = environment.HOME) -> Answer:
    """Play four stories on real parts. A clip finished, one refused by a budget, one rejected, and all five vendors.

    Nothing leaves this machine and nothing is spent: the vendor is always the simulator.
    """
    import asyncio

    from onetake.dev.demo import play
    from onetake.dev.devstack import DevStackError, progress_for
    from onetake.dev.stack import running_stack

    try:
        with running_stack(home, progress=progress_for(), always_simulate=True) as stack:
            if stack.simulator_url is None:
                raise AssertionError("the demo always simulates")
            settings = _settings_of(stack.environment)
            stories = asyncio.run(play(settings, stack.simulator_url, home / "demo"))
    except DevStackError as error:
        raise Stopped(_stack_problem(error)) from error
    failed = [story for story in stories if story.broken]
    return Answer(
        [story.document for story in stories], lambda console: _show_demo(console, stories), 1 if failed else 0
    )


def _settings_of(environment: Mapping[str, str]) -> Any:
    """The settings of a stack we run: they replace whatever the shell or a `.env` says."""
    from onetake.core.settings import load_settings

    os.environ.update(environment)
    return load_settings()


def _stack_problem(error: "DevStackError") -> Problem:
    from onetake.dev.devstack.errors import tail_of

    if error.log:
        say("\n".join([f"Last lines of {error.log}:", *(f"  {line}" for line in tail_of(error.log))]))
    return Problem("stack_unavailable", f"{error.part}: {error.sentence}.", error.hint)


_AFTER_THE_DEMO = """
Everything has been stopped. The clips are kept; the links and the runs answer only while the stack is up.
Next: `make dev` brings the same stack up and keeps it. The links to runs above answer again, `onetake get ID` makes a
new link to a clip, and in a second terminal you can start your own:
  . .venv/bin/activate
  onetake generate apixo/wan-2.6/text-to-video "a harbour at dawn" --duration 5"""


def _show_demo(console: "Console", stories: "list[Story]") -> None:
    from rich.rule import Rule

    for story in stories:
        console.print(Rule(f"{story.name}: {'NOT as it must be' if story.broken else 'as it must be'}", align="left"))
        for name, value in story.facts.items():  # no frame: a link must survive being copied
            console.print(f"  {name:<10} {value}", soft_wrap=True)
        for reason in story.broken:
            console.print(f"  {'wrong':<10} {reason}", soft_wrap=True)
    console.print(_AFTER_THE_DEMO, soft_wrap=True)
