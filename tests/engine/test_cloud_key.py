"""The key of Temporal Cloud in a file: a new one is taken, and a file that is away takes nothing back."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from temporalio.client import Client

from onetake.core import logs
from onetake.engine.cloud import API_KEY, follow_api_key

EVERY_S = 0.005


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ONETAKE_SECRETS_DIR", str(tmp_path / "mounted"))
    (tmp_path / "mounted").mkdir()
    path = tmp_path / "mounted" / API_KEY
    path.write_text("canary-former\n")
    return path


@pytest.fixture
def logged() -> StringIO:
    stream = StringIO()
    logs.configure(stream=stream)
    return stream


async def until(seen: Callable[[], bool]) -> None:
    async with asyncio.timeout(240):
        while not seen():
            await asyncio.sleep(EVERY_S)


@asynccontextmanager
async def following(client: Client) -> AsyncGenerator[None]:
    task = asyncio.create_task(follow_api_key(client, every_s=EVERY_S))
    await asyncio.sleep(0)
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def client_with(key: str) -> Client:
    return cast("Client", SimpleNamespace(api_key=key))


async def test_a_new_key_is_taken_and_shown_nowhere(file: Path, logged: StringIO) -> None:
    client = client_with("canary-former")
    async with following(client):
        file.write_text("canary-latter")
        await until(lambda: client.api_key == "canary-latter")
    assert "secret_replaced" in logged.getvalue()
    assert "canary" not in logged.getvalue()


async def test_a_key_that_came_from_elsewhere_is_not_followed(file: Path) -> None:
    await asyncio.wait_for(follow_api_key(client_with("given"), every_s=EVERY_S), 240)
    file.unlink()
    await asyncio.wait_for(follow_api_key(client_with("given"), every_s=EVERY_S), 240)


def _gone(file: Path) -> None:
    file.unlink()


def _mount_away(file: Path) -> None:
    file.parent.rename(file.parent.with_name("away"))


def _empty(file: Path) -> None:
    file.write_text("")


@pytest.mark.parametrize("spoil", [_gone, _mount_away, _empty])
async def test_a_file_that_is_away_leaves_the_key_in_force(
    file: Path, logged: StringIO, spoil: Callable[[Path], None]
) -> None:
    client = client_with("canary-former")
    async with following(client):
        spoil(file)
        await until(lambda: "secret_not_read" in logged.getvalue() or client.api_key != "canary-former")
        assert client.api_key == "canary-former"
        file.parent.mkdir(exist_ok=True)
        file.write_text("canary-latter")
        await until(lambda: client.api_key == "canary-latter")
