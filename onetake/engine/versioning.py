"""Which version a worker is: what it tells Temporal of itself, and which code the version's name stands for.

The workers of the role `orchestrate` are versioned when `TEMPORAL_DEPLOYMENT_NAME` and `TEMPORAL_WORKER_BUILD_ID` are
set, on both of their queues: a build that is not current then takes neither a workflow task nor an input to look at.
The roles `vendors` and `media` never are: they are rolled, and serve the workflows of every version.

The behaviour is AUTO_UPGRADE, named at the worker and nowhere else. With PINNED nobody would answer for the details of
closed runs once their version's workers are gone. A behaviour at `@workflow.defn` would make an unversioned worker's
tasks be refused for ever.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version as version_of
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Self

from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import WorkerDeploymentConfig

from onetake.core.errors import Refused

NAME_VARIABLE: Final = "TEMPORAL_DEPLOYMENT_NAME"
BUILD_VARIABLE: Final = "TEMPORAL_WORKER_BUILD_ID"
MOST_NAME: Final = 127  # a namespace of Kubernetes, "/" and a resource, as the Worker Controller writes it
MOST_BUILD: Final = 63
UNVERSIONED: Final = "onetake"  # under which name workers without a version tell what code they run
_BUILD_DIGITS: Final = 12

# What workflows import belongs to them. These are around them: how payloads are read, and which starts are refused.
_WORKFLOWS: Final = "workflows"
_AROUND: Final = ("onetake.engine.codec", "onetake.engine.temporal")
_OURS: Final = ("workflows", "activities", "providers", "onetake")


@dataclass(frozen=True)
class Version:
    """One build of a Worker Deployment, as Temporal knows it."""

    deployment: str
    build: str

    @classmethod
    def named(cls, environ: Mapping[str, str]) -> Self | None:
        """The version that the environment names, None when it names none. Raises Refused(`settings_invalid`)."""
        name, build = environ.get(NAME_VARIABLE, "").strip(), environ.get(BUILD_VARIABLE, "").strip()
        if not name and not build:
            return None
        if not name or not build:
            given, lacks = (NAME_VARIABLE, BUILD_VARIABLE) if name else (BUILD_VARIABLE, NAME_VARIABLE)
            raise Refused("settings_invalid", f"{given} is set without {lacks}: set both, or neither.")
        check_name(name)
        check_build(build)
        return cls(name, build)

    def __str__(self) -> str:
        return f"{self.deployment}:{self.build}"  # as the search attribute TemporalWorkerDeploymentVersion has it


def check_name(name: str) -> None:
    """Refuse a deployment's name that Temporal would not take. Raises Refused(`settings_invalid`)."""
    if "." in name or ":" in name or name.startswith("__"):
        raise Refused("settings_invalid", f'{NAME_VARIABLE} may hold no "." and no ":", and not begin with "__".')
    _check_length(NAME_VARIABLE, name, MOST_NAME)


def check_build(build: str) -> None:
    """Refuse a build id that is too long, or not one word. Raises Refused(`settings_invalid`)."""
    if build.startswith("__") or any(character.isspace() for character in build):
        raise Refused("settings_invalid", f'{BUILD_VARIABLE} is one word that does not begin with "__".')
    _check_length(BUILD_VARIABLE, build, MOST_BUILD)


def _check_length(variable: str, value: str, most: int) -> None:
    if len(value) > most:
        raise Refused("settings_invalid", f"{variable} has {len(value)} characters; it may have {most}.")


# -- What workers say of themselves ------------------------------------------------------------------------------------


def of_orchestrator(version: Version | None, *, runs_workflows: bool) -> WorkerDeploymentConfig:
    """What a worker of the role `orchestrate` says; one that runs no workflow has no behaviour to name."""
    if version is None:
        return unversioned()
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(version.deployment, version.build),
        use_worker_versioning=True,
        default_versioning_behavior=(
            VersioningBehavior.AUTO_UPGRADE if runs_workflows else VersioningBehavior.UNSPECIFIED
        ),
    )


def unversioned() -> WorkerDeploymentConfig:
    """What a worker says whose tasks any version may have ordered: only which code it runs, for who looks on."""
    return WorkerDeploymentConfig(version=WorkerDeploymentVersion(UNVERSIONED, code_id()), use_worker_versioning=False)


# -- What code a build is ----------------------------------------------------------------------------------------------


@cache
def build_id() -> str:
    """A name for all that can change a workflow's commands: `workflows/`, what it imports of ours (the contracts above
    all), how its payloads are read, and the SDK's version. Code that differs in anything else has the same name."""
    names, waiting = set[str](_AROUND), [*_modules_of(_WORKFLOWS)]
    while waiting:
        name = waiting.pop()
        if name not in names:
            names.add(name)
            waiting += _imported_by(name)
    return f"w{_digest(names)}"


@cache
def code_id() -> str:
    """A name for all code of ours that is installed."""
    return f"c{_digest({name for package in _OURS for name in _modules_of(package)})}"


def _digest(modules: Iterable[str]) -> str:
    hashed = hashlib.sha256(f"temporalio {version_of('temporalio')}\n".encode())
    for name in sorted(modules):
        path = _path_of(name)
        content = hashlib.sha256(path.read_bytes() if path else b"").hexdigest()
        hashed.update(f"{name} {content}\n".encode())
    return hashed.hexdigest()[:_BUILD_DIGITS]


def _imported_by(module: str) -> list[str]:
    """The modules of ours that a module names in its imports, wherever they stand in it."""
    path = _path_of(module)
    named = [name for node in ast.walk(_parsed(path.read_bytes() if path else b"")) for name in _names_in(node)]
    return [name for name in named if name.partition(".")[0] in _OURS and _path_of(name)]


def _parsed(source: bytes) -> ast.AST:
    try:
        return ast.parse(source)
    except SystemError:  # CPython 3.11 now and then miscounts its own recursion; the next time it does not
        return ast.parse(source)


def _names_in(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Import():
            yield from (alias.name for alias in node.names)
        case ast.ImportFrom(module=str(module), level=0):
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        case _:
            return


def _modules_of(package: str) -> Iterator[str]:
    root = _folder_of(package)
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).with_suffix("").parts
        yield ".".join([package, *(parts[:-1] if parts[-1] == "__init__" else parts)])


def _path_of(module: str) -> Path | None:
    """Where a module of ours stands; None when it is none. Nothing is imported for it."""
    package, *parts = module.split(".")
    place = _folder_of(package).joinpath(*parts)
    files = (place / "__init__.py", place.with_suffix(".py"))
    return next((path for path in files if path.is_file()), None)


@cache
def _folder_of(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(package)
    return Path(spec.origin).parent
