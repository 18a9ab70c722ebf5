"""Secrets as files: below the environment, replaced while a process runs, and never shown."""

import os
import threading
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest

from onetake.core import logs
from onetake.core.errors import Refused
from onetake.core.secret_files import text_of
from onetake.core.secrets import Secrets
from onetake.core.settings import load_settings, sources


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in os.environ:
        if name.upper().startswith("ONETAKE_"):
            monkeypatch.delenv(name)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    place = tmp_path / "secrets"
    place.mkdir()
    monkeypatch.setenv("ONETAKE_SECRETS_DIR", str(place))
    return place


@pytest.fixture
def logged() -> StringIO:
    stream = StringIO()
    logs.configure(stream=stream)
    return stream


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def mount(folder: Path, generation: int, **texts: str) -> None:
    """As Kubernetes does it: files link into `..data`, which is one link that is replaced in one step."""
    version = folder / f"..2026_{generation}"
    version.mkdir()
    for name, text in texts.items():
        (version / name).write_text(text)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    (folder / "..data_tmp").symlink_to(version.name)
    (folder / "..data_tmp").replace(folder / "..data")


def test_files_are_read_in_any_case_and_bare(folder: Path) -> None:
    (folder / "onetake_gmi_api_key").write_text("canary-key\n\n")
    (folder / "ONETAKE_S3_BUCKET").write_text(" filed \r\n")
    (folder / "ONETAKE_CODEC_OLD_KEYS").write_text("one,two")
    settings = load_settings()
    key = settings.vendor("gmi").api_key
    assert key is not None
    assert key.get_secret_value() == "canary-key"
    assert settings.s3_bucket == "filed"
    assert len(settings.codec_old_keys) == 2


def test_what_is_set_to_a_text_wins_over_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BUCKET", "REGION", "ACCESS_KEY"):
        (folder / f"ONETAKE_S3_{name}").write_text("filed")
    monkeypatch.setenv("ONETAKE_S3_BUCKET", "set")
    monkeypatch.setenv("ONETAKE_S3_ACCESS_KEY", "")  # what a template leaves that nobody filled in
    Path(".env").write_text("ONETAKE_S3_REGION=dotted\n")
    settings = load_settings()
    assert (settings.s3_bucket, settings.s3_region) == ("set", "dotted")
    assert settings.s3_access_key.get_secret_value() == "filed"
    found = sources()
    assert (found["s3_bucket"], found["s3_region"], found["s3_endpoint"]) == ("environment", ".env", "default")
    assert found["s3_access_key"] == folder / "ONETAKE_S3_ACCESS_KEY"


def test_of_several_folders_the_first_wins(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for place, text in ((folder, "first"), (other, "second")):
        (place / "ONETAKE_S3_BUCKET").write_text(text)
    (other / "ONETAKE_S3_REGION").write_text("second")
    monkeypatch.setenv("ONETAKE_SECRETS_DIR", f"{folder}:{other}:")
    settings = load_settings()
    assert (settings.s3_bucket, settings.s3_region) == ("first", "second")


@pytest.mark.parametrize("data", [b"canary\nsecond line", b"\xff\xfe", b"x" * 70_000])
def test_a_file_that_cannot_be_used_stops_the_start_without_its_text(folder: Path, data: bytes) -> None:
    (folder / "ONETAKE_GMI_API_KEY").write_bytes(data)
    with pytest.raises(Refused, match="ONETAKE_GMI_API_KEY") as caught:
        load_settings()
    assert "canary" not in str(caught.value)


def test_a_folder_that_is_not_there_stops_the_start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONETAKE_SECRETS_DIR", str(folder / "missing"))
    with pytest.raises(Refused, match="ONETAKE_SECRETS_DIR"):
        load_settings()


def test_an_empty_file_counts_as_none(folder: Path) -> None:
    (folder / "ONETAKE_GMI_API_KEY").write_text("\n")
    assert load_settings().vendor("gmi").api_key is None


def test_a_file_is_read_again_after_a_minute_and_not_before(folder: Path, logged: StringIO) -> None:
    clock = Clock()
    mount(folder, 1, ONETAKE_GMI_API_KEY="canary-first\n", ONETAKE_S3_ACCESS_KEY="access-1")
    secrets = Secrets(load_settings(), now=clock)
    key, access = secrets.secret("gmi_api_key"), secrets.secret("s3_access_key")
    mount(folder, 2, ONETAKE_GMI_API_KEY="canary-second\n", ONETAKE_S3_ACCESS_KEY="access-2")
    clock.now_s = 59
    assert (key.now(), access.now()) == ("canary-first", "access-1")
    clock.now_s = 60
    assert secrets.texts("gmi_api_key", "s3_access_key") == ("canary-second", "access-2")
    assert "ONETAKE_GMI_API_KEY" in logged.getvalue()
    assert "canary" not in logged.getvalue()


def test_who_was_refused_does_not_wait_for_the_minute(folder: Path) -> None:
    mount(folder, 1, ONETAKE_GMI_API_KEY="first")
    key = Secrets(load_settings()).secret("gmi_api_key")
    mount(folder, 2, ONETAKE_GMI_API_KEY="second")
    assert (key.now(), key.again(), key.now()) == ("first", "second", "second")


def test_a_slow_reader_does_not_put_back_what_was_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount(folder, 1, ONETAKE_GMI_API_KEY="first")
    key = Secrets(load_settings()).secret("gmi_api_key")
    has_read, others_are_done = threading.Event(), threading.Event()

    def slowly(path: Path) -> str:
        text = text_of(path)
        if not has_read.is_set():
            has_read.set()
            others_are_done.wait(0.3)
        return text

    monkeypatch.setattr("onetake.core.secrets.text_of", slowly)
    slow = threading.Thread(target=key.again)
    slow.start()
    assert has_read.wait(240)
    mount(folder, 2, ONETAKE_GMI_API_KEY="second")
    key.again()
    others_are_done.set()
    slow.join(240)
    assert key.now() == "second"


def _empty(path: Path) -> None:
    path.write_text("")


def _gone(path: Path) -> None:
    path.unlink()


def _of_two_lines(path: Path) -> None:
    path.write_text("canary\nother")


def _not_fitting(path: Path) -> None:
    path.write_text("canary with spaces")


@pytest.mark.parametrize("spoil", [_empty, _gone, _of_two_lines, _not_fitting])
def test_what_cannot_be_used_keeps_the_former_value(
    folder: Path, logged: StringIO, spoil: Callable[[Path], None]
) -> None:
    path = folder / "ONETAKE_GMI_API_KEY"
    path.write_text("former")
    key = Secrets(load_settings()).secret("gmi_api_key", str.isalpha)
    spoil(path)
    assert key.again() == "former"
    assert "secret_not_read" in logged.getvalue()
    assert "ONETAKE_GMI_API_KEY" in logged.getvalue()
    assert "canary" not in logged.getvalue()
    path.write_text("latter")
    assert key.again() == "latter"


def test_what_the_caller_or_the_environment_gave_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GMI", "APIXO"):
        (folder / f"ONETAKE_{name}_API_KEY").write_text("filed")
    monkeypatch.setenv("ONETAKE_APIXO_API_KEY", "set")
    secrets = Secrets(load_settings(gmi_api_key="given"))
    assert secrets.secret("gmi_api_key").again() == "given"
    assert secrets.secret("apixo_api_key").again() == "set"
