"""What is read from a foreign server, and what ends the reading."""

import asyncio
import gzip
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from unittest.mock import MagicMock

import pytest

from onetake.core.errors import Failed, OnetakeError, TryLater
from onetake.media import resuming
from onetake.media.outbound import Limits, Outbound
from tests.clock import Clock
from tests.connections import Serve
from tests.media.outbound.parts import LIMIT_S, PATIENT, QUICK, Answers, guard, ok, read, saying, serving

NO_DATE = "Thu, 01 Jan 2026 00:00:00 +99999999999999999999"  # Python's parser raises OverflowError


async def error_of(script: Serve, *, limits: Limits = PATIENT) -> OnetakeError:
    """The error that reading from such a server ends with, within a bounded time."""
    async with serving(script) as (port, _), guard(limits=limits) as outbound, asyncio.timeout(LIMIT_S):
        with pytest.raises(OnetakeError) as failure:
            await read(outbound, f"http://127.0.0.1:{port}/clip.mp4")
    return failure.value


def redirect(location: str, *, status: int = 302) -> bytes:
    head = f"HTTP/1.1 {status} Moved\r\nContent-Length: 0\r\n"
    return (head + (f"Location: {location}\r\n" if location else "") + "\r\n").encode()


# -- whole bodies ------------------------------------------------------------------------------------------------------


async def test_a_body_arrives_with_its_length_and_type() -> None:
    data = b"x" * 200_000
    async with (
        serving(saying(ok(data, "Content-Type: video/mp4"))) as (port, _),
        guard() as outbound,
        outbound.open(f"http://127.0.0.1:{port}/clip.mp4") as body,
    ):
        assert (body.declared_bytes, body.content_type) == (200_000, "video/mp4")
        assert b"".join([chunk async for chunk in body.chunks]) == data


async def test_a_body_without_a_length_is_read_to_its_end() -> None:
    close = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nclip"
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nclip\r\n0\r\n\r\n"
    for answer in (close, chunked):
        async with (
            serving(saying(answer)) as (port, _),
            guard() as outbound,
            outbound.open(f"http://127.0.0.1:{port}/") as body,
        ):
            assert body.declared_bytes is None
            assert b"".join([chunk async for chunk in body.chunks]) == b"clip"


async def test_nothing_but_the_address_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cookie is kept, no netrc and no proxy is used, and compression is not asked for."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with serving(saying(ok(b"clip", "Set-Cookie: a=b"))) as (port, visits), guard() as outbound:
        for _ in range(2):
            await read(outbound, f"http://127.0.0.1:{port}/clip.mp4?sig=a%2Fb")
    expected = (
        f"GET /clip.mp4?sig=a%2Fb HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: onetake\r\n"
        "Accept: */*\r\nAccept-Encoding: identity\r\n\r\n"
    )
    assert visits == [expected, expected]


async def test_a_link_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving(saying(ok(b"clip"))) as (port, _), guard() as outbound:
        await read(outbound, f"http://127.0.0.1:{port}/clip.mp4?signature=canary")
    assert "canary" not in caplog.text


async def test_a_reader_may_stop_early_and_open_again() -> None:
    async with serving(saying(ok(b"x" * 1_000_000))) as (port, _), guard() as outbound:
        for _ in range(3):
            async with outbound.open(f"http://127.0.0.1:{port}/") as body:
                async for chunk in body.chunks:
                    assert chunk
                    break


async def test_a_date_that_is_none_costs_nothing() -> None:
    answer = ok(b"clip", f"Date: {NO_DATE}", f"Last-Modified: {NO_DATE}")
    async with serving(saying(answer)) as (port, _), guard() as outbound:
        assert await read(outbound, f"http://127.0.0.1:{port}/") == b"clip"


