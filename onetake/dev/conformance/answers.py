"""Scenarios about reading answers: to a submission, to a status read, and the body of a callback.

The answers are the simulated vendor's own, and the same ones bent: another status, another leaf, cut in half.

It is over 400 lines because each scenario is a few lines, and all of them bend the same answers.
"""

import json
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import product

import httpx
from pydantic import JsonValue

from onetake.core.contracts import ErrorInfo
from onetake.core.ports import SubmitOutcome
from onetake.dev.conformance.patterns import leaves, replaced, sample_of
from onetake.dev.conformance.under_test import LINKS, VendorUnderTest, answer
from onetake.dev.simulator.vendor import REFUSED_ON_DEMAND, TASK_NOT_FOUND
from providers.catalogue import FailureRow, OutcomeRow
from providers.states import SYNONYMS, Meaning
from providers.vendor import STATUS_DECIDES

UNKNOWN = "submission_outcome_unknown"  # the code under which an ambiguous row stands
LONG_ID = "i" * 10_000
ODD_IDS: tuple[JsonValue, ...] = (None, 7, 0, "", " ", True, [], {}, "a b", "a/b", "a\nb", "ü", "a\x00", LONG_ID)
HOSTILE = (
    "see https://evil.example/?k=1 Bearer kit-secret-1 sk-kit-secret-2 \x1b[31m\u202e\u2028 " + "long " * 2000
)  # what no error of ours may repeat
HTML = b"<!doctype html><title>Sign in</title><h1>Please sign in to continue</h1>\n"
DEEP = b"[" * 100_000
_FIELDS = ("code", "error", "data", "id", "status")
_VALUES: tuple[JsonValue, ...] = (None, 1, "x", [], {}, [[]])
_PLAIN: tuple[JsonValue, ...] = (None, True, 0, -1, 1.5, 10**30, "", "text", [], {}, [{}], {"": None})
ANY_JSON: tuple[JsonValue, ...] = (*_PLAIN, *({name: value} for name, value in product(_FIELDS, _VALUES)))


# -- Submissions -------------------------------------------------------------------------------------------------------


