"""The table that an operator sees in the Temporal UI: facts of the run, no prompt, no secret."""

from datetime import UTC, datetime
from typing import Any

import pytest

from onetake.contracts import PHASES, Asset, Cost, ErrorInfo, GenerationRequest, GenerationResult, Persisted, Phase
from onetake.errors import VENDOR_SAID
from tests.providers.parts import PROMPT, plan_of, request_for
from workflows.details import details_of, without_quotes

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
    nothing: dict[str, Any] = {
        "generation_id": "",
        "plan": None,
        "task_id": None,
        "persisted": None,
        "error": None,
        "result": None,
        "canceled": False,
    }
    text = details_of(phase=phase, now=NOW, **{**nothing, **known})
    assert PROMPT not in text
    assert "canary" not in text
    head, line, *rows = text.split("\n")
    assert (head, line) == ("| | |", "|---|---|")
    cells = [row.removeprefix("| ").removesuffix(" |").split(" | ") for row in rows]
    assert all(len(cell) == 2 for cell in cells), "one name and one value in each row"
    return dict(cells)


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
    rows = _rows("generating", generation_id="gen_1", plan=PLAN, task_id="task_1")
    assert rows["Generation"] == "`gen_1`"
    assert rows["Route"] == "apixo/wan-2.6/text-to-video, 5 s, 720p"
    assert rows["Price"] == "$0.50 ($0.10 a second)"
    assert rows["Next read"] == "on a callback, else 30 s after acceptance, then every 10 to 15 s"
    assert rows["Deadline"] == "1800 s after acceptance"
    assert rows["Vendor's id"] == "`task_1`"


def test_a_vendor_without_callbacks_promises_none() -> None:
    rows = _rows("generating", plan=PLAN.model_copy(update={"callbacks": False}))
    assert rows["Next read"].startswith("30 s after acceptance")


def test_an_unknown_outcome_says_when_its_resolution_ends() -> None:
    assert _rows("resolving", plan=PLAN)["Resolution ends"] == "1800 s after it began"


def test_the_end_says_what_it_cost_and_where_the_clip_is_without_its_link() -> None:
    persisted = Persisted(assets=(CLIP,), manifest_key="acme/gen_1/1/manifest.json")
    rows = _rows("done", plan=PLAN, persisted=persisted, result=_result(assets=(CLIP,)))
    assert rows["Asset"] == "`acme/gen_1/1/0.mp4` (1.2 MB)"
    assert rows["Cost"] == "reserved $0.50, settled $0.50"
    assert "Price" not in rows


def test_suspense_is_shown_when_there_is_any() -> None:
    result = _result().model_copy(update={"cost": Cost(reserved_micros=500_000, suspense_micros=500_000)})
    assert _rows("done", result=result)["Cost"] == "reserved $0.50, settled $0.00, in suspense $0.50"


def test_an_error_says_what_to_do_and_a_cancellation_is_shown() -> None:
    error = ErrorInfo(code="vendor_failed", message="The vendor's render failed.", hint="Start again.")
    rows = _rows("settling", error=error, canceled=True)
    assert rows["Error"] == "`vendor_failed`: The vendor's render failed."
    assert rows["What to do"] == "Start again."
    assert rows["Cancel"] == "requested"


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
