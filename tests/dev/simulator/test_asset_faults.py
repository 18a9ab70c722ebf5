"""Media hosts that are slow for a while, break off, lie about lengths, lead elsewhere or serve other files."""

from contextlib import suppress

import httpx
import pytest

from tests.dev.simulator.calls import Apixo, raw_get, web


def test_asset_slow_may_end_after_some_downloads(apixo: Apixo) -> None:
    url = apixo.link(apixo.task("[[sim:asset-slow=1,1]]", duration=2))
    with web.stream("GET", url) as answer:
        assert next(answer.iter_raw()) == b"\0"
    assert len(web.get(url).content) == int(web.head(url).headers["content-length"])


def test_asset_slow_ends_when_the_job_is_let_go(apixo: Apixo) -> None:
    task_id = apixo.task("[[sim:asset-slow=1]]", duration=2)
    with web.stream("GET", apixo.link(task_id)) as answer:
        pieces = answer.iter_raw()
        assert next(pieces) == b"\0"
        apixo.release(task_id)
        assert 1 + sum(map(len, pieces)) == int(answer.headers["content-length"])


def test_asset_cut_at_breaks_off_and_offers_the_rest(apixo: Apixo) -> None:
    task_id = apixo.task("[[sim:asset-cut-at=50000]]", duration=2)
    url = apixo.link(task_id)
    whole, data, etag = int(web.head(url).headers["content-length"]), b"", ""
    while len(data) < whole:
        asked = {"Range": f"bytes={len(data)}-", "If-Range": etag} if data else {}
        with web.stream("GET", url, headers=asked) as answer:
            assert answer.status_code == (206 if data else 200)
            assert answer.headers["accept-ranges"] == "bytes"
            etag, piece = answer.headers["etag"], b""
            with suppress(httpx.RemoteProtocolError):
                for chunk in answer.iter_raw():
                    piece += chunk
        assert len(piece) == min(50_000, whole - len(data))
        data += piece
    assert data[4:8] == b"ftyp"
    assert apixo.job(task_id)["downloads"] == 1


def test_asset_no_ranges_and_asset_changes_leave_nothing_to_go_on_with(apixo: Apixo) -> None:
    url = apixo.link(apixo.task("[[sim:asset-no-ranges]]", duration=2))
    answer = web.get(url, headers={"Range": "bytes=10-"})
    assert (answer.status_code, "accept-ranges" in answer.headers, "etag" in answer.headers) == (200, False, False)
    changing = apixo.link(apixo.task("[[sim:asset-changes]]", duration=2))
    first = web.get(changing).headers["etag"]
    assert web.get(changing, headers={"Range": "bytes=10-", "If-Range": first}).status_code == 200


def test_asset_length_lies(apixo: Apixo) -> None:
    head, body = raw_get(apixo.link(apixo.task("[[sim:asset-length=50000000000]]", duration=2)))
    assert b"content-length: 50000000000" in head
    assert 1000 < len(body) < 5_000_000


def test_asset_compressed_says_so(apixo: Apixo) -> None:
    assert web.get(apixo.link(apixo.task("[[sim:asset-compressed]]", duration=2))).headers["content-encoding"] == "gzip"


@pytest.mark.parametrize(
    ("where", "location"),
    [
        ("private", "https://10.0.0.1/"),
        ("metadata", "https://169.254.169.254/"),
        ("plain", "http://media.example.com/"),
    ],
)
def test_asset_redirect_leads_away(apixo: Apixo, where: str, location: str) -> None:
    answer = web.get(apixo.link(apixo.task(f"[[sim:asset-redirect={where}]]", duration=2)), follow_redirects=False)
    assert (answer.status_code, answer.headers["location"].startswith(location)) == (302, True)


@pytest.mark.parametrize(("kind", "start"), [("json", b"{"), ("zip", b"PK"), ("elf", b"\x7fELF"), ("svg", b"<svg")])
def test_asset_as_is_another_file_of_that_type(apixo: Apixo, kind: str, start: bytes) -> None:
    answer = web.get(apixo.link(apixo.task(f"[[sim:asset-as={kind}]]", duration=2)))
    assert (answer.headers["content-type"], answer.content.startswith(start)) == ("video/mp4", True)
