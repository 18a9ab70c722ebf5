"""What a run's steps answered, as its history tells it."""

from temporalio.converter import WorkflowSerializationContext

from onetake.core import names
from onetake.core.contracts import Submission
from onetake.core.settings import Settings
from onetake.engine.temporal import data_converter
from onetake.engine.told import Reader, Told

ACCEPTED = Submission(state="accepted", vendor_task_id="task-1")


async def told(*answers: tuple[str, Submission]) -> tuple[str, str | None]:
    context = WorkflowSerializationContext(namespace="default", workflow_id="w")
    converter = data_converter(Settings(insecure_plaintext_history=True)).with_context(context)
    reader, told = Reader(converter), Told()
    for step, submission in answers:
        told = await reader.answered(told, step, await converter.encode([submission]))
    return told.submission, told.vendor_task_id


async def test_what_was_recorded_after_the_submission_is_told() -> None:
    assert await told(("apixo.submit", Submission(state="ambiguous")), (names.RECORD, ACCEPTED)) == (
        "accepted",
        "task-1",
    )


async def test_a_later_look_that_did_not_find_the_job_does_not_take_it_back() -> None:
    lost = Submission(state="ambiguous")
    assert await told(("apixo.submit", ACCEPTED), ("apixo.resolve", lost)) == ("accepted", "task-1")


async def test_the_job_that_our_token_named_takes_the_place_of_the_first() -> None:
    named = Submission(state="accepted", vendor_task_id="task-2")
    assert await told(("apixo.submit", ACCEPTED), ("apixo.resolve", named)) == ("accepted", "task-2")
