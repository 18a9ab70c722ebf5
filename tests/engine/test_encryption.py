"""Histories hold no prompt; what is stored opens only where it belongs and with a key that is configured."""

import base64
import dataclasses
import secrets
from uuid import uuid4

import pytest
from pydantic import SecretStr
from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WorkflowFailureError
from temporalio.common import RawValue
from temporalio.converter import ActivitySerializationContext, WorkflowSerializationContext
from temporalio.exceptions import ApplicationError
from temporalio.worker import Replayer

from onetake.core.contracts import GenerationRequest, WakeSignal
from onetake.core.errors import Refused
from onetake.core.settings import Settings
from onetake.engine.codec import ENCODING, PayloadCipher, PayloadRefused, key_id
from onetake.engine.temporal import connect, plugin
from tests.engine.parts import CANARY, QUEUE, At, Quoting, Waiting

REQUEST = GenerationRequest(route="apixo/wan-2.6/text-to-video", prompt=CANARY)
HERE = WorkflowSerializationContext(namespace="default", workflow_id="gen/acme/gen_1")
ELSEWHERE = WorkflowSerializationContext(namespace="default", workflow_id="gen/acme/gen_2")
PLAIN = Payload(metadata={"encoding": b"json/plain"}, data=b'"a prompt"')


def key() -> bytes:
    return secrets.token_bytes(32)


async def sealed_in(context: WorkflowSerializationContext, *keys: bytes) -> Payload:
    [payload] = await PayloadCipher(keys).with_context(context).encode([PLAIN])
    return payload


async def test_a_raw_history_search_finds_no_prompt(client: Client, plain: Client) -> None:
    workflow_id = f"canary/{uuid4()}"
    handle = await client.start_workflow(
        Quoting.run, REQUEST, id=workflow_id, task_queue=QUEUE, memo={"m": CANARY}, static_summary=CANARY
    )
    result = await handle.result()
    assert result.error is not None
    assert result.error.message == CANARY
    events = [event async for event in plain.get_workflow_handle(workflow_id).fetch_history_events()]
    stored = b"".join(event.SerializeToString() for event in events)
    described = await plain.get_workflow_handle(workflow_id).describe()
    for form in (CANARY.encode(), base64.b64encode(CANARY.encode())):
        assert form not in stored
        assert form not in described.raw_description.SerializeToString()
    assert stored.count(ENCODING) >= 4


async def test_a_signal_and_a_recorded_history_are_read_back(client: Client, settings: Settings) -> None:
    workflow_id = f"replay/{uuid4()}"
    handle = await client.start_workflow(Waiting.run, REQUEST, id=workflow_id, task_queue=QUEUE)
    await handle.signal(Waiting.vendor_callback, WakeSignal(claimed_task_id="t-1"))
    assert await handle.result() == f"{REQUEST.route} t-1"
    replayer = Replayer(workflows=[Waiting], plugins=[plugin(settings)], namespace=client.namespace)
    await replayer.replay_workflow(await handle.fetch_history())


async def test_a_payload_of_another_workflow_is_refused_as_a_start_and_dropped_as_a_signal(
    client: Client, plain: Client
) -> None:
    donor = await client.start_workflow(Waiting.run, REQUEST, id=f"donor/{uuid4()}", task_queue=QUEUE)
    started = await anext(plain.get_workflow_handle(donor.id).fetch_history_events())
    stolen = RawValue(started.workflow_execution_started_event_attributes.input.payloads[0])
    thief = await plain.start_workflow("Waiting", stolen, id=f"thief/{uuid4()}", task_queue=QUEUE)
    with pytest.raises(WorkflowFailureError) as caught:
        await thief.result()
    assert isinstance(caught.value.cause, ApplicationError)
    assert "written for another workflow" in caught.value.cause.message
    other = await client.start_workflow(Waiting.run, REQUEST, id=f"other/{uuid4()}", task_queue=QUEUE)
    await plain.get_workflow_handle(other.id).signal("vendor_callback", stolen)
    await other.signal(Waiting.vendor_callback, WakeSignal(claimed_task_id="t-2"))
    assert await other.result() == f"{REQUEST.route} t-2"
    await donor.cancel()


