"""What the database promises is said, and what can undo an answer is warned of."""

import pytest

from onetake.ledger import Database
from onetake.ledger.durability import Durability, durability_of

KEPT = Durability(
    epoch="1-00000001",
    flushes=True,
    synchronous_commit="on",
    synchronous_standby_names="",
    standbys=0,
    synchronous=0,
    hidden=0,
)
LOSES = "a failover to an asynchronous standby loses the last commits"


@pytest.mark.parametrize(
    ("change", "doubts"),
    [
        ({}, []),
        ({"standbys": 1, "synchronous": 1, "synchronous_standby_names": "one"}, []),
        ({"standbys": 1}, [LOSES]),
        ({"standbys": 2, "hidden": 2}, [LOSES]),
        ({"standbys": 1, "synchronous_standby_names": "one", "synchronous_commit": "local"}, [LOSES]),
        ({"flushes": False}, ["fsync = off: a crash of its machine can lose or damage everything"]),
        ({"epoch": "unknown"}, ["it does not tell its timeline, so that a failover cannot be noticed"]),
    ],
)
def test_what_can_undo_an_answer_is_named(change: dict[str, object], doubts: list[str]) -> None:
    assert list(KEPT.model_copy(update=change).doubts) == doubts


def test_its_standbys_are_told() -> None:
    both = KEPT.model_copy(update={"standbys": 3, "synchronous": 1, "synchronous_standby_names": "one"})
    assert both.found == (
        "synchronous_commit = on, synchronous_standby_names = 'one'; "
        "1 synchronous and 2 asynchronous standbys stream from it"
    )


async def test_a_server_that_does_not_flush_is_in_doubt_and_tells_its_epoch(database: Database) -> None:
    """The tests' own server, which is made quick."""
    durability = await durability_of(database)
    assert (durability.flushes, durability.standbys, durability.epoch != "unknown") == (False, 0, True)
    assert len(durability.doubts) == 1
