from collections.abc import Iterator
from pathlib import Path

import pytest

from onetake.dev.devstack import DevStack, SilentProgress
from onetake.dev.devstack.reaper import delete


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home folder whose cluster is deleted too when it had to lie elsewhere (as root)."""
    yield tmp_path / "home"
    delete(tmp_path / "home")


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevStack]:
    """One running stack for the tests that do not end it."""
    home = tmp_path_factory.mktemp("stack") / "home"
    with DevStack(
        home,
        progress=SilentProgress(),
        ports="free",
        search_attributes=["TestTenant", "TestPhase"],
        ephemeral=True,
        temporal_in_memory=True,
    ) as running:
        running.start_servers()
        yield running
