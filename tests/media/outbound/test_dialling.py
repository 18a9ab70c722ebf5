"""The connection goes to the address that was judged, and TLS still proves the name."""

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import httpcore
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from onetake.core.errors import Failed, TryLater
from onetake.media import dialling
from onetake.media.dialling import GuardedBackend, NoThread, Resolver
from onetake.media.outbound import Outbound
from tests.media.outbound.parts import LIMIT_S, PATIENT, QUICK, Answers, name_servers, ok, read, saying, serving

NAME = "cdn.example.test"


async def test_a_name_is_resolved_once_for_a_connection() -> None:
    """A second answer (DNS rebinding) is never asked for, so it cannot matter."""
    resolver = Answers(["127.0.0.1"], ["169.254.169.254"])
    async with serving(saying(ok(b"clip"))) as (port, visits):
        outbound = Outbound(frozenset({NAME}), resolver=resolver, limits=PATIENT)
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
    outbound = Outbound(resolver=Answers(addresses), limits=PATIENT)
    with pytest.raises(Failed) as failure:
        await read(outbound, f"https://{NAME}/")
    await outbound.aclose()
    assert str(failure.value).endswith("Rule: address.")
    assert not any(address in str(failure.value) for address in addresses)


async def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    async with serving(saying(ok(b"clip"))) as (port, _):
        outbound = Outbound(frozenset({NAME}), resolver=Answers(["::1", "127.0.0.2", "127.0.0.1"]), limits=PATIENT)
        assert await read(outbound, f"http://{NAME}:{port}/") == b"clip"
        await outbound.aclose()


@dataclass
class Network:
    """Dials that never answer for the addresses in `dead`, and ones that are refused in `closed`; the others go to
    loopback."""

    dead: tuple[str, ...]
    closed: tuple[str, ...] = ()
    asked: list[str] = field(default_factory=list[str])
    given_up: list[str] = field(default_factory=list[str])

    async def connect_tcp(self, address: str, port: int, *_: object) -> httpcore.AsyncNetworkStream:
        self.asked.append(address)
        if address in self.closed:
            raise httpcore.ConnectError("refused")
        if address in self.dead:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                self.given_up.append(address)
                raise
        backend = cast("httpcore.AsyncNetworkBackend", httpcore.AnyIOBackend())
        return await backend.connect_tcp("127.0.0.1", port)


async def through(network: Network, addresses: Sequence[str], port: int) -> httpcore.AsyncNetworkStream:
    backend = GuardedBackend(frozenset({NAME}), Answers(addresses), 1.0)
    backend._dial = network  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
    async with asyncio.timeout(LIMIT_S):  # not the hour that a connection may take
        return await backend.connect_tcp(NAME, port, timeout=3600.0)


async def test_dead_addresses_cost_a_fraction_of_a_second_each() -> None:
    network = Network(("8.8.8.1", "8.8.8.2"))
    async with serving(saying(ok(b"clip"))) as (port, _):
        stream = await through(network, ["8.8.8.1", "8.8.8.2", "8.8.8.3"], port)
        await stream.aclose()
    assert network.asked == ["8.8.8.1", "8.8.8.2", "8.8.8.3"]
    assert sorted(network.given_up) == ["8.8.8.1", "8.8.8.2"], "no attempt goes on unseen"


async def test_an_address_that_refuses_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialling, "STAGGER_S", 3600.0)
    network = Network((), closed=("8.8.8.1",))
    async with serving(saying(ok(b"clip"))) as (port, _):
        await (await through(network, ["8.8.8.1", "8.8.8.2"], port)).aclose()
    assert network.asked == ["8.8.8.1", "8.8.8.2"]


async def test_the_first_address_is_dialled_alone_while_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialling, "STAGGER_S", 3600.0)  # on a busy machine nobody answers at once
    network = Network(())
    async with serving(saying(ok(b"clip"))) as (port, _):
        await (await through(network, ["8.8.8.1", "8.8.8.2"], port)).aclose()
    assert network.asked == ["8.8.8.1"]


async def test_a_dial_that_is_broken_off_leaves_no_attempt_behind() -> None:
    network = Network(("8.8.8.1", "8.8.8.2"))
    dial = asyncio.create_task(through(network, ["8.8.8.1", "8.8.8.2"], 1))
    async with asyncio.timeout(LIMIT_S):
        while len(network.asked) < 2:
            await asyncio.sleep(0.01)
    dial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dial
    assert sorted(network.given_up) == ["8.8.8.1", "8.8.8.2"]


async def test_nothing_is_dialled_when_a_later_address_is_bad() -> None:
    """Judged all of them, before the first: an address is never tried because its turn came late."""
    network = Network(())
    with pytest.raises(Failed, match="Rule: address"):
        await through(network, ["8.8.8.1", "8.8.8.2", "169.254.169.254"], 1)
    assert network.asked == []