async def test_a_client_without_the_key_is_told_which_key_is_missing(
    at: At, client: Client, settings: Settings
) -> None:
    handle = await client.start_workflow(Quoting.run, REQUEST, id=f"key/{uuid4()}", task_queue=QUEUE)
    await handle.result()
    other = await connect(Settings(codec_key=SecretStr(base64.b64encode(key()).decode())), **at)
    with pytest.raises(Refused) as caught:
        await other.get_workflow_handle_for(Quoting.run, handle.id).result()
    assert caught.value.code == "settings_invalid"
    assert key_id(settings.codec_keys[0]) in str(caught.value)


async def test_old_keys_read_and_the_first_key_writes() -> None:
    old, new = key(), key()
    before = await sealed_in(HERE, old)
    rotated = PayloadCipher([new, old]).with_context(HERE)
    assert await rotated.decode([before]) == [PLAIN]
    [after] = await rotated.encode([PLAIN])
    assert after.metadata["key"] == key_id(new).encode()
    with pytest.raises(Refused, match=key_id(new)):
        await PayloadCipher([old]).with_context(HERE).decode([after])


async def test_two_encryptions_of_one_payload_differ() -> None:
    one = key()
    assert (await sealed_in(HERE, one)).data != (await sealed_in(HERE, one)).data


@pytest.mark.parametrize("length", [0, 5, 12, 27, 40])
async def test_a_cut_payload_is_refused_without_its_content(length: int) -> None:
    one = key()
    payload = await sealed_in(HERE, one)
    payload.data = payload.data[:length]
    with pytest.raises(PayloadRefused, match=r"^An encrypted payload was cut or altered\.$"):
        await PayloadCipher([one]).decode([payload])


@pytest.mark.parametrize("mark", ["namespace", "workflow"])
async def test_marks_cannot_be_rewritten(mark: str) -> None:
    one = key()
    payload = await sealed_in(HERE, one)
    target = await sealed_in(ELSEWHERE, one)
    payload.metadata[mark] = target.metadata[mark] if mark == "workflow" else b"other"
    with pytest.raises(PayloadRefused):
        await PayloadCipher([one]).decode([payload])


async def test_an_activity_reads_its_own_workflow_only() -> None:
    one = key()
    activity = ActivitySerializationContext("default", "1", "echo", "q", HERE.workflow_id, "Quoting", is_local=False)
    assert await PayloadCipher([one]).with_context(activity).decode([await sealed_in(HERE, one)]) == [PLAIN]
    for other in (
        ELSEWHERE,
        dataclasses.replace(HERE, namespace="other"),
        dataclasses.replace(HERE, workflow_id="gen/acme/gen"),
    ):
        with pytest.raises(PayloadRefused, match="another workflow"):
            await PayloadCipher([one]).with_context(activity).decode([await sealed_in(other, one)])


async def test_a_schedule_may_write_for_the_runs_it_starts() -> None:
    one = key()
    schedule = dataclasses.replace(HERE, workflow_id="reconcile")
    run = dataclasses.replace(HERE, workflow_id="reconcile-2026-11-21T07:00:00Z")
    payload = await sealed_in(schedule, one)
    assert await PayloadCipher([one]).with_context(run).decode([payload]) == [PLAIN]


async def test_what_was_written_without_a_workflow_can_be_read_in_one() -> None:
    cipher = PayloadCipher([key()])
    [bare] = await cipher.encode([PLAIN])
    [from_endpoint] = await cipher.in_namespace("default").encode([PLAIN])
    assert await cipher.with_context(HERE).decode([bare, from_endpoint, PLAIN]) == [PLAIN, PLAIN, PLAIN]


async def test_without_a_key_payloads_stay_plain_but_encrypted_ones_are_not_mistaken_for_rubbish() -> None:
    payload = await sealed_in(HERE, key())
    nothing = PayloadCipher([]).with_context(HERE)
    assert await nothing.encode([PLAIN]) == [PLAIN]
    with pytest.raises(Refused, match="ONETAKE_CODEC_KEY"):
        await nothing.decode([payload])


async def test_a_summary_of_200_characters_fits_the_servers_400_bytes() -> None:
    summary = Payload(metadata={"encoding": b"json/plain"}, data=b'"' + b"x" * 200 + b'"')
    context = WorkflowSerializationContext("a-namespace", f"gen/{'t' * 63}/gen_01890a5d-ac96-774b-bcce-b302099a8057")
    [payload] = await PayloadCipher([key()]).with_context(context).encode([summary])
    assert payload.ByteSize() <= 400


def test_no_key_shows_in_a_repr() -> None:
    one = key()
    assert repr(PayloadCipher([one])) == f"PayloadCipher(keys=['{key_id(one)}'])"
