from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from onetake.media import hosts, inputs
from onetake.media.inputs import MediaInspector
from onetake.media.outbound import Outbound
from onetake.media.reader import ClipProcess
from onetake.media.spool import Spool
from tests.media.outbound.parts import LIMIT_S, PATIENT


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def reader() -> AsyncGenerator[ClipProcess]:
    async with ClipProcess(limit_s=LIMIT_S) as reader:
        yield reader


@pytest_asyncio.fixture
async def inspector(
    reader: ClipProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[MediaInspector]:
    """It trusts 127.0.0.1 and no other host. Nothing is slow for it unless a test says so."""
    for part, name in ((inputs, "FETCH_S"), (inputs, "LOOK_S"), (inputs, "QUICK_S"), (hosts, "TURN_S")):
        monkeypatch.setattr(part, name, LIMIT_S)
    spool = tmp_path / "spool"
    spool.mkdir()
    outbound = Outbound(frozenset({"127.0.0.1"}), limits=PATIENT)
    yield MediaInspector(outbound, reader, Spool(spool))
    await outbound.aclose()
    assert list(spool.iterdir()) == [], "no file stays behind"
