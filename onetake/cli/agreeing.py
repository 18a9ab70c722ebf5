"""Asks a person before money moves; a program says --yes."""

import sys

import typer

from onetake.cli.answer import Problem, Stopped


async def agree(*, yes: bool, look: str, refused: Problem) -> None:
    """Return when it may go on. Raises Stopped: with `refused` when the person says no, and with the advice `look` when
    there is nobody to ask."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise Stopped(Problem("usage", "Nobody can be asked here.", look))
    import asyncio  # noqa: PLC0415 - `--help` stays fast

    if not await asyncio.to_thread(typer.confirm, "Go on?", err=True):
        raise Stopped(refused)
