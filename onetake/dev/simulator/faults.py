"""Faults on demand: `[[sim:NAME]]` or `[[sim:NAME=VALUE]]` in a prompt, several allowed.

A marker that is not in the table, or whose value does not fit, is an error: a typo must not become a passing test.
"""

import re
from collections.abc import Iterable
from typing import Self

from pydantic import BaseModel, ConfigDict

MARKERS: dict[str, str] = {
    "reject": "=400|401|402|403|404|429: refuse with the vendor's documented error; 429 is a spent limit",
    "reject-200": "=CODE: refuse with HTTP 200 and the error inside the body",
    "throttle": "=N[,RETRY_AFTER]: answer 429 to the first N submissions of this prompt, then accept",
    "busy": "=N[,RETRY_AFTER]: answer 503 to the first N submissions of this prompt, then accept",
    "submit-slow": "=SECONDS: judge the submission, and answer it, only after so many seconds",
    "submit-500": "answer the submission with 500; no job",
    "submit-502-accepted": "accept the job, answer 502",
    "submit-reset": "accept the job, then reset the connection without an answer",
    "submit-reset-refused": "reset the connection without an answer; no job",
    "submit-hang": "=SECONDS: accept the job, answer after so many seconds",
    "submit-html": "answer 200 with a login page in HTML; no job",
    "submit-no-id": "accept the job, answer without its task id",
    "delay": "=SECONDS: render time of this job",
    "never": "the job stays in processing for ever",
    "fail": "=CODE: the job fails with this code when its render time is over",
    "callback-first": "the job finishes at once and its callback is sent before the submission is answered",
    "no-callback": "no callback is sent",
    "callback-duplicate": "=N: the callback is sent N more times",
    "list-late": "=SECONDS: the job is not in the vendor's list for so many seconds",
    "list-lost": "the job is never in the vendor's list",
    "status-500": "=N: answer 500 to the next N status reads",
    "status-429": "=N[,RETRY_AFTER]: answer 429 to the next N status reads",
    "status-404": "=N: answer 404 to the next N status reads",
    "status-401": "=N: answer 401 to the next N status reads",
    "status-403": "=N: answer 403 to the next N status reads",
    "status-reset": "=N: reset the connection of the next N status reads",
    "status-hang": "=N: never answer the next N status reads",
    "status-html": "=N: answer the next N status reads with a login page in HTML",
    "status-malformed": "=N: answer the next N status reads with half of the JSON",
    "status-array": "=N: answer the next N status reads with a list where an object belongs",
    "status-down": "=SECONDS: answer 503 to status reads for so long after the submission",
    "status-lost": "=FROM[,TO]: answer 404 to status reads from so many seconds after the submission, until so many",
    "status-unknown": "an undocumented state until the job is done",
    "status-word": "=JSON: this where the state belongs until the job is done",
    "status-regress": "the job is shown running first, and waiting afterwards until it is done",
    "status-relapse": "=N[,M]: 1 status read (or M) after the end shows it, the next N show the job running again",
    "status-success": "=N: with `fail`: the first N status reads after the end say success",
    "charge": "=PERCENT: charge so much of the price, and say so where the vendor shows a charge",
    "cost": "=JSON: say this where the vendor shows a charge, whatever was charged",
    "no-refund": "the job is not refunded when it fails",
    "refund-late": "=SECONDS: the refund of a failed job comes so long after its end",
    "no-url": "success without a result URL",
    "bad-result": "success with a result that cannot be read",
    "urls": "=N: success with N result URLs",
    "silent": "the clip has no audio track",
    "wrong-duration": "the clip is 3 s longer than ordered",
    "asset-403": "[=N]: the link is refused with 403, always or the first N times",
    "asset-500": "=N: answer 500 to the first N downloads",
    "asset-html": "an HTML page served as video/mp4",
    "asset-truncated-file": "a complete answer that holds the first half of the clip",
    "asset-cut": "Content-Length says the whole clip, the connection closes at half",
    "asset-cut-closed": "no Content-Length, the connection closes at half",
    "asset-cut-chunked": "a chunked body, the connection closes at half",
    "asset-reset": "=N: reset the connection half way through the first N downloads",
    "asset-short-length": "Content-Length says half of the clip, all of it follows",
    "asset-two-lengths": "two Content-Length headers that differ",
    "asset-slow": "=BYTES_PER_S: the body drips",
    "asset-endless": "the body never ends",
}

