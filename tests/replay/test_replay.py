"""Today's code replays every recorded run, and still gives the engine the same commands."""

import asyncio
import json
import re
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from onetake.core.errors import Refused
from onetake.core.settings import Settings
from onetake.engine.histories import WORKFLOWS
from onetake.engine.temporal import plugin
from onetake.ledger import Database, PostgresGenerations
from providers.admission import RouteAdmission
from tests.replay.commands import commands_of
from tests.replay.record import HISTORIES, request_of, run
from tests.replay.stories import CODEC_KEY, PASSES, RECOVERIES, STORIES, Story
from tests.system.harness import Stack
from workflows.generation import Generation

CHANGED = """The commands of `{name}` are not those that were recorded.

Runs that are under way have made the recorded ones, and would stop on the new code with a nondeterminism error.
Guard the new path with `if workflow.patched("what-changed"):` and keep the old one until no run needs it, as
docs/upgrading.md says. The recorded histories stay as they are; a new story has one of its own, which
`python -m tests.replay.record NAME` records."""


TRIES = 3
CALLBACK_S = 5  # from the acceptance
NEVER_S = 240.0
CANCELED_S = 10.0
RENDERED_S = 2.5
SHORT_SCALE = 0.005
ALL = (*STORIES, *RECOVERIES, PASSES)


def recorded(story: Story) -> WorkflowHistory:
    """A history under the id it was written for: its payloads are bound to it."""
    history = json.loads((HISTORIES / f"{story.name}.json").read_text(encoding="utf-8"))
    started = history["events"][0]["workflowExecutionStartedEventAttributes"]
    return WorkflowHistory.from_json(started["workflowId"], history)


def test_every_story_is_recorded_and_nothing_else() -> None:
    assert sorted(path.stem for path in HISTORIES.glob("*.json")) == sorted(story.name for story in ALL)


@pytest.mark.parametrize("story", ALL, ids=lambda story: story.name)
async def test_a_recorded_run_replays_on_todays_code(story: Story) -> None:
    settings = Settings.model_validate({"codec_key": CODEC_KEY})
    replayer = Replayer(workflows=list(WORKFLOWS), plugins=[plugin(settings)], namespace="default")
    outcome = await replayer.replay_workflow(recorded(story), raise_on_replay_failure=False)
    assert outcome.replay_failure is None, CHANGED.format(name=story.name)


def test_a_generation_that_a_callback_wakes_costs_twenty_eight_events_and_two_activities() -> None:
    """One event fewer where our own client has set the search attributes. What new runs do is held against it below."""
    (story,) = (each for each in STORIES if each.name == "finished-by-callback")
    names = [EventType.Name(event.event_type) for event in recorded(story).events]
    assert (len(names), names.count("EVENT_TYPE_ACTIVITY_TASK_SCHEDULED")) == (28, 2)


async def test_new_runs_give_the_commands_that_were_recorded(stack: Stack) -> None:
    """All at once: what a story is about comes long before anything that would be another way, or long after it."""
    async with database_at(stack.environment["ONETAKE_DATABASE_URL"]) as database:
        given = await asyncio.gather(*(commands_of_a_new_run(stack, database, story) for story in STORIES))
    for story, commands in zip(STORIES, given, strict=True):
        assert commands == commands_of(list(recorded(story).events)), CHANGED.format(name=story.name)


async def commands_of_a_new_run(stack: Stack, database: Database, story: Story) -> list[str]:
    """On a machine that stands still for seconds a run may yet go another way: such a run is repeated."""
    wanted = commands_of(list(recorded(story).events))
    given = wanted[:0]
    for _ in range(TRIES):
        if given != wanted:
            workflow_id, told = f"replay/{story.name}/{uuid.uuid4()}", without_races(story)
            await pin(stack, database, told, workflow_id)
            given = commands_of(list((await run(stack, told, workflow_id)).events))
    return given


def without_races(story: Story) -> Story:
    """The same story for another prompt: a callback comes when its run has begun to wait."""
    calls_back = "no-callback" not in story.marker
    marker = re.sub(r"\[\[sim:delay=\d+\]\]", "", story.marker) if calls_back else story.marker
    late = f"[[sim:delay={CALLBACK_S}]]" if calls_back else ""
    return replace(story, marker=f"{marker}{late} {uuid.uuid4()}")


async def pin(stack: Stack, database: Database, story: Story, workflow_id: str) -> None:
    """Give the run its plan before it starts. No read comes before a callback, or before the end of the render, or
    before the cancellation."""
    request = request_of(story)
    try:
        plan = RouteAdmission(stack.settings()).plan(request, base_queue="onetake")
    except Refused:  # it is a story of such a request
        return
    first_read_s = NEVER_S if "no-callback" not in story.marker else CANCELED_S if story.cancel_in else RENDERED_S
    cadence = plan.cadence.model_copy(update={"first_read_s": first_read_s})
    scale = SHORT_SCALE if story.name == "clip-not-a-video" else plan.time_scale  # it is fetched again for minutes
    pinned = plan.model_copy(update={"callbacks": False, "cadence": cadence, "time_scale": scale})
    await PostgresGenerations(database).accept_once(request, workflow_id=workflow_id, plan=pinned)


@asynccontextmanager
async def database_at(url: str) -> AsyncGenerator[Database]:
    database = await Database.connect(url)
    yield database
    await database.close()


async def test_a_changed_workflow_is_noticed() -> None:
    """The corpus bites: a history with another command does not replay."""
    text = (HISTORIES / "finished-by-callback.json").read_text(encoding="utf-8")
    forged = text.replace('"apixo.submit"', '"something.else"')
    assert forged != text
    settings = Settings.model_validate({"codec_key": CODEC_KEY})
    replayer = Replayer(workflows=[Generation], plugins=[plugin(settings)], namespace="default")
    history = WorkflowHistory.from_json("replay/finished-by-callback", json.loads(forged))
    outcome = await replayer.replay_workflow(history, raise_on_replay_failure=False)
    assert outcome.replay_failure is not None
