"""What a server may do to an exchange: the plays after which nobody can know what became of a submission."""

import gzip
import json
from time import monotonic

import httpx

from onetake.core.ports import SubmitOutcome
from providers.driver import MOST_ANSWER_BYTES
from tests.providers.parts import API_KEY, CALLBACK_URL, PATIENT, PROMPT, Connect, submission
from tests.providers.sockets import Connection, Play, answer, answering

ACCEPTED = json.dumps({"code": 200, "message": "success", "data": {"taskId": "task_1"}}).encode()
LONG_S = 300.0  # far above the short timeouts of these tests, and below the long ones: reaching it is a hang


async def submitted(connect: Connect, base_url: str, timeout: httpx.Timeout = PATIENT) -> SubmitOutcome:  # noqa: ASYNC109
    """Submit, and hold the outcome against what every outcome must keep to."""
    started = monotonic()
    outcome = await connect(base_url, timeout).submit(submission(callback_url=CALLBACK_URL))
    assert monotonic() - started < LONG_S
    for secret in (API_KEY, PROMPT, "canary-token"):
        assert secret not in repr(outcome)
    return outcome


async def resetting(connection: Connection) -> None:
    connection.reset()


async def closing(connection: Connection) -> None:
    del connection


async def read_and_reset(connection: Connection) -> None:
    await connection.read_request()
    connection.reset()


async def read_and_hang(connection: Connection) -> None:
    await connection.read_request()
    await connection.reader.read()


async def half_and_reset(connection: Connection) -> None:
    await connection.read_request()
    await connection.send(answer(200, ACCEPTED[:20], length=len(ACCEPTED)), every_s=0.02)
    connection.reset()


async def half_and_hang(connection: Connection) -> None:
    await connection.read_request()
    await connection.send(answer(200, ACCEPTED[:20], length=len(ACCEPTED)))
    await connection.reader.read()


WHOLE = answer(200, ACCEPTED)
BOMB = gzip.compress(b"0" * (64 * 1024 * 1024), compresslevel=1)
CHUNKED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
TOO_MUCH = b'{"x":"' + b"y" * (2 * MOST_ANSWER_BYTES) + b'"}'


def _redirect(status: int, location: str) -> Play:
    return answering(answer(status, ACCEPTED, f"location: {location}"))


AMBIGUOUS: dict[str, Play] = {
    "reset before the request was read": resetting,
    "closed before the request was read": closing,
    "reset after the request was read": read_and_reset,
    "closed after the request was read": answering(),
    "silence": read_and_hang,
    "no HTTP": answering(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "half a head": answering(WHOLE[:30]),
    "a head of 200 kB": answering(answer(200, ACCEPTED, f"x: {'y' * 200_000}")),
    "half a body": answering(answer(200, ACCEPTED[:20], length=len(ACCEPTED))),
    "half a body and a reset": half_and_reset,
    "half a body and silence": half_and_hang,
    "two lengths": answering(answer(200, ACCEPTED, "content-length: 7")),
    "chunks without an end": answering(CHUNKED + b"%x\r\n%s\r\n" % (len(ACCEPTED), ACCEPTED)),
    "a chunk that is none": answering(CHUNKED + b"zz\r\n"),
    "2 MiB": answering(answer(200, TOO_MUCH)),
    "2 MiB in chunks": answering(CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (len(TOO_MUCH), TOO_MUCH)),
    "2 MiB refused": answering(answer(400, TOO_MUCH)),
    "a gzip bomb": answering(answer(200, BOMB, "content-encoding: gzip")),
    "gzip": answering(answer(200, gzip.compress(ACCEPTED), "content-encoding: gzip")),
    "gzip that is none": answering(answer(200, ACCEPTED, "content-encoding: gzip")),
    "br": answering(answer(200, ACCEPTED, "content-encoding: br")),
    "another protocol": answering(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
    "no content": answering(b"HTTP/1.1 204 No Content\r\n\r\n"),
    "not modified": answering(b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    "slow drip of the head": answering(*(WHOLE[n : n + 1] for n in range(len(WHOLE))), every_s=0.05),
    "slow drip of the body": answering(
        answer(200, b"", length=len(ACCEPTED)), *(ACCEPTED[n : n + 1] for n in range(len(ACCEPTED))), every_s=0.05
    ),
    "redirect to a path": _redirect(307, "/elsewhere"),
    "redirect to a host": _redirect(308, "https://evil.example/"),
    "redirect to mail": _redirect(302, "mailto:someone"),
    "redirect to another protocol": _redirect(302, "ftp://evil.example/"),
    "redirect to nonsense": _redirect(302, "http://["),
    "redirect to a port of letters": _redirect(301, "http://a:b/"),
    "redirect into bytes": _redirect(303, "/\xff\xfe"),
    "500": answering(answer(500, ACCEPTED)),
    "503 with Retry-After": answering(answer(503, b'{"code":503}', "retry-after: 7")),
}


HANGING = {"silence", "half a body and silence", "slow drip of the head", "slow drip of the body"}
