"""Which program is fit, and which way of finding it gives it."""

import io
from pathlib import Path

import pytest

from onetake.dev.devstack import PlainProgress
from onetake.dev.devstack.binaries import (
    TEMPORAL,
    VERSITYGW,
    ProgramFinder,
    cache_folder,
    fingerprint,
    temporal_unfit,
    versitygw_unfit,
)
from onetake.dev.devstack.progress import SilentProgress, Step
from onetake.dev.devstack.toolchain import parse_go_version, path_go_version

NEW = "temporal version 1.8.2 (Server 1.31.2, UI 2.50.1)"
OLD = "temporal version 1.4.1 (Server 1.28.0, UI 2.39.0)"


@pytest.mark.parametrize(
    "shown", [NEW, "temporal version 1.5.1 (Server 1.29.1, UI 2.41.0)", "version v2.0.0 (Server v2.0.0)"]
)
def test_a_recent_temporal_is_fit(shown: str) -> None:
    assert temporal_unfit(shown) is None


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        (OLD, "is CLI 1.4 with server 1.28, older than 1.4 with 1.29"),
        (
            "temporal version 0.0.0-DEV (Server 1.31.2, UI 2.50.1)",
            "is CLI 0.0 with server 1.31, older than 1.4 with 1.29",
        ),
        ("tctl version 1.18", "does not tell its version"),
        ("", "does not tell its version"),
    ],
)
def test_an_old_or_strange_temporal_is_passed_over(shown: str, reason: str) -> None:
    assert temporal_unfit(shown) == reason


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        ("Version  : 1.8.0\nBuild    : norev\n", None),
        ("Version  : v1.7.0\n", None),
        ("Version  : 1.6.9\n", "is 1.6, older than 1.7"),
        ("Version  : git\n", "does not tell its version"),
    ],
)
def test_versitygw_from_1_7_is_fit(shown: str, reason: str | None) -> None:
    assert versitygw_unfit(shown) == reason


@pytest.mark.parametrize(
    ("shown", "version"),
    [
        ("go version go1.26.4 linux/amd64", (1, 26, 4)),
        ("go version go1.27 darwin/arm64", (1, 27, 0)),
        ("go version devel +abc", None),
        ("", None),
    ],
)
def test_the_version_of_go_is_read(shown: str, version: tuple[int, ...] | None) -> None:
    assert parse_go_version(shown) == version


@pytest.mark.parametrize(
    ("local", "fetched", "expected"),
    [
        ("1.26.4", "1.26.4", ("1.26.4", "")),
        ("1.19.8", "1.26.4", ("", "go 1.19.8 on PATH is too old")),
        ("1.22.1", "1.26.6", ("1.26.6", "")),
        ("1.22.1", "1.22.1", ("", "go 1.22.1 on PATH is too old and cannot fetch a newer one")),
    ],
)
def test_an_old_go_is_passed_over_unless_it_can_fetch_a_newer_one(
    tmp_path: Path, local: str, fetched: str, expected: tuple[str, str]
) -> None:
    go = program(tmp_path / "go", f'if [ "$GOTOOLCHAIN" = local ]; then echo go{local}; else echo go{fetched}; fi')
    assert path_go_version(str(go), {}, tmp_path, Step(SilentProgress(), "go", "")) == expected


def test_a_fit_program_on_path_is_used(tmp_path: Path) -> None:
    fit = program(tmp_path / "bin" / "temporal", f"echo '{NEW}'")
    said = io.StringIO()
    assert find(tmp_path, said) == fit
    assert f"temporal on PATH: {fit}" in said.getvalue()


def test_an_old_program_on_path_is_passed_over_for_the_cached_build_and_the_reason_is_shown(tmp_path: Path) -> None:
    old = program(tmp_path / "bin" / "temporal", f"echo '{OLD}'")
    cached = cached_temporal(tmp_path, f"echo '{NEW}'")
    said = io.StringIO()
    assert find(tmp_path, said) == cached
    assert (
        f"temporal built earlier: {cached} ({old} is CLI 1.4 with server 1.28, older than 1.4 with 1.29)"
        in said.getvalue()
    )


def test_a_program_that_cannot_run_is_passed_over(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "temporal", "exit 1")
    assert find(tmp_path, io.StringIO()) == cached_temporal(tmp_path, f"echo '{NEW}'")


def test_the_cache_is_keyed_on_the_pinned_sources() -> None:
    assert fingerprint(TEMPORAL.module) != fingerprint(VERSITYGW.module)
    assert fingerprint(TEMPORAL.module) == fingerprint(TEMPORAL.module)


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def cached_temporal(root: Path, script: str) -> Path:
    folder = f"temporal-{TEMPORAL.version}-{fingerprint(TEMPORAL.module)}"
    return program(cache_folder(environment(root)) / folder / "temporal", script)


def environment(root: Path) -> dict[str, str]:
    return {"PATH": f"{root / 'bin'}:/usr/bin:/bin", "XDG_CACHE_HOME": str(root / "cache")}


def find(root: Path, said: io.StringIO) -> Path:
    cached_temporal(root, f"echo '{NEW}'")
    with ProgramFinder(environment(root), PlainProgress(said)) as finder:
        return finder.find(TEMPORAL)
