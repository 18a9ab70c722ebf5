"""Inputs on hosts that are slow, down, not allowed or without an end: the verdict in time, in exact words."""

import asyncio

import pytest

from onetake.core.errors import Refused, TryLater
from onetake.core.ports import MediaRules
from onetake.media import dialling, hosts, inputs
from onetake.media.inputs import INPUT_LIMITS, MediaInspector
from onetake.media.outbound import Limits, Outbound
from onetake.media.reader import ClipProcess
from onetake.media.spool import Spool
from tests.media.inputs.media_host import MediaHost, picture
from tests.media.inputs.rules import CLOSED, FORMATS, kinds_of, refusal, rule, told
from tests.media.outbound.parts import LIMIT_S, name_servers, ok, saying, serving

# -- Sizes -------------------------------------------------------------------------------------------------------------


async def test_one_byte_more_than_allowed_is_refused(inspector: MediaInspector, media_host: MediaHost) -> None:
    content = media_host.files["picture.png"]
    url = media_host.url("picture.png")
    assert await kinds_of(inspector, rule(url, most_bytes=len(content))) == {"/image": "image"}
    code, given, allowed = await told(inspector, rule(url, most_bytes=len(content) - 1))
    assert (code, given, allowed) == ("input_not_usable", "more than 0.001945 MB", "at most 0.001945 MB")


async def test_a_body_without_an_end_is_read_up_to_the_limit_of_its_own_kind(inspector: MediaInspector) -> None:
    """A reference may be a large clip; a picture is not allowed its size."""
    sent = 0

    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n\x89PNG\r\n\x1a\n")
        while True:
            writer.write(bytes(65_536))
            sent += 65_536
            await writer.drain()

    async with serving(endless) as (port, _):
        one = rule(f"http://127.0.0.1:{port}/x", "image", "video", pointer="/references/0")
        assert await told(inspector, one) == ("input_not_usable", "more than 1 MB", "at most 1 MB")
    assert sent < 20_000_000


async def test_a_declared_size_above_the_limit_is_refused_without_the_body(inspector: MediaInspector) -> None:
    async with serving(saying(ok(b"\x89PNG", length=10**12), pause_s=3600)) as (port, _), asyncio.timeout(LIMIT_S):
        assert (await told(inspector, rule(f"http://127.0.0.1:{port}/x")))[1] == "more than 1 MB"


# -- Hosts -------------------------------------------------------------------------------------------------------------

PUBLIC = "a public https address"


@pytest.mark.parametrize(
    ("url", "broken"),
    [
        ("http://example.com/a.png", "scheme"),
        ("https://example.com:22/a.png", "port"),
        ("https://10.0.0.7/a.png", "address"),
        ("https://169.254.169.254/latest/meta-data", "address"),
        ("https://localhost/a.png", "address"),
        ("https://[::1]/a.png", "address"),
        ("https://2130706433/a.png", "host"),
    ],
)
async def test_an_address_that_is_not_allowed_names_the_rule(inspector: MediaInspector, url: str, broken: str) -> None:
    given = f"an address that we may not connect to (rule: {broken})"
    assert await told(inspector, rule(url)) == ("input_not_usable", given, PUBLIC)


@pytest.mark.parametrize(
    ("target", "broken"),
    [
        ("http://169.254.169.254/latest/meta-data", "scheme"),
        ("https://169.254.169.254/latest/meta-data", "address"),
        ("https://localhost/", "address"),
        ("http://localhost/", "scheme"),
        ("file:///etc/passwd", "scheme"),
    ],
)
async def test_a_redirect_is_judged_like_an_address(inspector: MediaInspector, target: str, broken: str) -> None:
    answer = f"HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode()
    async with serving(saying(answer)) as (port, _):
        code, given, allowed = await told(inspector, rule(f"http://127.0.0.1:{port}/a.png"))
    assert (code, allowed) == ("input_not_usable", PUBLIC)
    assert given == f"an address that we may not connect to (rule: {broken})"


async def test_nothing_is_read_from_a_loopback_host_that_nobody_trusts(
    reader: ClipProcess, media_host: MediaHost
) -> None:
    outbound, url = Outbound(limits=INPUT_LIMITS), media_host.url("picture.png")
    before = len(media_host.asked)
    for port_free in (url, "https://127.0.0.1/picture.png"):
        assert (
            "rule: " in (await refusal(MediaInspector(outbound, reader, Spool()), rule(port_free))).violations[0].given
        )
    await outbound.aclose()
    assert len(media_host.asked) == before


async def test_an_answer_that_is_no_file_is_told_by_its_status(
    inspector: MediaInspector, media_host: MediaHost
) -> None:
    given = "an address that cannot be read (its server answered 404)"
    one = rule(f"http://{media_host.netloc}/missing.png")
    assert await told(inspector, one) == ("input_not_usable", given, FORMATS["image"])


