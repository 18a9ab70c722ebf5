"""Signed links and the bytes behind them: Range, HEAD, ETag, expiry, and the faults of a download.

The bytes of a job are its rendered clip and a `free` box with its task id behind it, put together while sending; the
box of a further clip has its number too.
"""

import asyncio
import hashlib
import hmac
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from onetake.dev.simulator.faults import Script
from onetake.dev.simulator.journal import AssetRequested, Delivered, Entry, Job, Journal
from onetake.dev.simulator.rendering import Clip, Clips, free_box, variant_of
from onetake.dev.simulator.wire import CutShort

_CHUNK_BYTES = 256 * 1024
_HTML = b"<!doctype html><title>Sign in</title><h1>Please sign in to continue</h1>\n"


class Links:
    """Links that expire. The key follows from the vendors' keys, so that links outlive a restart."""

    def __init__(self, public_url: str, life_s: float, secret: str) -> None:
        self._public_url = public_url.rstrip("/")
        self._life_s = life_s
        self._secret = hashlib.sha256(secret.encode()).digest()

    def urls(self, job: Job) -> list[str]:
        """Return the links of the job's clips; they live from the end of the job, however often they are read."""
        if "no-url" in job.script:
            return []
        several = job.script.find("urls")
        return [self._url(job, number) for number in range(int(several.value) if several else 1)]

    def _url(self, job: Job, number: int) -> str:
        assert job.finished_at is not None
        name, expires = f"{job.task_id}/{number}", int(job.finished_at + self._life_s)
        return f"{self._public_url}/files/{name}.mp4?expires={expires}&sig={self._signature(name, expires)}"

    def is_valid(self, name: str, expires: str, signature: str, now: float) -> bool:
        if not re.fullmatch(r"\d{1,12}", expires, re.ASCII) or now >= int(expires):
            return False
        return hmac.compare_digest(self._signature(name, int(expires)).encode(), signature.encode())

    def _signature(self, name: str, expires: int) -> str:
        return hmac.new(self._secret, f"{name}?{expires}".encode(), hashlib.sha256).hexdigest()[:32]


def clip_of(job: Job) -> Clip:
    """Return the clip that the job delivers, its faults included."""
    clip = Clip(job.duration_s, job.width, job.height, job.sound, variant_of(job.task_id))
    if "silent" in job.script:
        clip = replace(clip, sound=False)
    return replace(clip, duration_s=clip.duration_s + 3) if "wrong-duration" in job.script else clip


