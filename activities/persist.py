"""Phase five: the bytes, proven to be the clip that was paid for, under keys of this generation's own.

Each copy has a key that no other copy has, so nothing here deletes or overwrites what another attempt may have
published: one that froze and goes on after its time can do no harm. The manifest, of which the first writer's stands,
selects; what none names is swept two days later (`onetake.operations.sweeping`).

The vendor has been paid, so the clip is sought at growing gaps for as long as the vendor keeps it. What this machine
could not read is kept and read again: only what the reader found in the bytes says that they are no clip.
"""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic as _monotonic
from typing import Any, Literal, NoReturn

import structlog
from temporalio import activity

from activities.cadence import gap_s
from activities.delivered import CONTENT_TYPE, about_cost, asset_of, differences, no_clip_at
from activities.heartbeat import Memory, elapsed_s, heartbeats, remaining_s
from activities.tries import Copy, Success, Tries, Trouble, forget, remember, tries_of
from activities.wait import note_end
from onetake.core import names
from onetake.core.clips import ClipFacts, ClipReader, Spool
from onetake.core.contracts import Asset, ErrorInfo, Notice, Persisted, PersistInput, Plan, StatusReading
from onetake.core.errors import Failed, OnetakeError, TryLater
from onetake.core.ports import Body, Generations, JobEnds, ObjectStore, Rates, Stored, VendorClient, VendorStatus

MOST_CLIPS = 16
KEY_BYTES = 8
FIRST_GAP_S = 2.0
LONGEST_GAP_S = 600.0
LEAST_TRIES = 8  # whatever the clock says: our own absence gives nothing up
VERDICT_S = 480.0  # how long copies that are no clip are fetched again: a CDN may serve a broken body for minutes
SPARE_S = 5.0
MOST_PATIENCE = 5  # times the reader's limits
SOUGHT = frozenset({"asset_unavailable", "asset_truncated"})
JUDGED = frozenset({"asset_url_blocked"})

_log: Any = structlog.get_logger(__name__)

Fault = Literal["withheld", "refused", "damaged", "unread"]


class _NoClip(Failed):
    """What a link brought, whole, and is no clip."""


