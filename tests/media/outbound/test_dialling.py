"""The connection goes to the address that was judged, and TLS still proves the name."""

import asyncio
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from onetake.core.errors import Failed, TryLater
from onetake.media.outbound import Outbound, Resolver
from tests.media.outbound.parts import QUICK, Answers, ok, read, saying, serving

NAME = "cdn.example.test"


async def test_a_name_is_resolved_once_for_a_connection() -> None:
    """A second answer (DNS rebinding) is never asked for, so it cannot matter."""
    resolver = Answers(["127.0.0.1"], ["169.254.169.254"])
    async with serving(saying(ok(b"clip"))) as (port, visits):
        outbound = Outbound(frozenset({NAME}), resolver=resolver, limits=QUICK)
        assert await read(outbound, f"http://{NAME}:{port}/a") == b"clip"
        assert resolver.count == 1
        assert f"Host: {NAME}:{port}\r\n" in visits[0]
        with pytest.raises(Failed, match="Rule: address"):
            await read(outbound, f"http://{NAME}:{port}/a")
        await outbound.aclose()
    assert len(visits) == 1


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["8.8.8.8", "127.0.0.1"],
        ["10.0.0.1", "8.8.8.8"],
        ["2606:4700::1111", "fe80::1"],
        ["::ffff:10.0.0.1"],
    ],
)
async def test_a_name_with_one_bad_address_is_refused_whole(addresses: Sequence[str]) -> None:
    outbound = Outbound(resolver=Answers(addresses), limits=QUICK)
    with pytest.raises(Failed) as failure:
        await read(outbound, f"https://{NAME}/")
    await outbound.aclose()
    assert str(failure.value).endswith("Rule: address.")
    assert not any(address in str(failure.value) for address in addresses)


async def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    async with serving(saying(ok(b"clip"))) as (port, _):
        outbound = Outbound(frozenset({NAME}), resolver=Answers(["::1", "127.0.0.2", "127.0.0.1"]), limits=QUICK)
        assert await read(outbound, f"http://{NAME}:{port}/") == b"clip"
        await outbound.aclose()


async def _nobody(_host: str, _port: int) -> Sequence[str]:
    raise OSError("canary")


async def _nothing(_host: str, _port: int) -> Sequence[str]:
    return ()


async def _slow(_host: str, _port: int) -> Sequence[str]:
    await asyncio.sleep(3600)
    return ("8.8.8.8",)


@pytest.mark.parametrize("resolver", [_nobody, _nothing, _slow])
async def test_a_name_that_does_not_resolve_is_tried_later(resolver: Resolver) -> None:
    outbound = Outbound(resolver=resolver, limits=QUICK)
    async with asyncio.timeout(60):
        with pytest.raises(TryLater) as failure:
            await read(outbound, f"https://{NAME}/")
    await outbound.aclose()
    assert failure.value.code == "vendor_unavailable"
    assert "canary" not in str(failure.value)


async def test_the_system_resolver_is_judged_too() -> None:
    outbound = Outbound(limits=QUICK)
    with pytest.raises(Failed, match="Rule: address"):
        await read(outbound, "https://localhost/")
    await outbound.aclose()


# -- TLS ---------------------------------------------------------------------------------------------------------------


def certificate(folder: Path, name: str, *, valid_days: int = 1) -> tuple[ssl.SSLContext, Path]:
    """A server's context with a certificate for this name, and the file that makes a client trust it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    until = datetime.now(UTC) + timedelta(days=valid_days)
    names = x509.SubjectAlternativeName([x509.DNSName(name)])
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(until - timedelta(days=10))
        .not_valid_after(until)
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / f"{name}.pem"
    pem = serialization.Encoding.PEM
    file.write_bytes(
        made.public_bytes(pem) + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context, file


@pytest.mark.parametrize(
    ("name", "valid_days", "known", "reads"),
    [(NAME, 1, True, True), ("other.example.test", 1, True, False), (NAME, -1, True, False), (NAME, 1, False, False)],
    ids=["right", "wrong name", "expired", "self-signed"],
)
async def test_the_certificate_must_prove_the_name(
    tmp_path: Path, name: str, valid_days: int, known: bool, reads: bool
) -> None:
    server, file = certificate(tmp_path, name, valid_days=valid_days)
    asked: list[str | None] = []
    server.sni_callback = lambda _socket, host, _context: asked.append(host)
    client = ssl.create_default_context(cafile=str(file)) if known else ssl.create_default_context()
    async with serving(saying(ok(b"clip")), tls=server) as (port, visits):
        outbound = Outbound(frozenset({NAME}), resolver=Answers(["127.0.0.1"]), limits=QUICK, ssl_context=client)
        if reads:
            assert await read(outbound, f"https://{NAME}:{port}/") == b"clip"
        else:
            with pytest.raises(TryLater):
                await read(outbound, f"https://{NAME}:{port}/")
            assert visits == []
        await outbound.aclose()
    assert asked == [NAME]


async def test_tls_is_never_left_for_plain_http(tmp_path: Path) -> None:
    """Not even to a trusted host."""
    server, file = certificate(tmp_path, NAME)
    client = ssl.create_default_context(cafile=str(file))
    async with serving(saying(ok(b"clip"))) as (plain, plain_visits):
        moved = f"HTTP/1.1 302 Moved\r\nContent-Length: 0\r\nLocation: http://{NAME}:{plain}/\r\n\r\n".encode()
        async with serving(saying(moved), tls=server) as (port, _):
            outbound = Outbound(frozenset({NAME}), resolver=Answers(["127.0.0.1"]), limits=QUICK, ssl_context=client)
            with pytest.raises(Failed, match="Rule: redirect"):
                await read(outbound, f"https://{NAME}:{port}/")
            await outbound.aclose()
    assert plain_visits == []
