"""What a vendor file must offer, and what vendors really share: reading an answer without trusting it.

A vendor file is facts as data plus pure functions over `httpx.Request` and `httpx.Response` used as values: no client,
no clock, no environment, no Temporal. Parsing is total: whatever the bytes are, a function returns one of its declared
outcomes and raises nothing.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any, Protocol, cast

import httpx

from onetake.core.contracts import ErrorInfo, Plan
from onetake.core.errors import VENDOR_SAID
from onetake.core.ports import Account, SubmitOrder, SubmitOutcome, VendorStatus
from providers.catalogue import FailureRow, OutcomeRow

_TASK_ID = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9._:-]{1,256}")  # dots alone would name another path
_UNSAFE = re.compile(r"[^\x20-\x7e\u00a1-\u00ac\u00ae-\u024f]+")
_LINK = re.compile(r"""(?i)[a-z][a-z0-9+.-]{0,20}://\S*|(?:bearer[\s:="']+)+\S+|\bsk-\S+""")
SAFE_TEXT_LENGTH = 200
MOST_UNITS = Decimal(10**9)  # credits that a vendor may claim to have charged
MOST_UNIX_S = Decimal(10**10)  # the year 2286: milliseconds are not taken for seconds
UNAUTHORIZED = 401
STATUS_DECIDES = frozenset({UNAUTHORIZED, 402, 403, 429})  # whatever the body is: these turn a request away
# What a job's id is called, without regard to case and to how its parts are joined. Not `request_id`: most gateways put
# one into every error. A vendor whose jobs bear another name says so.
_IDS = frozenset({"id", "taskid", "jobid", "generationid", "predictionid", "renderid", "videoid"})
_READ_LENGTH = 10 * SAFE_TEXT_LENGTH  # hostile text may be a megabyte: what is never shown is never searched


@dataclass(frozen=True)
class CallbackHint:
    """What a callback's body claims; nothing of it is believed."""

    task_id: str | None = None
    state: str | None = None


@dataclass(frozen=True)
class ListedJob:
    """One job in a vendor's list; `created_at` in Unix seconds, by the vendor's clock."""

    task_id: str
    created_at: float


class VendorAdapter(Protocol):
    """A vendor file: a module with these functions."""

    @staticmethod
    def submit_request(base_url: str, order: SubmitOrder) -> httpx.Request:
        """Build the POST, without the key."""
        ...

    @staticmethod
    def submit_outcome(response: httpx.Response) -> SubmitOutcome:
        """Classify any answer to the POST."""
        ...

    @staticmethod
    def status_request(base_url: str, plan: Plan, vendor_task_id: str) -> httpx.Request:
        """Build the status read, without the key."""
        ...

    @staticmethod
    def read_status(response: httpx.Response) -> VendorStatus | None:
        """Read a status answer; None when it cannot be understood, which is an outage and never a failure."""
        ...

    @staticmethod
    def callback_hint(body: bytes) -> CallbackHint:
        """Read what a callback claims."""
        ...


class Lists(Protocol):
    """What a vendor file offers besides when its facts say `lists_jobs`."""

    @staticmethod
    def list_request(base_url: str, plan: Plan) -> httpx.Request:
        """Build the read of our jobs of the plan's model, without the key."""
        ...

    @staticmethod
    def listed_jobs(response: httpx.Response, order: SubmitOrder) -> tuple[ListedJob, ...] | None:
        """The jobs with exactly this order's model and payload, each once; None when the answer, or one of those
        jobs, cannot be understood."""
        ...


class Accounts(Protocol):
    """What a vendor file offers besides when its facts name a `balance`."""

    @staticmethod
    def account_request(base_url: str) -> httpx.Request:
        """Build the read of our account, without the key."""
        ...

    @staticmethod
    def read_account(response: httpx.Response) -> Account | None:
        """Read our account; None when the answer cannot be understood."""
        ...


