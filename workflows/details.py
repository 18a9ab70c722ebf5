"""The current details of a run, as Markdown for the Temporal UI: what an operator asks first. No prompt, no secret."""

from datetime import datetime

from onetake.contracts import ErrorInfo, GenerationResult, Persisted, Phase, Plan
from onetake.money import format_usd

_DOING: dict[Phase, str] = {
    "accepted": "accepted",
    "validating": "checking the request against its route",
    "reserving": "reserving the price on every budget that applies",
    "submitting": "submitting to the vendor, once",
    "resolving": "finding out whether the vendor accepted the submission; nothing is sent again",
    "generating": "waiting for the vendor's render: durable polling, raced with its callback",
    "persisting": "storing the clip and reading it to its last packet",
    "settling": "settling the hold",
    "done": "ended",
}


def details_of(
    *,
    phase: Phase,
    generation_id: str,
    plan: Plan | None,
    task_id: str | None,
    persisted: Persisted | None,
    error: ErrorInfo | None,
    result: GenerationResult | None,
    canceled: bool,
    now: datetime,
) -> str:
    """Draw the table. Every row is a fact that this workflow holds."""
    rows = [("Phase", f"**{phase}**: {_DOING[phase]}"), ("Since", now.strftime("%Y-%m-%d %H:%M:%S UTC"))]
    if generation_id:
        rows.append(("Generation", f"`{generation_id}`"))
    if plan is not None:
        rows += _rows_of_plan(plan, phase)
    if task_id:
        rows.append(("Vendor's id", f"`{task_id}`"))
    if canceled:
        rows.append(("Cancel", "requested"))
    rows += [("Asset", _asset_line(asset.key, asset.size_bytes)) for asset in (persisted.assets if persisted else ())]
    if result is not None:
        rows.append(("Cost", _cost_line(result)))
    if error is not None:
        rows += [("Error", f"`{error.code}`: {error.message}"), ("What to do", error.hint)]
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows)])


def _rows_of_plan(plan: Plan, phase: Phase) -> list[tuple[str, str]]:
    rows = [("Route", f"{plan.route}, {plan.duration_s} s, {plan.resolution}")]
    if phase != "done":
        rows.append(("Price", f"{format_usd(plan.price.amount_micros)} ({plan.price.unit})"))
    if phase == "generating":
        cadence, callback = plan.cadence, "on a callback, else " if plan.callbacks else ""
        gaps = f"then every {cadence.interval_s:g} to {cadence.max_interval_s:g} s"
        rows.append(("Next read", f"{callback}{cadence.first_read_s:g} s after acceptance, {gaps}"))
        rows.append(("Deadline", f"{plan.deadline_s:g} s after acceptance"))
    if phase == "resolving":
        rows.append(("Resolution ends", f"{plan.unknown_deadline_s:g} s after it began"))
    return rows


def _asset_line(key: str, size_bytes: int) -> str:
    return f"`{key}` ({size_bytes / 1_000_000:.1f} MB)"


def _cost_line(result: GenerationResult) -> str:
    cost = result.cost
    line = f"reserved {format_usd(cost.reserved_micros)}, settled {format_usd(cost.settled_micros)}"
    return f"{line}, in suspense {format_usd(cost.suspense_micros)}" if cost.suspense_micros else line
