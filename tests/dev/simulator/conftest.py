from collections.abc import Generator
from pathlib import Path

import pytest

from onetake.dev.simulator.app import SimulatorConfig
from onetake.dev.simulator.server import running
from tests.dev.simulator.calls import Apixo


@pytest.fixture(scope="session")
def clips_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="session")
def apixo(clips_home: Path) -> Generator[Apixo]:
    """One simulator for the folder: short renders, and callback gaps of 20, 40 and 80 ms."""
    config = SimulatorConfig(clips_home=clips_home, render_s=0.2, callback_gap_scale=0.02)
    with running(config) as url:
        client = Apixo(url)
        with client.http:
            yield client
