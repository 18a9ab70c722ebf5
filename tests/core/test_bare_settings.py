"""What editors and `echo` leave around a setting, and addresses with a slash too many."""

import pytest
from pydantic import SecretStr, ValidationError

from onetake.core.errors import Refused
from onetake.core.settings import Settings, load_settings

SECRETS = sorted(
    name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation) and "old" not in name
)


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("behind", ["\n", "\r\n", " ", "\t\n"])
def test_a_line_break_behind_a_secret_is_dropped(name: str, behind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"ONETAKE_{name.upper()}", f"canary-key{behind}")
    assert getattr(load_settings(_env_file=None), name).get_secret_value() == "canary-key"
    assert getattr(Settings.model_validate({name: SecretStr(f"canary{behind}")}), name).get_secret_value() == "canary"


@pytest.mark.parametrize("name", [*SECRETS, "apixo_base_url"])
@pytest.mark.parametrize("inside", ["\n", "\x00", "\x7f"])
def test_a_control_character_inside_is_refused_by_name_and_not_quoted(name: str, inside: str) -> None:
    with pytest.raises(Refused) as caught:
        load_settings(_env_file=None, **{name: f"https://canary.example{inside}key"})
    assert caught.value.code == "settings_invalid"
    assert f"ONETAKE_{name.upper()}" in caught.value.detail
    assert "canary" not in str(caught.value)
    with pytest.raises(ValidationError) as raw:
        Settings.model_validate({name: f"https://canary.example{inside}key"})
    assert "canary" not in str(raw.value)


def test_a_key_of_spaces_alone_is_none() -> None:
    assert load_settings(_env_file=None, apixo_api_key=" ").vendor("apixo").api_key == SecretStr("")


def test_an_address_loses_what_stands_around_it() -> None:
    assert (
        load_settings(_env_file=None, apixo_base_url=" https://a.example\n").vendor("apixo").base_url
        == "https://a.example"
    )


@pytest.mark.parametrize("given", ["https://a.example/", "https://a.example//", " https://a.example\n"])
def test_a_callback_base_ends_without_a_slash(given: str) -> None:
    assert Settings.model_validate({"callback_base_url": given}).callback_base_url == "https://a.example"
    with_path = Settings.model_validate({"callback_base_url": "https://a.example/onetake/"})
    assert with_path.callback_base_url == "https://a.example/onetake"


@pytest.mark.parametrize("given", ["a.example", "ftp://a.example", "https://", "https://a.example/?x=1", "/callbacks"])
def test_a_callback_base_that_is_no_address_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONETAKE_CALLBACK_BASE_URL", given)
    with pytest.raises(Refused) as caught:
        load_settings(_env_file=None)
    assert "ONETAKE_CALLBACK_BASE_URL" in caught.value.detail
