"""One pass over the bucket."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from temporalio import activity

from onetake.core import names
from onetake.core.contracts import SweepInput, Swept


class Pass(Protocol):
    """What goes through the bucket."""

    def sweep_once(self, *, dry_run: bool = False, beat: Callable[[], None] = ...) -> Awaitable[Swept]: ...


class Sweeping:
    """Runs a pass. Repeatable: what an earlier attempt removed is gone."""

    def __init__(self, sweeper: Pass) -> None:
        self._sweeper = sweeper

    @activity.defn(name=names.SWEEP)
    async def sweep(self, order: SweepInput) -> Swept:
        """Remove what nobody names. Raises TryLater when the store, the database or Temporal is away."""
        return await self._sweeper.sweep_once(dry_run=order.dry_run, beat=activity.heartbeat)