async def test_a_download_that_fails_while_it_is_set_up_gives_its_connection_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with serving(saying(ok(b"x" * 1_000_000))) as (port, _), guard(limits=PATIENT) as outbound:
        with monkeypatch.context() as patched:
            patched.setattr(resuming, "declared_bytes", MagicMock(side_effect=ZeroDivisionError))
            for _ in range(64):  # as many as the pool has
                with pytest.raises(ZeroDivisionError):
                    await read(outbound, f"http://127.0.0.1:{port}/")
        assert len(await read(outbound, f"http://127.0.0.1:{port}/")) == 1_000_000


async def test_a_slow_reader_is_not_a_slow_server(clock: Clock) -> None:
    """Waiting for the object store does not count against the vendor."""
    async with (
        serving(saying(ok(b"x" * 2_000_000))) as (port, _),
        guard(limits=replace(PATIENT, window_s=30.0)) as outbound,
        outbound.open(f"http://127.0.0.1:{port}/") as body,
    ):
        total = 0
        async for chunk in body.chunks:
            total += len(chunk)
            clock.now_s += 3600
    assert total == 2_000_000


# -- bodies that break -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (ok(b"x" * 1000, length=2000), "asset_truncated"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nclip", "asset_truncated"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nclip!", "asset_unavailable"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "asset_unavailable"),
        (b"HTTP/1.1 200", "vendor_unavailable"),
        (b"", "vendor_unavailable"),
        (b"not http at all\r\n\r\n", "asset_unavailable"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n", "asset_unavailable"),
        (b"HTTP/1.1 200 OK\r\n" + b"X-Y: 0123456789\r\n" * 10_000 + b"\r\n", "asset_unavailable"),
    ],
)
async def test_a_broken_answer_is_tried_later(answer: bytes, code: str) -> None:
    error = await error_of(saying(answer))
    assert isinstance(error, TryLater)
    assert error.code == code


async def test_bytes_beyond_the_declared_length_are_not_read() -> None:
    async with serving(saying(ok(b"clip and more", length=4))) as (port, _), guard() as outbound:
        assert await read(outbound, f"http://127.0.0.1:{port}/") == b"clip"


async def test_a_reset_is_tried_later() -> None:
    async def reset(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(b"x" * 1000, length=2000))
        await writer.drain()
        writer.transport.abort()

    assert isinstance(await error_of(reset), TryLater)


async def test_a_server_that_is_not_there_is_tried_later() -> None:
    async with guard() as outbound:
        with pytest.raises(TryLater, match="ConnectError"):
            await read(outbound, "http://127.0.0.1:1/")


async def test_a_silent_server_is_given_up() -> None:
    assert isinstance(await error_of(saying(b"", pause_s=LIMIT_S), limits=QUICK), TryLater)
    assert isinstance(await error_of(saying(ok(b"x", length=9), pause_s=LIMIT_S), limits=QUICK), TryLater)


async def test_endless_interim_answers_are_given_up() -> None:
    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    assert isinstance(await error_of(flood, limits=QUICK), TryLater)


async def test_a_dripping_body_is_given_up_by_its_rate() -> None:
    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(b"", length=1000))
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    error = await error_of(drip, limits=replace(PATIENT, window_s=0.2, min_bytes_per_s=320 * 1024))
    assert isinstance(error, TryLater)
    assert "too slow" in str(error)


async def test_an_endless_body_is_given_up_at_the_deadline() -> None:
    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(bytes(65_536))
            await writer.drain()

    error = await error_of(endless, limits=replace(PATIENT, undeclared_s=0.5))
    assert isinstance(error, TryLater)
    assert "too long" in str(error)


