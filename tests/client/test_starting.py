"""A start whose answer is lost: what may be said of it, and in what order Temporal's answers come."""

from collections.abc import Iterator
from typing import Any, cast

import pytest
from pydantic import SecretStr
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from onetake.core.contracts import GenerationRequest
from onetake.core.errors import Failed, TryLater
from onetake.core.settings import Settings
from onetake.engine import starting
from onetake.engine.starting import StartRefused, start_run
from providers.admission import RouteAdmission

ID = "gen/default/gen_1"
REQUEST = GenerationRequest(route="apixo/wan-2.6/text-to-video", prompt="a harbour", duration_s=5, resolution="720p")
LOST = ("DEADLINE_EXCEEDED", "UNAVAILABLE", "CANCELLED", "UNKNOWN", "INTERNAL", "ABORTED")
REFUSALS = sorted(starting.REFUSED_STARTS)


class Engine:
    """Temporal's answers to the tries in their order, and what it says of the run when it is looked for. The last
    answer stands for all that follow."""

    def __init__(self, *answers: str, there: str = "NOT_FOUND") -> None:
        self._answers: Iterator[str] = iter(answers)
        self._last = answers[-1]
        self._there = there
        self.tries = 0

    async def start_workflow(self, *_: object, **__: object) -> None:
        self.tries += 1
        answer = next(self._answers, self._last)
        if answer == "ALREADY_STARTED":
            raise WorkflowAlreadyStartedError(ID, "Generation")
        if answer != "OK":
            raise rpc_error(answer)

    def get_workflow_handle(self, workflow_id: str) -> "Engine":
        assert workflow_id == ID
        return self

    async def describe(self, **_: object) -> None:
        if self._there != "OK":
            raise rpc_error(self._there)


def rpc_error(status: str) -> RPCError:
    return RPCError("what it said", RPCStatusCode[status], b"")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setattr(starting, "START_RETRY_S", 0.0)


async def start(engine: Engine) -> None:
    settings = Settings(_env_file=None, apixo_api_key=SecretStr("a key"))  # pyright: ignore[reportCallIssue]
    plan = RouteAdmission(settings).plan(REQUEST, base_queue="onetake")
    await start_run(cast("Any", engine), ID, REQUEST, plan, task_queue="onetake")


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("lost", LOST)
async def test_a_refusal_after_a_lost_answer_is_not_called_nothing_started(lost: str, refusal: str) -> None:
    with pytest.raises(Failed) as caught:
        await start(Engine(lost, refusal))
    assert caught.value.code == "start_outcome_unknown"
    assert ID in caught.value.detail


@pytest.mark.parametrize("answers", [("UNAVAILABLE", "RESOURCE_EXHAUSTED", "OK"), ("UNAVAILABLE", "ALREADY_STARTED")])
async def test_a_success_after_a_lost_answer_is_one(answers: tuple[str, ...]) -> None:
    engine = Engine(*answers)
    await start(engine)
    assert engine.tries == len(answers)


@pytest.mark.parametrize("answers", [("DEADLINE_EXCEEDED",), ("DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")])
async def test_a_run_that_is_found_there_has_started(answers: tuple[str, ...]) -> None:
    await start(Engine(*answers, there="OK"))


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_refusal_of_the_first_try_started_nothing(refusal: str) -> None:
    engine = Engine(refusal)
    with pytest.raises(TryLater) as caught:
        await start(engine)
    assert (caught.value.code, engine.tries) == ("engine_unavailable", 1)
    assert isinstance(caught.value, StartRefused) == (refusal == "INVALID_ARGUMENT")


@pytest.mark.parametrize("silent", LOST)
async def test_what_the_sdk_tried_again_is_only_certain_when_no_run_is_there(silent: str) -> None:
    with pytest.raises(Failed) as caught:
        await start(Engine("RESOURCE_EXHAUSTED", there=silent))
    assert caught.value.code == "start_outcome_unknown"
    await start(Engine("RESOURCE_EXHAUSTED", there="OK"))
