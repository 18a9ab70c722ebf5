"""What `onetake doctor` says of the reconciler's passes, and of a callback base."""

import base64
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest
from temporalio.api.workflowservice.v1 import GetWorkflowExecutionHistoryResponse
from temporalio.client import Client

from onetake.cli.doctor.engine import of_schedule
from onetake.cli.doctor.engine import schedule as schedule_of
from onetake.cli.doctor.findings import Finding
from onetake.cli.doctor.gateway import callbacks as callbacks_of
from onetake.cli.doctor.ledger import passes as passes_of
from onetake.cli.doctor.setup import Setup
from onetake.core.errors import TryLater
from onetake.core.settings import Settings
from onetake.engine.codec import ENCODING, key_id
from onetake.engine.schedule import ScheduleState
from onetake.ledger import Database
from onetake.ledger.passes import Passes
from tests.providers.sockets import Connection, answer, answering, free_port, serving


async def passes(settings: Settings) -> Finding:
    async with Setup(settings) as setup:
        return await passes_of(setup)


async def callbacks(settings: Settings) -> Finding:
    async with Setup(settings) as setup:
        return await callbacks_of(setup)


@pytest.fixture
def noted(database: Database) -> Passes:
    return Passes(database)


async def age(database: Database, minutes: int) -> None:
    await database.row("update onetake.pass set good_at = good_at - $1::int * interval '1 minute'", minutes)


async def test_passes_are_fine_while_the_last_good_one_is_young(noted: Passes, database_url: str) -> None:
    settings = Settings.model_validate({"database_url": database_url})
    assert (await passes(settings)).verdict == "absent"
    await noted.note(looked_at=3, found=1, error=None)
    found = await passes(settings)
    assert found.verdict == "fine"
    assert "it looked at 3, with 1 findings" in found.found


async def test_a_failing_pass_is_told_and_is_broken_when_the_last_good_one_is_old(
    noted: Passes, database: Database, database_url: str
) -> None:
    settings = Settings.model_validate({"database_url": database_url})
    await noted.note(looked_at=3, found=1, error=None)
    await noted.note(looked_at=0, found=0, error="engine_unavailable: Temporal cannot be used.")
    found = await passes(settings)
    assert found.verdict == "warning"
    assert "engine_unavailable" in found.found
    await age(database, 6)
    found = await passes(settings)
    assert (found.verdict, found.exit_code) == ("broken", 9)
    assert "s ago; the last one failed: engine_unavailable" in found.found


async def test_passes_that_have_stopped_are_broken_but_not_where_they_are_made_by_hand(
    noted: Passes, database: Database, database_url: str
) -> None:
    await noted.note(looked_at=3, found=1, error=None)
    await age(database, 6)
    assert (await passes(Settings.model_validate({"database_url": database_url}))).verdict == "broken"
    by_hand = Settings.model_validate({"database_url": database_url, "reconcile_every_s": 0})
    assert (await passes(by_hand)).verdict == "fine"


async def test_no_good_pass_at_all_is_broken(noted: Passes, database_url: str) -> None:
    await noted.note(looked_at=0, found=0, error="ledger_unavailable: x")
    found = await passes(Settings.model_validate({"database_url": database_url}))
    assert found.verdict == "broken"
    assert "no good one yet" in found.found


async def _whoami(database: Database, connection: Connection) -> None:
    """As our gateway answers."""
    nonce = (await connection.read_request()).split(b" ")[1].removeprefix(b"/whoami/").decode()
    row = await database.answer("select onetake.whoami($1) as answer", nonce)
    await connection.send(answer(200, row["answer"].encode(), content_type="text/plain"))


@pytest.mark.parametrize("base", ["", "/", "//"])
async def test_a_callback_base_with_slashes_at_its_end_is_fine(
    base: str, database: Database, database_url: str
) -> None:
    async with serving(partial(_whoami, database)) as server:
        given = {"callback_base_url": f"{server.url}{base}", "database_url": database_url}
        found = await callbacks(Settings.model_validate(given))
        assert found.verdict == "fine"
        assert server.received[0].startswith(b"GET /whoami/")


