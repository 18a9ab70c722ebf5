"""How many events a generation leaves in Temporal's history, and how many Temporal Cloud actions it is."""

from collections import Counter
from statistics import median
from typing import Final

from temporalio.api.history.v1 import HistoryEvent

from bench.actions import actions_of
from bench.report import Goal, Row
from bench.server import OUTSIDE_HISTORY, ServerActions
from bench.stack import LIMIT_S, Bench, BenchError, completed, request
from onetake.client import Onetake

TASK_QUEUE: Final = "bench-polls"
TIME_SCALE: Final = 0.01  # the first read after 0.3 s, then one each 0.1 to 0.15 s
SHORT_RENDER_S: Final = 0.5
LONG_RENDER_S: Final = 6.0
BATCHES: Final = 3
IN_BATCH: Final = 3
WOKEN: Final = "woken [[sim:delay=1.5]]"  # by then the generation waits


async def measure(bench: Bench) -> list[Row]:
    """Some woken by their callbacks, and two without a callback that are polled a few times and many times."""
    woken, outside, counted = await _woken(bench)
    async with bench.deployment(TASK_QUEUE, time_scale=TIME_SCALE) as onetake:
        few_polls, few_events = await _polled(bench, onetake, SHORT_RENDER_S)
        many_polls, many_events = await _polled(bench, onetake, LONG_RENDER_S)
    if many_polls <= few_polls:
        raise BenchError(f"{many_polls} polls are not more than {few_polls}")
    growth = (many_events - few_events) / (many_polls - few_polls)
    polls = f"{few_polls} polls {few_events}, {many_polls} polls {many_events}"
    return [
        Row("history events, woken by callback", str(len(woken)), "", len(woken), Goal("≤", 30), _kinds(woken)),
        _actions_row(woken, outside, counted),
        Row("  what each further poll adds to the events", polls, value=growth),
    ]


async def _woken(bench: Bench) -> tuple[list[HistoryEvent], float | None, float | None]:
    """The history of one, and for one of them the actions that no history shows and all that the server counted: the
    medians of batches, since the server counts a pass of the reconciler, too. None where it does not tell."""
    server = await ServerActions.find(bench.simulator, bench.pids["temporal"])
    batches: list[Counter[str]] = []
    started = await bench.generate(WOKEN)
    for _ in range(BATCHES if server else 0):
        before = await server.count() if server else Counter[str]()
        for _ in range(IN_BATCH):
            started = await bench.generate(WOKEN)
        batches.append((await server.count() if server else Counter[str]()) - before)
    history = await bench.history(started.workflow_id)
    if not batches:
        return history, None, None
    outside = median(sum(each[kind] for kind in OUTSIDE_HISTORY) for each in batches) / IN_BATCH
    return history, outside, median(each.total() for each in batches) / IN_BATCH


def _actions_row(woken: list[HistoryEvent], outside: float | None, counted: float | None) -> Row:
    found = actions_of(woken)
    shown = ", ".join(f"{kind} {number}" for kind, number in found.most_common())
    heartbeats = "heartbeats not counted" if outside is None else f"heartbeats {outside:.3g}"
    against = "" if counted is None else f"the server's own count: {counted:.3g}"
    facts = {"by_kind": dict(found), "outside_history": outside, "counted_by_server": counted}
    value = found.total() + (outside or 0.0)
    return Row("Temporal Cloud actions, woken", f"{shown}, {heartbeats}", against, value, Goal("≤", 10), facts)


def _kinds(events: list[HistoryEvent]) -> dict[str, dict[str, int]]:
    names = (str(event.WhichOneof("attributes")).removesuffix("_event_attributes") for event in events)
    return {"events": dict(Counter(names))}


async def _polled(bench: Bench, onetake: Onetake, render_s: float) -> tuple[int, int]:
    """The number of status reads in the vendor's journal, and of events."""
    started = await onetake.start(request(f"polled [[sim:no-callback]][[sim:delay={render_s}]]"))
    result = await onetake.result(started.id, LIMIT_S)
    completed(result)
    job = await bench.job(result.vendor_task_id)
    return job["status_reads"], len(await bench.history(started.workflow_id))
