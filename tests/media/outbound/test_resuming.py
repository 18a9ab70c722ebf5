"""A body that breaks off is gone on with where it was; one that may have changed meanwhile is not."""

import asyncio
import os
import re
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from onetake.core.errors import TryLater
from onetake.media import dialling
from onetake.media.outbound import Limits, Outbound
from tests.clock import Clock
from tests.media.outbound.parts import LIMIT_S, PATIENT, Answers, Visits, guard, ok, read, saying, serving

CLIP = os.urandom(900_000)
OLD = "Sat, 01 Jan 2022 00:00:00 GMT"
DATE = "Date: Sun, 02 Jan 2022 00:00:00 GMT"


@dataclass
class Server:
    """Serves CLIP with ranges, and breaks each answer off after `piece` bytes; `later_...`: from the second on."""

    piece: int = 300_000
    reset: bool = False
    names: tuple[str, ...] = ('ETag: "a"',)
    later_names: tuple[str, ...] | None = None
    offers: str = "Accept-Ranges: bytes"
    ignores_range: bool = False
    declares: bool = True
    clip: bytes = CLIP
    later_clip: bytes | None = None
    busy_answers: int = 0
    heads: list[str] = field(default_factory=list[str])

    async def play(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        again = len(self.heads) > 1
        clip = self.later_clip if again and self.later_clip is not None else self.clip
        names = self.later_names if again and self.later_names is not None else self.names
        found = re.search(r"\r\nRange: bytes=([0-9]+)-\r\n", self.heads[-1])
        if again and self.busy_answers:
            self.busy_answers -= 1
            writer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
            return
        start = int(found[1]) if found and not self.ignores_range else 0
        lines = ["HTTP/1.1 206 Partial Content" if start else "HTTP/1.1 200 OK", self.offers, DATE, *names]
        lines += [f"Content-Range: bytes {start}-{len(clip) - 1}/{len(clip)}"] if start else []
        lines += [f"Content-Length: {len(clip) - start}" if self.declares else "Transfer-Encoding: chunked"]
        writer.write("\r\n".join(line for line in lines if line).encode() + b"\r\n\r\n")
        piece = clip[start : start + self.piece]
        writer.write(piece if self.declares else b"%x\r\n%s\r\n" % (len(piece), piece))
        await writer.drain()
        if self.reset:
            writer.transport.abort()


async def fetched(server: Server, limits: Limits = PATIENT) -> tuple[bytes, Visits]:
    async with serving(server.play) as (port, visits), guard(limits=limits) as outbound, asyncio.timeout(LIMIT_S):
        server.heads = visits
        return await read(outbound, f"http://127.0.0.1:{port}/clip.mp4?sig=a%2Fb"), visits


async def failure_of(server: Server) -> tuple[str, int]:
    """The code it ends with, and how many requests were made."""
    with pytest.raises(TryLater) as failure:
        await fetched(server)
    return failure.value.code, len(server.heads)


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(
    ("names", "sent"),
    [
        (('ETag: "a"',), '"a"'),
        (('ETag: "a"', f"Last-Modified: {OLD}"), '"a"'),
        ((f"Last-Modified: {OLD}",), OLD),
    ],
)
async def test_a_body_that_breaks_off_is_gone_on_with_where_it_was(
    names: tuple[str, ...], sent: str, reset: bool
) -> None:
    server = Server(names=names, reset=reset, piece=400_000)
    data, visits = await fetched(server)
    assert data == CLIP
    assert len(visits) >= 3
    assert "Range:" not in visits[0]
    for head in visits[1:]:
        assert f"\r\nIf-Range: {sent}\r\n" in head
        assert "/clip.mp4?sig=a%2Fb " in head


async def test_a_body_that_breaks_off_without_a_length_is_gone_on_with_too() -> None:
    """The first part of the rest says how long the file is: from then on its end is known."""
    data, visits = await fetched(Server(declares=False))
    assert (data, len(visits)) == (CLIP, 4)


async def test_a_server_that_is_away_for_a_moment_is_asked_for_the_rest_again() -> None:
    data, visits = await fetched(Server(busy_answers=2))
    assert (data, len(visits)) == (CLIP, 5)


async def test_a_server_that_is_silent_is_asked_for_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only a reset: a line that went dead is one too."""
    server = Server(piece=500_000)
    play, stream = server.play, dialling._LargeReads  # pyright: ignore[reportPrivateUsage]
    patient = stream.read

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await play(reader, writer)
        if len(server.heads) == 1:
            await asyncio.sleep(3600)

    async def hurried(one: Any, max_bytes: int, timeout: float) -> bytes:  # noqa: ASYNC109  # httpcore's
        return await patient(one, max_bytes, min(timeout, 0.5))

    async with asyncio.timeout(LIMIT_S), serving(silent) as (port, visits), guard() as outbound:
        server.heads = visits
        async with outbound.open(f"http://127.0.0.1:{port}/") as body:
            monkeypatch.setattr(stream, "read", hurried)  # from the head on
            assert b"".join([chunk async for chunk in body.chunks]) == CLIP
    assert len(visits) >= 2


@pytest.mark.parametrize(
    "server",
    [
        Server(offers=""),
        Server(offers="Accept-Ranges: none"),
        Server(names=()),
        Server(names=('ETag: W/"a"',)),
        Server(names=('ETag: W/"a"', f"Last-Modified: {OLD}")),
        Server(names=("Last-Modified: Sun, 02 Jan 2022 00:00:00 GMT",)),
        Server(names=("Last-Modified: yesterday",)),
    ],
    ids=["not offered", "refused", "unnamed", "weak", "weak and dated", "too fresh", "no date"],
)
async def test_a_body_that_cannot_be_gone_on_with_ends_as_truncated(server: Server) -> None:
    assert await failure_of(server) == ("asset_truncated", 1)


@pytest.mark.parametrize(
    "server",
    [
        Server(later_names=('ETag: "b"',)),
        Server(later_names=()),
        Server(later_names=('ETag: W/"a"',)),
        Server(ignores_range=True),
        Server(later_clip=CLIP + b"more"),
        Server(names=(f"Last-Modified: {OLD}",), later_names=("Last-Modified: Sat, 01 Jan 2022 00:00:01 GMT",)),
    ],
    ids=["another ETag", "no ETag", "weak ETag", "the whole file", "another length", "another date"],
)
async def test_what_may_have_changed_is_never_joined_to_what_came_before(server: Server) -> None:
    assert await failure_of(server) == ("asset_truncated", 2)


async def test_a_server_that_breaks_off_again_and_again_is_given_up() -> None:
    code, requests = await failure_of(Server(piece=1000))
    assert (code, requests) == ("asset_truncated", 5)


async def test_a_server_that_is_away_for_long_is_given_up() -> None:
    code, requests = await failure_of(Server(busy_answers=100))
    assert (code, requests) == ("asset_truncated", 6)


async def test_a_link_that_has_run_out_meanwhile_is_tried_again_with_a_fresh_one() -> None:
    answers = [ok(CLIP[:1000], 'ETag: "a"', "Accept-Ranges: bytes", length=2000)]
    answers.append(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await saying(answers.pop(0))(reader, writer)

    async with serving(script) as (port, _), guard() as outbound:
        with pytest.raises(TryLater) as failure:
            await read(outbound, f"http://127.0.0.1:{port}/")
    assert failure.value.code == "asset_truncated"


async def test_every_dial_for_the_rest_is_judged() -> None:
    """A name that points elsewhere by now is not followed there, and what came is not kept."""
    resolver, server = Answers(["127.0.0.1"], ["169.254.169.254"]), Server()
    async with serving(server.play) as (port, visits):
        server.heads = visits
        outbound = Outbound(frozenset({"cdn.example.test"}), resolver=resolver, limits=PATIENT)
        with pytest.raises(TryLater) as failure:
            await read(outbound, f"http://cdn.example.test:{port}/")
        await outbound.aclose()
    assert (failure.value.code, resolver.count, len(visits)) == ("asset_truncated", 2, 1)


async def test_a_redirect_of_the_rest_is_judged() -> None:
    moved = b"HTTP/1.1 302 Moved\r\nContent-Length: 0\r\nLocation: https://10.0.0.1/\r\n\r\n"
    answers = [ok(CLIP[:1000], 'ETag: "a"', "Accept-Ranges: bytes", length=2000), moved]

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await saying(answers.pop(0))(reader, writer)

    async with serving(script) as (port, _), guard() as outbound:
        with pytest.raises(TryLater) as failure:
            await read(outbound, f"http://127.0.0.1:{port}/")
    assert (failure.value.code, answers) == ("asset_truncated", [])


# -- How long a body may take ------------------------------------------------------------------------------------------


async def test_a_slow_body_with_a_length_may_take_as_long_as_its_size_needs(clock: Clock) -> None:
    """24 KB a second and a clip of 3 MB: 125 s, by a clock that stands still while a piece is on its way."""
    piece, sent, received, whole = bytes(50_000), 0, 0, asyncio.Condition()

    def all_received() -> bool:
        return received == sent

    async def slow(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(ok(b"", length=3_000_000))
        for _number in range(60):
            async with whole:
                await whole.wait_for(all_received)
            clock.now_s += len(piece) / 24_000
            sent += len(piece)
            writer.write(piece)
            await writer.drain()

    limits = replace(PATIENT, window_s=Limits().window_s, undeclared_s=1.0)
    async with (
        asyncio.timeout(LIMIT_S),
        serving(slow) as (port, _),
        guard(limits=limits) as outbound,
        outbound.open(f"http://127.0.0.1:{port}/") as body,
    ):
        async for chunk in body.chunks:
            received += len(chunk)
            async with whole:
                whole.notify_all()
    assert (received, clock.now_s) == (3_000_000, pytest.approx(125))


def test_the_least_rate_lets_24_kb_a_second_pass_and_cuts_a_drip_within_a_minute() -> None:
    limits = Limits()
    assert limits.min_bytes_per_s < 24_000
    assert limits.window_s + limits.read_s < 60