async def a_receipt_is_an_acceptance(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """The vendor's receipt is an acceptance, with its task id."""
    job = await vendor.job()
    outcome = vendor.adapter.submit_outcome(answer(200, vendor.simulated.receipt(job, with_task_id=True)))
    if (outcome.outcome, outcome.vendor_task_id) != ("accepted", job.task_id):
        yield f"submit_outcome: a receipt for {job.task_id} is {outcome.outcome} {outcome.vendor_task_id or ''}"


async def a_receipt_without_an_id_is_ambiguous(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """A receipt without a task id is ambiguous: a paid job may exist."""
    receipt = vendor.simulated.receipt(await vendor.job(), with_task_id=False)
    outcome = vendor.adapter.submit_outcome(answer(200, receipt)).outcome
    if outcome != "ambiguous":
        yield f"submit_outcome: a receipt without an id must be ambiguous, and is {outcome}"


async def an_odd_id_is_ambiguous(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """A task id of another type, empty, of odd characters or of 10,000 of them is ambiguous, and is never stored."""
    job = await vendor.job()
    receipt = vendor.simulated.receipt(job, with_task_id=True)
    for odd in ODD_IDS:
        bent = receipt
        for path in _paths_to(receipt, job.task_id):
            bent = replaced(bent, path, odd)
        outcome = vendor.adapter.submit_outcome(answer(200, bent))
        if outcome.outcome != "ambiguous" or outcome.vendor_task_id is not None:
            yield f"submit_outcome: the id {repr(odd)[:20]} must be ambiguous, and is {outcome.outcome}: use task_id_of"


async def a_refusal_that_names_a_task_is_ambiguous(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """An error status over a receipt that names a task is no refusal: the task may exist. Nor is one whose receipt is
    not called JSON, or that names it under another name than the documented one."""
    job = await vendor.job()
    receipt, text = vendor.simulated.receipt(job, with_task_id=True), {"content-type": "text/plain"}
    for status in (400, 402, 429, 500, 502):
        error = vendor.simulated.error(status, "busy")
        task: JsonValue = {"task_id": job.task_id}
        renamed: JsonValue = {**error, "data": [task]} if isinstance(error, dict) else [error, task]
        as_text = httpx.Response(status, content=json.dumps(receipt), headers=text)
        for response in (answer(status, receipt), answer(status, renamed), as_text):
            if (outcome := vendor.adapter.submit_outcome(response).outcome) != "ambiguous":
                yield f"submit_outcome: HTTP {status} that names a task must be ambiguous, and is {outcome}: use own_id"


async def every_row_of_the_outcome_table_is_reached(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """Every row of its outcome table is what some error of the vendor becomes."""
    for row in vendor.facts.outcomes:
        wanted = (row.outcome, row.error)
        if not any(wanted == _read(vendor, status, body) for status, body in _errors_for(vendor, row)):
            shown = ", ".join(filter(None, (row.http, row.code, row.words)))
            yield f"outcomes ({shown}): no error of the vendor becomes {row.outcome} {row.error}; give Answer its code"


async def no_error_is_an_acceptance(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """Every error status becomes what a row for this status says, and never anything else."""
    for status in range(400, 600):
        allowed = {(row.outcome, row.error) for row in vendor.facts.outcomes if _fits(row, status)}
        found = _read(vendor, status, vendor.simulated.error(status, REFUSED_ON_DEMAND))
        if found not in allowed | {("ambiguous", UNKNOWN)}:
            yield f"submit_outcome: HTTP {status} is {' '.join(found)}, which no row of its status says"


async def a_server_error_is_ambiguous(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """A server error is ambiguous whatever it says, unless a row of the table says that its charge is refunded: nobody
    sends again what may have been accepted."""
    words = ["", "try again", *(sample_of(row.words) for row in vendor.facts.outcomes if row.words)]
    for status, text in product((500, 501, 502, 503, 504, 520, 599), words):
        for body in _with_words(vendor.simulated.error(status, text), text):
            outcome, error = _read(vendor, status, body)
            refunded = any(row.charged == "refunded" and row.error == error for row in _rows(vendor, status))
            if outcome != "ambiguous" and not refunded:
                yield f"submit_outcome: HTTP {status} ({text!r}) must be ambiguous, and is {outcome}"


async def a_status_alone_turns_away(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """A 401, 402, 403 or 429 turns a submission away whatever its body is: a page of a proxy, half a JSON, nothing."""
    whole = json.dumps(vendor.simulated.error(429, "too many requests")).encode()
    for status, (label, response) in product(sorted(STATUS_DECIDES), _garbage(whole)):
        bare = [row for row in _rows(vendor, status) if row.code is None and row.words is None]
        wanted = bare[0].outcome if bare else "ambiguous"
        outcome = vendor.adapter.submit_outcome(_under(response, status)).outcome
        if outcome != wanted:
            yield f"submit_outcome: {label} under {status} must be {wanted}, and is {outcome}: use not_understood"


async def too_many_requests_are_a_throttle(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """The vendor's own 429 for speed is a throttle: nothing was taken, the same order goes again."""
    found, error = _read(vendor, 429, vendor.simulated.error(429, "too many requests"))
    if found != "throttled":
        yield f"submit_outcome: a 429 must be throttled, and is {found} {error}"


async def an_error_inside_a_200_is_no_acceptance(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """An error inside a 200 is no acceptance; where its envelope repeats the status, it counts like that status."""
    for status in (400, 401, 402, 403, 404, 429, 500):
        body = vendor.simulated.error_in_200(status, REFUSED_ON_DEMAND)
        inside, outside = _read(vendor, 200, body), _read(vendor, status, body)
        if inside[0] == "accepted":
            yield f"submit_outcome: the error {status} inside a 200 is taken for an acceptance"
        repeated = any(leaf in (status, str(status)) and leaf is not True for _, leaf in leaves(body))
        if repeated and inside != outside:
            yield f"submit_outcome: the error {status} inside a 200 is {inside[0]}, by itself {outside[0]}"


async def what_is_not_understood_is_ambiguous(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """HTML, half a JSON, other JSON and nothing at all are ambiguous, under whatever status they come."""
    whole = json.dumps(vendor.simulated.receipt(await vendor.job(), with_task_id=True)).encode()
    for status, (label, response) in product((200, 201, 500, 502), _garbage(whole)):
        outcome = vendor.adapter.submit_outcome(_under(response, status)).outcome
        if outcome != "ambiguous":
            yield f"submit_outcome: {label} under {status} must be ambiguous, and is {outcome}"


async def any_answer_has_an_outcome(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """Any JSON, under any status, has an outcome; none without a task id is an acceptance."""
    receipt = vendor.simulated.receipt(await vendor.job(), with_task_id=False)
    for status, body in product((200, 400, 404, 429, 500, 999), (*ANY_JSON, *_bent(receipt))):
        outcome = vendor.adapter.submit_outcome(answer(status, body))
        if type(outcome) is not SubmitOutcome:
            yield f"submit_outcome: return a SubmitOutcome for {json.dumps(body)[:60]} under {status}"
        elif outcome.outcome == "accepted" and not _names_a_task(body):
            yield f"submit_outcome: {json.dumps(body)[:60]} under {status} is taken for an acceptance"


async def the_vendors_words_are_made_safe(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """The vendor's words are shown without links, keys, control characters, or more of them than fit on a line."""
    refusal = vendor.simulated.error(400, REFUSED_ON_DEMAND)
    _, failed = await vendor.status("failed")
    for path, leaf in [*leaves(refusal)]:
        if isinstance(leaf, str):
            outcome = vendor.adapter.submit_outcome(answer(400, replaced(refusal, path, HOSTILE)))
            if found := _unsafe(outcome.error, outcome.note):
                yield f"submit_outcome: pass the vendor's words through error_of: {found} is repeated"
    for path, leaf in [*leaves(failed)]:
        if isinstance(leaf, str):
            status = vendor.adapter.read_status(answer(200, replaced(failed, path, HOSTILE)))
            found = _unsafe(status.reading.error, status.reading.vendor_state or "") if status else ""
            if found:
                yield f"read_status: pass the vendor's words through error_of: {found} is repeated"


# -- Status reads ------------------------------------------------------------------------------------------------------


async def an_unfinished_job_is_open(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """A job that waits or renders is open, in the vendor's own word; so is one in a state that nobody documented."""
    for state in ("pending", "processing", "unknown"):
        _, body = await vendor.status(state)
        status = vendor.adapter.read_status(answer(200, body))
        if status is None or status.reading.state != "open" or not status.reading.vendor_state:
            yield f"read_status: a job that is {state} must be open, and is {status and status.reading.state}"


async def only_an_unknown_state_is_an_alarm(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """A state that nobody documented raises an alarm, those in `states` raise none."""
    for state in ("pending", "processing", "unknown"):
        _, body = await vendor.status(state)
        status = vendor.adapter.read_status(answer(200, body))
        if status is not None and bool(status.alarm) != (state == "unknown"):
            word = status.reading.vendor_state
            yield f"read_status: {word} {'has no' if state == 'unknown' else 'has an'} alarm: use status_of"


async def a_finished_job_has_its_links(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """A job that succeeded has its links, in their order; without one it is still a success, to be read again."""
    for links in (LINKS, (*LINKS, "https://media.example/kit/1.mp4"), ()):
        _, body = await vendor.status("success", links)
        status = vendor.adapter.read_status(answer(200, body))
        if status is None or (status.reading.state, status.links) != ("succeeded", tuple(links)):
            found = f"{status.reading.state} with {len(status.links)}" if status else "not understood"
            yield f"read_status: a success with {len(links)} links is {found}"


async def a_word_for_success_is_read_in_any_spelling(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """A clip under any word for success, in whatever spelling, is a success with its links."""
    _, body = await vendor.status("success", LINKS)
    for word in _spelled(vendor, "succeeded"):
        status = vendor.adapter.read_status(answer(200, replaced(body, vendor.simulated.state_at, word)))
        if status is None or (status.reading.state, status.links) != ("succeeded", LINKS):
            yield f"read_status: {word!r} with a link must be a success: use status_of"


async def a_word_for_failure_is_no_success(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """Any word for failure, in whatever spelling, is a failure, with or without a link."""
    for links in (LINKS, ()):
        _, body = await vendor.status("success", links)
        for word in (*_spelled(vendor, "failed"), *_spelled(vendor, "canceled")):
            status = vendor.adapter.read_status(answer(200, replaced(body, vendor.simulated.state_at, word)))
            if status is None or status.reading.state != "failed" or status.links:
                yield f"read_status: {word!r} with {len(links)} links must be a failure: use status_of"


async def a_clip_under_an_odd_word_is_shown(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """A clip under a word that nobody knows, or that says that the job is at work, is shown: an open job with links."""
    _, body = await vendor.status("success", LINKS)
    for word in ("KIT-REVIEWING", None, 7, *vendor.facts.states.open):
        status = vendor.adapter.read_status(answer(200, replaced(body, vendor.simulated.state_at, word)))
        if status is None or not status.shows_clip or status.links != LINKS or not status.alarm:
            yield f"read_status: {word!r} with a link must show it, with an alarm: use status_of"


async def links_are_found_in_any_shape(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """The links of a success are found as a text, a list, an object, a list of objects, and as JSON in a text."""
    _, body = await vendor.status("success", LINKS)
    (link,) = LINKS
    shapes: tuple[JsonValue, ...] = (link, [link], {"url": link}, {"urls": [link]}, [{"id": "0", "url": link}])
    for shape in (*shapes, *map(json.dumps, shapes)):
        status = vendor.adapter.read_status(answer(200, replaced(body, vendor.simulated.result_at, shape)))
        if status is None or status.links != LINKS:
            yield f"read_status: the links are not found in {json.dumps(shape)[:60]}: use links_of"


async def a_time_of_creation_is_the_jobs(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """The time at which the vendor made the job, where it is read, is right to the second."""
    job, body = await vendor.status("success", LINKS)
    status = vendor.adapter.read_status(answer(200, body))
    if status is not None and status.created_at is not None and abs(status.created_at - job.created_at) >= 1:
        yield f"read_status: created_at is {status.created_at}, and the job was made at {job.created_at}: use moment_of"


async def links_are_addresses(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """Only http and https addresses are links."""
    _, body = await vendor.status("success", ("file:///etc/passwd", "javascript:alert(1)", "not a link"))
    status = vendor.adapter.read_status(answer(200, body))
    if status is not None and status.links:
        yield f"read_status: {status.links[0]!r} is no link: use links_of"


async def a_failed_job_has_failed(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """A job that failed has failed, with an error of our catalogue."""
    _, body = await vendor.status("failed")
    status = vendor.adapter.read_status(answer(200, body))
    if status is None or status.reading.state != "failed" or status.reading.error is None:
        yield f"read_status: a failed job must have failed with an error, and is {status and status.reading.state}"


async def every_row_of_the_failure_table_is_reached(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """Every row of its failure table is what some failed job becomes; what no row knows is vendor_failed."""
    _, plain = await vendor.status("failed")
    rows = [*vendor.facts.failures, FailureRow(error="vendor_failed", source="what no row knows")]
    for row in rows:
        job = await vendor.job(_as_fail_code(sample_of(row.code)))
        bodies = [plain, vendor.simulated.status(job, "failed", ())]
        candidates = [bent for body in bodies for bent in _with_code_and_words(body, row)]
        if not any(_failure(vendor, body) == row.error for body in candidates):
            yield f"failures ({row.code or ''} {row.words or ''}): no failed job becomes {row.error}"


async def a_job_that_the_vendor_does_not_know_is_missing(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """The vendor's own answer for a task that it does not know is missing; a bare 404 is only an outage."""
    status = vendor.adapter.read_status(answer(404, vendor.simulated.error(404, TASK_NOT_FOUND)))
    if status is None or status.reading.state != "missing":
        yield f"read_status: an unknown task must be missing, and is {status and status.reading.state}"
    proxys: JsonValue = {"message": "no Route matched with those values"}
    for kind, response in (("HTML", httpx.Response(404, html=HTML.decode())), ("a proxy's JSON", answer(404, proxys))):
        if (bare := vendor.adapter.read_status(response)) is not None:
            yield f"read_status: a 404 in {kind} must be None, an outage, and is {bare.reading.state}"


async def an_outage_is_no_failure(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """Server errors, HTML, half a JSON and other JSON are an outage: never a failed job."""
    _, body = await vendor.status("success", LINKS)
    for status in (500, 502, 503):
        if (found := vendor.adapter.read_status(answer(status, vendor.simulated.error(status, "")))) is not None:
            yield f"read_status: HTTP {status} must be None, and is {found.reading.state}"
    for label, response in _garbage(json.dumps(body).encode()):
        if (found := vendor.adapter.read_status(response)) is not None:
            yield f"read_status: {label} must be None, and is {found.reading.state}"


async def an_answer_says_which_job_it_is_about(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """A status names its task, so that an answer about another one is not believed."""
    for state in ("processing", "success", "failed"):
        job, body = await vendor.status(state, LINKS)
        status = vendor.adapter.read_status(answer(200, body))
        if status is not None and status.vendor_task_id != job.task_id:
            yield f"read_status: vendor_task_id of a {state} job is {status.vendor_task_id}, not {job.task_id}"


async def nothing_odd_ends_a_job(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """Whatever one leaf of an open job's status is bent to, the job stays open or the answer is not understood."""
    _, body = await vendor.status("processing")
    for bent in _bent(body):
        status = vendor.adapter.read_status(answer(200, bent))
        if status is not None and status.reading.state != "open":
            yield f"read_status: {json.dumps(bent)[:80]} must not be {status.reading.state}"
    for http, body in product((200, 400, 404, 500), ANY_JSON):
        status = vendor.adapter.read_status(answer(http, body))
        if status is not None and status.reading.state in ("succeeded", "failed"):
            yield f"read_status: {json.dumps(body)[:60]} under {http} must not be {status.reading.state}"


# -- Callbacks ---------------------------------------------------------------------------------------------------------


async def a_callback_names_its_job(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """The body of a callback names its task and its state, which are hints and no more."""
    if not vendor.facts.vendor.callbacks:
        return
    for state in ("success", "failed"):
        job, body = await vendor.status(state, LINKS)
        hint = vendor.adapter.callback_hint(json.dumps(body).encode())
        if hint.task_id != job.task_id or not hint.state:
            yield f"callback_hint: of a {state} job it is {hint.task_id}, {hint.state}; the task is {job.task_id}"


async def any_callback_is_harmless(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """A callback of any bytes gives a hint or none, and never an odd id or an unsafe word."""
    job, body = await vendor.status("success", LINKS)
    bent = [json.dumps(each).encode() for each in (*ANY_JSON, *_bent(body))]
    for content in (b"", b"\xff\xfe", HTML, DEEP, json.dumps(body).encode()[:-3], *bent):
        hint = vendor.adapter.callback_hint(content)
        if hint.task_id not in {None, job.task_id, "x", "text"}:
            yield f"callback_hint: {repr(hint.task_id)[:40]} is no task id: use task_id_of"
        if hint.state and (len(hint.state) > 200 or "kit-secret" in hint.state):
            yield "callback_hint: pass the state through safe_text"


# -- Bending answers ---------------------------------------------------------------------------------------------------


def _read(vendor: VendorUnderTest, status: int, body: JsonValue) -> tuple[str, str]:
    outcome = vendor.adapter.submit_outcome(answer(status, body))
    return outcome.outcome, UNKNOWN if outcome.error is None else outcome.error.code


def _failure(vendor: VendorUnderTest, body: JsonValue) -> str | None:
    status = vendor.adapter.read_status(answer(200, body))
    return status.reading.error.code if status and status.reading.error else None


def _fits(row: OutcomeRow, status: int) -> bool:
    return re.fullmatch(row.http, str(status)) is not None


def _rows(vendor: VendorUnderTest, status: int) -> list[OutcomeRow]:
    return [row for row in vendor.facts.outcomes if _fits(row, status)]


def _spelled(vendor: VendorUnderTest, meaning: Meaning) -> list[str]:
    """The words of this meaning, unless the vendor's own table says something else of them, each in three spellings."""
    words = [*vendor.facts.states.documented(meaning), *SYNONYMS[meaning]]
    own = [word for word in words if vendor.facts.states.meaning(word) == meaning]
    return [spelled for word in own for spelled in (word, word.upper(), f" {word.title()}\n")]


def _errors_for(vendor: VendorUnderTest, row: OutcomeRow) -> Iterator[tuple[int, JsonValue]]:
    """Errors of the vendor that the row may be about: its statuses, with its code and its words at every place."""
    statuses = [status for status in range(400, 600) if _fits(row, status)][:4]
    details = ("", REFUSED_ON_DEMAND, TASK_NOT_FOUND, sample_of(row.words))
    for status, detail in product(statuses, details):
        body = vendor.simulated.error(status, detail)
        for bent in _with_code_and_words(body, row):
            yield status, bent


def _with_code_and_words(body: JsonValue, row: OutcomeRow | FailureRow) -> Iterator[JsonValue]:
    yield body
    codes = [*_with_words(body, sample_of(row.code))] if row.code else [body]
    for coded in codes:
        yield coded
        yield from _with_words(coded, sample_of(row.words)) if row.words else ()


def _with_words(body: JsonValue, text: str) -> Iterator[JsonValue]:
    """The answer with a text in the place of each of its texts and numbers in turn."""
    for path, leaf in leaves(body):
        if leaf is None or isinstance(leaf, str | int | float):
            yield replaced(body, path, text)


def _as_fail_code(sample: str) -> str:
    return sample if sample[:1].isalpha() else "ProviderError"


def _paths_to(body: JsonValue, leaf: JsonValue) -> list[Sequence[str | int]]:
    return [path for path, found in leaves(body) if found == leaf]


def _bent(body: JsonValue) -> Iterator[JsonValue]:
    """The answer with every leaf bent in turn, and with every field left out."""
    others: tuple[JsonValue, ...] = (*ODD_IDS, HOSTILE, 999, -1, {"a": [1]})
    for (path, _), other in product([*leaves(body)], others):
        yield replaced(body, path, other)


def _garbage(whole: bytes) -> Iterable[tuple[str, httpx.Response]]:
    json_type = {"content-type": "application/json"}
    yield "HTML", httpx.Response(200, content=HTML, headers={"content-type": "text/html"})
    yield "HTML called JSON", httpx.Response(200, content=HTML, headers=json_type)
    yield "JSON called HTML", httpx.Response(200, content=whole, headers={"content-type": "text/html"})
    yield "half a JSON", httpx.Response(200, content=whole[: len(whole) // 2], headers=json_type)
    yield "JSON that nests too deep", httpx.Response(200, content=DEEP, headers=json_type)
    for label, content in (("nothing", b""), ("bytes", b"\xff\x00\xfe"), ("a list", b"[]"), ("null", b"null")):
        yield label, httpx.Response(200, content=content, headers=json_type)
    yield "a text", httpx.Response(200, content=b'"ok"', headers=json_type)
    yield "an empty object", httpx.Response(200, content=b"{}", headers=json_type)


def _under(response: httpx.Response, status: int) -> httpx.Response:
    return httpx.Response(status, content=response.content, headers=response.headers)


def _names_a_task(body: JsonValue) -> bool:
    """Whether bending a receipt put a text where a task's id stands: one that fits is an id like any other."""
    return any(leaf == "x" for _, leaf in leaves(body))


def _unsafe(error: ErrorInfo | None, note: str) -> str:
    shown = f"{error.message if error else ''} {note}"
    unsafe = ("evil.example", "kit-secret-1", "kit-secret-2", "\x1b", "\u202e", "\u2028", "long " * 100)
    return next((repr(text)[:30] for text in unsafe if text in shown), "")
