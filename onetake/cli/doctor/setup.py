"""What all examinations share: the settings, one client of Temporal and one database that only reads."""

# ruff: noqa: PLC0415 - each examination imports what it examines

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from onetake.core.settings import Settings, require

if TYPE_CHECKING:
    from temporalio.client import Client

    from onetake.ledger.database import Database

T = TypeVar("T")

CONNECTIONS = 3


@dataclass
class Setup:
    """One deployment as this process's environment names it. Close it, or use it as a context manager."""

    settings: Settings
    _engine: "_Shared[Client]" = field(init=False, repr=False)
    _database: "_Shared[Database]" = field(init=False, repr=False)
    _answers: "dict[str, _Shared[Any]]" = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._engine, self._database, self._answers = _Shared(self._connect), _Shared(self._open), {}

    async def engine(self) -> "Client":
        """Temporal. Raises Refused(`settings_invalid`), TryLater(`engine_unavailable`)."""
        return await self._engine.get()

    async def database(self) -> "Database":
        """The database, in sessions that cannot write. Raises Refused(`settings_invalid`), TryLater
        (`ledger_unavailable`)."""
        require(self.settings, "database_url")
        return await self._database.get()

    async def once(self, name: str, ask: Callable[[], Awaitable[T]]) -> T:
        """What several examinations want to know, asked once for all of them. Raises what `ask` raises."""
        return await self._answers.setdefault(name, _Shared(ask)).get()

    @property
    def keyed(self) -> tuple[str, ...]:
        """The vendors that have a key."""
        from providers.catalogue import load_catalogue

        return tuple(name for name in load_catalogue().vendors if self.settings.vendor(name).api_key)

    @property
    def is_real(self) -> bool:
        """Whether a vendor is one out in the world: only simulated ones are reached without https."""
        from providers.catalogue import load_catalogue

        facts = load_catalogue().vendors
        bases = [self.settings.vendor(name).base_url or facts[name].vendor.base_url for name in self.keyed]
        return any(base and base.startswith("https://") for base in bases)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close what was opened."""
        if (database := await self._database.ended()) is not None:
            await database.close()
        for each in (self._engine, *self._answers.values()):
            await each.ended()

    async def _connect(self) -> "Client":
        """Nothing is decoded here: a key that is missing or wrong is found by `codec`, and hides nothing else."""
        from onetake.engine.temporal import connect

        plain = {"codec_key": None, "codec_old_keys": (), "insecure_plaintext_history": True}
        return await connect(self.settings.model_copy(update=plain))

    async def _open(self) -> "Database":
        from onetake.ledger.database import Database

        url = self.settings.database_url.get_secret_value()
        return await Database.connect(url, pool_size=CONNECTIONS, application_name="onetake doctor", read_only=True)


class _Shared(Generic[T]):
    """Made once for all who ask. When that fails, all who waited are told, and the next one who asks tries again."""

    def __init__(self, make: Callable[[], Awaitable[T]]) -> None:
        self._make = make
        self._making: asyncio.Task[T] | None = None

    async def get(self) -> T:
        if self._making is None or (self._making.done() and self._failed(self._making)):
            self._making = asyncio.create_task(self._made())
        return await asyncio.shield(self._making)

    async def ended(self) -> T | None:
        """What was made, when no one is making it any more."""
        if self._making is None:
            return None
        if not self._making.done():
            self._making.cancel()
        await asyncio.wait([self._making])
        return None if self._failed(self._making) else self._making.result()

    async def _made(self) -> T:
        return await self._make()

    @staticmethod
    def _failed(task: "asyncio.Task[T]") -> bool:
        return task.cancelled() or task.exception() is not None