async def test_a_gateway_on_another_database_is_not_ours(database: Database, database_url: str) -> None:
    async with serving(partial(_whoami, database)) as server:
        await database.row("update onetake.secret set value = 'another'")
        given = {"callback_base_url": server.url, "database_url": database_url}
        assert (await callbacks(Settings.model_validate(given))).verdict == "fine"
    async with serving(answering(answer(200, b"0" * 64))) as server:
        found = await callbacks(Settings.model_validate(given | {"callback_base_url": server.url}))
    assert (found.code, found.verdict, found.exit_code) == ("callback_not_ours", "broken", 2)
    assert "callbacks would be lost" in found.found


@pytest.mark.parametrize(
    ("status", "body"), [(404, b'{"detail":"Not Found"}'), (200, b"<html>welcome</html>"), (302, b"")]
)
async def test_a_wrong_path_is_broken_and_says_that_callbacks_would_be_lost(
    status: int, body: bytes, database_url: str
) -> None:
    async with serving(answering(answer(status, body))) as server:
        given = {"callback_base_url": f"{server.url}/wrong", "database_url": database_url}
        found = await callbacks(Settings.model_validate(given))
    assert (found.code, found.verdict, found.exit_code) == ("callback_not_ours", "broken", 2)
    assert f"{server.url}/wrong" in found.found
    assert "callbacks would be lost" in found.found


async def test_a_gateway_that_is_not_there_is_broken() -> None:
    found = await callbacks(Settings.model_validate({"callback_base_url": f"http://127.0.0.1:{free_port()}"}))
    assert (found.verdict, found.exit_code) == ("broken", 9)


async def test_a_gateway_that_speaks_something_else_is_broken() -> None:
    async with serving(answering(b"SSH-2.0-OpenSSH\r\n")) as server:
        found = await callbacks(Settings.model_validate({"callback_base_url": server.url}))
    assert found.verdict == "broken"


async def _silent(connection: Connection) -> None:
    await connection.reader.read()


async def test_a_gateway_that_is_silent_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onetake.cli.doctor.gateway.ANSWER_S", 0.2)
    async with serving(_silent) as server:
        with pytest.raises(TryLater):
            await callbacks(Settings.model_validate({"callback_base_url": server.url}))


class Histories:
    """A Temporal whose one run has one activity, written with this key."""

    namespace = "default"

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.workflow_service = self

    async def get_workflow_execution_history(self, *_: object, **__: object) -> GetWorkflowExecutionHistoryResponse:
        found = GetWorkflowExecutionHistoryResponse()
        scheduled = found.history.events.add().activity_task_scheduled_event_attributes
        scheduled.input.payloads.add(metadata={"encoding": ENCODING, "key": key_id(self._key).encode()})
        return found


USED, OTHER = bytes(32), bytes(range(32))
KEYED = Settings.model_validate({"codec_key": base64.b64encode(USED).decode()})
GOOD = ScheduleState(paused=False, note="", is_ours=True, run="reconcile/onetake-1")


async def schedule_finding(state: ScheduleState | None, key: bytes = USED) -> Finding:
    client = cast("Client", cast("Any", Histories(key)))
    return await of_schedule(client, KEYED, "reconcile/onetake", state)


async def test_a_schedule_that_keeps_a_run_going_is_fine() -> None:
    assert (await schedule_finding(GOOD)).verdict == "fine"


@pytest.mark.parametrize(
    ("state", "key", "said", "do"),
    [
        (None, USED, "there is no reconcile/onetake", "Start `onetake worker`"),
        (replace(GOOD, paused=True, note="we look"), USED, "is paused (we look)", "temporal schedule toggle --unpause"),
        (replace(GOOD, is_ours=False), USED, "not as this version makes it", "Restart `onetake worker`"),
        (GOOD, OTHER, f"needs the codec key {key_id(OTHER)}", "ONETAKE_CODEC_OLD_KEYS"),
    ],
    ids=["missing", "paused", "old arguments", "a key that was dropped"],
)
async def test_a_schedule_that_makes_no_pass_is_broken(
    state: ScheduleState | None, key: bytes, said: str, do: str
) -> None:
    found = await schedule_finding(state, key)
    assert found.verdict == "broken"
    assert found.exit_code
    assert said in found.found
    assert do in found.fix


async def test_a_schedule_whose_run_was_just_ended_is_a_warning() -> None:
    assert (await schedule_finding(replace(GOOD, run=None))).verdict == "warning"


async def test_no_schedule_is_wanted_where_passes_are_made_by_hand() -> None:
    assert (await schedule_of(Setup(Settings.model_validate({"reconcile_every_s": 0})))).verdict == "absent"
