"""How long a part is asked: a server on a busy machine is slow and not broken.

All parts are asked side by side until one deadline. What takes its time is asked again while there is some left. What
refuses at once is asked a few times, for it may just be starting.
"""

# ruff: noqa: PLC0415 - each examination imports what it examines

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from onetake.cli.doctor.findings import Finding, broken, warning
from onetake.cli.doctor.setup import Setup
from onetake.core.errors import OnetakeError, TryLater

LIMIT_S = 40.0
QUICK_S = 1.0
QUICK_TRIES = 3
GAP_S = 0.5
SLOW_S = 10.0
SLOW_FIX = "Nothing is broken: look at what keeps it, or this machine, busy, if it stays so."
# What a Temporal that is busy or starting answers.
PASSING = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "CANCELLED"})

Look = Callable[[Setup], Awaitable[Finding | Sequence[Finding]]]


async def bounded(part: str, names: tuple[str, ...], look: Look, setup: Setup) -> list[Finding]:
    """What the part's examination finds, at least one finding. Raises nothing of ours or Temporal's."""
    began = time.monotonic()
    found = await _patiently(look, setup, began + LIMIT_S)
    took_s = round(time.monotonic() - began, 1)
    findings = [found] if isinstance(found, Finding) else list(found)
    if took_s > SLOW_S and all(each.verdict == "fine" for each in findings):
        findings = [warning("slow", f"{each.found}; slow: it took {took_s:g} s", SLOW_FIX) for each in findings]
    return [replace(each, part=part, settings=names, took_s=took_s) for each in findings]


async def _patiently(look: Look, setup: Setup, deadline: float) -> Finding | Sequence[Finding]:
    """The first answer that is none of "try later", or the last one there is time for."""
    from temporalio.service import RPCError

    quick = 0
    while True:
        began = time.monotonic()
        try:
            return await asyncio.wait_for(look(setup), max(deadline - began, 0.1))
        except TryLater as error:
            refusal = _of_error(error)
        except OnetakeError as error:
            return _of_error(error)
        except RPCError as error:
            refusal = _of_error(TryLater("engine_unavailable", f"It answered {error.status.name}."))
            if error.status.name not in PASSING:
                return refusal
        except TimeoutError:
            return broken(
                "no_answer",
                f"No answer within {LIMIT_S:g} s.",
                "Look at its own log; it accepts connections and does not answer.",
                "engine_unavailable",
            )
        quick += time.monotonic() - began < QUICK_S
        if quick >= QUICK_TRIES or time.monotonic() + GAP_S > deadline:
            return refusal
        await asyncio.sleep(GAP_S)


def _of_error(error: OnetakeError) -> Finding:
    """An error of the catalogue is found by its own code."""
    return broken(error.code, f"{error.entry.sentence} {error.detail}".strip(), error.hint, error.code)
