"""What the Temporal UI and CLI send to the codec endpoint, and what others get."""

import base64
import json
import secrets
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from google.protobuf.json_format import MessageToDict
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.client import Client

from onetake.core.errors import Refused
from onetake.engine.codec import PayloadCipher
from onetake.gateway.codec_endpoint import create_codec_app, is_loopback, origin_of, origins_of_ui
from tests.gateway.parts import CANARY, Gateway

UI = "http://127.0.0.1:8233"
NAMESPACE = {"X-Namespace": "default"}
PLAIN = Payload(metadata={"encoding": b"json/plain"}, data=b'"a prompt"')


def asked(*payloads: Payload) -> dict[str, Any]:
    return MessageToDict(Payloads(payloads=payloads))


def client_of(app: FastAPI, host: str = "127.0.0.1") -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"http://{host}:8081")


@pytest.fixture
def cipher() -> PayloadCipher:
    return PayloadCipher([secrets.token_bytes(32)])


@pytest.fixture
async def endpoint(cipher: PayloadCipher) -> AsyncGenerator[httpx.AsyncClient]:
    async with client_of(create_codec_app(cipher, namespace="default", ui_origin=UI)) as client:
        yield client


async def test_the_ui_reads_a_real_history_through_the_running_gateway(gateway: Gateway) -> None:
    generation = await gateway.generation()
    at = gateway.stack.addresses
    other = await Client.connect(at.temporal_address, namespace=at.temporal_namespace)
    started = await anext(other.get_workflow_handle(generation.handle.id).fetch_history_events())
    [stored] = started.workflow_execution_started_event_attributes.input.payloads
    assert CANARY.encode() not in stored.data
    origin = origin_of(at.temporal_ui_url) or ""
    async with httpx.AsyncClient(base_url=gateway.codec_url, trust_env=False) as ui:
        headers = {"X-Namespace": at.temporal_namespace, "Origin": origin}
        answer = await ui.post("/decode", json=asked(stored), headers=headers)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == origin
    [decoded] = answer.json()["payloads"]
    assert json.loads(base64.b64decode(decoded["data"]))["prompt"] == CANARY
    assert base64.b64decode(decoded["metadata"]["encoding"]) == b"json/plain"


async def test_what_it_encodes_can_be_decoded_and_plain_payloads_pass(endpoint: httpx.AsyncClient) -> None:
    encoded = await endpoint.post("/encode", json=asked(PLAIN), headers=NAMESPACE)
    assert b"prompt" not in base64.b64decode(encoded.json()["payloads"][0]["data"])
    both = {"payloads": [*encoded.json()["payloads"], *asked(PLAIN)["payloads"]]}
    decoded = await endpoint.post("/decode", json=both)
    assert decoded.json() == asked(PLAIN, PLAIN)
    assert (await endpoint.post("/decode", json={"payloads": []})).json() == {}


@pytest.mark.parametrize("origin", [UI, "http://localhost:8233"])
async def test_the_uis_preflight_is_allowed_in_both_spellings_and_no_other_origin(
    endpoint: httpx.AsyncClient, origin: str
) -> None:
    def preflight(origin: str) -> dict[str, str]:
        wanted = "authorization,content-type,x-namespace"
        return {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": wanted}

    allowed = await endpoint.options("/decode", headers=preflight(origin))
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == origin
    answer = await endpoint.post("/decode", json=asked(PLAIN), headers=NAMESPACE | {"Origin": origin})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, origin)
    assert "x-namespace" in allowed.headers["access-control-allow-headers"].lower()
    refused = await endpoint.options("/decode", headers=preflight("https://elsewhere.example"))
    assert "access-control-allow-origin" not in refused.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:8234"},
        {"Origin": "http://localhost:8234"},
        {"Origin": "https://localhost:8233"},
        {"Origin": "http://localhost"},
        {"X-Namespace": "other"},
        {"Host": "rebound.example:8081"},
    ],
)
async def test_other_callers_are_refused(endpoint: httpx.AsyncClient, headers: dict[str, str]) -> None:
    answer = await endpoint.post("/decode", json=asked(PLAIN), headers=headers)
    assert answer.status_code == 403
    assert b"YSBwcm9tcHQi" not in answer.content


@pytest.mark.parametrize("content", [b"", b"{", b'{"payloads": 1}', b"\xff", b"[" * 100_000])
async def test_a_broken_body_is_answered_400(endpoint: httpx.AsyncClient, content: bytes) -> None:
    assert (await endpoint.post("/decode", content=content)).status_code == 400


async def test_a_payload_of_another_key_or_namespace_is_named_and_not_shown(
    endpoint: httpx.AsyncClient, cipher: PayloadCipher
) -> None:
    [foreign] = await PayloadCipher([secrets.token_bytes(32)]).encode([PLAIN])
    answer = await endpoint.post("/decode", json=asked(foreign))
    assert (answer.status_code, "lack the key" in answer.json()["message"]) == (400, True)
    [elsewhere] = await cipher.in_namespace("other").encode([PLAIN])
    answer = await endpoint.post("/decode", json=asked(elsewhere))
    assert (answer.status_code, "another" in answer.json()["message"]) == (400, True)


async def test_a_network_address_needs_a_token(cipher: PayloadCipher) -> None:
    with pytest.raises(Refused, match="only with a token"):
        create_codec_app(cipher, namespace="default", ui_origin=None, host="0.0.0.0")
    app = create_codec_app(cipher, namespace="default", ui_origin=None, host="0.0.0.0", token="a-token")
    async with client_of(app, "codec.internal") as client:
        assert (await client.post("/decode", json={})).status_code == 401
        wrong = {"Authorization": "Bearer another"}
        assert (await client.post("/decode", json={}, headers=wrong)).status_code == 401
        right = {"Authorization": "Bearer a-token"}
        assert (await client.post("/decode", json=asked(PLAIN), headers=right)).status_code == 200


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (None, ()),
        ("https://temporal.example", ("https://temporal.example",)),
        ("http://localhost", ("http://127.0.0.1", "http://localhost")),
        (UI, (UI, "http://localhost:8233")),
    ],
)
def test_only_a_ui_of_this_machine_has_two_spellings(origin: str | None, expected: tuple[str, ...]) -> None:
    assert origins_of_ui(origin) == expected


def test_loopback_hosts() -> None:
    assert [
        host for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "::", "10.0.0.1", "db") if is_loopback(host)
    ] == [
        "localhost",
        "127.0.0.1",
        "::1",
    ]