def json_post(url: str, body: Mapping[str, object]) -> httpx.Request:
    """A POST whose bytes are the same whenever the same body is sent."""
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    return httpx.Request("POST", url, content=content, headers={"Content-Type": "application/json"})


def json_object(response: httpx.Response) -> dict[str, Any] | None:
    """The body when it is a JSON object sent as JSON; None for HTML, other types, broken or other JSON."""
    return decoded_object(response.content) if _is_json(response) else None


def _is_json(response: httpx.Response) -> bool:
    return "json" in response.headers.get("content-type", "").partition(";")[0].lower()


def decoded_object(content: bytes | str) -> dict[str, Any] | None:
    """A JSON object, or None for anything else; what nests too deep is anything else."""
    value = _decoded(content)
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def listed_objects(response: httpx.Response, *names: str) -> list[dict[str, Any]] | None:
    """The objects of a list sent as JSON, bare or under one of these names; None for anything else."""
    value = _decoded(response.content) if response.is_success and _is_json(response) else None
    if isinstance(value, dict):
        body = cast("dict[str, object]", value)
        value = next((body[name] for name in names if isinstance(body.get(name), list)), None)
    items = cast("list[object]", value) if isinstance(value, list) else None
    if items is None or not all(isinstance(item, dict) for item in items):
        return None
    return cast("list[dict[str, Any]]", items)


def _decoded(content: bytes | str) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def nested(value: object, *path: str) -> object:
    """Follow keys through objects; None when the path leaves them."""
    for key in path:
        value = cast("dict[str, object]", value).get(key) if isinstance(value, dict) else None
    return value


def envelope_status(http_status: int, code: object) -> int:
    """The status of an answer in an envelope that repeats it, as an integer or in digits: the worse of the two counts.

    A body that says 400 inside a 200 is a refusal; a body that says 200 inside a 500 is not an acceptance.
    """
    if isinstance(code, str) and re.fullmatch(r"[0-9]{1,9}", code):
        code = int(code)
    if http_status // 100 == 2 and isinstance(code, int) and not isinstance(code, bool):
        return code
    return http_status


def says_404(http_status: int, code: object) -> bool:
    """Whether an envelope with this code says that something is not there. A 404 without it may be a proxy's that knows
    no such path: it says nothing of a job, in JSON or not."""
    return envelope_status(http_status, code) == 404 and code in (404, "404")


def answered_status(response: httpx.Response) -> int:
    """The status of the answer to a read: HTTP's, or the one that the envelope of a 2xx or its error repeats. The error
    of a task is not one of the answer."""
    body = json_object(response) or {}
    about_a_task = any(body.get(name) is not None for name in ("id", "status", "request_id"))
    inner = None if about_a_task else nested(body, "error", "code")
    return envelope_status(response.status_code, body.get("code") if inner is None else inner)


def task_id_of(value: object) -> str | None:
    """A task id fit to be stored and put into a URL, or None."""
    return value if isinstance(value, str) and _TASK_ID.fullmatch(value) else None


def safe_text(value: object) -> str:
    """A vendor's words made safe to show: one short line without links, keys or control characters."""
    text = _UNSAFE.sub(" ", _written(value)[:_READ_LENGTH])
    return " ".join(_LINK.sub("[removed]", text).split())[:SAFE_TEXT_LENGTH].rstrip()


def _written(value: object) -> str:
    try:
        return value if isinstance(value, str) else "" if value is None else str(value)
    except RecursionError:
        return ""


@dataclass(frozen=True)
class Answer:
    """What a vendor file found in the answer to a submission. `named` is the task id as it stands there, if any."""

    status: int
    named: object = None
    code: object = None
    words: object = None
    reported_units: Decimal | None = None


