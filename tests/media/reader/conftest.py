from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from onetake.media.reader import ClipProcess
from tests.media.reader.parts import LIMIT_S, render


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one clip of each make."""
    folder = tmp_path_factory.mktemp("clips")
    render(folder / "index-first.mp4")
    render(folder / "index-last.mp4", movflags="+use_metadata_tags")
    render(folder / "fragmented.mp4", movflags="frag_keyframe+empty_moov")
    render(folder / "silent.mp4", sound=False)
    return folder


@pytest.fixture(scope="session")
async def reader() -> AsyncIterator[ClipProcess]:
    async with ClipProcess(limit_s=LIMIT_S) as reader:
        yield reader
