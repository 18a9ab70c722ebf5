"""Slots of a worker that depend on more than their number."""

import asyncio
from typing import Final

from temporalio.worker import (
    CustomSlotSupplier,
    SlotMarkUsedContext,
    SlotPermit,
    SlotReleaseContext,
    SlotReserveContext,
)

from onetake.core import logs
from onetake.core.errors import CATALOGUE
from onetake.media.spool import Spool

SLOT_GAP_S: Final = 0.05  # between looks for a free slot
ROOM_GAP_S: Final = 2.0  # between looks at a full disk

_log = logs.logger(__name__)


class RoomySlots(CustomSlotSupplier):
    """So many slots, handed out while the spool has room: a full disk leaves its clips to other workers.

    Without it a full worker, which fails each clip at once, would take more of them than any worker that stores them.
    """

    def __init__(self, most: int, spool: Spool) -> None:
        self._free = most
        self._spool = spool
        self._had_room = True

    async def reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit:
        """Wait for a slot and for room."""
        while (permit := self.try_reserve_slot(ctx)) is None:  # noqa: ASYNC110
            # Slots are given back on other threads, and no event tells when a disk has room again.
            await asyncio.sleep(SLOT_GAP_S if self._had_room else ROOM_GAP_S)
        return permit

    def try_reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit | None:
        del ctx
        if self._free < 1 or not self._has_room():
            return None
        self._free -= 1
        return SlotPermit()

    def mark_slot_used(self, ctx: SlotMarkUsedContext) -> None:
        """What is reserved counts as used."""

    def release_slot(self, ctx: SlotReleaseContext) -> None:
        del ctx
        self._free += 1

    def _has_room(self) -> bool:
        room = self._spool.free_bytes > 0
        if room != self._had_room:
            said = _log.info if room else _log.error
            said("spool_has_room" if room else "spool_full", hint=CATALOGUE["spool_full"].hint)
        self._had_room = room
        return room
