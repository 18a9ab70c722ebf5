"""The verbs that remove what nobody needs any more: from the bucket, and from the database."""

# ruff: noqa: PLC0415 - `--help` stays fast

from typing import TYPE_CHECKING, Annotated, Final

import typer

from onetake.cli import environment
from onetake.cli.answer import Answer
from onetake.cli.database import with_database
from onetake.cli.options import register

if TYPE_CHECKING:
    from rich.console import Console

    from onetake.core.contracts import Swept
    from onetake.ledger.database import Database
    from onetake.ledger.pruning import Pruned

LEAST_DAYS: Final = 2  # a recovery looks for a job for a day, and a late callback may start one

MOST_DAYS: Final = 36_500


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    register(app, sweep, "onetake sweep --dry-run", "onetake sweep --json")
    register(app, prune, "onetake prune --dry-run", "onetake prune --days 90 --json")


def sweep(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would remove; change nothing.")] = False,
) -> Answer:
    """Remove copies of clips that nobody has named for two days. Workers do it once a day."""
    settings = environment.settings()

    async def work(database: "Database") -> "Swept":
        from onetake.core.settings import require
        from onetake.engine.temporal import connect
        from onetake.media.storage import BucketStore
        from onetake.operations.sweeping import Sweeper, running_at

        require(settings, "s3_endpoint", "s3_access_key", "s3_secret_key", "s3_bucket")
        store = BucketStore.from_settings(settings)
        try:
            sweeper = Sweeper(running_at(await connect(settings)), database, store)
            return await sweeper.sweep_once(dry_run=dry_run)
        finally:
            store.close()

    swept = with_database(work, settings)
    document = {"dry_run": dry_run, **swept.model_dump(mode="json", exclude={"version"})}
    return Answer(document, lambda console: _show(console, swept, dry_run=dry_run))


def _show(console: "Console", swept: "Swept", *, dry_run: bool) -> None:
    removed = f"{swept.removed} {'would be removed' if dry_run else 'removed'}"
    console.print(f"Looked at {swept.looked_at} objects: {removed}, {swept.freed_bytes / 1_000_000:.1f} MB.")


def prune(
    days: Annotated[
        int,
        typer.Option(min=LEAST_DAYS, max=MOST_DAYS, help="Of generations that ended so many days ago.", metavar="N"),
    ] = 30,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would forget; change nothing.")] = False,
) -> Answer:
    """Forget the callbacks of generations that ended long ago and owe nothing. Money and submissions stay for good."""

    async def work(database: "Database") -> "Pruned":
        from onetake.ledger.pruning import prune as forget

        return await forget(database, days=days, dry_run=dry_run)

    pruned = with_database(work)
    document = {"dry_run": dry_run, "days": days, **pruned.model_dump(mode="json")}
    gone = "would be forgotten" if dry_run else "forgotten"
    text = f"{pruned.tokens} tokens and {pruned.callbacks} callbacks {gone}, of generations that ended {days} days ago."
    return Answer(document, lambda console: console.print(text))
