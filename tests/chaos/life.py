"""I10, I21, I24, I25, I27: what the outside sees, while it lasts and at the end."""

import re
from collections import defaultdict
from typing import Final

from onetake.core.names import TERMINAL
from tests.chaos.evidence import Evidence

_TEXT_OF_AN_EXCEPTION: Final = re.compile(rb"Traceback|\b[A-Z]\w*(Error|Exception)\b|File \"")


# Each was there in every run, or nobody has looked.
_ALWAYS: Final = (
    "generations",
    "holds",
    "journal",
    "intents",
    "changes",
    "limits",
    "rows",
    "submits",
    "jobs",
    "objects",
)
_WATCHED: Final = ("etags", "commands", "repeats", "calm")


def looked(evidence: Evidence) -> list[str]:
    """Every source of evidence gave some: an invariant over nothing would hold."""
    parts = {name: getattr(evidence, name) for name in (*_ALWAYS, "runs", "logs", "secrets", "prompt", "connects")}
    parts |= {name: getattr(evidence.seen, name) for name in _WATCHED}
    return [f"no {name}" for name, part in parts.items() if not part]


def i10(evidence: Evidence) -> list[str]:
    """An end never changes, but as the generation's one correction says; a phase never moves back."""
    corrected = {(each.generation_id, each.from_status, each.to_status) for each in evidence.corrections}
    broken: list[str] = []
    for change in evidence.changes:
        moved = change.from_status != change.to_status
        said = (change.generation_id, change.from_status, change.to_status) in corrected
        if change.from_status in TERMINAL and moved and not said:
            broken.append(f"{change.generation_id}: from {change.from_status} to {change.to_status}")
        if change.to_phase < change.from_phase:
            broken.append(f"{change.generation_id}: back from phase {change.from_phase} to {change.to_phase}")
    times: dict[str, int] = defaultdict(int)
    for each in evidence.corrections:
        times[each.generation_id] += 1
    return broken + [f"{name}: corrected {count} times" for name, count in times.items() if count > 1]


def i21(evidence: Evidence) -> list[str]:
    """Whoever repeats a start with its key is told the same."""
    told: dict[tuple[str, str], set[str]] = defaultdict(set)
    for repeat in evidence.seen.repeats:
        told[repeat.tenant, repeat.key].add(repeat.told)
    return [f"{tenant} {key}: {sorted(texts)}" for (tenant, key), texts in told.items() if len(texts) > 1]


def i24(evidence: Evidence) -> list[str]:
    """Once the faults have stopped everything ends. (The run has waited for the limit.)"""
    return [
        f"{generation.id}: still {generation.status}, {generation.phase}"
        for generation in evidence.generations
        if generation.status not in TERMINAL
    ]


def i25(evidence: Evidence) -> list[str]:
    """A second pass of the reconciler changes nothing."""
    return sorted(set(evidence.before_second_pass) ^ set(evidence.after_second_pass))


def i27(evidence: Evidence) -> list[str]:
    """No answer quotes an exception, and none is a 500."""
    return [
        f"{answer.sent}: {answer.status} {answer.body[:80]!r}"
        for answer in evidence.seen.answers
        if answer.status == 500 or _TEXT_OF_AN_EXCEPTION.search(answer.body)
    ]
