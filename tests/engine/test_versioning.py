"""Which version a worker is, and what moves the name of its code."""

import shutil
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from temporalio.common import VersioningBehavior

from onetake.core.errors import Refused
from onetake.engine import versioning
from onetake.engine.versioning import MOST_BUILD, MOST_NAME, Version, of_orchestrator, unversioned

ROOT = Path(__file__).parents[2]
build_id, code_id = versioning.build_id.__wrapped__, versioning.code_id.__wrapped__  # not what they said before


def named(name: str = "", build: str = "") -> Version | None:
    return Version.named({"TEMPORAL_DEPLOYMENT_NAME": name, "TEMPORAL_WORKER_BUILD_ID": build})


def test_both_names_make_a_version_and_none_makes_none() -> None:
    assert Version.named({}) is None
    assert named(" ", "") is None
    assert named("video/onetake\n", "w1") == Version("video/onetake", "w1"), "as the Worker Controller writes it"
    assert str(named("video/onetake", "w1")) == "video/onetake:w1"


@pytest.mark.parametrize(
    ("name", "build", "says"),
    [
        ("onetake", "", "TEMPORAL_DEPLOYMENT_NAME is set without TEMPORAL_WORKER_BUILD_ID"),
        ("", "w1", "TEMPORAL_WORKER_BUILD_ID is set without TEMPORAL_DEPLOYMENT_NAME"),
        ("one.take", "w1", 'no "."'),
        ("one:take", "w1", 'no ":"'),
        ("__onetake", "w1", "not begin"),
        ("n" * (MOST_NAME + 1), "w1", f"it may have {MOST_NAME}"),
        ("onetake", "b" * (MOST_BUILD + 1), f"it may have {MOST_BUILD}"),
        ("onetake", "two words", "one word"),
    ],
)
def test_a_half_or_impossible_version_is_refused_by_name(name: str, build: str, says: str) -> None:
    with pytest.raises(Refused, match=says) as refused:
        named(name, build)
    assert refused.value.code == "settings_invalid"


def test_only_workflows_have_a_behaviour_and_only_versioned_workers_a_version() -> None:
    version = Version("onetake", "w1")
    workflows, inputs = (of_orchestrator(version, runs_workflows=each) for each in (True, False))
    assert workflows.use_worker_versioning
    assert workflows.default_versioning_behavior is VersioningBehavior.AUTO_UPGRADE
    assert inputs.use_worker_versioning
    assert inputs.default_versioning_behavior is VersioningBehavior.UNSPECIFIED
    assert of_orchestrator(None, runs_workflows=True) == unversioned()
    assert not unversioned().use_worker_versioning
    assert unversioned().default_versioning_behavior is VersioningBehavior.UNSPECIFIED


def test_no_workflow_names_a_behaviour() -> None:
    """With an unversioned worker the server would refuse each of its tasks, for ever."""
    texts = [path.read_text() for path in (ROOT / "workflows").rglob("*.py")]
    assert texts
    assert not [text for text in texts if "versioning_behavior" in text]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of our packages."""
    root = tmp_path_factory.mktemp("installed")
    for package in ("workflows", "activities", "providers", "onetake"):
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__", "dev"))
    return root


@pytest.fixture
def change(copy: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Callable[[str], None]]:
    """Adds a line to a file of the copy, whose names `build_id` and `code_id` say during the test."""

    def folder_of(package: str) -> Path:
        return copy / package

    monkeypatch.setattr(versioning, "_folder_of", folder_of)
    before = dict[Path, bytes | None]()

    def change_file(name: str) -> None:
        path = copy / name
        before[path] = path.read_bytes() if path.exists() else None
        path.write_bytes((before[path] or b"") + b"CHANGED = True\n")

    yield change_file
    for path, content in before.items():
        path.unlink()
        if content is not None:
            path.write_bytes(content)


@pytest.mark.parametrize(
    "name",
    [
        "workflows/generation.py",
        "workflows/sweep.py",
        "onetake/core/contracts/messages.py",
        "onetake/core/contracts/plan.py",
        "onetake/core/names.py",
        "onetake/engine/codec.py",
        "onetake/engine/temporal.py",
    ],
)
def test_what_can_change_a_command_moves_the_build_id(change: Callable[[str], None], name: str) -> None:
    before = build_id()
    change(name)
    assert build_id() != before


@pytest.mark.parametrize(
    "name", ["activities/persist.py", "onetake/cli/deploys.py", "onetake/ledger/holds.py", "providers/apixo.py"]
)
def test_nothing_else_moves_the_build_id(change: Callable[[str], None], name: str) -> None:
    before, code_before = build_id(), code_id()
    change(name)
    assert build_id() == before
    assert code_id() != code_before, "unversioned queues show that two codes poll them"


def test_a_new_file_and_the_sdks_version_move_the_build_id(
    change: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {build_id()}
    change("workflows/more.py")
    said.add(build_id())
    monkeypatch.setattr(versioning, "version_of", "9.9.9 of {}".format)
    said.add(build_id())
    assert len(said) == 3
    assert all(name.startswith("w") and len(name) <= MOST_BUILD for name in said)
