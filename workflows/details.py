"""The current details of a run, as Markdown for the Temporal UI: what an operator asks first. No prompt, no secret."""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from onetake.core.contracts import (
    Asset,
    Cost,
    ErrorInfo,
    Finding,
    GenerationRequest,
    GenerationResult,
    Plan,
    RecoveryRequest,
    Swept,
)
from onetake.core.errors import VENDOR_SAID
from onetake.core.money import format_usd
from onetake.core.names import COST_IN_REVIEW, Phase

if TYPE_CHECKING:  # the state needs the Temporal SDK, the client that draws summaries does not
    from workflows.state import GenerationState, PassesState, RecoveryState

QUOTE_LENGTH = 16  # characters in a row that count as a quotation of the prompt
SHORTEST_PROMPT = 4
MOST_FINDINGS = 50  # of one pass of the reconciler, in the UI

_DOING: dict[Phase, str] = {
    "accepted": "accepted",
    "validating": "checking the request against its route",
    "reserving": "holding the price on every budget that applies",
    "submitting": "submitting to the vendor, once",
    "resolving": "finding out whether the vendor took the job; nothing is sent again",
    "generating": "waiting for the vendor's render: listening for its callback, and asking when a read is due",
    "persisting": "storing the clip and reading it to its last packet",
    "settling": "settling the hold",
    "done": "ended",
}

# The UI takes `$...$` for mathematics and gives a table's cells no space between them.
_SPECIAL = str.maketrans({mark: f"\\{mark}" for mark in "\\`*[]<|$~"})
_BETWEEN = re.compile("[^A-Za-z0-9]+")
_GAP = "\N{EM SPACE}"
_ENDING: frozenset[Phase] = frozenset({"settling", "done"})
_AFTERWARDS = "then it ends as failed with the amount in suspense"


def details_of(state: "GenerationState") -> str:
    """Draw the table. Every row is a fact that this workflow holds."""
    phase, plan, result = state.phase, state.plan, state.result
    doing = result.status if result is not None else _DOING[phase]
    rows = [("Phase", f"**{phase}**: {doing}")]
    if state.since is not None:
        rows.append(("Since", _clock(state.since)))
    if state.generation_id:
        rows.append(("Generation", f"`{state.generation_id}`"))
    if plan is not None:
        rows += _rows_of_plan(plan, phase)
    if plan is not None and state.since is not None:
        rows += _rows_of_waiting(state, plan, state.since)
    rows += _rows_of_job(state)
    if state.canceled:
        rows.append(("Cancel", _canceling(plan, phase)))
    rows += [("Asset", _asset_line(asset)) for asset in (state.persisted.assets if state.persisted else ())]
    if result is not None:
        rows += _rows_of_result(result)
    # What was recorded counts: a run that was reset ends as it ended before.
    error = state.error if result is None else result.error
    if error is not None:
        rows.append(("Error", f"`{error.code}`: {in_cell(error.message)}"))
    if error is not None and phase in _ENDING:
        rows.append(("What to do", error.hint))
    return table_of(rows)


def _rows_of_job(state: "GenerationState") -> list[tuple[str, str]]:
    rows = [("Vendor's id", f"`{state.task_id}`")] if state.task_id else []
    if state.other_task_id and state.other_task_id != state.task_id:
        rows.append(("Contradiction", f"a callback with our token names the job `{in_cell(state.other_task_id)}`"))
    return rows


_LOOKING: dict[Phase, str] = {
    "resolving": "looking for the job: callbacks, and the vendor's list where it has one",
    "generating": "asking the vendor about the job, until it is over or the time to look is",
    "persisting": _DOING["persisting"],
    "settling": "recording the correction",
    "done": "ended",
}


