"""All configuration, read once at the edge: environment variables with the prefix `ONETAKE_`, a `.env` file, or files
of secrets. The first of these that gives a text wins.

Temporal's own address, namespace and TLS follow the SDK's standard (`TEMPORAL_ADDRESS`, ...): see `engine/temporal.py`.
Workflows and activities never import this module.
"""

import base64
import os
from collections.abc import Mapping
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import BaseModel, Field, SecretStr, ValidationError, create_model, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from onetake.core.errors import Refused
from onetake.core.names import VENDOR_NAMES, Defaults
from onetake.core.secret_files import Unreadable, bare, files, text_of

Source = Path | Literal["environment", ".env", "default"]


class VendorSettings(BaseModel):
    """How one vendor is reached. `base_url` replaces the documented base whole."""

    base_url: str | None = None
    api_key: SecretStr | None = None


def _of_each_vendor() -> dict[str, Any]:
    """`apixo_base_url`, `apixo_api_key`, and so on: a type and a default by name."""
    fields: dict[str, Any] = {}
    for name in VENDOR_NAMES:
        fields |= {f"{name}_base_url": (str | None, None), f"{name}_api_key": (SecretStr | None, None)}
    return fields


class Settings(create_model("VendorsSettings", __base__=BaseSettings, **_of_each_vendor())):
    """One frozen model; build it with `load_settings`, which turns every problem into one clear error."""

    model_config = SettingsConfigDict(
        env_prefix="ONETAKE_", env_file=".env", frozen=True, extra="ignore", hide_input_in_errors=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Files of secrets in the place of pydantic's own, which would take an empty file, and be read once."""
        del file_secret_settings
        return init_settings, _SecretFiles(settings_cls), env_settings, dotenv_settings

    database_url: SecretStr = SecretStr("")
    database_pool: Annotated[int, Field(ge=1, le=32)] = 4

    s3_endpoint: str = ""
    s3_access_key: SecretStr = SecretStr("")
    s3_secret_key: SecretStr = SecretStr("")
    s3_bucket: str = "onetake"
    s3_region: str = "us-east-1"
    s3_secure: bool = True
    s3_public_endpoint: str | None = None

    prices: str | None = None
    reported_cost_most: Annotated[Decimal, Field(ge=1, le=1000, allow_inf_nan=False)] = Decimal(3)
    drift_tolerance_percent: Annotated[Decimal, Field(ge=0, le=1000, allow_inf_nan=False)] = Decimal(5)
    defaults: Defaults = "cheapest"

    codec_key: SecretStr | None = None
    codec_old_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    insecure_plaintext_history: bool = False
    callback_base_url: str | None = None
    trusted_hosts: Annotated[frozenset[str], NoDecode] = frozenset()
    exclusive_keys: Annotated[frozenset[str], NoDecode] = frozenset()
    temporal_ui_url: str | None = None
    task_queue: str = "onetake"
    reconcile_every_s: Annotated[float, Field(ge=0, le=3600)] = 60.0
    time_scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    asset_max_bytes: Annotated[int, Field(gt=0)] = 512 * 1024 * 1024
    spool_dir: str | None = None
    spool_reserve_bytes: Annotated[int, Field(ge=0)] = 64 * 1024 * 1024
    log_level: str = "info"
    metrics_bind: str = ""

    @field_validator("*", mode="before")
    @classmethod
    def _bare(cls, value: object) -> object:
        """Drop what an editor or `echo` left at the ends of a text: a key with a line break is refused everywhere."""
        match value:
            case SecretStr():
                return SecretStr(bare(value.get_secret_value()))
            case str():
                return bare(value)
            case _:
                return value

    @field_validator("callback_base_url", "s3_public_endpoint", "temporal_ui_url")
    @classmethod
    def _base(cls, value: str | None) -> str | None:
        """An address without what would double the slash before a path."""
        return value.rstrip("/") if value else value

    @field_validator("callback_base_url")
    @classmethod
    def _reachable(cls, value: str | None) -> str | None:
        parts = urlsplit(value or "")
        if value and (parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment):
            raise ValueError("not an http or https address without a query")
        return value

    @field_validator("trusted_hosts", "exclusive_keys", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        return (
            frozenset(part.strip().lower() for part in value.split(",") if part.strip())
            if isinstance(value, str)
            else value
        )

    @field_validator("exclusive_keys")
    @classmethod
    def _vendors(cls, names: frozenset[str]) -> frozenset[str]:
        if unknown := [name for name in sorted(names) if name not in VENDOR_NAMES]:
            raise ValueError(f"no vendor: {', '.join(unknown)}")
        return names

    @field_validator("codec_old_keys", mode="before")
    @classmethod
    def _keys(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    def vendor(self, name: str) -> VendorSettings:
        """The settings of one vendor, by its name in routes."""
        return VendorSettings(base_url=getattr(self, f"{name}_base_url"), api_key=getattr(self, f"{name}_api_key"))

    @cached_property
    def codec_keys(self) -> tuple[bytes, ...]:
        """The keys of the payload codec, the one in use first; empty when histories are plain."""
        named = ([self.codec_key] if self.codec_key else []) + list(self.codec_old_keys)
        return tuple(_codec_key(key.get_secret_value()) for key in named)


def _codec_key(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise Refused("settings_invalid", "ONETAKE_CODEC_KEY must be 32 bytes in base64.")
    return key


def load_settings(**overrides: object) -> Settings:
    """Read the environment. Raises Refused(`settings_invalid`) naming every wrong setting at once, never its value."""
    try:
        return Settings(**overrides)  # pyright: ignore[reportArgumentType]
    except ValidationError as error:
        names = sorted({f"ONETAKE_{str(problem['loc'][0]).upper()}" for problem in error.errors()})
        raise Refused("settings_invalid", f"Wrong: {', '.join(names)}.") from None


def require(settings: Settings, *names: str) -> None:
    """Refuse to start without these settings, naming all that are missing at once."""
    missing = [f"ONETAKE_{name.upper()}" for name in names if not as_text(getattr(settings, name))]
    if missing:
        raise Refused("settings_invalid", f"Missing: {', '.join(missing)}.")


def as_text(value: object) -> str:
    """A setting as a text, also a secret one; empty for none."""
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value or "")


# -- Where a setting comes from ----------------------------------------------------------------------------------------


def source_of(field: str) -> Source:
    """Where `load_settings` finds this setting; a path for a file of secrets."""
    return sources()[field]


def sources() -> dict[str, Source]:
    """Where `load_settings` finds each setting. What is set to no text gives way to a file of secrets."""
    environ = {name.upper(): value for name, value in os.environ.items()}
    dotenv = {name.upper(): value for name, value in dotenv_values(".env").items() if value is not None}
    secret = files()
    return {field: _source(f"ONETAKE_{field.upper()}", environ, dotenv, secret) for field in Settings.model_fields}


def _source(name: str, environ: Mapping[str, str], dotenv: Mapping[str, str], secret: Mapping[str, Path]) -> Source:
    found: list[tuple[bool, Source]] = [
        (bool(environ.get(name)), "environment"),
        (name not in environ and bool(dotenv.get(name)), ".env"),
        *([(True, secret[name])] if name in secret else []),
        (name in environ, "environment"),
        (name in dotenv, ".env"),
    ]
    for holds, source in found:
        if holds:
            return source
    return "default"


class _SecretFiles(PydanticBaseSettingsSource):
    """The files of those settings that nothing before them gives."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        del field, field_name
        raise NotImplementedError  # pydantic's way for one field; `__call__` reads all

    def __call__(self) -> dict[str, Any]:
        texts: dict[str, Any] = {}
        for field, source in sources().items():
            if isinstance(source, Path):
                texts |= _read(field, source)
        return texts


def _read(field: str, path: Path) -> dict[str, str]:
    try:
        return {field: text_of(path)}
    except Unreadable as error:
        if str(error) == "empty":
            return {}
        reason = str(error)
    raise Refused("settings_invalid", f"The file of ONETAKE_{field.upper()} cannot be used: {reason}.")
