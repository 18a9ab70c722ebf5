"""What ONETAKE_DATABASE_URL may say, and connections to the first of its hosts that takes writes.

Addresses are copied from consoles, poolers and other programs. What libpq knows and this driver does not is left out
where nothing depends on it, and refused by its name where something does. What nobody here knows goes to the server, as
a setting of the session; what the server does not know either is named, too.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg
from asyncpg import exceptions as pg

from onetake.core.errors import Refused

CONNECT_TIMEOUT_S: Final = 5.0
LONGEST_CONNECT_S: Final = 9.0  # what a URL may ask for: who waits for a connection waits for ten

_DRIVERS: Final = frozenset(
    [
        "host",
        "port",
        "dbname",
        "database",
        "user",
        "password",
        "passfile",
        "service",
        "sslmode",
        "sslcert",
        "sslkey",
        "sslrootcert",
        "sslnegotiation",
        "sslcrl",
        "sslpassword",
        "ssl_min_protocol_version",
        "ssl_max_protocol_version",
        "krbsrvname",
        "gsslib",
    ]
)
_WITHOUT_EFFECT: Final = frozenset(
    [
        "application_name",
        "fallback_application_name",
        "client_encoding",
        "keepalives",
        "keepalives_idle",
        "keepalives_interval",
        "keepalives_count",
        "tcp_user_timeout",
        "sslcompression",
        "sslsni",
        "load_balance_hosts",
    ]
)
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_WRITABLE: Final = ("any", "read-write", "primary")
_FILES: Final = ("sslcert", "sslkey", "sslrootcert", "sslcrl", "passfile")
_SESSIONS: Final = "Onetake keeps its sessions: use the pooler's session mode or the server itself, and remove it"
_FOREIGN: Final = "it belongs to another program; remove it"
_REFUSED: Final[Mapping[str, str]] = {
    "require_auth": "the driver cannot promise it; remove it",
    "hostaddr": "write the address in the place of the host",
    "replication": "it is not for programs that query",
    "schema": "Onetake's tables are in the schema onetake; remove it",
    "currentSchema": "Onetake's tables are in the schema onetake; remove it",
    "pgbouncer": _SESSIONS,
    "pool_mode": _SESSIONS,
    **dict.fromkeys(
        [
            "connection_limit",
            "pool_timeout",
            "pool_size",
            "max_overflow",
            "pool_recycle",
            "pool_pre_ping",
            "socket_timeout",
            "sslaccept",
            "ssl",
            "async_fallback",
            "charset",
            "prepareThreshold",
            "prepared_statements",
            "statement_cache_size",
            "supa",
            "uselibpqcompat",
            "prepared_statement_cache_size",
            "prepared_statement_name_func",
            "sslfactory",
            "loginTimeout",
        ],
        _FOREIGN,
    ),
}
_ONLY_WITHOUT: Final = {"channel_binding": ("disable", "prefer"), "gssencmode": ("disable", "prefer")}
_STARTING: Final = "57P03"
_UNKNOWN_SETTING: Final = {"42704", "22023", "08P01"}  # the last one from poolers

_asyncpg: Final[Any] = asyncpg  # it ships no types


class Addresses:
    """The hosts of one URL. Connects to the one that worked last, else to the next; each has its own time limit.

    Raises Refused(`settings_invalid`) for a URL that cannot be read, or that asks for what cannot be had.
    """

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url.replace("postgresql+asyncpg://", "postgresql://", 1))
            asked = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
            user, at, hosts = parts.netloc.rpartition("@")
            self._hosts = [_host(each) for each in hosts.split(",")]
        except ValueError:
            raise bad_url() from None
        if parts.scheme not in ("postgresql", "postgres"):
            raise bad_url()
        _check(asked)
        self.timeout_s = _seconds(asked.pop("connect_timeout", ""))
        self._role = asked.pop("target_session_attrs", "any" if len(self._hosts) == 1 else "read-write")
        kept = {name: value for name, value in asked.items() if name not in _WITHOUT_EFFECT | _ONLY_WITHOUT.keys()}
        self._foreign = sorted(kept.keys() - _DRIVERS)
        self._urls = [
            urlunsplit(("postgresql", f"{user}{at}{host}", parts.path, urlencode(kept), "")) for host in self._hosts
        ]
        self.database = parts.path.lstrip("/")

    async def connect(self, **options: Any) -> Any:
        """A connection to the first host that answers and takes writes. Raises what asyncpg raises for the last one,
        and Refused(`settings_invalid`) when the server refuses what only the URL asks for."""
        failed: Exception | None = None
        for url in tuple(self._urls):
            try:
                connection = await _asyncpg.connect(
                    dsn=url, **{"timeout": self.timeout_s, "target_session_attrs": self._role, **options}
                )
            except (OSError, pg.TargetServerAttributeNotMatched) as error:
                failed = error
            except pg.PostgresError as error:
                failed, again = self._judged(error)
                if not again:
                    raise failed from None
            else:
                self._urls.remove(url)
                self._urls.insert(0, url)
                return connection
        assert failed is not None
        raise failed

    def _judged(self, error: Any) -> tuple[Exception, bool]:
        """What is to be raised, and whether another host may be better."""
        if error.sqlstate not in _UNKNOWN_SETTING or not self._foreign:
            return error, error.sqlstate == _STARTING
        names = ", ".join(self._foreign)
        text = f"The server knows no {names}; remove it from ONETAKE_DATABASE_URL."
        return Refused("settings_invalid", text), False


def is_address(url: str) -> bool:
    """Whether a URL can be read."""
    try:
        Addresses(url)
    except Refused:
        return False
    return True


class CurrentAddresses:
    """`Addresses` of a URL that may be replaced: a new password counts for every connection that is made after it.

    Raises as `Addresses`.
    """

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url
        self._read = url()
        self._at = Addresses(self._read)

    async def connect(self, **options: Any) -> Any:
        """As `Addresses.connect`."""
        if (url := self._url()) != self._read:
            self._read, self._at = url, Addresses(url)
        return await self._at.connect(**options)


def bad_url() -> Refused:
    return Refused("settings_invalid", "ONETAKE_DATABASE_URL is not the address of a PostgreSQL database.")


def _host(text: str) -> str:
    """One `host:port`. Raises ValueError."""
    if urlsplit(f"//{text}").port == 0:
        raise ValueError(text)
    return text


def _check(asked: Mapping[str, str]) -> None:
    refused = {name: reason for name, reason in _REFUSED.items() if name in asked}
    for name, allowed in {**_ONLY_WITHOUT, "sslmode": _SSL_MODES, "target_session_attrs": _WRITABLE}.items():
        if asked.get(name, allowed[0]) not in allowed:
            refused[name] = f"it may be {', '.join(allowed)}"
    for name in _FILES:
        if asked.get(name) and not Path(asked[name]).expanduser().is_file():
            refused[name] = "there is no such file"
    if refused:
        said = "; ".join(f"{name} ({reason})" for name, reason in sorted(refused.items()))
        raise Refused("settings_invalid", f"Not in ONETAKE_DATABASE_URL: {said}.")


def _seconds(text: str) -> float:
    if not text:
        return CONNECT_TIMEOUT_S
    if not text.isdecimal():
        raise Refused("settings_invalid", "Not in ONETAKE_DATABASE_URL: connect_timeout (it is in whole seconds).")
    return min(float(text) or CONNECT_TIMEOUT_S, LONGEST_CONNECT_S)
