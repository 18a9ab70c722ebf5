from typing import cast

import pytest
import pytest_asyncio

from tests.system.harness import Stack
from tests.system.kills import End, Kill, play_all, selected


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def ends(stack: Stack, request: pytest.FixtureRequest) -> dict[Kill, End | BaseException]:
    """How each of a module's `KILLS` ended; they are played side by side."""
    kills = cast("list[Kill]", request.module.KILLS)  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    return await play_all(stack, selected(request.session, kills))