def recovery_details_of(request: RecoveryRequest, state: "RecoveryState", now: datetime) -> str:
    """Draw the table of a recovery."""
    plan, recovered = state.plan, state.recovered
    rows = [
        ("Phase", f"**{state.phase}**: {_LOOKING[state.phase]}"),
        ("Since", _clock(now)),
        ("Generation", f"`{request.generation_id}`"),
        ("Asked for by", in_cell(f"{request.who}: {request.why}")),
    ]
    if plan is not None:
        rows.append(("Route", f"{plan.route}, {plan.duration_s} s, {plan.resolution}"))
    if state.task_id:
        rows.append(("Vendor's id", f"`{state.task_id}`"))
    if recovered is not None:
        rows.append(("Outcome", "corrected" if recovered.changed else "nothing changed"))
    if recovered is not None and recovered.result is not None:
        rows += _rows_of_result(recovered.result)
    if recovered is not None and recovered.error is not None:
        rows.append(("Why", f"`{recovered.error.code}`: {in_cell(recovered.error.message)}"))
        rows.append(("What to do", recovered.error.hint))
    return table_of(rows)


def reconciled_details_of(state: "PassesState") -> str:
    """Draw when the reconciler's last good pass was and what it found, and how a later one failed."""
    rows: list[tuple[str, str]] = []
    if state.error is not None and state.failed_at is not None:
        said = in_cell(f"{state.error.code}. {state.error.message}")
        rows.append(("Last error", f"{_clock(state.failed_at)}: {said}"))
        rows.append(("What to do", in_cell(state.error.hint)))
    if state.last is None or state.good_at is None:
        return table_of([*rows, ("Last good pass", "none in this run yet")])
    found = len(state.last.findings) if state.last.found is None else state.last.found
    rows += [("Last good pass", _clock(state.good_at)), ("Looked at", f"{state.last.looked_at} generations")]
    rows += [("Findings", str(found)), *(_row_of_finding(each) for each in state.last.findings[:MOST_FINDINGS])]
    return table_of(rows)


def swept_details_of(swept: Swept) -> str:
    """Draw what one pass over the bucket removed."""
    freed = f"{swept.removed} ({swept.freed_bytes / 1_000_000:.1f} MB)"
    return table_of([("Looked at", f"{swept.looked_at} objects"), ("Removed", freed)])


def _row_of_finding(finding: Finding) -> tuple[str, str]:
    return finding.kind, f"`{finding.subject}`: {in_cell(finding.found)} → {finding.action}"


def table_of(rows: Iterable[tuple[str, str]]) -> str:
    """A Markdown table of names and values, as readable in the UI as in a terminal."""
    names = ((name.replace(" ", "\N{NO-BREAK SPACE}"), text) for name, text in rows)
    return "\n".join(["| | |", "|---|---|", *(f"| **{name}**{_GAP} | {text} |" for name, text in names)])


def in_cell(text: str) -> str:
    """A text that stands in a table as it is: nothing in it is a link, a picture, a column or mathematics."""
    return " ".join(text.translate(_SPECIAL).split())


def _rows_of_plan(plan: Plan, phase: Phase) -> list[tuple[str, str]]:
    rows = [("Route", f"{plan.route}, {plan.duration_s} s, {plan.resolution}")]
    if phase != "done":
        rows.append(("Price", in_cell(f"{format_usd(plan.price.amount_micros)} ({plan.price.unit})")))
    return rows


def _rows_of_waiting(state: "GenerationState", plan: Plan, since: datetime) -> list[tuple[str, str]]:
    """What is waited for, what has been heard, and until when."""
    if state.phase == "reserving" and state.waits_for is not None:
        until = f"{_clock(since, plan.deadline_s)}, then it ends as failed; nothing is held meanwhile"
        return [("Waiting", in_cell(state.waits_for.message)), ("Now", "see Pending Activities"), ("Until", until)]
    if state.phase == "submitting" and state.waits_for is not None:
        return [("Waiting", f"`{state.waits_for.code}`: {in_cell(state.waits_for.message)}")]
    if state.phase == "resolving":
        deadline = f"{_clock(since, plan.unknown_deadline_s)}, {_AFTERWARDS}"
        return [("Asking", _asked(plan)), ("Deadline", deadline)]
    if state.phase != "generating":
        return []
    rows = [("Next read", _next_read(state, plan)), ("Deadline", f"{_clock(since, plan.deadline_s)}, {_AFTERWARDS}")]
    if state.refusal is not None:
        rows.insert(0, ("Last read", f"`{state.refusal.code}`: {in_cell(state.refusal.message)}"))
    elif state.reading is not None:
        rows.insert(0, ("Vendor says", in_cell(state.reading.vendor_state)))
    return rows