class Persist:
    """Stores what the vendor delivered. Repeatable: what an earlier attempt stored is verified and kept."""

    def __init__(
        self,
        clients: Mapping[str, VendorClient],
        rates: Rates,
        ends: JobEnds,
        generations: Generations,
        store: ObjectStore,
        reader: ClipReader,
        spool: Spool,
    ) -> None:
        self._clients = clients
        self._rates = rates
        self._ends = ends
        self._generations = generations
        self._store = store
        self._reader = reader
        self._spool = spool

    @activity.defn(name=names.PERSIST)
    async def persist(self, order: PersistInput) -> Persisted:
        """Fetch, store and verify every clip of the job, and write the manifest last.

        The links are read here, so that none enters a history. A failed persist never touches the vendor's job again.
        A woken one may find the job open, failed, or the vendor not to be asked: that is its answer then.
        """
        begun = _monotonic()
        async with heartbeats() as memory:
            manifest_key = f"{_prefix(order)}/manifest.json"
            if _may_be_stored(order):
                if (manifest := await self._store.get_document(manifest_key)) is not None:
                    return await self._published(manifest)
                await self._adopt(order, memory)
            earlier = tries_of(memory)
            status = await self._status(order, memory)
            if status.reading.state != "succeeded":
                return Persisted(reading=status.reading)
            await self._generations.enter(order.generation_id, "persisting")
            _keep_success(order, status, memory)
            assets, notices = await self._clips(order, status.links, memory, earlier)
            warnings = (*about_cost(status), *notices)
            persisted = Persisted(
                reading=status.reading, assets=tuple(assets), warnings=warnings, manifest_key=manifest_key
            )
            _require_time(begun)
            return await self._publish(persisted)

    async def _publish(self, persisted: Persisted) -> Persisted:
        """Write the manifest; another attempt's, which was first, stands."""
        mine = persisted.model_dump_json().encode()
        held = await self._store.put_document(persisted.manifest_key, mine)
        return persisted if held == mine else await self._published(held)

    async def _published(self, manifest: bytes) -> Persisted:
        """What an attempt has published. Raises Failed(`storage_conflict`) for what is no manifest of a stored clip."""
        try:
            persisted = Persisted.model_validate_json(manifest)
        except ValueError:
            raise Failed("storage_conflict", "(the manifest's key holds something else)") from None
        for asset in persisted.assets:
            found = await self._store.look(asset.key)
            if found is None or found.sha256 != asset.sha256:
                raise Failed("storage_conflict", f"(the manifest names {asset.key}, which is not there)")
        return persisted

    # -- The vendor ----------------------------------------------------------------------------------------------------

    async def _status(self, order: PersistInput, memory: Memory) -> VendorStatus:
        """The vendor's word: a success, unless a callback woke us and no success has been seen before.

        A job whose clips are all in the bucket is not asked about again: the vendor may be away, or have forgotten it.
        """
        tries = tries_of(memory)
        if tries.success is not None and tries.all_stored:
            fresh = await self._fresh(order) if tries.is_doubtful else None
            return fresh or _remembered(tries.success)
        if order.woken and tries.success is None:
            status = await self._asked(order)
            if status.reading.state != "succeeded":
                return status
        else:
            status = await self._read_status(order)
        reading = status.reading
        if reading.state == "failed":  # after a success: the workflow asks once more, and decides about the money
            raise Failed("vendor_failed", f"(state: {reading.vendor_state})")
        if status.shows_clip:  # under an odd word, which a read before this step has seen twice
            status = replace(status, reading=reading.model_copy(update={"state": "succeeded"}))
        elif reading.state != "succeeded":
            # A replica of the vendor's that lags behind what it already told us: the newest confirmed state wins.
            self._seek(order.plan, memory, Failed("vendor_bad_result", f"(state: {reading.vendor_state})"))
        if not 0 < len(status.links) <= MOST_CLIPS:
            _keep_success(order, status, memory)
            self._seek(order.plan, memory, Failed("vendor_bad_result", "(no link)"))
        return status

    async def _fresh(self, order: PersistInput) -> VendorStatus | None:
        """Fresh links, where the vendor has them still: for second copies of what is stored, and could not be read."""
        with suppress(OnetakeError):
            status = await self._read_status(order)
            return status if status.reading.state == "succeeded" and 0 < len(status.links) <= MOST_CLIPS else None
        return None

    async def _asked(self, order: PersistInput) -> VendorStatus:
        """The first answer after a callback. A vendor that cannot be asked now is asked when the next read is due."""
        try:
            status = await self._read_status(order)
        except TryLater as error:
            told = ErrorInfo.from_error(error)
            return VendorStatus(StatusReading(state="open", vendor_state="", error=told, again_s=error.after_s))
        if status.reading.state in {"open", "missing"}:  # a callback may be faster than the vendor's own reads
            again_s = gap_s(order.plan.cadence, order.elapsed_s + elapsed_s())
            return VendorStatus(status.reading.model_copy(update={"state": "open", "again_s": again_s}))
        await note_end(self._ends, order, status.reading, status.least_age_s)
        return status

    async def _read_status(self, order: PersistInput) -> VendorStatus:
        """A read that waits for its turn at a vendor who has said that we are too fast, as all reads do."""
        plan, vendor = order.plan, order.plan.vendor
        wait_s = await self._rates.read_turn_s(vendor, returning=activity.info().attempt > 1)
        if wait_s > 0:
            raise TryLater("vendor_throttled", "(others are first)", after_s=wait_s)
        try:
            return await self._clients[vendor].read_status(plan, order.vendor_task_id)
        except TryLater as error:
            if error.code != "vendor_throttled":
                raise
            wait_s = await self._rates.read_refused(vendor, error.after_s)
            raise TryLater(error.code, error.detail, after_s=max(wait_s, error.after_s or 0.0)) from None

    # -- The clips -----------------------------------------------------------------------------------------------------

    async def _clips(
        self, order: PersistInput, links: Sequence[str], memory: Memory, earlier: Tries
    ) -> tuple[list[Asset], list[Notice]]:
        """All clips, and what is to be told of them. What is no clip beside a good one is left out, but not sooner than
        it would be given up: the manifest is final, and a broken body may be whole some minutes later."""
        assets, notices, verdict = list[Asset](), list[Notice](), None
        for number, link in enumerate(links):
            try:
                asset, differing = await self._clip(order, number, link, memory, earlier.copies.get(number))
                assets.append(asset)
                notices += differing
            except _NoClip as no_clip:  # the others are stored first: their links may run out
                verdict = no_clip
                notices.append(no_clip_at(number, len(links)))
        if verdict is not None:
            refusal = self._refusal(order.plan, memory, verdict)
            if isinstance(refusal, TryLater) or not assets:
                raise refusal
        return assets, notices

    async def _clip(
        self, order: PersistInput, number: int, link: str, memory: Memory, earlier: Copy | None
    ) -> tuple[Asset, tuple[Notice, ...]]:
        with self._spool.new_file() as spool:
            kept = None
            if earlier and earlier.is_doubtful and link:
                kept = await self._another(order, number, link, spool, memory)
            if earlier and kept is None:
                kept = await self._kept(order, number, link, spool, memory, earlier)
            if kept is None:
                kept = await self._copied(order, number, link, spool, memory, again=earlier is not None)
            facts = await self._facts(order, number, kept, spool, memory)
        return asset_of(kept, facts), tuple(differences(order.plan, facts))

    async def _kept(
        self, order: PersistInput, number: int, link: str, spool: Path, memory: Memory, earlier: Copy
    ) -> Stored | None:
        """What an earlier attempt stored under a key of its own, or None: then it is copied again, under another."""
        kept = await self._store.fetch(earlier.key, spool, moved=_unheard)
        if kept is not None:
            wanted = earlier.sha256 or await self._hash(order, link, memory, kept)
            if kept.sha256 == wanted:
                remember(memory, number, earlier.model_copy(update={"sha256": wanted}))
                return kept
            _log.error("storage_conflict", generation_id=order.generation_id, object_key=kept.key, sha256=kept.sha256)
        if not link:
            forget(memory, number)
            raise TryLater("storage_unavailable", "(the object that was stored is not there)")
        return None

    async def _copied(
        self, order: PersistInput, number: int, link: str, spool: Path, memory: Memory, *, again: bool
    ) -> Stored:
        """Download and store, by way of the spool, under a key that the next attempt knows whatever becomes of us."""
        if again:
            remember(memory, number, Copy(key=_new_key(order, number)))
        return await self._put(order, number, link, spool, memory, tries_of(memory).copies[number].key)

    async def _put(self, order: PersistInput, number: int, link: str, spool: Path, memory: Memory, key: str) -> Stored:
        """Download and store under this key, which is the copy's from the moment that the store has all of it."""
        try:
            async with self._clients[order.plan.vendor].download(link) as body:
                sent = await self._store.put_stream(
                    key, body, content_type=CONTENT_TYPE, max_bytes=order.plan.max_asset_bytes, spool=spool
                )
        except OnetakeError as failure:
            self._no_copy(order.plan, memory, failure)
        remember(memory, number, Copy(key=key, sha256=sent.sha256))
        kept = await self._store.look(key)
        if kept is None:
            raise TryLater("storage_unavailable", "(the object just stored is not there)")
        if kept.sha256 != sent.sha256:
            _log.error("storage_conflict", generation_id=order.generation_id, object_key=key, sha256=kept.sha256)
            forget(memory, number)
            damaged = Failed("storage_unavailable", "(it keeps something else than it was sent)")
            raise self._later(order.plan, memory, "damaged", damaged)
        return kept

    async def _another(self, order: PersistInput, number: int, link: str, spool: Path, memory: Memory) -> Stored | None:
        """A second copy of what could not be read; without one the first stays, whatever becomes of us meanwhile."""
        before = tries_of(memory)
        try:
            return await self._put(order, number, link, spool, memory, _new_key(order, number))
        except OnetakeError:
            memory.keep(before)
            return None

    async def _hash(self, order: PersistInput, link: str, memory: Memory, kept: Stored) -> str:
        """The sha256 of what the vendor delivers, for an object whose sender died before it could say. What the vendor
        does not hand out again is taken as it was kept: nobody else knew the key."""
        try:
            async with self._clients[order.plan.vendor].download(link) as body:
                return await _sha256(body, order.plan.max_asset_bytes)
        except OnetakeError as failure:
            if failure.code in SOUGHT:
                return kept.sha256
            self._no_copy(order.plan, memory, failure)

    async def _facts(self, order: PersistInput, number: int, kept: Stored, spool: Path, memory: Memory) -> ClipFacts:
        """What reading the clip showed. A copy that is no clip is forgotten, so that the next attempt fetches another;
        one that could not be read is kept."""
        copy = tries_of(memory).copies[number]
        try:
            return await self._reader.read(spool, patience=min(1 + copy.unread, MOST_PATIENCE))
        except TryLater as unread:
            remember(memory, number, copy.model_copy(update={"unread": copy.unread + 1}))
            unverified = Failed(unread.code, f"{unread.detail} It is kept as {kept.key}.")
            later = self._later(order.plan, memory, "unread", unverified)
            if isinstance(later, Failed):
                await self._leave(order, memory)
            raise later from None
        except Failed as verdict:
            forget(memory, number)
            if verdict.code == "asset_not_video":
                raise _NoClip(verdict.code, verdict.detail) from None
            raise self._refusal(order.plan, memory, verdict) from None

    async def _leave(self, order: PersistInput, memory: Memory) -> None:
        """Say in the bucket which copies could not be read, for a replay: the vendor may have forgotten the job."""
        with suppress(OnetakeError):
            await self._store.put_document(_unverified_key(order), tries_of(memory).model_dump_json().encode())

    async def _adopt(self, order: PersistInput, memory: Memory) -> None:
        """Go on with the copies that an earlier activity kept and could not read."""
        if tries_of(memory).success is None and (left := await self._store.get_document(_unverified_key(order))):
            memory.keep(Tries.model_validate_json(left).as_left())

    # -- Again, or given up --------------------------------------------------------------------------------------------

    def _no_copy(self, plan: Plan, memory: Memory, failure: OnetakeError) -> NoReturn:
        """Why there is no copy: a link that is refused and a body that is cut are the vendor's; an outage passes."""
        if failure.code in SOUGHT:
            self._seek(plan, memory, Failed(failure.code, failure.detail))
        if failure.code in JUDGED:
            raise self._refusal(plan, memory, failure) from None
        if failure.code == "storage_conflict":
            raise TryLater("storage_unavailable", "(the key was taken meanwhile)") from None
        raise failure

    def _seek(self, plan: Plan, memory: Memory, failure: Failed) -> NoReturn:
        """The vendor withholds what it was paid for: sought again for as long as it keeps results."""
        raise self._later(plan, memory, "withheld", failure, most_s=plan.result_lifetime_s) from None

    def _refusal(self, plan: Plan, memory: Memory, failure: OnetakeError) -> OnetakeError:
        """What came is not to be used: another copy is fetched a few times, over some minutes."""
        refused = Failed(failure.code, failure.detail)
        return self._later(plan, memory, "refused", refused, most_s=VERDICT_S * plan.time_scale)

    def _later(
        self, plan: Plan, memory: Memory, what: Fault, failure: Failed, *, most_s: float = float("inf")
    ) -> OnetakeError:
        """Later, at a gap as long as this kind of fault has lasted; the failure itself when it has lasted too long, or
        when nobody would come again."""
        tries, now_s = tries_of(memory), elapsed_s()
        before: Trouble = getattr(tries, what)
        lasted_s = now_s - before.since_s if before.times else 0.0
        trouble = Trouble(times=before.times + 1, since_s=now_s - lasted_s)
        memory.keep(tries.model_copy(update={what: trouble}))
        pause_s = min(max(lasted_s, FIRST_GAP_S * plan.time_scale), LONGEST_GAP_S * plan.time_scale)
        too_long = trouble.times >= LEAST_TRIES and lasted_s >= most_s
        if too_long or pause_s + SPARE_S > remaining_s():
            return failure
        return TryLater(failure.code, failure.detail, after_s=max(pause_s, 0.05))


