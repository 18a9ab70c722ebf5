import pytest

from onetake.media import outbound
from tests.clock import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Instead of the machine's, for how long a body takes."""
    clock = Clock()
    monkeypatch.setattr(outbound, "time", clock)
    return clock
