"""What an activity raises reaches a history as code, sentence and hint, and nothing else."""

import logging
import socket
from datetime import timedelta
from uuid import uuid4

import pytest
from google.protobuf.json_format import MessageToJson
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ActivityError, ApplicationError, ApplicationErrorCategory

from onetake.core.contracts import ErrorInfo, GenerationRequest
from onetake.core.errors import Refused, TryLater
from onetake.core.names import SearchAttribute
from onetake.core.settings import Settings
from onetake.engine.temporal import connect, ensure_search_attributes, failure_of
from tests.engine.parts import CANARY, QUEUE, Quoting


async def failure(client: Client, kind: str) -> tuple[ApplicationError, str]:
    request = GenerationRequest(route=f"fail/{kind}", prompt=CANARY)
    handle = await client.start_workflow(Quoting.run, request, id=f"fail/{uuid4()}", task_queue=QUEUE)
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert isinstance(caught.value.cause, ActivityError)
    assert isinstance(caught.value.cause.cause, ApplicationError)
    events = [MessageToJson(event) async for event in handle.fetch_history_events()]
    return caught.value.cause.cause, "".join(events)


async def test_our_error_becomes_a_failure_with_code_and_hint(client: Client) -> None:
    found, _ = await failure(client, "failed")
    info = ErrorInfo.model_validate(found.details[0])
    assert (found.type, found.non_retryable, found.message) == (
        "vendor_failed",
        True,
        "The vendor's render failed. Code 17.",
    )
    assert (info.code, info.message) == (found.type, found.message)
    assert "ledger" in info.hint


async def test_try_later_is_retryable_and_benign_where_waiting_is_normal(client: Client) -> None:
    found, _ = await failure(client, "later")
    assert (found.type, found.non_retryable) == ("not_ready", False)
    assert found.category is ApplicationErrorCategory.BENIGN
    assert found.next_retry_delay == timedelta(milliseconds=1)
    assert failure_of(TryLater("vendor_unavailable")).category is ApplicationErrorCategory.UNSPECIFIED


async def test_an_unforeseen_error_is_named_and_never_quoted(
    client: Client, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO):
        found, events = await failure(client, "bug")
    logged = caplog.text + "".join(capsys.readouterr())
    assert (found.type, found.non_retryable) == ("internal_error", False)
    assert found.message.endswith("(LookupError)")
    assert found.cause is None
    assert "parts.py" in logged
    assert CANARY not in events + logged


async def test_an_unreachable_server_is_named_within_the_limit(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onetake.engine.temporal.CONNECT_LIMIT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(TryLater) as caught:
            await connect(settings, address=address)
    assert caught.value.code == "engine_unavailable"
    assert f"No answer from {address} within 0.5 s." in str(caught.value)


async def test_a_closed_port_is_engine_unavailable(settings: Settings) -> None:
    with pytest.raises(TryLater, match=r"127\.0\.0\.1:9"):
        await connect(settings, address="127.0.0.1:9")


async def test_without_a_codec_key_nothing_starts() -> None:
    with pytest.raises(Refused, match="ONETAKE_CODEC_KEY"):
        await connect(Settings(codec_key=None))
    await connect(Settings(insecure_plaintext_history=True), lazy=True)


async def test_search_attributes_are_registered_once_and_usable_at_once(client: Client) -> None:
    await ensure_search_attributes(client)
    await ensure_search_attributes(client)
    query = " AND ".join(f'{name} = "x"' for name in SearchAttribute.ALL)
    assert (await client.count_workflows(query)).count == 0