def _next_read(state: "GenerationState", plan: Plan) -> str:
    if state.woken_at is not None:
        return f"now, for a callback came at {_clock(state.woken_at)}; the clip is stored as soon as the job is over"
    if state.next_read_at is None:
        return "see Pending Activities"
    return f"{'on a callback, else ' if plan.callbacks else ''}at {_clock(state.next_read_at)}"


def _canceling(plan: Plan | None, phase: Phase) -> str:
    """What becomes of a cancellation now: the truth about money before a promise."""
    if plan is None or plan.cancelable or phase not in {"resolving", "generating", "persisting"}:
        return "requested"
    return f"requested; {plan.vendor} offers no way to cancel a job, so its outcome is awaited and paid for"


def _asked(plan: Plan) -> str:
    """What can tell whether the vendor took the job, in the order in which it is asked."""
    sources = ["our own row"]
    if plan.callbacks:
        sources.append("callbacks with our token")
    if plan.lists_jobs:
        sources.append(f"the vendor's list (exactly one job like ours, seen twice {plan.absence_window_s:g} s apart)")
    elif plan.reads_balance:
        sources.append(f"our balance there (unmoved, read twice {plan.absence_window_s:g} s apart)")
    return ", then ".join(sources)


def _rows_of_result(result: GenerationResult) -> list[tuple[str, str]]:
    rows = [("Cost", in_cell(_cost_line(result.cost)))]
    rows += [("In review", in_cell(each.message)) for each in result.warnings if each.code == COST_IN_REVIEW]
    return [("Fetch it", f"`onetake download {result.id}`"), *rows] if result.assets else rows


def _clock(now: datetime, later_s: float = 0) -> str:
    return (now + timedelta(seconds=later_s)).strftime("%Y-%m-%d %H:%M:%S UTC")


def _asset_line(asset: Asset) -> str:
    size = f"{asset.size_bytes / 1_000_000:.1f} MB"
    return f"`{asset.key}` ({size}, {asset.duration_s:.1f} s, {asset.width}x{asset.height})"


def _cost_line(cost: Cost) -> str:
    released = cost.reserved_micros - cost.settled_micros - cost.suspense_micros
    parts = {"settled": cost.settled_micros, "in suspense": cost.suspense_micros, "released": released}
    shown = (f"{name} {format_usd(micros)}" for name, micros in parts.items() if micros > 0)
    return ", ".join([f"reserved {format_usd(cost.reserved_micros)}", *shown]) if cost.reserved_micros else "nothing"


def without_quotes(error: ErrorInfo, request: GenerationRequest) -> ErrorInfo:
    """Leave out a vendor's words when they repeat the prompt: failure texts stand in clear in histories and lists."""
    sentence, said, words = error.message.partition(VENDOR_SAID)
    if not said or not any(_repeats(words, text) for text in (request.prompt, request.negative_prompt or "")):
        return error
    return error.model_copy(update={"message": f"{sentence} Its words repeat the prompt and are left out."})


def _repeats(words: str, prompt: str) -> bool:
    """Whether words quote a prompt. Only ASCII letters and digits are compared: what is between them, and letters of
    other alphabets, may have been taken out or put otherwise before the words came here."""
    said, letters = _letters(words), _letters(prompt)
    least = max(SHORTEST_PROMPT, min(QUOTE_LENGTH, len(prompt.strip()) // 2))  # of a prompt that has mostly others
    starts = range(max(1, len(letters) - QUOTE_LENGTH + 1))
    return len(letters) >= least and any(letters[at : at + QUOTE_LENGTH] in said for at in starts)


def _letters(text: str) -> str:
    return _BETWEEN.sub(" ", text).strip().lower()
