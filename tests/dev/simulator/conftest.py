import time
from collections.abc import Generator
from pathlib import Path

import pytest

from onetake.dev.simulator import app, assets, callbacks, gptimage2, handling
from onetake.dev.simulator.app import SimulatorConfig
from onetake.dev.simulator.server import running
from tests.clock import Clock
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


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time of all simulators of this process: it stands still, and goes on when it is told to."""
    clock = Clock(time.time())
    for module in (app, assets, callbacks, gptimage2, handling):
        monkeypatch.setattr(module, "time", clock)
    return clock
