"""Scenarios about the connection: the adapter behind the one driver that sends, and a server that misbehaves.

After each of them the server has seen one submission: whatever happens, nothing is sent twice.
"""

import email.utils
import gzip
import json
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx
from pydantic import JsonValue

from onetake.core.errors import TryLater
from onetake.core.ports import SubmitOutcome
from onetake.dev.conformance.peer import LIMIT_S, LOOPBACK, Peer, Play, answering, hanging, playing, resetting, writing
from onetake.dev.conformance.under_test import CALLBACK_URL, VendorUnderTest
from onetake.media.outbound import Outbound
from providers.driver import LONGEST_RETRY_AFTER_S, MOST_ANSWER_BYTES, Clients, Driver

PATIENT = httpx.Timeout(LIMIT_S)
SHORT = httpx.Timeout(LIMIT_S, read=0.3)
BASE_PATH = "/kit/base"


async def one_post_with_the_key_in_its_header(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """A submission is one POST under the base URL, with the key in its header and nowhere else."""
    receipt = vendor.simulated.receipt(await vendor.job(), with_task_id=True)
    outcome, peer = await _submit(vendor, answering(200, _bytes(receipt)))
    if outcome.outcome != "accepted":
        yield f"submit_outcome: a receipt over HTTP is {outcome.outcome}"
    if len(peer.requests) != 1:
        yield f"the vendor received {len(peer.requests)} requests for one submission"
        return
    head, _, body = peer.requests[0].partition(b"\r\n\r\n")
    key = vendor.api_key.encode()
    if not head.startswith(f"POST {BASE_PATH}/".encode()):
        yield f"submit_request: {head.splitlines()[0].decode()} is no POST under the base URL"
    if head.count(key) != 1 or key in body or b"bearer " + key.lower() not in head.lower():
        yield "the key belongs into the Authorization header, once"


async def a_throttle_carries_the_vendors_pause(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """A throttle carries the pause that the vendor asks for, in seconds or as a date, and no nonsense."""
    body = _bytes(vendor.simulated.error(429, "too many requests"))
    longest = LONGEST_RETRY_AFTER_S
    for header, pause in {"7": 7, "999999": longest, "-5": None, "soon": None}.items():
        outcome, _ = await _submit(vendor, answering(429, body, f"retry-after: {header}"))
        if (outcome.outcome, outcome.retry_after_s) != ("throttled", pause):
            yield f"Retry-After: {header} became {outcome.outcome}, {outcome.retry_after_s}"
    until = int(before := time.time()) + 200
    date = email.utils.formatdate(until, usegmt=True)
    outcome, _ = await _submit(vendor, answering(429, body, f"retry-after: {date}"))
    found = outcome.retry_after_s
    if outcome.outcome != "throttled" or found is None or not until - time.time() <= found <= until - before:
        yield f"Retry-After: {date} became {outcome.outcome}, {found}"


async def a_broken_connection_is_ambiguous(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """A reset, a hang, half an answer and a redirect are ambiguous after one POST, which nobody repeats."""
    receipt = _bytes(vendor.simulated.receipt(await vendor.job(), with_task_id=True))
    half = f"HTTP/1.1 200 kit\r\ncontent-type: application/json\r\ncontent-length: {len(receipt)}\r\n\r\n".encode()
    plays: Mapping[str, Play] = {
        "a reset": resetting,
        "a hang": hanging,
        "an answer cut in half": writing(half + receipt[: len(receipt) // 2]),
        "an answer that is no HTTP": writing(b"\x00\x01\x02 what?\r\n\r\n"),
        "a redirect": answering(307, receipt, f"location: http://{LOOPBACK}:1/elsewhere"),
        "a login page": answering(200, b"<!doctype html><title>Sign in</title>", content_type="text/html"),
    }
    for label, play in plays.items():
        async for complaint in _ambiguous(vendor, label, play):
            yield complaint


async def a_huge_answer_is_ambiguous(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """A gzip bomb, 10 MB and an id of 10,000 characters are ambiguous, and are not kept."""
    receipt = _bytes(vendor.simulated.receipt(await vendor.job(), with_task_id=True))
    bomb = gzip.compress(b" " * (10 * MOST_ANSWER_BYTES) + receipt, compresslevel=1)
    job = await vendor.job()
    long_id = vendor.simulated.receipt(job.model_copy(update={"task_id": "i" * 10_000}), with_task_id=True)
    plays: Mapping[str, Play] = {
        "a gzip bomb": answering(200, bomb, "content-encoding: gzip"),
        "10 MB": answering(200, receipt + b" " * (10 * MOST_ANSWER_BYTES)),
        "an id of 10,000 characters": answering(200, _bytes(long_id)),
    }
    for label, play in plays.items():
        async for complaint in _ambiguous(vendor, label, play):
            yield complaint


async def nobody_there_is_not_sent(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """When nobody answers at the address nothing was sent, and it may be sent again."""
    with socket.create_server((LOOPBACK, 0)) as probe:
        url = f"http://{LOOPBACK}:{probe.getsockname()[1]}"
    async with _driver(vendor, url) as driver:
        outcome = await driver.submit(vendor.order(vendor.request(vendor.first_route)))
    if outcome.outcome != "not_sent":
        yield f"a refused connection is {outcome.outcome}"


async def our_key_is_never_repeated(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """An error in which the vendor repeats our key, or shows another, does not carry it on."""
    other = "sk-kit-other-key-5c1d"
    for status in (400, 401, 403):
        said = f"The key {vendor.api_key} is wrong, was Bearer {other} meant?"
        body = vendor.simulated.error(status, said)
        body = {**body, "message": said, "msg": said} if isinstance(body, dict) else body
        outcome, _ = await _submit(vendor, answering(status, _bytes(body)))
        if any(key in repr(outcome) for key in (vendor.api_key, other)):
            yield f"submit_outcome: HTTP {status} that shows a key shows it again: use error_of"
        failure = await _status_failure(vendor, answering(status, _bytes(body)))
        if any(key in failure for key in (vendor.api_key, other)):
            yield f"read_status: HTTP {status} that shows a key shows it again"


async def a_failed_read_is_tried_later(vendor: VendorUnderTest) -> AsyncIterator[str]:
    """A status read that fails, is throttled, is refused or is about another task is tried later; it ends no job."""
    _, another = await vendor.status("failed")
    plays: Mapping[str, tuple[Play, str]] = {
        "a throttle": (answering(429, _bytes(vendor.simulated.error(429, "")), "retry-after: 7"), "vendor_throttled"),
        "a refused key": (answering(401, _bytes(vendor.simulated.error(401, ""))), "vendor_auth"),
        "a server error": (answering(500, _bytes(vendor.simulated.error(500, ""))), "vendor_unavailable"),
        "another task's failure": (answering(200, _bytes(another)), "vendor_unavailable"),
        "a reset": (resetting, "vendor_unavailable"),
        "10 MB": (answering(200, b" " * (10 * MOST_ANSWER_BYTES)), "vendor_unavailable"),
        "a login page": (answering(200, b"<!doctype html>", content_type="text/html"), "vendor_unavailable"),
    }
    for label, (play, code) in plays.items():
        found = await _status_failure(vendor, play)
        if not found.startswith(code):
            yield f"read_status: {label} must be tried later as {code}, and is {found}"


async def _ambiguous(vendor: VendorUnderTest, label: str, play: Play) -> AsyncIterator[str]:
    outcome, peer = await _submit(vendor, play)
    if outcome.outcome != "ambiguous" or outcome.vendor_task_id is not None:
        yield f"{label} must be ambiguous, and is {outcome.outcome}"
    cut_off = play is hanging and not peer.requests  # given up before the peer had read it
    if len(peer.requests) != 1 and not cut_off:
        yield f"{label}: {len(peer.requests)} requests were sent for one submission"


async def _submit(vendor: VendorUnderTest, play: Play) -> tuple[SubmitOutcome, Peer]:
    times = SHORT if play is hanging else PATIENT
    order = vendor.order(vendor.request(vendor.first_route), CALLBACK_URL)
    async with playing(play) as peer, _driver(vendor, f"{peer.url}{BASE_PATH}", times) as driver:
        return await driver.submit(order), peer


async def _status_failure(vendor: VendorUnderTest, play: Play) -> str:
    """The code and the words with which a status read is tried later; what was read when it is not."""
    plan = vendor.plan(vendor.request(vendor.first_route))
    async with playing(play) as peer, _driver(vendor, f"{peer.url}{BASE_PATH}") as driver:
        try:
            status = await driver.read_status(plan, vendor.simulated.new_task_id())
        except TryLater as error:
            return f"{error.code} {error}"
    return f"{status.reading.state} {status.reading.error}"


@asynccontextmanager
async def _driver(vendor: VendorUnderTest, base_url: str, times: httpx.Timeout = PATIENT) -> AsyncGenerator[Driver]:
    async with Clients.opened(times) as clients:
        outbound = Outbound()
        try:
            yield Driver(vendor.name, vendor.adapter, base_url, vendor.api_key, clients=clients, outbound=outbound)
        finally:
            await outbound.aclose()


def _bytes(body: JsonValue) -> bytes:
    return json.dumps(body).encode()
