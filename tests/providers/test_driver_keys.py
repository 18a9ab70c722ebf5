"""A key that is replaced while the driver runs: the next call uses it, also when the former one was revoked first."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from onetake.core.errors import TryLater
from onetake.core.ports import SubmitOutcome
from onetake.core.secrets import Secret, Secrets
from onetake.core.settings import load_settings
from onetake.media.outbound import Outbound
from providers import apixo, vendors
from providers.driver import Clients, Driver, is_header
from tests.providers.parts import VENDORS, Connect, plan_of, request_for, submission
from tests.providers.sockets import Connection, Server, answer, answering, serving

ACCEPTED = b'{"code":200,"message":"ok","data":{"taskId":"task_12345678"}}'
REFUSED = b'{"code":401,"message":"the key canary-old was revoked"}'


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ONETAKE_SECRETS_DIR", str(tmp_path))
    monkeypatch.delenv("ONETAKE_APIXO_API_KEY", raising=False)
    path = tmp_path / "ONETAKE_APIXO_API_KEY"
    path.write_text("canary-old\n")
    return path


@pytest.fixture
def key(file: Path) -> Secret:
    assert file.exists()
    return Secrets(load_settings()).secret("apixo_api_key", is_header)


async def _vendor(connection: Connection) -> None:
    """It knows the new key only."""
    request = await connection.read_request()
    known = b"authorization: bearer canary-new\r\n" in request.lower()
    await connection.send(answer(200, ACCEPTED) if known else answer(401, REFUSED))


@pytest.fixture
async def vendor() -> AsyncGenerator[Server]:
    async with serving(_vendor) as server:
        yield server


@pytest.fixture
async def driver(vendor: Server, key: Secret) -> AsyncGenerator[Driver]:
    async with AsyncExitStack() as cleanup:
        outbound = Outbound(frozenset())
        cleanup.push_async_callback(outbound.aclose)
        clients = await cleanup.enter_async_context(Clients.opened())
        yield Driver("apixo", apixo, vendor.url, key, clients=clients, outbound=outbound)


async def test_a_submission_that_a_revoked_key_is_refused_for_is_not_sent_and_the_next_uses_the_new_key(
    driver: Driver, file: Path, vendor: Server
) -> None:
    file.write_text("canary-new\n")
    outcome = await driver.submit(submission())
    assert (outcome.outcome, outcome.note) == ("not_sent", "its key was replaced")
    assert outcome.error is not None
    assert "canary" not in str(outcome)
    assert (await driver.submit(submission())).outcome == "accepted"
    assert len(vendor.received) == 2


async def test_a_key_that_is_refused_and_stays_is_the_operators(driver: Driver) -> None:
    outcome = await driver.submit(submission())
    assert outcome.outcome == "rejected"
    assert outcome.error is not None
    assert outcome.error.code == "vendor_auth"
    with pytest.raises(TryLater) as refused:
        await driver.read_status(plan_of(request_for()), "task-1")
    assert refused.value.code == "vendor_auth"


async def test_a_read_that_a_revoked_key_is_refused_for_is_tried_again_soon(driver: Driver, file: Path) -> None:
    file.write_text("canary-new\n")
    with pytest.raises(TryLater) as refused:
        await driver.read_status(plan_of(request_for()), "task-1")
    assert (refused.value.code, refused.value.after_s) == ("vendor_unavailable", None)


async def test_a_key_that_cannot_be_a_header_is_not_used(driver: Driver, file: Path) -> None:
    file.write_text("canary new\n")
    assert (await driver.submit(submission())).outcome == "rejected"


@pytest.mark.parametrize(
    "refusal",
    [
        answer(403, b'{"code":403,"message":"this model is not allowed"}'),
        answer(200, b'{"code":403,"message":"this model is not allowed"}'),
        answer(403, b"<html>blocked</html>", content_type="text/html"),
        answer(401, b"<html>log in</html>", content_type="text/html"),
    ],
    ids=["403", "403 in a 200", "a page of a proxy", "a page that asks for a login"],
)
async def test_what_does_not_say_that_the_key_is_unknown_is_never_sent_again(
    key: Secret, file: Path, connect: Connect, refusal: bytes
) -> None:
    async with serving(answering(refusal)) as server:
        driver = connect(server.url, api_key=key)
        file.write_text("canary-new\n")
        outcome = await driver.submit(submission())
    assert outcome.outcome == "rejected"
    assert outcome.error is not None
    assert outcome.error.code == "vendor_auth"


# What each vendor says of a key that it does not know, and of one that it knows and that lacks a right.
UNKNOWN: dict[str, list[tuple[int, object]]] = {
    "aivideoapi": [(401, {"error": {"code": "invalid_api_key"}}), (200, {"error": {"code": "invalid_api_key"}})],
    "apixo": [(401, {"code": 401, "message": "no"}), (200, {"code": 401, "message": "no"})],
    "gmi": [(401, {"error": "Unauthorized"})],
    "gptimage2": [(401, {"error": {"code": 401}}), (200, {"error": {"type": "authentication_error", "code": "x"}})],
    "wan26ai": [(401, {"code": 401, "message": "no"}), (200, {"code": 401, "message": "no"})],
}
KNOWN: dict[str, list[tuple[int, object]]] = {
    "aivideoapi": [(403, {"error": {"code": "ip_not_allowed"}}), (200, {"error": {"code": "ip_not_allowed"}})],
    "apixo": [(403, {"code": 403, "message": "no"}), (200, {"code": 403, "message": "no"})],
    "gmi": [(403, {"error": "Forbidden"})],
    "gptimage2": [(403, {"error": {"code": 403}}), (200, {"error": {"type": "permission_error", "code": "x"}})],
    "wan26ai": [(403, {"code": 403, "message": "no"}), (200, {"code": 403, "message": "no"})],
}


def _outcomes(vendor: str, said: list[tuple[int, object]]) -> list[SubmitOutcome]:
    return [vendors.VENDORS[vendor].submit_outcome(httpx.Response(status, json=body)) for status, body in said]


@pytest.mark.parametrize("vendor", VENDORS)
def test_only_the_vendors_own_401_says_that_the_key_is_unknown(vendor: str) -> None:
    unknown, known = _outcomes(vendor, UNKNOWN[vendor]), _outcomes(vendor, KNOWN[vendor])
    assert {(each.outcome, each.key_unknown) for each in unknown} == {("rejected", True)}
    assert {(each.outcome, each.error and each.error.code, each.key_unknown) for each in known} == {
        ("rejected", "vendor_auth", False)
    }
