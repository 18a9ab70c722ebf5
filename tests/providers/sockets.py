"""Servers of raw bytes on loopback: what a vendor's machine can do to a connection, down to the packet."""

import asyncio
import datetime as dt
import socket
import ssl
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from onetake.dev.devstack import ports
from tests.connections import LOOPBACK, listening, read_message


@dataclass
class Connection:
    """One accepted connection: what it sent is kept by the server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    received: list[bytes]

    async def read_request(self) -> bytes:
        request = await read_message(self.reader)
        self.received.append(request)
        return request

    async def send(self, *parts: bytes, every_s: float = 0.0) -> None:
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()
            await asyncio.sleep(every_s)

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        raw: socket.socket = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Play = Callable[[Connection], Awaitable[None]]


@dataclass
class Server:
    """A running server: where it is, and what came in."""

    port: int
    scheme: str = "http"
    received: list[bytes] = field(default_factory=list[bytes])
    connections: int = 0

    @property
    def url(self) -> str:
        return f"{self.scheme}://{LOOPBACK}:{self.port}"


@asynccontextmanager
async def serving(play: Play, *, tls: ssl.SSLContext | None = None) -> AsyncGenerator[Server]:
    """Answer every connection with `play`, which ends it by returning."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        await play(Connection(reader, writer, server.received))

    async with listening(accept, tls=tls) as port:
        server = Server(port, "https" if tls else "http")
        yield server


def answer(
    status: int, body: bytes, *headers: str, content_type: str = "application/json", length: int | None = None
) -> bytes:
    """The bytes of a whole answer; `length` may lie."""
    lines = [f"HTTP/1.1 {status} words", f"content-type: {content_type}", *headers]
    lines.append(f"content-length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def answering(*parts: bytes, every_s: float = 0.0) -> Play:
    """Read one request, send these bytes, close."""

    async def play(connection: Connection) -> None:
        await connection.read_request()
        await connection.send(*parts, every_s=every_s)

    return play


def free_port() -> int:
    """One that nobody listens on, and that no other test is given."""
    return ports.free_port(set())


def own_certificate(folder: Path) -> ssl.SSLContext:
    """TLS for loopback with a certificate that nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, LOOPBACK)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(LOOPBACK))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context
