"""Which answers and errors end a phase, and what is told of it."""

import json
import logging
from collections.abc import Generator
from dataclasses import replace
from io import StringIO

import pytest
from temporalio.testing import ActivityEnvironment

from onetake.core import logs
from onetake.core.contracts import (
    Asset,
    Cost,
    ErrorInfo,
    GenerationRequest,
    GenerationResult,
    InspectInput,
    Persisted,
    PersistInput,
    ReadInput,
    Reserved,
    ReserveInput,
    ResolveInput,
    SettleInput,
    StatusReading,
    Submission,
    SubmitInput,
    Validated,
    ValidateInput,
)
from onetake.core.errors import Failed, Refused, TryLater
from onetake.core.ids import new_generation_id
from onetake.engine import measuring
from onetake.engine.measuring import Told, ends_of
from tests.providers.parts import plan_of, request_for

PLAN = plan_of(request_for())
GENERATION = new_generation_id()
REQUEST = GenerationRequest(route=PLAN.route, prompt="CANARY-prompt", tenant="acme")
WITH_MEDIA = REQUEST.model_copy(update={"image": "https://example.com/CANARY.png"})
VALIDATE = ValidateInput(request=REQUEST, workflow_id="w", run_id="r")
RESERVE = ReserveInput(
    generation_id=GENERATION, attempt=1, tenant="acme", user=None, feature=None, route=PLAN.route,
    vendor=PLAN.vendor, price=PLAN.price,
)  # fmt: skip
SUBMIT = SubmitInput(generation_id=GENERATION, attempt=1, workflow_id="w", plan=PLAN, request=REQUEST, waited_s=7.0)
RESOLVE = ResolveInput(generation_id=GENERATION, attempt=1, plan=PLAN)
READ = ReadInput(generation_id=GENERATION, attempt=1, plan=PLAN, vendor_task_id="t", elapsed_s=5.0)
PERSIST = PersistInput(generation_id=GENERATION, attempt=1, tenant="acme", plan=PLAN, vendor_task_id="t", elapsed_s=5.0)
WOKEN = PERSIST.model_copy(update={"woken": True})
SETTLE = SettleInput(generation_id=GENERATION, attempt=1, tenant="acme", status="completed", resolution="post")
ASSET = Asset(
    key="k", sha256="0" * 64, size_bytes=9, content_type="video/mp4", duration_s=5, width=1, height=1, fps=1,
    codec="h264", has_audio=False,
)  # fmt: skip
RESULT = GenerationResult(
    id=GENERATION, status="completed", phase="done", route=PLAN.route, workflow_id="w",
    cost=Cost(reserved_micros=500, settled_micros=400),
)  # fmt: skip
NOT_NOW = ErrorInfo.of("vendor_throttled")
OPEN = StatusReading(state="open", vendor_state="running")
OVER = StatusReading(state="succeeded", vendor_state="done")
BROKEN = StatusReading(state="failed", vendor_state="failed", error=ErrorInfo.of("content_rejected"))


def reading(state: str) -> StatusReading:
    return OPEN.model_copy(update={"state": state})