def outcome_of(
    table: Sequence[OutcomeRow], response: httpx.Response, answer: Answer, own_id: str = "id"
) -> SubmitOutcome:
    """Classify an understood answer. A 2xx with a usable id is an acceptance; anything else goes by the table.

    A refusal that names a task may be a task, also where the id stands in another place or under another name than the
    documented one: the whole answer is searched. What no row knows is ambiguous. `about` says whom a refusal concerns;
    `own_id` is what the vendor calls a job's id.
    """
    if 200 <= answer.status < 300:
        task_id = task_id_of(answer.named)
        if task_id is None:
            return SubmitOutcome("ambiguous", note="accepted without a usable task id")
        return SubmitOutcome("accepted", task_id, reported_units=answer.reported_units)
    if answer.named is not None or _names_a_task(response.content, own_id):
        return SubmitOutcome("ambiguous", note=f"status {str(answer.status)[:20]} that names a task")
    code, words = safe_text(answer.code), safe_text(answer.words)
    for row in table:
        if (
            _fits(row.code, code, whole=True)
            and _fits(row.words, words, whole=False)
            and re.fullmatch(row.http, str(answer.status)[:20])
        ):
            error = None if row.outcome == "ambiguous" else error_of(row.error, words or code)
            note = f"status {answer.status}" if row.outcome == "ambiguous" else ""
            unknown = row.outcome == "rejected" and answer.status == UNAUTHORIZED
            return SubmitOutcome(row.outcome, error=error, note=note, about=row.about, key_unknown=unknown)
    return SubmitOutcome("ambiguous", note=f"status {str(answer.status)[:20]}")


def failure_of(table: Sequence[FailureRow], code: object, words: object) -> ErrorInfo:
    """The error of a failed job: by the table, else `vendor_failed`, always with the vendor's words made safe."""
    code_text, words_text = safe_text(code), safe_text(words)
    text = ": ".join(filter(None, (code_text, words_text)))
    for row in table:
        if _fits(row.code, code_text, whole=True) and _fits(row.words, text, whole=False):
            return error_of(row.error, text)
    return error_of("vendor_failed", text)


def _fits(pattern: str | None, text: str, *, whole: bool) -> bool:
    match = re.fullmatch if whole else re.search
    return pattern is None or match(pattern, text, re.IGNORECASE) is not None


def not_understood(table: Sequence[OutcomeRow], response: httpx.Response, own_id: str = "id") -> SubmitOutcome:
    """The outcome of an answer that is not the vendor's JSON. Bytes were sent, so nobody may send them again, unless
    the table says of this status alone that nothing was taken: a proxy or a CDN speaks so for the vendor, in a page.
    About our key such a page says nothing."""
    status = response.status_code
    if status in STATUS_DECIDES:
        return replace(outcome_of(table, response, Answer(status), own_id), key_unknown=False)
    return SubmitOutcome("ambiguous", note=f"HTTP {status} without a JSON object")


def _names_a_task(content: bytes, own_id: str) -> bool:
    """Whether something that looks like the id of a task stands anywhere in an answer, whatever type it is sent as."""
    ids, left = _IDS | {_joined(own_id)}, [_decoded(content)]
    while left:
        value = left.pop()
        if isinstance(value, list):
            left += cast("list[object]", value)
        elif isinstance(value, dict):
            inside = cast("dict[str, object]", value)
            if any(_joined(name) in ids and _is_id(each) for name, each in inside.items()):
                return True
            left += inside.values()
    return False


def _joined(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name.lower())


def _is_id(value: object) -> bool:
    """A text or a number, usable to us or not: 0 and nothing name no task."""
    return bool(value.strip() if isinstance(value, str) else type(value) in (int, float) and value)


def number_of(value: object, most: Decimal = MOST_UNITS) -> Decimal | None:
    """A finite number that is not negative and not larger than `most`, from JSON; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = Decimal(str(value)[:40])
    except InvalidOperation:
        return None
    return number if number.is_finite() and 0 <= number <= most else None


def error_of(code: str, words: object = None) -> ErrorInfo:
    """An error of the catalogue with the vendor's words, made safe, behind it."""
    error, said = ErrorInfo.of(code), safe_text(words)
    return error.model_copy(update={"message": f"{error.message}{VENDOR_SAID}{said}"}) if said else error
