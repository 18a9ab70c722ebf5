"""What a run orders of its activities."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from temporalio import workflow

from onetake.core.contracts import GenerationRequest
from providers.admission import RouteAdmission
from tests.providers.parts import settings
from workflows import orders
from workflows.state import GenerationState

REQUEST = GenerationRequest(route="apixo/wan-2.6/text-to-video", prompt="a fox", resolution="720p")


@pytest.mark.parametrize(("run_id", "may_be_sent"), [("one", False), ("another", True)])
def test_a_run_that_was_reset_may_have_been_sent_before(
    monkeypatch: pytest.MonkeyPatch, run_id: str, *, may_be_sent: bool
) -> None:
    now = datetime.now(UTC)
    info = SimpleNamespace(run_id=run_id, original_execution_run_id="one", workflow_id="w", start_time=now)
    monkeypatch.setattr(workflow, "info", lambda: info)
    monkeypatch.setattr(workflow, "now", lambda: now)
    plan = RouteAdmission(settings()).plan(REQUEST, base_queue="onetake")
    order = orders.submit(GenerationState(epoch="1-1"), REQUEST, plan)
    assert (order.epoch, order.may_be_sent) == ("1-1", may_be_sent)
