"""Rows of the security catalogue that need no server. Others are in the tests that the rows name."""

import json
from io import StringIO
from typing import Any

import httpx
import pytest
from temporalio.api.common.v1 import Payload

from onetake.core import logs
from onetake.core.errors import OnetakeError, Refused
from onetake.core.ids import new_generation_id, workflow_id_of
from onetake.core.settings import Settings, load_settings
from onetake.engine.codec import PayloadCipher, PayloadRefused
from onetake.engine.starting import _search_attributes, details_of, fairness_key_of, summary_of  # pyright: ignore[reportPrivateUsage]
from onetake.engine.temporal import data_converter, failure_of
from onetake.gateway.codec_endpoint import create_codec_app
from onetake.ledger import Database
from onetake.media.outbound import Outbound
from providers import apixo
from providers.driver import Clients, Driver
from tests.faults.table import expect
from tests.providers.parts import API_KEY, PROMPT, plan_of, request_for, submission
from tests.providers.sockets import answer, answering, free_port, serving

SIGNED = "https://cdn.example/clip.mp4?X-Amz-Signature=canary-signature"
PASSWORD = "canary-password"
DSN = f"postgresql://u:{PASSWORD}@127.0.0.1"
UI = "http://127.0.0.1:8233"
PLAIN = Payload(metadata={"encoding": b"json/plain"}, data=b'"a prompt"')


def leaks(*texts: str) -> list[str]:
    return [each for each in (API_KEY, "canary-signature", PASSWORD, PROMPT) if any(each in text for text in texts)]


# -- S62: texts of others ----------------------------------------------------------------------------------------------


async def test_what_a_vendor_or_a_server_echoes_is_in_no_failure() -> None:
    echo = f'{{"code":401,"message":"{API_KEY} may not have {SIGNED}"}}'.encode()
    async with serving(answering(answer(401, echo))) as server, Clients.opened() as clients:
        outbound = Outbound(frozenset())
        driver = Driver("apixo", apixo, server.url, API_KEY, clients=clients, outbound=outbound)
        outcome = await driver.submit(submission())
        with pytest.raises(OnetakeError) as refused:
            await driver.read_status(plan_of(request_for()), "task_12345678")
        await outbound.aclose()
    with pytest.raises(OnetakeError) as away:
        await Database.connect(f"{DSN}:{free_port()}/onetake")
    failures = [failure_of(error.value) for error in (refused, away)]
    texts = [f"{failure} {failure.details!r} {failure.cause!r}" for failure in failures]
    assert leaks(repr(outcome), *texts, *map(logs.exception_text, (refused.value, away.value))) == []
    assert outcome.error is not None
    expect("S62", sees=f"{outcome.error.code}, {refused.value.code}, {away.value.code}", ledger=[], jobs=0)


# -- S63, S65, S66: the codec ------------------------------------------------------------------------------------------


def test_without_a_codec_key_nothing_is_started_unless_that_is_asked_for_by_name() -> None:
    with pytest.raises(Refused) as refused:
        data_converter(Settings())
    assert "ONETAKE_INSECURE_PLAINTEXT_HISTORY" in refused.value.detail
    assert data_converter(Settings(insecure_plaintext_history=True)).payload_codec is not None
    expect("S63", sees=refused.value.code, ledger=[], jobs=0)


async def test_the_codec_server_is_for_this_machine_or_needs_its_token() -> None:
    cipher = PayloadCipher([b"k" * 32]).in_namespace("default")
    with pytest.raises(Refused):
        create_codec_app(cipher, namespace="default", ui_origin=UI, host="0.0.0.0")
    app = create_codec_app(cipher, namespace="default", ui_origin=UI, host="0.0.0.0", token="canary-token")
    right = {"Authorization": "Bearer canary-token", "X-Namespace": "default", "Origin": UI}
    statuses: list[int] = []
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://codec.internal") as client:
        for wrong in ({"Authorization": ""}, {"X-Namespace": "other"}, {"Origin": f"{UI}.evil.example"}, {}):
            asked = await client.post("/decode", json={"payloads": []}, headers=right | wrong)
            statuses.append(asked.status_code)
    expect("S65", sees=" ".join(map(str, statuses)), ledger=[], jobs=0)


async def test_payloads_are_sealed_anew_and_bound_to_their_place() -> None:
    """A nonce is random and a key of its own is derived for each place: nobody has to count uses."""
    here = PayloadCipher([b"k" * 32]).in_namespace("default")
    [first], [second] = await here.encode([PLAIN]), await here.encode([PLAIN])
    assert first.data[:12] != second.data[:12]
    cut = Payload(metadata=first.metadata, data=first.data[:20])
    refused: list[str] = []
    for cipher, payload in (
        (here.in_namespace("other"), first),
        (PayloadCipher([b"o" * 32]).in_namespace("default"), first),
        (here, cut),
    ):
        with pytest.raises((PayloadRefused, Refused)) as caught:
            await cipher.decode([payload])
        assert "a prompt" not in str(caught.value)
        refused.append("refused")
    expect("S66", sees=" ".join(refused), ledger=[], jobs=0)


# -- S64: what Temporal shows to everybody -----------------------------------------------------------------------------


def test_what_temporal_shows_in_clear_holds_ids_and_words_of_ours_only() -> None:
    request = request_for(user="user-1", feature="launch", negative_prompt="canary-blur")
    plan = plan_of(request)
    workflow_id = workflow_id_of(request.tenant, new_generation_id())
    attributes: Any = _search_attributes(request, plan)  # pyright: ignore[reportPrivateUsage]
    pairs = {str(pair.key.name): str(pair.value) for pair in attributes}
    clear = (
        workflow_id,
        summary_of(request, plan),
        details_of(workflow_id, request, plan),
        fairness_key_of(request, plan),
        *pairs.values(),
        *plan.queues.model_dump().values(),
    )
    found = [*leaks(*clear), *(text for text in clear if "canary" in text)]
    assert set(pairs.values()) <= {request.tenant, plan.vendor, plan.route, pairs["OnetakeDay"]}
    expect("S64", sees=f"leaks: {len(found)}", ledger=[], jobs=0)


# -- S67, S68: what is printed -----------------------------------------------------------------------------------------


def test_secrets_show_in_no_form_of_the_settings_and_in_no_traceback() -> None:
    settings = load_settings(database_url=f"{DSN}/x", gmi_api_key=API_KEY, codec_old_keys=PASSWORD)
    stream = StringIO()
    logs.configure(stream=stream)
    logs.mask_secrets(settings)

    def fails(prompt: str) -> None:
        key = API_KEY
        raise LookupError(f"{DSN} {SIGNED} {len(prompt)} {key}")

    try:
        fails(PROMPT)
    except LookupError:
        logs.logger("onetake.x").exception("broken")
    shown = (repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump()), stream.getvalue())
    assert "fails" in stream.getvalue()
    expect("S67", sees=f"leaks: {len(leaks(*shown))}", ledger=[], jobs=0)


def test_a_hostile_text_is_one_line_that_can_be_read_and_is_cut() -> None:
    stream = StringIO()
    logs.configure(stream=stream)
    hostile = "a\r\n{}\x1b[31m\u202egpj\u2028\x00" + "x" * 1_000_000
    logs.logger("onetake.x").info("bad", detail=hostile)
    records = [json.loads(line) for line in stream.getvalue().splitlines()]  # others may log in this process, too
    [detail] = [record["detail"] for record in records if record["event"] == "bad"]
    assert all(character.isprintable() for character in detail)
    expect("S68", sees=f"1 line, {len(detail)} characters", ledger=[], jobs=0)