_NUMBER = r"\d{1,6}(\.\d{1,3})?"
_COUNT = r"\d{1,6}"
_COUNT_AND_RETRY_AFTER = r"\d{1,6}(,[\x20-\x7e]{1,60})?"
_VALUES: dict[str, str] = {
    "reject": "40[0-4]|429",
    "reject-200": r"\d{3}",
    "throttle": _COUNT_AND_RETRY_AFTER,
    "busy": _COUNT_AND_RETRY_AFTER,
    "submit-slow": _NUMBER,
    "submit-hang": _NUMBER,
    "delay": _NUMBER,
    "fail": r"[A-Za-z][\w .:-]{0,60}",
    "callback-duplicate": _COUNT,
    "list-late": _NUMBER,
    "status-500": _COUNT,
    "status-429": _COUNT_AND_RETRY_AFTER,
    "status-404": _COUNT,
    "status-401": _COUNT,
    "status-403": _COUNT,
    "status-reset": _COUNT,
    "status-hang": _COUNT,
    "status-html": _COUNT,
    "status-malformed": _COUNT,
    "status-array": _COUNT,
    "status-down": _NUMBER,
    "status-lost": rf"{_NUMBER}(,{_NUMBER})?",
    "status-word": r'null|true|\d{1,9}|"[\w .-]{0,40}"',
    "status-relapse": rf"{_COUNT}(,{_COUNT})?",
    "status-success": _COUNT,
    "refund-late": _NUMBER,
    "urls": r"[1-9]|1\d",
    "charge": _COUNT,
    "cost": r'-?\d{1,20}(\.\d{1,6})?|-?Infinity|NaN|null|true|"[\w .-]{0,40}"|\{"\w{1,20}":\d{1,9}\}',
    "asset-403": r"|\d{1,6}",
    "asset-500": _COUNT,
    "asset-reset": _COUNT,
    "asset-slow": _COUNT,
}
_MARKER = re.compile(r"\[\[sim:([^\]=]*)(?:=([^\]]*))?\]\]")


class Fault(BaseModel):
    """One marker: its name and its value as written (empty when it takes none)."""

    model_config = ConfigDict(frozen=True)
    name: str
    value: str = ""

    @property
    def number(self) -> float:
        return float(self.value)

    @property
    def numbers(self) -> tuple[float, ...]:
        return tuple(map(float, self.value.split(",")))

    @property
    def count_and_retry_after(self) -> tuple[int, dict[str, str]]:
        """`N[,RETRY_AFTER]` as a count and the response headers that go with it."""
        count, _, retry_after = self.value.partition(",")
        return int(count), {"Retry-After": retry_after} if retry_after else {}


class Script(tuple[Fault, ...]):
    """The faults of one job, in the order of the prompt."""

    __slots__ = ()

    def __new__(cls, faults: Iterable[Fault] = ()) -> Self:
        return super().__new__(cls, faults)

    def __contains__(self, name: object) -> bool:
        return any(fault.name == name for fault in self)

    def find(self, name: str) -> Fault | None:
        return next((fault for fault in self if fault.name == name), None)


def script(prompt: str) -> Script:
    """Read the markers of a prompt.

    Raises ValueError, naming the marker, for one that is not in `MARKERS` or whose value does not fit.
    """
    return Script(_fault(name, value) for name, value in _MARKER.findall(prompt))


def _fault(name: str, value: str) -> Fault:
    if name not in MARKERS:
        raise ValueError(f"unknown simulator marker {name!r}; known: {', '.join(MARKERS)}")
    if re.fullmatch(_VALUES.get(name, ""), value, re.ASCII) is None:
        raise ValueError(f"simulator marker {name!r} does not take this value; {MARKERS[name]}")
    return Fault(name=name, value=value)
