"""How a job shows itself to a status read: as it is, or as its markers make it misbehave.

Faults that last for a time go by the clock since the job was accepted; the others are used up one after the other, each
by so many reads.
"""

import json
import math
from collections.abc import Callable, Sequence
from typing import cast

from pydantic import JsonValue
from starlette.responses import Response

from onetake.dev.simulator.faults import Fault
from onetake.dev.simulator.journal import Entry, Job
from onetake.dev.simulator.vendor import TASK_NOT_FOUND, Refusal, ShownState, SimulatedVendor
from onetake.dev.simulator.wire import Reset, Silence

LOGIN_PAGE = b"<!doctype html><title>Sign in</title><h1>Please sign in to continue</h1>\n"

_LASTS: dict[str, Callable[[float, tuple[float, ...]], bool]] = {
    "status-down": lambda age_s, times_s: age_s < times_s[0],
    "status-lost": lambda age_s, times_s: times_s[0] <= age_s < (*times_s[1:], math.inf)[0],
}
_REFUSALS = {
    "status-down": 503,
    "status-lost": 404,
    **{f"status-{status}": status for status in (401, 403, 404, 429, 500)},
}
_SPOILT: dict[str, Callable[[bytes], Response]] = {
    "status-reset": lambda _: Reset(),
    "status-hang": lambda _: Silence(),
    "status-html": lambda _: Response(LOGIN_PAGE, 200, media_type="text/html"),
    "status-malformed": lambda body: Response(body[: len(body) // 2], 200, media_type="application/json"),
    "status-array": lambda body: Response(b"[" + body + b"]", 200, media_type="application/json"),
}


_SHAPES: dict[str, Callable[[list[JsonValue]], JsonValue]] = {
    "text": lambda urls: urls[0] if urls else "",
    "list": lambda urls: urls,
    "object": lambda urls: {"video": {"url": urls[0] if urls else None}},
    "objects": lambda urls: [{"id": str(at), "url": url} for at, url in enumerate(urls)],
    "json": lambda urls: json.dumps({"urls": urls}),
}


def as_the_markers_say(vendor: SimulatedVendor, job: Job, state: ShownState, urls: Sequence[str]) -> JsonValue:
    """The vendor's status answer, with the word and the shape that markers ask for in the place of its own."""
    body = vendor.status(job, state, urls)
    word, shape = job.script.find("end-word"), job.script.find("shape")
    if word and state in ("success", "failed"):
        body = _with(body, vendor.state_at, json.loads(word.value))
    if shape and state == "success":
        body = _with(body, vendor.result_at, _SHAPES[shape.value](list(urls)))
    return body


def _with(body: JsonValue, at: Sequence[str], value: JsonValue) -> JsonValue:
    if not at:
        return value
    inside = cast("dict[str, JsonValue]", body)
    return {**inside, at[0]: _with(inside.get(at[0]), at[1:], value)}


def fault_of(entry: Entry, now: float) -> Fault | None:
    """The fault that the next status read of this job meets, if any."""
    used_up = 0
    for fault in entry.job.script:
        if lasts := _LASTS.get(fault.name):
            if lasts(now - entry.job.created_at, fault.numbers):
                return fault
        elif fault.name in _REFUSALS or fault.name in _SPOILT or fault.name == "status-page":
            used_up += fault.count_and_retry_after[0]
            if entry.status_reads < used_up:
                return fault
    return None


def page_of(fault: Fault) -> Response:
    """The page that `submit-page` and `status-page` ask for."""
    headers = fault.count_and_retry_after[1]
    return Response(LOGIN_PAGE, fault.page_status, headers=headers, media_type="text/html")


def spoilt_answer(fault: Fault, body: bytes) -> Response:
    """The answer that this fault makes of the true one. Raises Refusal where the vendor has words for it."""
    if fault.name == "status-page":
        return page_of(fault)
    if spoil := _SPOILT.get(fault.name):
        return spoil(body)
    status = _REFUSALS[fault.name]
    headers = fault.count_and_retry_after[1] if fault.name == "status-429" else {}
    raise Refusal(status, TASK_NOT_FOUND if status == 404 else "failed on demand", headers)


def shown_state(entry: Entry, now: float) -> ShownState:
    """The state that a status answer or a callback shows now."""
    state, script = entry.job.state(now), entry.job.script
    if state in ("success", "failed"):
        return _shown_end(entry, state)
    if "status-unknown" in script or "status-word" in script:
        return "unknown"
    if "status-regress" in script:
        return "processing" if state == "pending" else "pending"
    return state


def has_links(entry: Entry) -> bool:
    """Whether a status answer about a job that succeeded shows its links by now."""
    missing = entry.job.script.find("no-url")
    return missing is None or (missing.value != "" and entry.final_reads >= int(missing.value))


def _shown_end(entry: Entry, state: ShownState) -> ShownState:
    lie, relapse = entry.job.script.find("status-success"), entry.job.script.find("status-relapse")
    if lie and state == "failed" and entry.final_reads < int(lie.value):
        return "success"
    if relapse:
        again, shown = (*relapse.numbers, 1)[:2]
        return "processing" if shown <= entry.final_reads < shown + again else state
    return state


def shown_job(entry: Entry, now: float) -> Job:
    """The job as the vendor shows it now: a refund that is still to come does not show, a result that could not be read
    for so many reads can be."""
    job, spoilt = entry.job, entry.job.script.find("bad-result")
    is_over = spoilt is not None and spoilt.value != "" and entry.final_reads >= int(spoilt.value)
    faults = tuple(fault for fault in job.faults if fault.name != "bad-result") if is_over else job.faults
    return job.model_copy(update={"refund_if_failed": job.refunded_micros(now) > 0, "faults": faults})
