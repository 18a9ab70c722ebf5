"""The table that an operator sees in the Temporal UI: facts of the run, no prompt, no secret."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from onetake.core.contracts import (
    Asset,
    Cost,
    ErrorInfo,
    GenerationRequest,
    GenerationResult,
    Notice,
    Persisted,
    StatusReading,
)
from onetake.core.errors import VENDOR_SAID
from onetake.core.names import PHASES, Phase
from providers.vendor import error_of
from tests.providers.parts import PROMPT, plan_of, request_for
from workflows.details import details_of, without_quotes
from workflows.state import GenerationState

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PLAN = plan_of(request_for())
CLIP = Asset(
    key="acme/gen_1/1/0.mp4",
    url="https://bucket.example/signed?secret=canary",
    sha256="0" * 64,
    size_bytes=1_234_567,
    content_type="video/mp4",
    duration_s=5,
    width=1280,
    height=720,
    fps=24,
    codec="h264",
    has_audio=True,
)
COST = Cost(reserved_micros=500_000, settled_micros=500_000)


def _rows(phase: Phase, **known: Any) -> dict[str, str]:
    """The table as a dictionary, after a look at its form."""
    text = details_of(GenerationState(phase=phase, since=NOW, **known))
    assert PROMPT not in text
    assert "canary" not in text
    assert "$" not in text.replace("\\$", ""), "the UI reads a pair of them as mathematics"
    head, line, *rows = text.split("\n")
    assert (head, line) == ("| | |", "|---|---|")
    cells = [row.removeprefix("| ").removesuffix(" |").split(" | ") for row in rows]
    assert all(len(cell) == 2 for cell in cells), "one name and one value in each row"
    names = [name.strip("*\N{EM SPACE}").replace("\N{NO-BREAK SPACE}", " ") for name, _ in cells]
    return {name: text.replace("\\$", "$") for name, (_, text) in zip(names, cells, strict=True)}


def _result(**named: Any) -> GenerationResult:
    return GenerationResult(
        id="gen_1", status="completed", phase="done", route=PLAN.route, cost=COST, workflow_id="gen/acme/gen_1", **named
    )


@pytest.mark.parametrize("phase", PHASES)
def test_every_phase_says_what_is_being_done(phase: Phase) -> None:
    rows = _rows(phase)
    assert rows["Phase"].startswith(f"**{phase}**: ")
    assert rows["Since"] == "2026-01-02 03:04:05 UTC"
    assert set(rows) == {"Phase", "Since"}


def test_waiting_says_when_the_next_read_comes_and_when_it_ends() -> None:
    due = NOW + timedelta(seconds=30)
    rows = _rows("generating", generation_id="gen_1", plan=PLAN, task_id="task_1", next_read_at=due)
    assert rows["Generation"] == "`gen_1`"
    assert rows["Route"] == "apixo/wan-2.6/text-to-video, 5 s, 720p"
    assert rows["Price"] == "$0.50 ($0.10 a second)"
    assert rows["Next read"] == "on a callback, else at 2026-01-02 03:04:35 UTC"
    assert rows["Deadline"].startswith("2026-01-02 03:34:05 UTC, then it ends as failed")
    assert rows["Vendor's id"] == "`task_1`"


def test_a_vendor_without_callbacks_promises_none() -> None:
    rows = _rows("generating", plan=PLAN.model_copy(update={"callbacks": False}), next_read_at=NOW)
    assert rows["Next read"] == "at 2026-01-02 03:04:05 UTC"


def test_a_callback_says_that_the_vendor_is_asked_now() -> None:
    rows = _rows("generating", plan=PLAN, woken_at=NOW)
    assert rows["Next read"].startswith("now, for a callback came at 2026-01-02 03:04:05 UTC")


def test_waiting_says_what_the_vendor_said_last_or_why_it_could_not_be_asked() -> None:
    reading = StatusReading(state="open", vendor_state="REVIEWING")
    assert _rows("generating", plan=PLAN, reading=reading)["Vendor says"] == "REVIEWING"
    refusal = ErrorInfo(code="vendor_auth", message="HTTP 401", hint="Mend the key.")
    assert _rows("generating", plan=PLAN, reading=reading, refusal=refusal)["Last read"] == "`vendor_auth`: HTTP 401"


def test_a_job_that_the_vendor_does_not_take_yet_says_why() -> None:
    busy = ErrorInfo(code="vendor_throttled", message="Too many.", hint="")
    assert _rows("submitting", plan=PLAN, waits_for=busy)["Waiting"] == "`vendor_throttled`: Too many."


def test_an_unknown_outcome_says_when_its_resolution_ends_and_how() -> None:
    rows = _rows("resolving", plan=PLAN)
    assert rows["Deadline"] == "2026-01-02 03:34:05 UTC, then it ends as failed with the amount in suspense"


@pytest.mark.parametrize(
    ("facts", "asked"),
    [
        ({}, "our own row, then callbacks with our token"),
        (
            {"callbacks": False, "lists_jobs": True},
            "our own row, then the vendor's list (exactly one job like ours, seen twice 120 s apart)",
        ),
        (
            {"reads_balance": True, "absence_window_s": 6},
            "our own row, then callbacks with our token, then our balance there (unmoved, read twice 6 s apart)",
        ),
    ],
)
def test_an_unknown_outcome_says_what_is_asked(facts: dict[str, object], asked: str) -> None:
    assert _rows("resolving", plan=PLAN.model_copy(update=facts))["Asking"] == asked


def test_the_end_says_what_it_cost_and_where_the_clip_is_without_its_link() -> None:
    reading = StatusReading(state="succeeded", vendor_state="success")
    persisted = Persisted(reading=reading, assets=(CLIP,), manifest_key="acme/gen_1/1/manifest.json")
    rows = _rows("done", plan=PLAN, persisted=persisted, result=_result(assets=(CLIP,)))
    assert rows["Phase"] == "**done**: completed"
    assert rows["Asset"] == "`acme/gen_1/1/0.mp4` (1.2 MB, 5.0 s, 1280x720)"
    assert rows["Fetch it"] == "`onetake download gen_1`"
    assert rows["Cost"] == "reserved $0.50, settled $0.50"
    assert "Price" not in rows


def test_what_was_recorded_counts_when_a_run_is_reset() -> None:
    late = ErrorInfo(code="canceled", message="It has ended.", hint="")
    assert "Error" not in _rows("done", result=_result(), error=late)
    timeout = ErrorInfo(code="vendor_timeout", message="Too late.", hint="Ask.")
    assert _rows("done", result=_result(error=timeout), error=late)["Error"] == "`vendor_timeout`: Too late."


@pytest.mark.parametrize(
    ("cost", "shown"),
    [
        (Cost(), "nothing"),
        (Cost(reserved_micros=500_000), "reserved $0.50, released $0.50"),
        (Cost(reserved_micros=500_000, suspense_micros=500_000), "reserved $0.50, in suspense $0.50"),
        (Cost(reserved_micros=500_000, settled_micros=400_000), "reserved $0.50, settled $0.40, released $0.10"),
    ],
)
def test_the_cost_says_where_every_part_of_the_reservation_went(cost: Cost, shown: str) -> None:
    assert _rows("done", result=_result().model_copy(update={"cost": cost}))["Cost"] == shown


def test_an_error_says_what_to_do_and_a_cancellation_is_shown() -> None:
    error = ErrorInfo(code="vendor_failed", message="The vendor's render failed.", hint="Start again.")
    rows = _rows("settling", error=error, canceled=True)
    assert rows["Error"] == "`vendor_failed`: The vendor's render failed."
    assert rows["What to do"] == "Start again."
    assert rows["Cancel"] == "requested"


def test_an_error_that_may_still_be_cured_asks_for_nothing() -> None:
    error = ErrorInfo(code="submission_outcome_unknown", message="It is not known.", hint="Ask the vendor.")
    rows = _rows("resolving", plan=PLAN, error=error)
    assert rows["Error"] == "`submission_outcome_unknown`: It is not known."
    assert "What to do" not in rows


def test_a_text_of_others_stays_text_in_its_cell() -> None:
    words = "see [here](x) ![](y) <b> a | b\n$1 and $2 `c` *d*"
    rows = _rows("done", error=ErrorInfo(code="vendor_failed", message=words, hint=""))
    assert rows["Error"] == r"`vendor_failed`: see \[here\](x) !\[\](y) \<b> a \| b $1 and $2 \`c\` \*d\*"


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("your prompt 'A Fox walking through neon rain' is unsafe", False),
        ("we do not serve this model", True),
        ("fox", True),
    ],
)
def test_a_vendor_that_repeats_the_prompt_is_not_quoted(words: str, kept: bool) -> None:
    request = GenerationRequest(route="a/b/c", prompt="a fox walking through neon rain")
    error = ErrorInfo(code="content_rejected", message=f"Refused.{VENDOR_SAID}{words}", hint="")
    assert (words in without_quotes(error, request).message) is kept
    ours = ErrorInfo(code="request_invalid", message="/prompt: a fox walking through neon rain", hint="")
    assert without_quotes(ours, request) == ours


@pytest.mark.parametrize(
    "prompt",
    [
        "our secret\nlaunch of the\norange phone\non stage\nin berlin",
        "our secret  launch of  the orange  phone on  stage in  berlin",
        "our \u201csecret\u201d launch \u2013 of the orange phone\u2019s debut \u2014 on stage",
        "don\u2019t show the CEO\u2019s new robot\u2019s face, it\u2019s secret, we\u2019re not ready",
        "một con cáo đỏ chạy dưới mưa neon ở thành phố lúc nửa đêm",
        "ein \u201csüßer Fuchs\u201d",
    ],
)
def test_a_prompt_that_was_made_safe_to_show_is_still_known(prompt: str) -> None:
    error = error_of("content_rejected", f"prompt violates policy: {prompt}")
    quoted = without_quotes(error, GenerationRequest(route="a/b/c", prompt=prompt)).message
    assert quoted.endswith("Its words repeat the prompt and are left out.")
    other = GenerationRequest(route="a/b/c", prompt="夜の街を歩く狐、policy ネオンの雨に濡れた石畳")
    assert without_quotes(error, other) == error, "a word in common is no quotation"


def test_a_cost_that_a_person_must_book_is_told() -> None:
    notices = (
        Notice(code="vendor_cost_in_review", message="the vendor reports $9.00"),
        Notice(code="x", message="else"),
    )
    rows = _rows("done", plan=PLAN, result=_result(warnings=notices))
    assert rows["In review"] == "the vendor reports $9.00"
    assert "else" not in str(rows)
