"""Which addresses that come from outside may be dialled: by their text, and by what their name resolved to.

`judge` reads the text of an address; `judge_address` reads what the name resolved to. Both are pure and open nothing:
`onetake.media.outbound` does. Errors name the broken rule and never what a name resolved to.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

import httpx

from onetake.core.errors import Failed

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Rule = Literal["characters", "scheme", "user_info", "host", "port", "address", "redirect"]
Reach = Literal["public", "private", "never"]

_PORTS: Final = frozenset({443, 8443})


# -- Judging an address by its text ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """An address that may be dialled, parsed by the parser that connects; what its host resolves to is judged there."""

    url: httpx.URL
    host: str
    port: int


def judge(url: str, trusted: frozenset[str] = frozenset()) -> Judged:
    """Read an address before any name is resolved. Raises Failed(`asset_url_blocked`) naming the rule. Pure.

    `trusted` holds `host` or `host:port`; only for these plain http and other ports than 443 and 8443 pass.
    """
    if not re.fullmatch(r"[!-~]+", url) or re.search(r'[\\"<>^`{|}]', url):
        raise blocked("characters")
    # Up to the first slash everything is authority, also for a parser that disagrees about `#` and `?`.
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise blocked("user_info")
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        raise blocked("host") from None
    if parsed.scheme not in {"https", "http"}:
        raise blocked("scheme")
    host = _host(parsed.raw_host.decode("ascii"))
    port = parsed.port if parsed.port is not None else {"https": 443, "http": 80}[parsed.scheme]
    known = is_trusted(host, port, trusted)
    if parsed.scheme != "https" and not known:
        raise blocked("scheme")
    if port not in _PORTS and not (known and 0 < port < 65_536):
        raise blocked("port")
    return Judged(parsed, host, port)


def over_https(url: str, trusted: frozenset[str] = frozenset()) -> str | None:
    """The same link over https, where it is plain http on the usual port of a host that nobody trusts; else None.

    Some object stores hand out such links. Their signature covers host, path and query, which do not change. Pure.
    """
    found = re.fullmatch(r"http://([^/?#:]+)(?::80)?((?:[/?#].*)?)", url, re.IGNORECASE)
    if found is None or is_trusted(found[1].lower(), 80, trusted):
        return None
    return f"https://{found[1]}{found[2]}"


def is_trusted(host: str, port: int, trusted: frozenset[str]) -> bool:
    """Whether the operator named this host, with or without its port."""
    names = (host, f"[{host}]") if ":" in host else (host,)
    return any(name in trusted or f"{name}:{port}" in trusted for name in names)


def _host(host: str) -> str:
    """Lower case, ASCII, fully written out: whatever two parsers could read differently is refused."""
    if "%" in host:
        raise blocked("host")
    if ":" in host:
        return _literal(host, ipaddress.IPv6Address)
    labels = host.split(".")
    if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1]):
        return _literal(host, ipaddress.IPv4Address)
    if len(host) > 253 or not all(re.fullmatch(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", label) for label in labels):
        raise blocked("host")
    return host


def _literal(host: str, kind: type[IPAddress]) -> str:
    try:
        return str(kind(host))
    except ValueError:
        raise blocked("host") from None


def blocked(rule: Rule, why: str = "") -> Failed:
    """The error that names the broken rule."""
    return Failed("asset_url_blocked", f"Rule: {rule}. {why}".strip())


# -- Judging what a name resolved to -----------------------------------------------------------------------------------

# Where a cloud hands out a machine's own credentials: never dialled, whoever trusts them.
_METADATA_4: Final = frozenset(
    ipaddress.IPv4Address(text)
    for text in (
        "169.254.169.254",  # AWS, GCP, Azure, most others
        "169.254.170.2",  # AWS ECS
        "169.254.170.23",  # AWS EKS
        "169.254.42.42",  # Scaleway
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure's wire server
        "192.0.0.192",  # Oracle
    )
)
_METADATA_6: Final = frozenset(
    ipaddress.IPv6Address(text) for text in ("fd00:ec2::254", "fd00:ec2::23", "fd20:ce::254", "fd00:42::42")
)
_PRIVATE_4: Final = tuple(map(ipaddress.IPv4Network, ("10.0.0.0/8", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))
_PRIVATE_6: Final = tuple(map(ipaddress.IPv6Network, ("::1/128", "fc00::/7")))
_NEVER_4: Final = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",
            "100.64.0.0/10",
            "169.254.0.0/16",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.88.99.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/3",
        ),
    )
)
_GLOBAL_6: Final = ipaddress.IPv6Network("2000::/3")
# Teredo and its neighbours, documentation, 6to4: inside the global range, and never a vendor's host.
_NEVER_6: Final = tuple(map(ipaddress.IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
# Ranges whose last 32 bits are an IPv4 address: compatible, mapped, translated, NAT64.
_EMBEDDING: Final = tuple(map(ipaddress.IPv6Network, ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")))
# Prefix lengths after which RFC 6052 puts an IPv4 address; a network may choose a prefix that nobody else knows.
_NAT64_PREFIXES: Final = (32, 40, 48, 56, 64, 96)
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})


# What proxies on a desk or a router answer for every name, to take the connection for themselves.
_MADE_UP: Final = ipaddress.IPv4Network("198.18.0.0/15")


def judge_address(text: str, *, trusted: bool) -> None:
    """Raise Failed(`asset_url_blocked`) unless the address is public, or private and its host trusted by name. Pure."""
    address = ipaddress.ip_address(text)
    reach = reach_of(address)
    if isinstance(address, ipaddress.IPv4Address) and address in _MADE_UP:
        raise blocked(
            "address",
            "Its name resolves into 198.18.0.0/15, the made-up addresses of a proxy on this machine or network, which "
            "are never dialled, trusted or not: turn its fake-IP mode off, or exclude this host from it.",
        )
    if reach == "never" and trusted:
        raise blocked("address", "Its host is trusted, but resolves into a range that is never dialled all the same.")
    if reach == "never" or (reach == "private" and not trusted):
        raise blocked("address")


def reach_of(address: IPAddress) -> Reach:
    """Whether an address is on the public internet, on a private network or this machine, or nothing we dial."""
    if isinstance(address, ipaddress.IPv4Address):
        return _reach_4(address)
    return _reach_6(address)


def _reach_4(address: ipaddress.IPv4Address) -> Reach:
    if address in _METADATA_4 or any(address in network for network in _NEVER_4):
        return "never"
    return "private" if any(address in network for network in _PRIVATE_4) else "public"


def _reach_6(address: ipaddress.IPv6Address) -> Reach:
    if address.scope_id or address in _METADATA_6 or any(found in _METADATA_4 for found in _embedded(address)):
        return "never"
    if any(address in network for network in _PRIVATE_6):
        return "private"
    if any(address in network for network in _EMBEDDING):
        return _reach_4(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    isatap = (int(address) >> 32) & 0xFFFFFFFF in _ISATAP
    if address not in _GLOBAL_6 or isatap or any(address in network for network in _NEVER_6):
        return "never"
    return "public"


def _embedded(address: ipaddress.IPv6Address) -> Iterable[ipaddress.IPv4Address]:
    packed = address.packed
    for bits in _NAT64_PREFIXES:
        start = bits // 8
        after = packed[start:] if start > 8 else packed[start:8] + packed[9:]
        yield ipaddress.IPv4Address(after[:4])
