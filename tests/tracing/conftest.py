from collections.abc import Generator

import pytest

from tests.tracing.collector import Collector, collecting


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Generator[Collector]:
    """A collector that clients of this process send to."""
    with collecting() as running:
        for name, value in running.environ.items():
            monkeypatch.setenv(name, value)
        yield running
