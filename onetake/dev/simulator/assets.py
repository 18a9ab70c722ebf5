"""Signed links and the bytes behind them: Range, HEAD, ETag, expiry, and the faults of a download.

The bytes of a job are its rendered clip and a `free` box with its task id behind it, put together while sending; the
box of a further clip has its number too.
"""

import asyncio
import gzip
import hashlib
import hmac
import io
import re
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from onetake.dev.simulator.faults import Fault, Script
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
    if "wrong-pixels" in job.script:
        clip = replace(clip, width=clip.width // 2, height=clip.height // 2)
    if "half-duration" in job.script:
        clip = replace(clip, duration_s=max(clip.duration_s // 2, 1))
    return replace(clip, duration_s=clip.duration_s + 3) if "wrong-duration" in job.script else clip


@dataclass(frozen=True)
class _File:
    """The rendered clip and the job's own box, as one file."""

    clip: Path
    clip_bytes: int
    box: bytes
    version: int = 0

    @classmethod
    def of(cls, clip: Path, job: Job, number: str) -> "_File":
        return cls(clip, clip.stat().st_size, free_box(job.task_id if number == "0" else f"{job.task_id}/{number}"))

    @property
    def size(self) -> int:
        return self.clip_bytes + len(self.box)

    @property
    def etag(self) -> str:
        named = self.box + f"{self.size} {self.version}".encode()
        return f'"{hashlib.sha256(named).hexdigest()[:32]}"'

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

    async def chunks(
        self, start: int, end: int, bytes_per_s: Callable[[], int | None] = lambda: None
    ) -> AsyncIterator[bytes]:
        at = start
        while at < end:
            rate = bytes_per_s()
            step = _CHUNK_BYTES if rate is None else max(1, rate // 10)
            yield self.read(at, min(at + step, end))
            at += step
            if rate is not None:
                await asyncio.sleep(step / max(1, rate))


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
        if answer := _refused(entry.job, earlier_requests, now) or _elsewhere(request, script):
            return answer
        file = _File.of(await self._clips.path(clip_of(entry.job)), entry.job, request.path_params["number"])
        if is_get and (answer := _spoilt(script, file, earlier_requests)):
            return answer
        if "asset-changes" in script:
            file = replace(file, version=earlier_requests)
        return self._whole_or_range(request, entry, file, earlier_requests)

    def _whole_or_range(self, request: Request, entry: Entry, file: _File, earlier_requests: int) -> Response:
        script = entry.job.script
        headers = {"Accept-Ranges": "bytes", "ETag": file.etag, "Cache-Control": "private"}
        wanted = _range(request, file)
        if "asset-no-ranges" in script:
            headers, wanted = {"Cache-Control": "private"}, (0, file.size, False)
        if wanted is None:
            return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{file.size}"})
        start, end, is_part = wanted
        if is_part:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
        headers["Content-Length"] = str(end - start)
        status = 206 if is_part else 200
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers, media_type="video/mp4")
        most = _still(script, "asset-cut-at", earlier_requests)
        if most is not None and most < end - start:
            code = "206 Partial Content" if is_part else "200 OK"
            return CutShort({"content-type": "video/mp4", **headers}, file.read(start, start + most), status=code)
        body = self._body(entry, file, (start, end), earlier_requests)
        return StreamingResponse(body, status, headers, "video/mp4")

    async def _body(
        self, entry: Entry, file: _File, part: tuple[int, int], earlier_requests: int
    ) -> AsyncIterator[bytes]:
        start, end = part
        async for chunk in file.chunks(start, end, lambda: _still(entry.job.script, "asset-slow", earlier_requests)):
            yield chunk
        if end == file.size:
            self._journal.record(Delivered(task_id=entry.job.task_id, at=time.time()))


def _refused(job: Job, earlier_requests: int, now: float) -> Response | None:
    script, away = job.script, job.script.find("asset-away")
    for status in (403, 404):
        refused = script.find(f"asset-{status}")
        if refused and _counts(refused, earlier_requests):
            return Response("refused on demand\n", status, media_type="text/plain")
    if away and now < (job.finished_at or now) + away.numbers[0]:
        return Response("away on demand\n", int((*away.numbers, 404)[1]), media_type="text/plain")
    failing = script.find("asset-500")
    if failing and earlier_requests < int(failing.value):
        return Response("internal error\n", 500, media_type="text/plain")
    return None


_FOREIGN_ADDRESSES = {
    "private": "https://10.0.0.1/clip.mp4",
    "metadata": "https://169.254.169.254/latest/meta-data/",
    "plain": "http://media.example.com/clip.mp4",
    "file": "file:///etc/passwd",
}


def _elsewhere(request: Request, script: Script) -> Response | None:
    redirect = script.find("asset-redirect")
    if redirect is None:
        return None
    location = _FOREIGN_ADDRESSES.get(redirect.value, str(request.url))
    return Response(status_code=302, headers={"Location": location})


def _still(script: Script, name: str, earlier_requests: int) -> int | None:
    """The number of a fault that lasts for ever or for the first downloads; None when it is over, or was not asked
    for."""
    fault = script.find(name)
    if fault is None:
        return None
    number, *times = fault.numbers
    return int(number) if not times or earlier_requests < times[0] else None


def _spoilt(script: Script, file: _File, earlier_requests: int) -> Response | None:
    """Return an answer whose body is not the clip, if one was asked for."""
    resets = script.find("asset-reset")
    if resets and earlier_requests < int(resets.value):
        return _cut(file.half, {"content-length": str(file.size)}, reset=True)
    if length := script.find("asset-length"):
        return _cut(file.whole, {"content-length": length.value})
    if foreign := script.find("asset-as"):
        return Response(_FOREIGN[foreign.value], 200, media_type="video/mp4")
    spoilt = (fault for fault in script if fault.name in _SPOILT and _counts(fault, earlier_requests))
    return next((_SPOILT[fault.name](file) for fault in spoilt), None)


def _counts(fault: Fault, earlier_requests: int) -> bool:
    """Whether a fault of `[=N]` requests is still to be met."""
    return fault.value == "" or earlier_requests < int(fault.value)


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
    "asset-compressed": lambda file: Response(
        gzip.compress(file.whole), 200, {"Content-Encoding": "gzip"}, media_type="video/mp4"
    ),
    "asset-endless": lambda file: StreamingResponse(_endless(file), 200, media_type="video/mp4"),
}


def _archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("clip.txt", "no clip")
    return file.getvalue()


_FOREIGN: dict[str, bytes] = {
    "json": b'{"error": "the link has expired"}\n',
    "zip": _archive(),
    "playlist": b"#EXTM3U\n#EXTINF:5,\nhttp://127.0.0.1/a.ts\n#EXT-X-ENDLIST\n",
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>\n',
    "elf": b"\x7fELF" + bytes(100),
    "sound": b"ID3\4" + bytes(2000),
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