@pytest.mark.parametrize("trusted", [frozenset[str](), frozenset({NAME})], ids=["foreign", "trusted"])
async def test_a_proxy_that_answers_made_up_addresses_is_named_with_the_way_on(trusted: frozenset[str]) -> None:
    outbound = Outbound(trusted, resolver=Answers(["198.18.0.37"]), limits=PATIENT)
    with pytest.raises(Failed) as failure:
        await read(outbound, f"https://{NAME}/")
    await outbound.aclose()
    assert failure.value.code == "asset_url_blocked"
    assert failure.value.detail.startswith("Rule: address. Its name resolves into 198.18.0.0/15")
    assert "turn its fake-IP mode off" in failure.value.detail
    assert "198.18.0.37" not in str(failure.value)


@pytest.mark.parametrize("address", ["100.64.0.9", "169.254.169.254", "192.0.2.1", "fe80::1"])
async def test_trust_that_does_not_help_is_said(address: str) -> None:
    """Or the hint, to trust the host by name, would lead in a circle."""
    outbound = Outbound(frozenset({NAME}), resolver=Answers([address]), limits=PATIENT)
    with pytest.raises(Failed, match="trusted, but resolves into a range that is never dialled all the same"):
        await read(outbound, f"https://{NAME}/")
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
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(TryLater) as failure:
            await read(outbound, f"https://{NAME}/")
    await outbound.aclose()
    assert failure.value.code == "vendor_unavailable"
    assert "canary" not in str(failure.value)


async def test_the_system_resolver_is_judged_too() -> None:
    outbound = Outbound(limits=PATIENT)
    with pytest.raises(Failed, match="Rule: address"):
        await read(outbound, "https://localhost/")
    await outbound.aclose()


async def test_a_dead_name_server_holds_its_share_of_threads_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look-ups that nobody waits for any more hang on, and no other name waits for them."""
    monkeypatch.setattr(dialling, "TURN_S", 0.2)
    outbound = Outbound(frozenset({NAME}), limits=PATIENT)
    dead = [f"https://x{n}.dead.example/" for n in range(3 * dialling.MOST_OF_A_DOMAIN)]
    async with serving(saying(ok(b"clip"))) as (port, _), asyncio.timeout(LIMIT_S):
        with name_servers(monkeypatch) as servers:
            hanging = [asyncio.create_task(read(outbound, url)) for url in dead[: dialling.MOST_OF_A_DOMAIN]]
            while len(servers.asked) < len(hanging):
                await asyncio.sleep(0.01)
            for each in hanging:
                each.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)
            others = (read(outbound, url) for url in dead[len(hanging) :])
            errors = await asyncio.gather(*others, return_exceptions=True)
            assert {type(error) for error in errors} == {NoThread}
            assert len(servers.asked) == len(hanging)
            assert await read(outbound, f"http://{NAME}:{port}/") == b"clip"
            servers.wake()
            while isinstance(error := await _error_of(outbound, dead[0]), NoThread):
                pass  # a thread that has ended is given back a moment later
            assert "ConnectError" in str(error)
    await outbound.aclose()


async def _error_of(outbound: Outbound, url: str) -> TryLater:
    with pytest.raises(TryLater) as caught:
        await read(outbound, url)
    return caught.value


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
        outbound = Outbound(frozenset({NAME}), resolver=Answers(["127.0.0.1"]), limits=PATIENT, ssl_context=client)
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
            outbound = Outbound(frozenset({NAME}), resolver=Answers(["127.0.0.1"]), limits=PATIENT, ssl_context=client)
            with pytest.raises(Failed, match="Rule: redirect"):
                await read(outbound, f"https://{NAME}:{port}/")
            await outbound.aclose()
    assert plain_visits == []


async def test_a_certificate_authority_of_ones_own_is_trusted_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, file = certificate(tmp_path, NAME)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    async with serving(saying(ok(b"clip")), tls=server) as (port, _):
        outbound = Outbound(frozenset({NAME}), resolver=Answers(["127.0.0.1"]), limits=PATIENT)
        assert await read(outbound, f"https://{NAME}:{port}/") == b"clip"
        await outbound.aclose()


# -- Plain http --------------------------------------------------------------------------------------------------------


async def test_a_plain_http_link_of_an_object_store_is_asked_for_over_https(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a paid clip; the caller's own inputs are left as they are."""
    dialled: list[tuple[str, int]] = []

    async def connect_tcp(_self: GuardedBackend, host: str, port: int, *_: object, **__: object) -> None:
        dialled.append((host, port))
        raise httpcore.ConnectError("refused")

    monkeypatch.setattr(GuardedBackend, "connect_tcp", connect_tcp)
    outbound, link = Outbound(limits=PATIENT), "http://bucket.s3.example.com/clip.mp4?X-Amz-Signature=a"
    with pytest.raises(TryLater, match="plain http; https was asked instead") as failure:
        async with outbound.open(link, https_instead=True):
            pass
    assert "Signature" not in str(failure.value)
    with pytest.raises(Failed, match="Rule: scheme"):
        await read(outbound, link)
    await outbound.aclose()
    assert dialled == [("bucket.s3.example.com", 443)]