@pytest.mark.parametrize("answer", [b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", ok(b"\x89PNG", length=900), b""])
async def test_a_host_that_fails_quickly_is_looked_at_again_until_the_last_look(
    inspector: MediaInspector, answer: bytes
) -> None:
    async with serving(saying(answer)) as (port, _):
        one = rule(f"http://127.0.0.1:{port}/a.png")
        with pytest.raises(TryLater) as caught:
            await inspector.inspect(MediaRules((one,)), last_look=False)
        assert caught.value.code == "input_not_usable"
        assert (await told(inspector, one))[1].startswith("an address that cannot be read (")


async def test_a_host_that_is_down_is_looked_at_again(inspector: MediaInspector) -> None:
    with pytest.raises(TryLater):
        await inspector.inspect(MediaRules((rule(f"{CLOSED}/a.png"),)), last_look=False)


async def test_a_verdict_does_not_wait_for_a_host_that_is_down(
    inspector: MediaInspector, media_host: MediaHost
) -> None:
    rules = (rule(f"{CLOSED}/a.png"), rule(media_host.url("alpha.png"), pointer="/audio_url"))
    with pytest.raises(Refused) as caught:
        await inspector.inspect(MediaRules(rules), last_look=False)
    assert [each.pointer for each in caught.value.violations] == ["/image", "/audio_url"]


async def test_a_host_that_is_slow_is_given_up_in_time_and_holds_up_nobody(
    inspector: MediaInspector, media_host: MediaHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n\x89PNG", pause_s=LIMIT_S)) as (port, _):
        one = rule(f"http://127.0.0.1:{port}/a.png")
        slow = asyncio.create_task(told(inspector, one))
        await asyncio.sleep(0)
        assert await kinds_of(inspector, rule(media_host.url("picture.png")))
        assert not slow.done()
        slow.cancel()
        await asyncio.wait([slow])
        monkeypatch.setattr(inputs, "FETCH_S", 0.5)
        assert (await told(inspector, one))[1] == "an address that cannot be read (not within 0.5 s)"


async def test_all_inputs_are_fetched_side_by_side(inspector: MediaInspector) -> None:
    all_asked = asyncio.Barrier(5)

    async def late(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await all_asked.wait()  # one after the other, the first would not be answered
        writer.write(ok(picture("PNG")))
        await writer.drain()

    async with serving(late) as (port, visits):
        rules = [rule(f"http://127.0.0.1:{port}/{n}", pointer=f"/references/{n}") for n in range(5)]
        assert len(await kinds_of(inspector, *rules)) == 5
        assert len(visits) == 5


def looks_at(inspector: MediaInspector, port: int, number: int) -> list[asyncio.Task[object]]:
    one = [rule(f"http://127.0.0.1:{port}/{each}") for each in range(number)]
    return [asyncio.create_task(inspector.inspect(MediaRules((each,)), last_look=True)) for each in one]


async def test_a_slow_host_gets_its_share_of_looks_and_others_are_looked_at_meanwhile(
    inspector: MediaInspector, media_host: MediaHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 requests that name a host which does not answer: some are looked at, the rest give their slots back."""
    monkeypatch.setattr(hosts, "TURN_S", 0.3)
    enough = asyncio.Event()

    async def silent(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await enough.wait()

    async with asyncio.timeout(LIMIT_S), serving(silent) as (port, visits):
        slow = looks_at(inspector, port, 64)
        while sum(each.done() for each in slow) + len(visits) < 64:
            await asyncio.sleep(0.01)
        done, looked = [each for each in slow if each.done()], [each for each in slow if not each.done()]
        assert {type(each.exception()) for each in done} == {TryLater}
        assert {getattr(each.exception(), "code", "") for each in done} == {"inputs_busy"}
        assert await kinds_of(inspector, rule(media_host.url("picture.png")))
        (at_once,) = looks_at(inspector, port, 1)
        await asyncio.wait([at_once])
        assert isinstance(at_once.exception(), TryLater), "who is known to be slow is not waited for"
        assert len(visits) == len(looked) == hosts.MOST_OF_A_HOST
        enough.set()
        assert {type(each) for each in await asyncio.gather(*looked, return_exceptions=True)} == {Refused}
        (again,) = looks_at(inspector, port, 1)
        await asyncio.wait([again])
        assert isinstance(again.exception(), Refused), "its share is free again"


async def test_a_quick_host_may_have_more_than_its_share_in_turn(
    inspector: MediaInspector, media_host: MediaHost
) -> None:
    rules = [MediaRules((rule(media_host.url("picture.png")),)) for _ in range(5 * hosts.MOST_OF_A_HOST)]
    found = await asyncio.gather(*(inspector.inspect(each, last_look=True) for each in rules))
    assert found == [{"/image": "image"}] * len(rules)


async def test_a_name_that_no_thread_was_free_for_was_not_looked_at(
    inspector: MediaInspector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names of another tenant's domain hang: that may be no verdict on this host, also not at the last look."""
    monkeypatch.setattr(dialling, "TURN_S", 0.2)
    with name_servers(monkeypatch) as servers:
        names = [rule(f"https://x{n}.dead.example/a.png") for n in range(dialling.MOST_OF_A_DOMAIN)]
        hanging = [asyncio.create_task(kinds_of(inspector, one)) for one in names]
        while len(servers.asked) < len(hanging):
            await asyncio.sleep(0.01)
        with pytest.raises(TryLater) as caught:
            await kinds_of(inspector, rule("https://good.dead.example/a.png"))
        assert caught.value.code == "inputs_busy"
        servers.wake()
        await asyncio.gather(*hanging, return_exceptions=True)


def test_a_look_fits_into_its_activity() -> None:
    """20 s for the whole activity, which also waits for its turn, reads the clips and writes the row."""
    assert inputs.FETCH_S < inputs.LOOK_S
    assert hosts.TURN_S + inputs.LOOK_S < 17
    assert dialling.TURN_S < INPUT_LIMITS.resolve_s < inputs.QUICK_S, "who waited for a thread is looked at again"
    assert isinstance(INPUT_LIMITS, Limits)
    assert INPUT_LIMITS.connect_s < inputs.QUICK_S < INPUT_LIMITS.headers_s
