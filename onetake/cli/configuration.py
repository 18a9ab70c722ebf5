"""What this process is configured with, and where each setting comes from. It shows no secret."""

# ruff: noqa: PLC0415 - `--help` stays fast

import os
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import typer

from onetake.cli import environment
from onetake.cli.answer import Answer
from onetake.cli.options import group_of_verbs, register

if TYPE_CHECKING:
    from rich.console import Console

MASK: Final = "[masked]"
_TEMPORAL: Final = "TEMPORAL_"
# Of what Temporal's SDK, its tools and this package read. Whatever else has such a name may be a secret.
_IN_CLEAR: Final = frozenset({
    "TEMPORAL_ADDRESS", "TEMPORAL_CODEC_ENDPOINT", "TEMPORAL_CONFIG_FILE", "TEMPORAL_DEPLOYMENT_NAME",
    "TEMPORAL_NAMESPACE", "TEMPORAL_PROFILE", "TEMPORAL_TLS", "TEMPORAL_TLS_CLIENT_CERT_PATH",
    "TEMPORAL_TLS_CLIENT_KEY_PATH", "TEMPORAL_TLS_DISABLE_HOST_VERIFICATION", "TEMPORAL_TLS_SERVER_CA_CERT_PATH",
    "TEMPORAL_TLS_SERVER_NAME", "TEMPORAL_UI_URL", "TEMPORAL_WORKER_BUILD_ID",
})  # fmt: skip
_LOGIN: Final = re.compile(r"//[^/@]*@")


@dataclass(frozen=True)
class Shown:
    """One setting. `value` is None when it has none, and masked when it is secret."""

    name: str
    value: str | None
    source: str


def add_to(app: typer.Typer) -> None:
    """Register the verbs."""
    config = group_of_verbs(app, "config", "What a process here is configured with.")
    register(config, show, "onetake config show", "onetake config show --json")


def show() -> Answer:
    """Show every setting, and where it comes from: the environment, `onetake dev`, .env, a file of secrets, or its
    default."""
    before = frozenset(os.environ)
    settings = environment.settings()
    from onetake.core.settings import sources

    found, adopted = sources(), os.environ.keys() - before
    named = [
        (f"ONETAKE_{field.upper()}", _shown(getattr(settings, field)), str(found[field]))
        for field in type(settings).model_fields
    ]
    file = str(environment.HOME / environment.FILE_NAME)
    shown = [
        Shown(name, value, file if name in adopted else source) for name, value, source in (*named, *_of_temporal())
    ]
    return Answer([asdict(each) for each in shown], lambda console: _print(console, shown))


def _of_temporal() -> list[tuple[str, str, str]]:
    from onetake.core.secret_files import files

    given = {name: "environment" for name in sorted(os.environ) if name.startswith(_TEMPORAL)}
    filed = {name: str(path) for name, path in files().items() if name == "TEMPORAL_API_KEY"}
    return [(name, _of_variable(name), source) for name, source in (filed | given).items()]


def _of_variable(name: str) -> str:
    return _LOGIN.sub(f"//{MASK}@", os.environ[name]) if name in _IN_CLEAR else MASK


def _shown(value: Any) -> str | None:
    from pydantic import SecretStr

    match value:
        case SecretStr():
            return MASK if value.get_secret_value() else None
        case tuple() | frozenset():
            return ",".join(sorted(filter(None, map(_shown, value)))) or None  # pyright: ignore[reportUnknownArgumentType]
        case None | "":
            return None
        case _:
            return _LOGIN.sub(f"//{MASK}@", str(value))


def _print(console: "Console", shown: list[Shown]) -> None:
    from rich.table import Table

    table = Table("Setting", "Value", "From", box=None, pad_edge=False)
    for each in shown:
        table.add_row(each.name, "" if each.value is None else each.value, each.source)
    console.print(table)
