"""The verb that prepares Temporal's namespace, for deployments whose workers may not."""

# ruff: noqa: PLC0415 - `--help` stays fast

import typer

from onetake.cli import environment
from onetake.cli.answer import Answer
from onetake.cli.options import register
from onetake.core.names import SearchAttribute


def add_to(app: typer.Typer) -> None:
    """Register the verb."""
    register(app, attributes, "onetake attributes", "onetake attributes --json")


def attributes() -> Answer:
    """Make the search attributes that Temporal's namespace lacks. Safe to repeat."""
    settings = environment.settings()
    import asyncio

    from onetake.engine.temporal import connect, ensure_search_attributes

    async def make() -> str:
        client = await connect(settings)
        await ensure_search_attributes(client)
        return client.namespace

    namespace = asyncio.run(make())
    names = list(SearchAttribute.ALL)
    return Answer(
        {"namespace": namespace, "search_attributes": names},
        lambda console: console.print(f"The namespace {namespace} has the search attributes {', '.join(names)}."),
    )