@dataclass(frozen=True)
class _File:
    """The rendered clip and the job's own box, as one file."""

    clip: Path
    clip_bytes: int
    box: bytes

    @classmethod
    def of(cls, clip: Path, job: Job, number: str) -> "_File":
        return cls(clip, clip.stat().st_size, free_box(job.task_id if number == "0" else f"{job.task_id}/{number}"))

    @property
    def size(self) -> int:
        return self.clip_bytes + len(self.box)

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.box + str(self.size).encode()).hexdigest()[:32]}"'

    @property
    def half(self) -> bytes:
        return self.read(0, self.size // 2)

    @property
    def whole(self) -> bytes:
        return self.read(0, self.size)

    def read(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` up to `end`, exclusive."""
        head = b""
        if start < self.clip_bytes:
            with self.clip.open("rb") as file:
                file.seek(start)
                head = file.read(min(end, self.clip_bytes) - start)
        tail = slice(max(0, start - self.clip_bytes), max(0, end - self.clip_bytes))
        return head + self.box[tail]

    async def chunks(self, start: int, end: int, bytes_per_s: int | None = None) -> AsyncIterator[bytes]:
        step = _CHUNK_BYTES if bytes_per_s is None else max(1, bytes_per_s // 10)
        for at in range(start, end, step):
            yield self.read(at, min(at + step, end))
            if bytes_per_s is not None:
                await asyncio.sleep(step / max(1, bytes_per_s))


class Assets:
    """The media host: `GET` and `HEAD /files/{task_id}/0.mp4`."""

    def __init__(self, journal: Journal, clips: Clips, links: Links) -> None:
        self._journal = journal
        self._clips = clips
        self._links = links

    async def serve(self, request: Request) -> Response:
        now = time.time()
        task_id, number = request.path_params["task_id"], request.path_params["number"]
        query = request.query_params
        if not self._links.is_valid(f"{task_id}/{number}", query.get("expires", ""), query.get("sig", ""), now):
            return Response("the link is not valid or has expired\n", 403, media_type="text/plain")
        entry = self._journal.entries.get(task_id)
        if entry is None or entry.job.state(now) != "success":
            return Response("no such file\n", 404, media_type="text/plain")
        return await self._answer(request, entry, now)

    async def _answer(self, request: Request, entry: Entry, now: float) -> Response:
        script, is_get = entry.job.script, request.method == "GET"
        earlier_requests = entry.asset_requests
        if is_get:
            self._journal.record(AssetRequested(task_id=entry.job.task_id, at=now))
        if answer := _refused(script, earlier_requests):
            return answer
        file = _File.of(await self._clips.path(clip_of(entry.job)), entry.job, request.path_params["number"])
        if is_get and (answer := _spoilt(script, file, earlier_requests)):
            return answer
        return self._whole_or_range(request, entry, file)

    def _whole_or_range(self, request: Request, entry: Entry, file: _File) -> Response:
        headers = {"Accept-Ranges": "bytes", "ETag": file.etag, "Cache-Control": "private"}
        wanted = _range(request, file)
        if wanted is None:
            return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{file.size}"})
        start, end, is_part = wanted
        if is_part:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
        headers["Content-Length"] = str(end - start)
        status = 206 if is_part else 200
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers, media_type="video/mp4")
        return StreamingResponse(self._body(entry, file, start, end), status, headers, "video/mp4")

    async def _body(self, entry: Entry, file: _File, start: int, end: int) -> AsyncIterator[bytes]:
        slow = entry.job.script.find("asset-slow")
        async for chunk in file.chunks(start, end, int(slow.value) if slow else None):
            yield chunk
        if end == file.size:
            self._journal.record(Delivered(task_id=entry.job.task_id, at=time.time()))


def _refused(script: Script, earlier_requests: int) -> Response | None:
    forbidden = script.find("asset-403")
    if forbidden and earlier_requests < int(forbidden.value or earlier_requests + 1):
        return Response("forbidden\n", 403, media_type="text/plain")
    failing = script.find("asset-500")
    if failing and earlier_requests < int(failing.value):
        return Response("internal error\n", 500, media_type="text/plain")
    return None


def _spoilt(script: Script, file: _File, earlier_requests: int) -> Response | None:
    """Return an answer whose body is not the clip, if one was asked for."""
    resets = script.find("asset-reset")
    if resets and earlier_requests < int(resets.value):
        return _cut(file.half, {"content-length": str(file.size)}, reset=True)
    return next((_SPOILT[fault.name](file) for fault in script if fault.name in _SPOILT), None)


def _cut(body: bytes, lengths: Mapping[str, str] | None = None, *, reset: bool = False) -> Response:
    return CutShort({"content-type": "video/mp4", **(lengths or {})}, body, reset=reset)


_SPOILT: dict[str, Callable[[_File], Response]] = {
    "asset-html": lambda _: Response(_HTML, 200, media_type="video/mp4"),
    "asset-truncated-file": lambda file: Response(file.half, 200, media_type="video/mp4"),
    "asset-cut": lambda file: _cut(file.half, {"content-length": str(file.size)}),
    "asset-cut-closed": lambda file: _cut(file.half),
    "asset-cut-chunked": lambda file: _cut(_chunk(file.half), {"transfer-encoding": "chunked"}),
    "asset-short-length": lambda file: _cut(file.whole, {"content-length": str(file.size // 2)}),
    "asset-two-lengths": lambda file: _cut(
        file.half, {"content-length": str(file.size), "Content-Length": str(file.size // 2)}
    ),
    "asset-endless": lambda file: StreamingResponse(_endless(file), 200, media_type="video/mp4"),
}


def _chunk(data: bytes) -> bytes:
    """One chunk of a chunked body, without the empty one that would end it."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


async def _endless(file: _File) -> AsyncIterator[bytes]:
    async for chunk in file.chunks(0, file.size):
        yield chunk
    while True:
        yield bytes(_CHUNK_BYTES)
        await asyncio.sleep(0)


def _range(request: Request, file: _File) -> tuple[int, int, bool] | None:
    """Return start, end (exclusive) and whether it is a part; None when it cannot be satisfied.

    Several ranges, a unit other than bytes, and an `If-Range` that does not match ask for the whole file (RFC 9110).
    """
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""), re.ASCII)
    if not found or found.group() == "bytes=-" or request.headers.get("if-range", file.etag) != file.etag:
        return 0, file.size, False
    first, last = found.groups()
    if not first:
        start, end = max(0, file.size - int(last)), file.size
    else:
        start, end = int(first), min(int(last) + 1, file.size) if last else file.size
    return (start, end, True) if start < end else None
