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
    "submit-503": "=WORDS: answer the submission with 503 and these words; no job",
    "submit-page": "=STATUS,N[,RETRY_AFTER]: an HTML page of this status for the first N submissions, then accept",
    "submit-html": "answer 200 with a login page in HTML; no job",
    "submit-no-id": "accept the job, answer without its task id",
    "submit-other-id": "accept the job, answer with the task id of the vendor's job before it",
    "delay": "=SECONDS: render time of this job",
    "never": "the job stays in processing for ever",
    "held": "the job stays in processing until it is released, by `POST /control/release`",
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
    "status-page": "=STATUS,N[,RETRY_AFTER]: answer the next N status reads with an HTML page of this status",
    "end-word": "=JSON: this where the state belongs once the job is over",
    "shape": "=text|list|object|objects|json: the links of the result in this shape",
    "status-regress": "the job is shown running first, and waiting afterwards until it is done",
    "status-relapse": "=N[,M]: 1 status read (or M) after the end shows it, the next N show the job running again",
    "status-success": "=N: with `fail`: the first N status reads after the end say success",
    "charge": "=PERCENT: charge so much of the price, and say so where the vendor shows a charge",
    "cost": "=JSON: say this where the vendor shows a charge, whatever was charged",
    "no-refund": "the job is not refunded when it fails",
    "refund-late": "=SECONDS: the refund of a failed job comes so long after its end",
    "no-url": "[=N]: success without a result URL, always or in the first N status reads after the end",
    "bad-result": "[=N]: success with a result that cannot be read",
    "urls": "=N: success with N result URLs",
    "silent": "the clip has no audio track",
    "wrong-duration": "the clip is 3 s longer than ordered",
    "wrong-pixels": "the clip is half as wide and high as ordered",
    "half-duration": "the clip is half as long as ordered",
    "asset-403": "[=N]: the link is refused with 403, always or the first N times",
    "asset-404": "[=N]: the link is refused with 404, always or the first N times",
    "asset-away": "=SECONDS[,STATUS]: the link is refused with this status (404) for so long after the end of the job",
    "asset-500": "=N: answer 500 to the first N downloads",
    "asset-html": "[=N]: an HTML page served as video/mp4, always or to the first N downloads",
    "asset-truncated-file": "[=N]: a complete answer that holds the first half of the clip",
    "asset-cut": "[=N]: Content-Length says the whole clip, the connection closes at half",
    "asset-cut-closed": "[=N]: no Content-Length, the connection closes at half",
    "asset-cut-chunked": "[=N]: a chunked body, the connection closes at half",
    "asset-reset": "=N: reset the connection half way through the first N downloads",
    "asset-short-length": "[=N]: Content-Length says half of the clip, all of it follows",
    "asset-two-lengths": "[=N]: two Content-Length headers that differ",
    "asset-slow": "=BYTES_PER_S[,N]: the body drips, always or the first N times, until the job is released",
    "asset-cut-at": "=BYTES[,N]: each download, or the first N, breaks off after so many bytes; ranges are offered",
    "asset-no-ranges": "ranges are neither offered nor heeded",
    "asset-changes": "each download is of another file, by its ETag",
    "asset-length": "=BYTES: Content-Length says so, the whole clip follows",
    "asset-compressed": "[=N]: the clip comes with Content-Encoding: gzip",
    "asset-redirect": "=private|metadata|plain|file|loop: the link leads to such an address",
    "asset-as": "=json|zip|playlist|svg|elf|sound: such a file served as video/mp4",
    "asset-endless": "the body never ends",
}

_NUMBER = r"\d{1,6}(\.\d{1,3})?"
_COUNT = r"\d{1,6}"
_COUNT_AND_RETRY_AFTER = r"\d{1,6}(,[\x20-\x7e]{1,60})?"
_STATUS_AND_COUNT = rf"[45]\d\d,{_COUNT_AND_RETRY_AFTER}"
_VALUES: dict[str, str] = {
    "reject": "40[0-4]|429",
    "reject-200": r"\d{3}",
    "throttle": _COUNT_AND_RETRY_AFTER,
    "busy": _COUNT_AND_RETRY_AFTER,
    "submit-503": r"[\x20-\x5c\x5e-\x7e]{1,120}",
    "submit-page": _STATUS_AND_COUNT,
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
    "status-page": _STATUS_AND_COUNT,
    "end-word": r'null|true|\d{1,9}|"[\w .-]{0,40}"',
    "shape": "text|list|object|objects|json",
    "status-relapse": rf"{_COUNT}(,{_COUNT})?",
    "status-success": _COUNT,
    "refund-late": _NUMBER,
    "urls": r"[1-9]|1\d",
    "charge": _COUNT,
    "cost": r'-?\d{1,20}(\.\d{1,6})?|-?Infinity|NaN|null|true|"[\w .-]{0,40}"|\{"\w{1,20}":\d{1,9}\}',
    "no-url": r"|\d{1,6}",
    "asset-403": r"|\d{1,6}",
    "asset-404": r"|\d{1,6}",
    "asset-away": rf"{_NUMBER}(,[45]\d\d)?",
    **dict.fromkeys(
        (
            "bad-result",
            "asset-html",
            "asset-truncated-file",
            "asset-cut",
            "asset-cut-closed",
            "asset-cut-chunked",
            "asset-short-length",
            "asset-two-lengths",
            "asset-compressed",
        ),
        r"|\d{1,6}",
    ),
    "asset-500": _COUNT,
    "asset-reset": _COUNT,
    "asset-slow": rf"{_COUNT}(,{_COUNT})?",
    "asset-cut-at": rf"{_COUNT}(,{_COUNT})?",
    "asset-length": r"\d{1,12}",
    "asset-redirect": "private|metadata|plain|file|loop",
    "asset-as": "json|zip|playlist|svg|elf|sound",
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
    def page_status(self) -> int:
        """The status of `STATUS,N[,RETRY_AFTER]`."""
        return int(self.value.partition(",")[0])

    @property
    def count_and_retry_after(self) -> tuple[int, dict[str, str]]:
        """`[STATUS,]N[,RETRY_AFTER]` as a count and the response headers that go with it."""
        value = self.value.partition(",")[2] if self.name.endswith("-page") else self.value
        count, _, retry_after = value.partition(",")
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
