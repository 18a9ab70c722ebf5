"""How many events a generation leaves in Temporal's history, and that polling adds none."""

from typing import Final

from bench.report import Goal, Row
from bench.stack import LIMIT_S, RESOLUTION, ROUTE, SHORT_CLIP_S, TENANT, Bench, BenchError, completed
from onetake.client import Onetake

TASK_QUEUE: Final = "bench-polls"
TIME_SCALE: Final = 0.01  # the first read after 0.3 s, then one each 0.1 to 0.15 s
SHORT_RENDER_S: Final = 0.5
LONG_RENDER_S: Final = 6.0


async def measure(bench: Bench) -> list[Row]:
    """One woken by its callback, and two without a callback that are polled a few times and many times."""
    woken = await bench.generate("woken [[sim:delay=1]]")
    events = len(await bench.history(woken.workflow_id))
    async with bench.impatient(TASK_QUEUE, TIME_SCALE) as onetake:
        few_polls, few_events = await _polled(bench, onetake, SHORT_RENDER_S)
        many_polls, many_events = await _polled(bench, onetake, LONG_RENDER_S)
    if many_polls <= few_polls:
        raise BenchError(f"{many_polls} polls are not more than {few_polls}")
    growth = (many_events - few_events) / (many_polls - few_polls)
    polls = f"{few_polls} polls {few_events}, {many_polls} polls {many_events}"
    return [
        Row("history events, woken by callback", str(events), value=events, goal=Goal("≤", 60)),
        Row("  what each further poll adds", polls, value=growth, goal=Goal("≤", 0)),
    ]


async def _polled(bench: Bench, onetake: Onetake, render_s: float) -> tuple[int, int]:
    """The number of status reads in the vendor's journal, and of events."""
    prompt = f"polled [[sim:no-callback]][[sim:delay={render_s}]]"
    started = await onetake.start(
        route=ROUTE, prompt=prompt, duration_s=SHORT_CLIP_S, resolution=RESOLUTION, tenant=TENANT
    )
    result = await onetake.result(started.id, LIMIT_S)
    completed(result)
    job = await bench.job(result.vendor_task_id)
    return job["status_reads"], len(await bench.history(started.workflow_id))
