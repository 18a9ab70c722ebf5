"""The verb that examines the setup."""

# ruff: noqa: PLC0415 - `--help` stays fast

from typing import TYPE_CHECKING

import typer

from onetake.cli import environment
from onetake.cli.answer import Answer
from onetake.cli.options import register

if TYPE_CHECKING:
    from rich.console import Console

SHOWN_S = 2.0  # a part that took longer says how long
# What stands before a finding, by its verdict.
MARKS = {"fine": "ok", "absent": "--", "warning": "??", "broken": "!!"}


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    register(app, doctor, "onetake doctor", "onetake doctor --json")


def doctor() -> Answer:
    """Examine every part of the setup. Reachable, complete, the right version; and what to do if not."""
    import asyncio

    from onetake.cli.doctor.table import examine

    settings = environment.settings()
    findings = asyncio.run(examine(settings))
    broken = [finding for finding in findings if finding.verdict == "broken"]

    def show(console: "Console") -> None:
        for finding in findings:
            mark = MARKS[finding.verdict]
            took = f" ({finding.took_s:g} s)" if finding.took_s >= SHOWN_S else ""
            console.print(f"{mark}  {finding.part:<11} {finding.found}{took}", soft_wrap=True)
            if finding.fix:
                console.print(f"    {'':<11} {finding.fix}", soft_wrap=True)

    document = {"healthy": not broken, "findings": [finding.document for finding in findings]}
    return Answer(document, show, max((finding.exit_code for finding in broken), default=0))
