"""A reported cost in review: the reconciler tells people, and starts nothing."""

from collections.abc import Awaitable, Callable
from typing import cast

from temporalio.client import Client

from onetake.ledger import Database, PostgresLedger
from onetake.operations.reconciler import Reconciler

Suspend = Callable[..., Awaitable[str]]


async def put_in_review(database: Database, generation_id: str) -> None:
    """As when a recovery has read that its vendor charged nine dollars for one."""
    await database.row("select onetake.review(h, 9000000) from onetake.hold h where generation_id = $1", generation_id)


async def test_an_amount_in_review_is_told_and_nothing_is_started_for_it(
    database: Database, ledger: PostgresLedger, suspend: Suspend
) -> None:
    young, old = await suspend("young"), await suspend("old")
    for each in (young, old):
        await put_in_review(database, each)
    await database.row(
        "update onetake.hold set resolved_at = resolved_at - interval '9 days' where generation_id = $1", old
    )
    reconciler = Reconciler(cast("Client", None), database)
    for _ in range(2):
        told, aged = (await reconciler.run_once()).findings
        assert (told.generation_id, told.action) == (young, "none")
        assert told.found.endswith("the vendor reports $9.00; onetake suspense resolve decides")
        assert aged.aged is not None
        assert (aged.aged.count, aged.action) == (1, "none")
    assert [each.kind for each in await ledger.entries(young)] == ["hold", "suspense", "review"]
