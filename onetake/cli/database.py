"""Runs a command's work on the database, for verbs that need the ledger and no client."""

# ruff: noqa: PLC0415 - `--help` stays fast

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from onetake.cli import environment

if TYPE_CHECKING:
    from onetake.core.settings import Settings
    from onetake.ledger.database import Database

T = TypeVar("T")


def with_database(
    work: Callable[["Database"], Coroutine[Any, Any, T]], settings: "Settings | None" = None, *, connections: int = 1
) -> T:
    """Run the work on the database that the settings name, and close it. Raises Stopped, or Refused without a name."""
    settings = settings or environment.settings()
    from onetake.cli.waiting import Interruption, run
    from onetake.core.settings import require
    from onetake.ledger.database import Database

    require(settings, "database_url")

    async def connected(_: Interruption) -> T:
        database = await Database.connect(settings.database_url.get_secret_value(), pool_size=connections)
        try:
            return await work(database)
        finally:
            await database.close()

    return run(connected)
