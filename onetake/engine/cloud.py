"""Temporal Cloud: whether this is it, and its API key, a file that may be replaced while a process runs."""

import asyncio
import base64
import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Final

from temporalio.client import Client

from onetake.core import logs
from onetake.core.errors import Refused
from onetake.core.secret_files import Unreadable, files, text_of
from onetake.core.secrets import REREAD_S
from onetake.metrics import instruments

API_KEY: Final = "TEMPORAL_API_KEY"
CLOUD: Final = "tmprl.cloud"

_log = logs.logger(__name__)


def is_cloud(client: Client) -> bool:
    """Whether the client's server is Temporal Cloud, by its name or by the key that only Cloud asks for."""
    host = client.service_client.config.target_host.rpartition(":")[0].rstrip(".").lower()
    return bool(client.api_key) or host == CLOUD or host.endswith(f".{CLOUD}")


def api_key() -> str:
    """What the file of secrets of this name holds; empty without one. Raises Refused(`settings_invalid`)."""
    return _read(path) if (path := files().get(API_KEY)) else ""


def _read(path: Path) -> str:
    try:
        return text_of(path)
    except Unreadable as error:
        reason = str(error)
    raise Refused("settings_invalid", f"The file of {API_KEY} cannot be used: {reason}.")


def end_of_key(key: str) -> float | None:
    """When a key ends, in Unix seconds: the `exp` of a JWT, as Temporal Cloud's are. None for one that does not say."""
    with suppress(ValueError, IndexError, KeyError, TypeError):
        body = key.strip().split(".")[1]
        return float(json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["exp"])
    return None


async def follow_api_key(client: Client, *, every_s: float = REREAD_S) -> None:
    """Give the client the key of the file whenever that is another one, and show when that one ends. Runs until it is
    cancelled, or ends at once where the client's key came from elsewhere."""
    if not client.api_key or not _is_of_a_file(client.api_key):
        return
    while True:
        await asyncio.sleep(every_s)
        if (key := _quietly(client.api_key)) != client.api_key:
            logs.mask(key)
            client.api_key = key
            instruments().credential("api_key", end_of_key(key) or math.inf)
            _log.info("secret_replaced", name=API_KEY)


def _quietly(former: str) -> str:
    try:
        if key := api_key():
            return key
        detail = "its file is gone; the former value stays in force"
    except Refused as error:
        detail = error.detail
    _log.warning("secret_not_read", name=API_KEY, detail=detail)
    return former


def _is_of_a_file(key: str) -> bool:
    try:
        return api_key() == key
    except Refused:  # there is one: it may be read later
        return True
