"""What a person sees of one generation, off a terminal."""

import io
from collections.abc import AsyncGenerator
from datetime import UTC, datetime

import pytest

from onetake.client.progress import ProgressLine, follow
from onetake.core.contracts import Cost, GenerationRecord
from onetake.core.names import Phase, Status


def record(status: Status, phase: Phase, cost: Cost | None = None) -> GenerationRecord:
    return GenerationRecord(
        id="gen_1",
        status=status,
        phase=phase,
        route="a/b/c",
        workflow_id="gen/t/gen_1",
        tenant="t",
        created_at=datetime.now(UTC),
        cost=cost or Cost(),
    )


async def told(*records: GenerationRecord) -> AsyncGenerator[GenerationRecord]:
    for each in records:
        yield each


async def test_each_state_is_one_line_with_elapsed_time_and_cost() -> None:
    stream = io.StringIO()
    held = Cost(reserved_micros=500_000)
    spent = Cost(reserved_micros=500_000, settled_micros=500_000)
    states = record("queued", "accepted"), record("in_progress", "accepted"), record("in_progress", "generating", held)
    last = await follow(told(*states, record("completed", "done", spent)), ProgressLine("clip", stream=stream))
    lines = [line.split(" s  ")[1] for line in stream.getvalue().splitlines()]
    assert lines == ["accepted, $0.00 reserved", "generating, $0.50 reserved", "completed, $0.50 spent"]
    assert last.status == "completed"


async def test_money_in_doubt_is_shown() -> None:
    stream = io.StringIO()
    doubt = Cost(reserved_micros=500_000, suspense_micros=500_000)
    await follow(told(record("failed", "done", doubt)), ProgressLine(stream=stream))
    assert "$0.00 spent, $0.50 in suspense" in stream.getvalue()


async def test_an_error_on_the_way_is_raised() -> None:
    async def broken() -> AsyncGenerator[GenerationRecord]:
        yield record("queued", "accepted")
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await follow(broken(), ProgressLine(stream=io.StringIO()))
