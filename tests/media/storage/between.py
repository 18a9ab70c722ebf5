"""A proxy before the real S3 server that makes another store of it, or damages what passes."""

import asyncio
import hashlib
import re
from base64 import b64encode
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO

from minio import Minio

from tests.connections import dialled, read_message
from tests.media.storage.parts import Server
from tests.providers.sockets import Connection, answer, serving

_HEAD_END = b"\r\n\r\n"
_SMALL_BYTES = 1000
_CODES = {
    200: b"none",
    400: b"InvalidRequest",
    403: b"AccessDenied",
    412: b"PreconditionFailed",
    501: b"NotImplemented",
}
_XML = "application/xml"


@dataclass
class Between:
    """With `damages`, a bit of each large body changes. Without `verifies`, the store keeps what it gets and tells the
    sha256 that was sent; without `tells`, it tells none. `refuses` answers each PUT with a checksum behind it.
    `manners`: with which status it answers what other stores do. `loses_confirmation` closes the connection of the
    second HEAD of a key. `seen`: the methods and keys."""

    server: Server
    damages: bool = False
    verifies: bool = True
    tells: bool = True
    refuses: int = 0
    loses_confirmation: bool = False
    manners: Mapping[str, int] = field(default_factory=dict[str, int])
    seen: list[str] = field(default_factory=list[str])
    written: set[str] = field(default_factory=set[str])
    claims: dict[str, bytes] = field(default_factory=dict[str, bytes])

    async def play(self, connection: Connection) -> None:
        while True:
            head, _, body = (await read_message(connection.reader)).partition(_HEAD_END)
            head += _HEAD_END
            method, target = head.split(b" ", 2)[:2]
            path = target.partition(b"?")[0].decode()
            line = f"{method.decode()} {path.partition(self.server.bucket)[2].lstrip('/')}"
            self.seen.append(line)
            if self.loses_confirmation and method == b"HEAD" and self.seen.count(line) > 1:
                return
            await connection.send(await self._answer(method, path, head, body))

    async def _answer(self, method: bytes, path: str, head: bytes, body: bytes) -> bytes:
        if status := self._unmannerly(method, path, head):
            return answer(status, b"<Error><Code>%s</Code></Error>" % _CODES[status], 'etag: "kept"', content_type=_XML)
        if method == b"PUT" and self.refuses and b"x-amz-trailer" in head.lower():
            return answer(self.refuses, b"<Error><Code>AccessDenied</Code></Error>", content_type="application/xml")
        if method == b"PUT" and not self.verifies:
            self.claims[path] = b64encode(hashlib.sha256(_decoded(head, body)).digest())
        if method == b"PUT" and self.damages and len(body) > _SMALL_BYTES:
            middle = len(body) // 2
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        if b"x-amz-trailer" in head.lower() and not self.verifies:
            return await asyncio.to_thread(self._keep, path, _decoded(head, body))
        said = await self._asked(method, head + body)
        return self._telling(path, said) if method == b"HEAD" else said

    def _unmannerly(self, method: bytes, path: str, head: bytes) -> int:
        """The status with which this store refuses what others do; 0 when it does not."""
        target = head.split(b" ", 2)[1]
        key = path.partition(self.server.bucket)[2].strip("/")
        checksum = b"x-amz-checksum" in head.lower() or b"content-md5" in head.lower()
        asked = {
            "taking twice": method == b"PUT" and path in self.written,
            "an absent key": method in {b"GET", b"HEAD"} and bool(key) and path not in self.written,
            "If-None-Match": b"\r\nif-none-match" in head.lower(),
            "listing": method == b"GET" and b"list-type=2" in target,
            "uploads": method == b"GET" and b"uploads" in target,
            "removing": method == b"DELETE",
            "no checksum": method == b"PUT" and not checksum and b"x-amz-trailer" not in head.lower(),
            "trailers": b"x-amz-trailer" in head.lower(),
            "completing": method == b"POST" and b"uploadId" in target,
        }
        if method == b"PUT":
            self.written.add(path)
        return next((self.manners[name] for name, is_asked in asked.items() if is_asked and self.manners.get(name)), 0)

    def _keep(self, path: str, data: bytes) -> bytes:
        keys = self.server.keys
        client = Minio(self.server.endpoint, keys.access_key, keys.secret_key, secure=False, region="us-east-1")
        client.put_object(self.server.bucket, path.partition(f"{self.server.bucket}/")[2], BytesIO(data), len(data))
        return answer(200, b"", 'etag: "kept"')

    def _telling(self, path: str, said: bytes) -> bytes:
        said = re.sub(rb"\r\nx-amz-checksum-[^\r]*", b"", said, flags=re.IGNORECASE) if not self.tells else said
        if path not in self.claims:
            return said
        return said.replace(_HEAD_END, b"\r\nx-amz-checksum-sha256: " + self.claims[path] + _HEAD_END)

    async def _asked(self, method: bytes, request: bytes) -> bytes:
        host, _, port = self.server.endpoint.rpartition(":")
        async with dialled(host, int(port)) as (reader, writer):
            writer.write(request)
            return await read_message(reader, has_body=method != b"HEAD")


@asynccontextmanager
async def between(server: Server, **choices: bool | int | Mapping[str, int]) -> AsyncGenerator[tuple[Between, Server]]:
    """The proxy, and the server as it is reached through it."""
    proxy = Between(server, **choices)  # pyright: ignore[reportArgumentType]
    async with serving(proxy.play) as at:
        yield proxy, Server(f"127.0.0.1:{at.port}", server.keys, server.bucket, server.folder)


def _decoded(head: bytes, body: bytes) -> bytes:
    """The bytes of an object, without the frames in which they may have come."""
    if b"x-amz-trailer" not in head.lower():
        return body
    data = b""
    while True:
        line, _, body = body.partition(b"\r\n")
        if not (size := int(line, 16)):
            return data
        data, body = data + body[:size], body[size + 2 :]
