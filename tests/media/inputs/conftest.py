from collections.abc import AsyncGenerator
from pathlib import Path

import pytest_asyncio

from onetake.media.inputs import INPUT_LIMITS, MediaInspector
from onetake.media.outbound import Outbound
from onetake.media.reader import ClipProcess
from onetake.media.spool import Spool


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def reader() -> AsyncGenerator[ClipProcess]:
    async with ClipProcess(limit_s=60.0) as reader:
        yield reader


@pytest_asyncio.fixture
async def inspector(reader: ClipProcess, tmp_path: Path) -> AsyncGenerator[MediaInspector]:
    """It trusts 127.0.0.1 and no other host."""
    spool = tmp_path / "spool"
    spool.mkdir()
    outbound = Outbound(frozenset({"127.0.0.1"}), limits=INPUT_LIMITS)
    yield MediaInspector(outbound, reader, Spool(spool))
    await outbound.aclose()
    assert list(spool.iterdir()) == [], "no file stays behind"
