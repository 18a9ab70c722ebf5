"""Whether vendors reach our gateway, and whether their callbacks come."""

# ruff: noqa: PLC0415 - each examination imports what it examines

import asyncio
import ipaddress
import secrets
import socket
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from onetake.cli.callbacks import standing
from onetake.cli.doctor.findings import Finding, absent, broken, fine, warning
from onetake.cli.doctor.setup import Setup
from onetake.core.errors import OnetakeError, TryLater

ANSWER_S: Final = 20.0
START: Final = "Start `onetake gateway`, or correct ONETAKE_CALLBACK_BASE_URL. Polling goes on meanwhile."
PATH: Final = "Correct the path in ONETAKE_CALLBACK_BASE_URL, or what stands before the gateway."
MISSING_FIX: Final = (
    "See that ONETAKE_CALLBACK_BASE_URL reaches the gateway from outside, and what the gateway's log and the vendor's"
    " console say of callbacks. Polling goes on: clips come later, and none is lost."
)


async def callbacks(setup: Setup) -> Finding:
    """Send a number that nobody knew through the public address: only a gateway on our database knows the answer."""
    from onetake.gateway.whoami import WHOAMI

    base = setup.settings.callback_base_url
    if not base:
        found = "no public address: vendors are only polled"
        return absent("callbacks_not_asked", found, "Set ONETAKE_CALLBACK_BASE_URL to the gateway's.")
    if setup.is_real and (found := await _of_address(base)):
        return found
    nonce = secrets.token_hex(16)
    said = await _asked(f"{base}{WHOAMI}/{nonce}", base)
    return said if isinstance(said, Finding) else await _of_answer(setup, base, nonce, *said)


async def _of_answer(setup: Setup, base: str, nonce: str, status: int, text: str) -> Finding:
    if status == 503:
        found = f"{base} answers that its database is away: callbacks are not stored"
        return broken("gateway_without_database", found, "See the gateway's log.", "ledger_unavailable")
    if status != 200:
        found = f"{base}/whoami answers {status}, and not as the gateway does: callbacks would be lost"
        return broken("callback_not_ours", found, PATH, "settings_invalid")
    try:
        row = await (await setup.database()).answer("select onetake.whoami($1) as answer", nonce)
    except OnetakeError:
        return warning("callback_not_compared", f"{base} answers; without the database nobody knows whose it is", START)
    if text.strip() != row["answer"]:
        found = f"{base} is not a gateway on this database, as it stands now: callbacks would be lost"
        fix = "Correct ONETAKE_CALLBACK_BASE_URL, or the gateway's ONETAKE_DATABASE_URL, and restart the gateway."
        return broken("callback_not_ours", found, fix, "settings_invalid")
    return fine(f"our gateway answers at {base}")


async def _asked(url: str, base: str) -> tuple[int, str] | Finding:
    """The status and the first of the text. Raises TryLater when it is silent."""
    import httpx

    from onetake.media.authorities import tls_context

    try:
        async with httpx.AsyncClient(verify=tls_context(), trust_env=False, timeout=ANSWER_S) as client:
            said = await client.get(url)
    except httpx.ConnectError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            found = f"{base} shows a certificate that nobody vouches for: vendors will not speak to it"
            fix = "Give what answers there a certificate for this name."
            return broken("callback_certificate", found, fix, "settings_invalid")
        return broken("callback_unreachable", f"nothing answers at {base}", START, "engine_unavailable")
    except httpx.TimeoutException:
        raise TryLater("engine_unavailable", f"No answer from {base}.") from None
    except httpx.HTTPError as error:
        found = f"{base} does not answer as the gateway does ({type(error).__name__})"
        return broken("callback_not_ours", found, START, "engine_unavailable")
    return said.status_code, said.text[:200]


async def _of_address(base: str) -> Finding | None:
    """What a vendor out in the world cannot or should not call."""
    parts = urlsplit(base)
    if parts.scheme != "https":
        found = f"{base} is not https: the token in a callback's address could be read on its way"
        fix = "Put TLS before the gateway and give ONETAKE_CALLBACK_BASE_URL as https://..."
        return broken("callback_not_https", found, fix, "settings_invalid")
    addresses = await _addresses(parts.hostname or "")
    if addresses and not any(address.is_global for address in addresses):
        found = f"{parts.hostname} is a private address here: no vendor reaches it"
        fix = "Give ONETAKE_CALLBACK_BASE_URL a name that vendors resolve to a public address."
        return broken("callback_private", found, fix, "settings_invalid")
    return None


async def _addresses(host: str) -> "list[ipaddress.IPv4Address | ipaddress.IPv6Address]":
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [ipaddress.ip_address(str(each[4][0]).partition("%")[0]) for each in found]


async def announced(setup: Setup) -> Finding:
    """Look for vendors whose jobs end without the callback that they were asked for."""
    from onetake.ledger.pacing import callback_records
    from providers.catalogue import load_catalogue

    settings = setup.settings
    if not settings.callback_base_url:
        fix = "Set ONETAKE_CALLBACK_BASE_URL to the gateway's."
        return absent("callbacks_not_asked", "vendors are asked for no callbacks", fix)
    facts = load_catalogue().vendors
    asked = [name for name in setup.keyed if facts[name].vendor.callbacks]
    records = await callback_records(await setup.database(), asked)
    standings = {name: standing(settings, record, offered=True) for name, record in records.items()}
    now = datetime.now(UTC)
    missing = [f"{name}: {each.text}" for name, each in standings.items() if each.is_overdue(now, settings.time_scale)]
    if missing:
        return warning("callbacks_missing", "; ".join(missing), MISSING_FIX)
    arriving = [name for name, each in standings.items() if each.state == "arriving"]
    return fine(f"callbacks arrive from {', '.join(arriving)}" if arriving else "no callback is missing")