def _require_time(begun: float) -> None:
    """An attempt that froze for longer than its time publishes nothing: what it stored may be swept already."""
    limit = activity.info().start_to_close_timeout
    if limit is not None and _monotonic() - begun > limit.total_seconds():
        raise TryLater("storage_unavailable", "(this attempt is out of time)")


def _remembered(said: Success) -> VendorStatus:
    """The vendor's word as it is kept, with no links."""
    return VendorStatus(said.reading, ("",) * said.clips, cost_unusable=said.cost_unusable)


def _keep_success(order: PersistInput, status: VendorStatus, memory: Memory) -> None:
    """Keep the vendor's word, and the key of each clip that has none, in one beat before the first byte is sent."""
    tries, clips = tries_of(memory), len(status.links)
    success = Success(reading=status.reading, clips=clips, cost_unusable=status.cost_unusable)
    fresh = {number: Copy(key=_new_key(order, number)) for number in range(min(clips, MOST_CLIPS))}
    memory.keep(tries.model_copy(update={"success": success, "copies": fresh | tries.copies}))


def _new_key(order: PersistInput, number: int) -> str:
    return f"{_prefix(order)}/{number}-{secrets.token_hex(KEY_BYTES)}.mp4"


async def _sha256(body: Body, most_bytes: int) -> str:
    digest, size = hashlib.sha256(), 0
    async for chunk in body.chunks:
        size += len(chunk)
        if size > most_bytes:
            raise Failed("asset_too_large", f"The limit is {most_bytes} bytes.")
        digest.update(chunk)
    return digest.hexdigest()


def _unverified_key(order: PersistInput) -> str:
    return f"{_prefix(order)}/unverified.json"


def _may_be_stored(order: PersistInput) -> bool:
    """Whether an earlier attempt may have ended well: hardly when a callback woke this one just now."""
    return not order.woken or activity.info().attempt > 1


def _prefix(order: PersistInput) -> str:
    return f"{order.tenant}/{order.generation_id}/{order.attempt}"


def _unheard(_: int) -> None:
    """Nobody follows how many bytes have moved."""
