"""What an answer about a job says: the meaning of its status word, and the links of its clip in whatever shape.

The vendor's documented words and shapes come first. Vendors change both without notice, and a job that is paid for is
not given up for a spelling: known synonyms and other shapes are read too, with an alarm for operators.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final, Literal, cast

from onetake.core.contracts import StatusReading
from onetake.core.ports import VendorStatus
from providers.catalogue import VendorData
from providers.states import folded
from providers.vendor import failure_of, nested, number_of, safe_text, task_id_of

UNKNOWN: Final = "vendor_state_unknown"  # a word that nobody knows
UNDOCUMENTED: Final = "vendor_state_undocumented"  # a word that only synonyms explain, or another spelling
CONTRADICTED: Final = "vendor_state_contradicted"  # a word against a link, or against an error

NOT_SHOWN: Final = "not a word"  # in the place of a word that may repeat what was sent

State = Literal["open", "succeeded", "failed"]

MOST_LINKS: Final = 64
MOST_DEPTH: Final = 6
_MOST_TEXT: Final = 256 * 1024
_MOST_UNIX_MS: Final = Decimal(10**13)
_MILLISECONDS_FROM: Final = Decimal(10**11)  # the year 5138 in seconds

# Where clips stand. Of an object the first of these that holds one counts: the others name the same clip again, or its
# picture, or what was sent.
_RESULTS: Final = (
    *("results", "result", "outputs", "output", "outcome", "response", "resultJson", "result_json", "resultUrls"),
    *("result_urls", "media_urls", "videos", "video", "video_url", "videoUrl"),
)
_INSIDE: Final = (*_RESULTS, "urls", "url", "files", "file", "download_url")
_WORD: Final = re.compile(r"[A-Za-z_-]{1,32}")
_LINK: Final = re.compile(r"https?://[^\s/][^\s]*")
_NO_ERROR: Final = frozenset({"", "0", "200", "ok", "success", "none", "null", "false"})
_NO_CLIP: Final = ("image", "audio", "text")


@dataclass(frozen=True)
class Job:
    """What a vendor file found in an answer about a job. `named` is the task id as it stands there, `code` and `words`
    are those of an explicit error, `created_at` the vendor's time of its creation in Unix seconds."""

    word: object
    named: object = None
    links: tuple[str, ...] = ()
    code: object = None
    words: object = None
    reported_units: Decimal | None = None
    cost_unusable: bool = False
    refunded: bool | None = None
    created_at: float | None = None

    @property
    def has_error(self) -> bool:
        return any(folded(safe_text(said)) not in _NO_ERROR for said in (self.code, self.words))


def status_of(facts: VendorData, job: Job) -> VendorStatus:
    """What an answer about a job means.

    A word that means failure is never a success, with or without a link. A success without a link but with an error has
    failed, and what it costs is in doubt. A word that only a synonym explains ends a job when the answer also names the
    job, or holds the clip; so does a word for success in another spelling. What a failure by a synonym costs is in
    doubt, too: documents speak of their own words. Any other word is an open job; where it comes with a link, `links`
    has it, and whoever sees that twice may take the clip.
    """
    state, alarm = _judged(facts, job)
    reading = StatusReading(state=state, vendor_state=_shown_word(facts, job.word))
    links = () if state == "failed" else job.links
    if state == "failed":
        code = job.word if facts.states.meaning(job.word) == "canceled" and not safe_text(job.code) else job.code
        refunded = False if job.refunded is None and _is_success(facts, job) else job.refunded
        error = failure_of(facts.failures, code, job.words)
        by_synonym = not facts.states.is_documented_somehow(job.word)
        reading = reading.model_copy(update={"error": error, "refunded": refunded, "by_synonym": by_synonym})
    return VendorStatus(
        reading,
        links,
        task_id_of(job.named),
        reported_units=None if state == "open" else job.reported_units,
        cost_unusable=job.cost_unusable,
        alarm=alarm,
        still_working=facts.states.meaning(job.word) == "open",
        created_at=job.created_at,
    )