@pytest.mark.parametrize(
    ("order", "answer", "expected"),
    [
        (VALIDATE, Validated(generation_id=GENERATION, plan=PLAN), ["validating done"]),
        (VALIDATE, Validated(generation_id=GENERATION, error=NOT_NOW), ["validating refused vendor_throttled"]),
        (VALIDATE, Refused("request_invalid"), ["validating refused request_invalid"]),
        (VALIDATE.model_copy(update={"request": WITH_MEDIA}), Validated(generation_id=GENERATION, plan=PLAN), []),
        (
            InspectInput(generation_id=GENERATION, request=WITH_MEDIA, plan=PLAN),
            Validated(generation_id=GENERATION, plan=PLAN),
            ["validating done"],
        ),
        (RESERVE, Reserved(amount_micros=500, budgets=1), ["reserving done"]),
        (RESERVE, Reserved(amount_micros=0, budgets=0, waits_for=NOT_NOW), []),
        (RESERVE, Refused("budget_exceeded"), ["reserving refused budget_exceeded"]),
        (RESERVE, TryLater("ledger_unavailable"), []),
        (SUBMIT, Submission(state="accepted", vendor_task_id="t"), ["submitting accepted"]),
        (SUBMIT, Submission(state="rejected", error=NOT_NOW), ["submitting rejected vendor_throttled"]),
        (SUBMIT, Submission(state="ambiguous"), ["submitting ambiguous"]),
        (SUBMIT, Submission(state="sending"), ["submitting ambiguous"]),
        (SUBMIT, Submission(state="not_sent", error=NOT_NOW), []),
        (SUBMIT, Submission(state="not_sent", error=ErrorInfo.of("canceled")), ["submitting canceled canceled"]),
        (SUBMIT, TryLater("vendor_throttled"), []),
        (SUBMIT, Failed("vendor_unreachable"), ["submitting failed vendor_unreachable"]),
        (SUBMIT, Failed("records_lost"), []),
        (RESOLVE, Submission(state="accepted", vendor_task_id="t"), ["resolving accepted"]),
        (RESOLVE, Submission(state="ambiguous"), ["resolving ambiguous"]),
        (RESOLVE.model_copy(update={"doubted": True}), Submission(state="accepted", vendor_task_id="t"), []),
        (READ, OPEN, []),
        (READ, OVER, ["generating done"]),
        (READ, BROKEN, ["generating failed content_rejected"]),
        (READ, reading("missing"), ["generating failed vendor_task_lost"]),
        (READ, Failed("vendor_protocol_error"), []),
        (WOKEN, Persisted(reading=OPEN), []),
        (WOKEN, Persisted(reading=BROKEN), ["generating failed content_rejected"]),
        (WOKEN, Persisted(reading=OVER, assets=(ASSET,)), ["generating done", "persisting done"]),
        (PERSIST, Persisted(reading=OVER, assets=(ASSET,)), ["persisting done"]),
        (PERSIST, Failed("asset_url_blocked"), ["persisting failed asset_url_blocked"]),
        (PERSIST, Failed("vendor_failed"), []),
        (SETTLE, RESULT, ["settling done", "done completed"]),
        (SETTLE, TryLater("ledger_unavailable"), []),
        ("anything else", RESULT, []),
    ],
)
def test_what_ends_a_phase(order: object, answer: object, expected: list[str]) -> None:
    ends = ends_of(order, answer, tenant="acme")
    assert [" ".join(filter(None, (end.phase, end.outcome, end.code))) for end in ends] == expected
    assert all((end.tenant, end.generation_id) in {("acme", GENERATION), ("acme", "")} for end in ends)


def test_what_was_waited_before_is_part_of_the_phase() -> None:
    assert ends_of(SUBMIT, Submission(state="ambiguous"))[0].before_s == 7.0
    generating, persisting = ends_of(WOKEN, Persisted(reading=OVER, assets=(ASSET,)))
    assert (generating.seconds, persisting.seconds, persisting.before_s) == (5.0, None, 0.0)


def test_an_end_is_new_once_and_the_oldest_are_forgotten() -> None:
    told = Told(most=2)
    assert told.is_new("run", "settling")
    assert not told.is_new("run", "settling")
    assert told.is_new("run", "done")
    assert told.is_new("other", "settling")
    assert told.is_new("run", "settling")


@pytest.fixture
def lines() -> Generator[StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = StringIO()
    logs.configure("info", stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def tell(order: object, answer: object) -> None:
    environment = ActivityEnvironment()
    ids = {"workflow_id": "gen/acme/x", "workflow_run_id": str(new_generation_id())}
    environment.info = replace(ActivityEnvironment.default_info(), workflow_type="Generation", **ids)
    environment.run(measuring.tell, order, answer, 0.0)


def test_the_line_has_ids_and_numbers_and_no_text_of_the_request(lines: StringIO) -> None:
    tell(SUBMIT, Submission(state="accepted", vendor_task_id="t", reported_micros=3))
    tell(VALIDATE, Validated(generation_id=GENERATION, plan=PLAN))
    assert "CANARY" not in lines.getvalue()
    first, _ = (json.loads(line) for line in lines.getvalue().splitlines())
    assert first.pop("duration_s") >= 7.0
    assert {name: first[name] for name in ("event", "generation_id", "tenant", "vendor", "phase", "outcome")} == {
        "event": "phase_ended",
        "generation_id": GENERATION,
        "tenant": "acme",
        "vendor": PLAN.vendor,
        "phase": "submitting",
        "outcome": "accepted",
    }
    assert (first["code"], first["amount_micros"], "dropped" in first) == (None, 3, False)


def test_what_goes_wrong_with_measuring_costs_the_activity_nothing(lines: StringIO) -> None:
    tell(RESERVE, "no answer of ours")
    assert "not_measured" in lines.getvalue()
