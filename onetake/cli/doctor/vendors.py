"""How each vendor stands: reachable, with a key, with prices, and not paused."""

# ruff: noqa: PLC0415 - each examination imports what it examines

import asyncio
from typing import Final
from urllib.parse import urlsplit

from onetake.cli.doctor.findings import Finding, absent, broken, fine, warning
from onetake.cli.doctor.patience import Look
from onetake.cli.doctor.setup import Setup
from onetake.core.errors import CATALOGUE, TryLater
from onetake.core.settings import Settings

CONNECT_S: Final = 20.0


def vendor(name: str) -> Look:
    """The examination of one vendor."""

    async def look(setup: Setup) -> Finding:
        from providers.catalogue import load_catalogue
        from providers.driver import checked_base_url, checked_key

        settings = setup.settings
        configured, facts = settings.vendor(name), load_catalogue().vendors[name].vendor
        if not checked_key(name, configured):
            fix = f"Set ONETAKE_{name.upper()}_API_KEY to use it, or let `onetake dev` simulate it."
            return absent("vendor_key_missing", f"no key for {configured.base_url or facts.base_url or 'it'}", fix)
        base = checked_base_url(name, configured, facts.base_url, settings.trusted_hosts)
        host, port = _host_and_port(base)
        if not await _answers(host, port):
            fix = f"Check ONETAKE_{name.upper()}_BASE_URL."
            return broken("vendor_unreachable", f"nothing answers at {host}:{port}", fix, "vendor_unavailable")
        found = f"{base} answers; its key is set and was not tried"
        if unpriced := _unpriced(name, settings):
            told = f"{found}; no price for {', '.join(unpriced)}"
            return warning("route_without_price", told, CATALOGUE["price_missing"].hint)
        return fine(f"{found}; every route has a price")

    return look


async def pauses(setup: Setup) -> Finding | list[Finding]:
    """Which vendors with a key, or models of theirs, take no new generations."""
    from onetake.ledger.vendors import PostgresVendors

    states = await PostgresVendors(await setup.database()).states()
    findings: list[Finding] = []
    for name in setup.keyed:
        state = states.get(name)
        paused = [f"{each.model} ({each.paused_code})" for each in state.paused_models] if state else []
        if state and state.paused_code:
            paused.insert(0, f"all of it ({state.paused_code})")
        if paused:
            found = f"{name} takes no new generations: {', '.join(paused)}"
            fix = f"Top up the account or replace ONETAKE_{name.upper()}_API_KEY, then: onetake vendors reopen {name}"
            findings.append(warning("vendor_paused", found, fix))
    return findings or fine("no vendor is paused")


def _unpriced(name: str, settings: Settings) -> list[str]:
    """The modes of a vendor that cannot run for want of a price."""
    from onetake.cli.routes import clip_prices
    from providers.catalogue import load_catalogue

    data = load_catalogue()
    names = [each for each in data.route_names() if each.startswith(f"{name}/")]
    return [
        each.rpartition("/")[2]
        for each in names
        if any(price["amount_micros"] is None for price in clip_prices(each, data, settings))
    ]


def _host_and_port(url: str) -> tuple[str, int]:
    address = urlsplit(url)
    return address.hostname or "", address.port or (443 if address.scheme == "https" else 80)


async def _answers(host: str, port: int) -> bool:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), CONNECT_S)
    except TimeoutError:
        raise TryLater("vendor_unavailable", f"No answer from {host}:{port}.") from None
    except OSError:
        return False
    writer.close()
    return True
