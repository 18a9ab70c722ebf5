"""The image that tests of several files use, and the last lines of a run: which tests could not run here, and why."""

import fcntl
from collections import defaultdict
from pathlib import Path

import pytest

from tests.conftest import FOLDER
from tests.deployment.containers import Podman, base, build, podman
from tests.deployment.sources import planted_sources
from tests.deployment.tools import COULD_NOT_RUN


@pytest.fixture(scope="session")
def engine() -> Podman:
    """What runs containers here."""
    return podman()


@pytest.fixture(scope="session")
def sources(pytestconfig: pytest.Config) -> Path:
    """A copy of the repository with secrets lying about, the same for all processes of a run."""
    return planted_sources(pytestconfig.stash[FOLDER] / "sources")


@pytest.fixture(scope="session")
def image(engine: Podman, sources: Path, pytestconfig: pytest.Config) -> str:
    """Our image, built once for all processes of a run by the first that asks."""
    run = pytestconfig.stash[FOLDER]
    tag = f"localhost/onetake-test:{run.name}"
    with (run / "image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not engine.has_image(tag):
            pytestconfig.add_cleanup(lambda: engine.remove_image(tag))
            build(engine, sources, tag, base(engine), run / "image").wait()
    return tag


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each reason."""
    tests: defaultdict[str, list[str]] = defaultdict(list)
    for report in terminalreporter.stats.get("skipped", []):
        _, _, why = report.longrepr
        if COULD_NOT_RUN in why:
            tests[why.partition(COULD_NOT_RUN)[2]].append(report.nodeid)
    for why, names in sorted(tests.items()):
        terminalreporter.write_line(f"COULD NOT RUN {len(names)} tests: {why}: {', '.join(names)}")
