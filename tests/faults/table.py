"""The fault table: what goes wrong, and what must be seen, booked and rendered then. Tests call `shows` or `expect`.

A row lives in `rows/*.toml`:

    [F037]
    fault = "the connection is reset after the request was sent"
    tests = ["tests/faults/test_submit.py::test_a_reset_after_the_request_waits_for_the_callback"]
    [F037.ends.callback]            # one table for each end that the row may have; a row with one end calls it `end`
    sees = "completed"              # status, status/code, an HTTP status, or what the row's test says it compares
    ledger = ["hold", "post"]       # kinds of the journal's entries, in order; [] when nothing is held
    jobs = 1                        # in the simulator's own journal
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from onetake.core.contracts import GenerationResult
from tests.system.harness import Stack

ROWS: Final = Path(__file__).with_name("rows")

# Shown by work that is not done yet: the public HTTP API, events to subscribers.
OWED: Final = frozenset(f"F{number:03d}" for number in (6, 7, *range(10, 16), 71, 76, 103, 104))
FAULTS: Final = frozenset(f"F{number:03d}" for number in range(1, 121)) - OWED
SECURITY: Final = frozenset(f"S{number}" for number in range(62, 74))
REQUIRED: Final = FAULTS | SECURITY


class End(BaseModel):
    """One end that a row may have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sees: str
    ledger: tuple[str, ...]
    jobs: int


class Row(BaseModel):
    """One fault, the tests that show it, and its ends by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fault: str
    tests: tuple[str, ...]
    ends: dict[str, End]


def load() -> dict[str, Row]:
    """All rows. Raises when one is listed twice."""
    rows: dict[str, Row] = {}
    for path in sorted(ROWS.glob("*.toml")):
        for number, row in tomllib.loads(path.read_text()).items():
            assert number not in rows, f"{number} is listed twice"
            rows[number] = Row.model_validate(row)
    return rows


_TABLE: Final = load()


def expect(row: str, *, sees: str, ledger: Sequence[str], jobs: int, end: str = "end") -> None:
    """Compare what happened with what the table says of this end of the row."""
    seen, wanted = End(sees=sees, ledger=tuple(ledger), jobs=jobs), _TABLE[row].ends[end]
    assert seen == wanted, f"{row} ({end}): {seen} instead of {wanted}"


async def shows(row: str, stack: Stack, result: GenerationResult, prompt: str, *, end: str = "end") -> None:
    """Compare how a generation ended, its ledger entries and the simulator's journal with this end of the row."""
    async with stack.database() as database:
        kinds = await database.rows("select kind from onetake.event where generation_id = $1 order by id", result.id)
    seen = f"{result.status}/{result.error.code}" if result.status == "failed" and result.error else result.status
    ledger, jobs = [str(each["kind"]) for each in kinds], await stack.jobs_of(prompt)
    expect(row, sees=seen, ledger=ledger, jobs=len(jobs), end=end)


def table() -> dict[str, Any]:
    """The rows as plain data, for the page in the docs."""
    return {number: row.model_dump() for number, row in sorted(_TABLE.items())}
