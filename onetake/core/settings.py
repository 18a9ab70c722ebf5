"""All configuration, read once at the edge: environment variables with the prefix `ONETAKE_`, or a `.env` file.

Temporal's own address, namespace and TLS follow the SDK's standard (`TEMPORAL_ADDRESS`, ...): see `engine/temporal.py`.
Workflows and activities never import this module.
"""

import base64
from functools import cached_property
from typing import Annotated, Any

from pydantic import BaseModel, Field, SecretStr, ValidationError, create_model, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from onetake.core.errors import Refused
from onetake.core.names import VENDOR_NAMES


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

    model_config = SettingsConfigDict(env_prefix="ONETAKE_", env_file=".env", frozen=True, extra="ignore")

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
    log_level: str = "info"

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
    missing = [f"ONETAKE_{name.upper()}" for name in names if not _text(getattr(settings, name))]
    if missing:
        raise Refused("settings_invalid", f"Missing: {', '.join(missing)}.")


def _text(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value or "")
