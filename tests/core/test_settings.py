"""Settings: read once, wrong ones named all at once, never their values."""

import base64
import os
from decimal import Decimal
from pathlib import Path

import pytest

from onetake.core.errors import Refused
from onetake.core.settings import Settings, load_settings, require

KEY, OLD = bytes(range(32)), bytes(32)


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:  # pyright: ignore[reportUnusedFunction]
    """Neither the environment of this machine nor a file in its working folder."""
    for name in os.environ:
        if name.upper().startswith("ONETAKE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_names_and_prefix_are_as_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "S3_ENDPOINT", "S3_ACCESS_KEY", "S3_SECRET_KEY", "S3_BUCKET", "S3_REGION"):
        monkeypatch.setenv(f"ONETAKE_{name}", f"value-{name}")
    monkeypatch.setenv("ONETAKE_S3_SECURE", "false")
    monkeypatch.setenv("ONETAKE_APIXO_BASE_URL", "https://proxy.example")
    monkeypatch.setenv("ONETAKE_APIXO_API_KEY", "canary-key")
    monkeypatch.setenv("ONETAKE_CALLBACK_BASE_URL", "https://gateway.example")
    monkeypatch.setenv("ONETAKE_SOMETHING_ELSE", "ignored")
    settings = load_settings()
    assert settings.database_url.get_secret_value() == "value-DATABASE_URL"
    assert (settings.s3_endpoint, settings.s3_bucket) == ("value-S3_ENDPOINT", "value-S3_BUCKET")
    assert not settings.s3_secure
    assert settings.callback_base_url == "https://gateway.example"
    vendor = settings.vendor("apixo")
    assert vendor.base_url == "https://proxy.example"
    assert vendor.api_key is not None
    assert vendor.api_key.get_secret_value() == "canary-key"


def test_a_file_is_read_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("ONETAKE_S3_BUCKET=filed\nONETAKE_S3_REGION=filed\n", encoding="utf-8")
    monkeypatch.setenv("ONETAKE_S3_REGION", "set")
    settings = load_settings()
    assert (settings.s3_bucket, settings.s3_region) == ("filed", "set")


def test_nothing_set_is_production_times_and_no_vendor() -> None:
    settings = load_settings()
    assert settings.time_scale == 1
    assert settings.vendor("apixo").api_key is None
    assert settings.vendor("apixo").base_url is None
    assert settings.trusted_hosts == frozenset()
    assert settings.codec_keys == ()
    assert settings.s3_secure


def test_every_wrong_setting_is_named_at_once_and_no_value_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONETAKE_TIME_SCALE", "canary-2")
    monkeypatch.setenv("ONETAKE_DATABASE_POOL", "9999")
    monkeypatch.setenv("ONETAKE_S3_SECURE", "canary-maybe")
    with pytest.raises(Refused) as caught:
        load_settings()
    assert caught.value.code == "settings_invalid"
    assert caught.value.detail == "Wrong: ONETAKE_DATABASE_POOL, ONETAKE_S3_SECURE, ONETAKE_TIME_SCALE."


@pytest.mark.parametrize("scale", ["0", "-1", "1.01", "nan", "inf"])
def test_a_time_scale_is_above_nothing_and_at_most_one(monkeypatch: pytest.MonkeyPatch, scale: str) -> None:
    monkeypatch.setenv("ONETAKE_TIME_SCALE", scale)
    with pytest.raises(Refused, match="ONETAKE_TIME_SCALE"):
        load_settings()


def test_secrets_are_not_shown() -> None:
    settings = load_settings(apixo_api_key="canary-1", s3_secret_key="canary-2", database_url="canary-3")
    assert "canary" not in repr(settings) + str(settings) + settings.model_dump_json()


def test_settings_do_not_change() -> None:
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.time_scale = 0.5  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("text", "hosts"),
    [("", set[str]()), ("a", {"a"}), (" A.example , b:8700,, ", {"a.example", "b:8700"}), ("[::1]:80", {"[::1]:80"})],
)
def test_trusted_hosts_are_split_at_commas(monkeypatch: pytest.MonkeyPatch, text: str, hosts: set[str]) -> None:
    monkeypatch.setenv("ONETAKE_TRUSTED_HOSTS", text)
    assert load_settings().trusted_hosts == hosts


def test_a_key_is_shared_unless_somebody_says_that_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().exclusive_keys == frozenset()
    monkeypatch.setenv("ONETAKE_EXCLUSIVE_KEYS", " aivideoapi , gmi,")
    assert load_settings().exclusive_keys == {"aivideoapi", "gmi"}
    monkeypatch.setenv("ONETAKE_EXCLUSIVE_KEYS", "aivideoapi,nobody")
    with pytest.raises(Refused, match="ONETAKE_EXCLUSIVE_KEYS"):
        load_settings()


def test_the_codec_key_in_use_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONETAKE_CODEC_KEY", base64.b64encode(KEY).decode())
    monkeypatch.setenv("ONETAKE_CODEC_OLD_KEYS", f" {base64.b64encode(OLD).decode()}, ")
    assert load_settings().codec_keys == (KEY, OLD)


@pytest.mark.parametrize("text", ["short", base64.b64encode(KEY[:31]).decode(), "*" * 44])
def test_a_codec_key_of_another_size_is_refused_and_never_shown(text: str) -> None:
    settings = load_settings(codec_key=text)
    with pytest.raises(Refused) as caught:
        _ = settings.codec_keys
    assert caught.value.code == "settings_invalid"
    assert text not in str(caught.value)


def test_all_missing_settings_are_named_at_once() -> None:
    settings = load_settings(s3_endpoint="localhost:7070")
    with pytest.raises(Refused) as caught:
        require(settings, "database_url", "s3_endpoint", "s3_access_key")
    assert caught.value.detail == "Missing: ONETAKE_DATABASE_URL, ONETAKE_S3_ACCESS_KEY."
    require(settings, "s3_endpoint")


def test_an_unknown_vendor_is_a_mistake_of_ours() -> None:
    with pytest.raises(AttributeError):
        Settings.model_validate({}).vendor("nobody")


def test_the_bound_of_reported_costs_is_a_multiple_of_at_least_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().reported_cost_most == 3
    monkeypatch.setenv("ONETAKE_REPORTED_COST_MOST", "1.5")
    assert load_settings().reported_cost_most == Decimal("1.5")
    for wrong in ("0.99", "-3", "NaN", "Infinity", "1001", "three"):
        monkeypatch.setenv("ONETAKE_REPORTED_COST_MOST", wrong)
        with pytest.raises(Refused, match="ONETAKE_REPORTED_COST_MOST"):
            load_settings()