def _judged(facts: VendorData, job: Job) -> tuple[State, str]:
    """Our state, and the alarm for operators where the vendor does not keep to its documents."""
    meaning, documented = facts.states.meaning(job.word), facts.states.is_documented_somehow(job.word)
    alarm = "" if facts.states.is_documented(job.word) else UNKNOWN if meaning is None else UNDOCUMENTED
    certain = documented or task_id_of(job.named) is not None
    match meaning:
        case "failed" | "canceled" if certain:
            return "failed", CONTRADICTED if job.links else alarm
        case "succeeded" if job.links:
            return "succeeded", CONTRADICTED if job.has_error else alarm
        case "succeeded" if job.has_error and certain:
            return "failed", CONTRADICTED
        case "succeeded" if not alarm:
            return "succeeded", alarm
        case "open":
            return "open", CONTRADICTED if job.links else alarm
        case _:
            return "open", alarm


def _shown_word(facts: VendorData, word: object) -> str:
    """A status word as logs and failure texts may show it. What is neither known nor one short word may be anything
    (`moderating: PROMPT`), and is not shown."""
    text = safe_text(word)
    if text and facts.states.meaning(word) is None and not _WORD.fullmatch(text):
        return NOT_SHOWN
    return text or "none"


def _is_success(facts: VendorData, job: Job) -> bool:
    return facts.states.meaning(job.word) == "succeeded"


def links_of(*places: object) -> tuple[str, ...]:
    """The http(s) links of the first place that holds any, in their order, each once: a text, a list, an object, lists
    of objects, or any of these as JSON inside a text. Total, and bounded in depth and number."""
    for place in places:
        if found := tuple(dict.fromkeys(_first(_links(place, MOST_DEPTH), MOST_LINKS))):
            return found
    return ()


def results_in(job: Mapping[str, object]) -> tuple[str, ...]:
    """The links in a job's own fields that are known to hold results, for a vendor that moved them."""
    return links_of(*(job.get(name) for name in _RESULTS))


def _links(value: object, depth: int) -> Iterator[str]:
    if depth == 0:
        return
    if isinstance(value, str):
        yield from _links_in_text(value.strip(), depth)
    elif isinstance(value, list):
        for item in cast("list[object]", value)[: 4 * MOST_LINKS]:
            yield from _links(item, depth - 1)
    elif isinstance(value, dict):
        yield from _links_in_object(cast("dict[str, object]", value), depth)


def _links_in_text(text: str, depth: int) -> Iterator[str]:
    if _LINK.fullmatch(text):
        yield text
    elif text[:1] in ("[", "{", '"') and len(text) <= _MOST_TEXT:
        try:
            inner: object = json.loads(text)
        except (ValueError, RecursionError):
            return
        yield from _links(inner, depth - 1)


def _links_in_object(value: dict[str, object], depth: int) -> Iterator[str]:
    kinds = (value.get(name) for name in ("type", "content_type", "mime_type"))
    if any(isinstance(kind, str) and kind.lower().startswith(_NO_CLIP) for kind in kinds):
        return
    for name in _INSIDE:
        if found := [*_links(value.get(name), depth - 1)]:
            yield from found
            return


def _first(found: Iterator[str], most: int) -> Iterator[str]:
    for _, each in zip(range(most), found, strict=False):
        yield each


def moment_of(value: object) -> float | None:
    """A time in Unix seconds: from seconds, milliseconds, or ISO 8601 with a zone; None for anything else."""
    number = number_of(value, _MOST_UNIX_MS)
    if number is not None:
        return float(number / 1000 if number >= _MILLISECONDS_FROM else number) or None
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
        return moment.timestamp() if moment is not None and moment.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def error_in(value: object) -> tuple[object, object]:
    """Code and words of an explicit error: an object with `code` and `message`, or a text."""
    if isinstance(value, dict):
        return nested(cast("object", value), "code"), nested(cast("object", value), "message")
    return None, value if isinstance(value, str) else None