# -- answers that are no body ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [204, 206, 304, 400, 401, 403, 404, 410, 451])
async def test_a_link_that_is_gone_is_unavailable(status: int) -> None:
    error = await error_of(saying(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n".encode()))
    assert isinstance(error, Failed)
    assert error.code == "asset_unavailable"


@pytest.mark.parametrize(
    ("status", "header", "after_s"),
    [
        (500, "", None),
        (503, "Retry-After: 7", 7.0),
        (429, "Retry-After: 36000", 300.0),
        (429, "Retry-After: -5", None),
        (429, "Retry-After: soon", None),
        (429, "Retry-After: " + "9" * 400, None),
        (503, "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        (503, f"Retry-After: {NO_DATE}", None),
        (408, "", None),
        (425, "", None),
    ],
)
async def test_a_server_in_trouble_is_tried_later(status: int, header: str, after_s: float | None) -> None:
    head = f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n" + (f"{header}\r\n" if header else "")
    error = await error_of(saying(f"{head}\r\n".encode()))
    assert isinstance(error, TryLater)
    assert (error.code, error.after_s) == ("vendor_unavailable", after_s)


async def test_a_date_to_try_again_is_understood() -> None:
    before = datetime.now(UTC)
    until = before.replace(microsecond=0) + timedelta(seconds=200)
    date = format_datetime(until, usegmt=True)
    error = await error_of(saying(f"HTTP/1.1 503 No\r\nContent-Length: 0\r\nRetry-After: {date}\r\n\r\n".encode()))
    assert isinstance(error, TryLater)
    assert error.after_s is not None
    assert until - datetime.now(UTC) <= timedelta(seconds=error.after_s) <= until - before


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "identity, gzip", "GZIP"])
async def test_a_compressed_body_is_refused_before_decoding(encoding: str) -> None:
    bomb = gzip.compress(bytes(10_000_000))
    error = await error_of(saying(ok(bomb, f"Content-Encoding: {encoding}")))
    assert isinstance(error, Failed)
    assert error.code == "asset_unavailable"


# -- redirects ---------------------------------------------------------------------------------------------------------


async def hops(count: int, location: str) -> tuple[bytes, list[str]]:
    async def script(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(redirect(location) if len(visits) <= count else ok(b"clip"))
        await writer.drain()

    async with serving(script) as (port, visits), guard() as outbound:
        return await read(outbound, f"http://127.0.0.1:{port}/a/b"), visits.paths


@pytest.mark.parametrize(
    ("location", "path"), [("c?d=%2F", "/a/c?d=%2F"), ("/c", "/c"), ("?c", "/a/b?c"), ("../c", "/c"), ("#c", "/a/b")]
)
async def test_a_relative_redirect_is_followed(location: str, path: str) -> None:
    assert await hops(1, location) == (b"clip", ["/a/b", path])


async def test_three_redirects_are_followed_and_four_are_not() -> None:
    assert (await hops(3, "/next"))[0] == b"clip"
    with pytest.raises(Failed, match="Rule: redirect"):
        await hops(4, "/next")


@pytest.mark.parametrize(
    ("location", "rule"),
    [
        ("", "redirect"),
        ("/a b", "redirect"),
        ("/ü", "redirect"),
        ("\\\\evil.example/", "redirect"),
        ("http://evil.example/", "scheme"),
        ("//user@evil.example/", "user_info"),
        ("file:///etc/passwd", "scheme"),
        ("https://169.254.169.254/latest/", "address"),
        ("https://10.0.0.1/", "address"),
        ("https://[::1]/", "address"),
        ("https://2130706433/", "host"),
        ("https://evil.example:22/", "port"),
    ],
)
async def test_a_redirect_is_judged_like_any_address(location: str, rule: str) -> None:
    error = await error_of(saying(redirect(location)))
    assert isinstance(error, Failed)
    assert (error.code, error.detail) == ("asset_url_blocked", f"Rule: {rule}.")


async def test_a_redirect_to_a_private_name_sends_nothing_there() -> None:
    resolver = Answers(["127.0.0.1"])
    async with serving(saying(ok(b"secret"))) as (inside, inside_visits):
        answer = redirect(f"https://inside.example:8443/{inside}")
        async with serving(saying(answer)) as (port, _):
            outbound = Outbound(frozenset({f"127.0.0.1:{port}"}), resolver=resolver, limits=PATIENT)
            with pytest.raises(Failed, match="Rule: address"):
                await read(outbound, f"http://127.0.0.1:{port}/")
            await outbound.aclose()
    assert (resolver.count, inside_visits) == (1, [])
