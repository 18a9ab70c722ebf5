"""Today's code replays every recorded run, and still gives the engine the same commands."""

import json
import uuid

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from onetake.core.settings import Settings
from onetake.engine.histories import WORKFLOWS
from onetake.engine.temporal import plugin
from tests.replay.commands import commands_of
from tests.replay.record import HISTORIES, run
from tests.replay.stories import CODEC_KEY, RECOVERIES, STORIES, Story
from tests.system.harness import Stack
from workflows.generation import Generation

CHANGED = """The commands of `{name}` are not those that were recorded.

Runs that are under way have made the recorded ones, and would stop on the new code with a nondeterminism error.
Guard the new path with `if workflow.patched("what-changed"):`, keep the old one until no run needs it, and then
record the histories again with `python -m tests.replay.record`."""


ALL = (*STORIES, *RECOVERIES)


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


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
async def test_a_new_run_gives_the_commands_that_were_recorded(stack: Stack, story: Story) -> None:
    workflow_id = f"replay/{story.name}/{uuid.uuid4()}"
    events = list((await run(stack, story, workflow_id)).events)
    assert commands_of(events) == commands_of(list(recorded(story).events)), CHANGED.format(name=story.name)


async def test_a_changed_workflow_is_noticed() -> None:
    """The corpus bites: a history whose first command is another one does not replay."""
    text = (HISTORIES / "finished-by-callback.json").read_text(encoding="utf-8")
    forged = text.replace('"validate"', '"something-else"')
    assert forged != text
    settings = Settings.model_validate({"codec_key": CODEC_KEY})
    replayer = Replayer(workflows=[Generation], plugins=[plugin(settings)], namespace="default")
    history = WorkflowHistory.from_json("replay/finished-by-callback", json.loads(forged))
    outcome = await replayer.replay_workflow(history, raise_on_replay_failure=False)
    assert outcome.replay_failure is not None
