"""Phase five: the bytes, proven to be the clip that was paid for, under keys of this generation's own."""

import hashlib
from collections.abc import Mapping
from typing import Any, Literal, NoReturn

import structlog
from pydantic import Field
from temporalio import activity

from activities.heartbeat import Memory, elapsed_s, heartbeats
from onetake.core import names
from onetake.core.clips import ClipFacts, ClipReader, Spool
from onetake.core.contracts import Asset, Message, Notice, Persisted, PersistInput, Plan
from onetake.core.errors import Failed, OnetakeError, TryLater
from onetake.core.ports import Body, Generations, ObjectStore, Stored, VendorClient, VendorStatus

CONTENT_TYPE = "video/mp4"
RESULT_READS = 4
RESULT_RETRY_S = 2.0
CLIP_READS = 3
MOST_CLIPS = 16

_log: Any = structlog.get_logger(__name__)

Fault = Literal["missing_links", "bad_copies"]


class Tries(Message):
    """What earlier attempts leave to the next: what went wrong for reasons of the vendor's (outages of other parts do
    not count), and the sha256 of the bytes that they put under each key."""

    missing_links: int = 0
    bad_copies: int = 0
    sha256: dict[str, str] = Field(default_factory=dict[str, str])


class Persist:
    """Stores what the vendor delivered. Repeatable: what an earlier attempt stored is verified and kept."""

    def __init__(
        self,
        vendors: Mapping[str, VendorClient],
        generations: Generations,
        store: ObjectStore,
        reader: ClipReader,
        spool: Spool,
    ) -> None:
        self._vendors = vendors
        self._generations = generations
        self._store = store
        self._reader = reader
        self._spool = spool

    @activity.defn(name=names.PERSIST)
    async def persist(self, order: PersistInput) -> Persisted:
        """Fetch, store and verify every clip of the job, and write the manifest last.

        The links are read here, so that none enters a history. A failed persist never touches the vendor's job again.
        """
        async with heartbeats() as memory:
            await self._generations.enter(order.generation_id, "persisting")
            manifest_key = f"{_prefix(order)}/manifest.json"
            if (manifest := await self._store.get_document(manifest_key)) is not None:
                return Persisted.model_validate_json(manifest)
            status = await self._delivered(order, memory)
            clips = [await self._clip(order, index, link, memory) for index, link in enumerate(status.links)]
            persisted = Persisted(
                assets=tuple(asset for asset, _ in clips),
                warnings=(*_about_cost(status), *(notice for _, notices in clips for notice in notices)),
                manifest_key=manifest_key,
            )
            await self._store.put_document(manifest_key, persisted.model_dump_json().encode())
            return persisted

    async def _delivered(self, order: PersistInput, memory: Memory) -> VendorStatus:
        status = await self._vendors[order.plan.vendor].read_status(order.plan, order.vendor_task_id)
        reading, plan = status.reading, order.plan
        if reading.state == "succeeded" and 0 < len(status.links) <= MOST_CLIPS:
            return status
        if reading.state == "succeeded":
            self._again_or_fail(memory, "missing_links", RESULT_READS, Failed("vendor_bad_result", "(no link)"), plan)
        if reading.state == "failed":  # after a success: the workflow asks once more, and decides about the money
            raise Failed("vendor_failed", f"(state: {reading.vendor_state})")
        if elapsed_s() > plan.deadline_s:
            raise Failed("vendor_bad_result", f"(state: {reading.vendor_state})")
        # A replica of the vendor's that lags behind what it already told us: the newest confirmed state wins.
        raise TryLater("vendor_unavailable", f"(state: {reading.vendor_state})", after_s=plan.cadence.interval_s)

    async def _clip(
        self, order: PersistInput, index: int, link: str, memory: Memory
    ) -> tuple[Asset, tuple[Notice, ...]]:
        key = f"{_prefix(order)}/{index}.mp4"
        with self._spool.new_file() as target:
            stored = await self._store.fetch(key, target, moved=_unheard)
            if stored is None:
                sha256 = await self._copy(order, key, link, memory)
                stored = await self._store.fetch(key, target, moved=_unheard)
            else:
                sha256 = _tries(memory).sha256.get(key) or await self._hash(order, link, memory)
            if stored is None:
                raise TryLater("storage_unavailable", "(the object just stored is not there)")
            if stored.sha256 != sha256:  # nobody's clip is taken for this one, and nothing is overwritten
                _log.error("storage_conflict", generation_id=order.generation_id, object_key=key, sha256=stored.sha256)
                raise Failed("storage_conflict")
            try:
                facts = await self._reader.read(target)
            except Failed as failure:
                await self._reject(key, failure, memory, order.plan)
        return _asset(key, stored, facts), tuple(_differences(order.plan, facts))

    async def _reject(self, key: str, failure: Failed, memory: Memory, plan: Plan) -> NoReturn:
        """What is no clip leaves the bucket, so that a later attempt may store a better copy."""
        await self._store.discard(key)
        _remember(memory, key, "")
        self._again_or_fail(memory, "bad_copies", CLIP_READS, failure, plan)

    async def _copy(self, order: PersistInput, key: str, link: str, memory: Memory) -> str:
        """Download and store; the sha256 of what was sent to the store."""
        try:
            async with self._vendors[order.plan.vendor].download(link) as body:
                stored = await self._store.put_stream(
                    key, body, content_type=CONTENT_TYPE, max_bytes=order.plan.max_asset_bytes, moved=_unheard
                )
        except OnetakeError as failure:
            if failure.code == "storage_conflict":  # perhaps by an attempt that we thought dead: the next one compares
                raise TryLater("storage_unavailable", "(the key was taken meanwhile)") from None
            self._bad_copy(failure, memory, order.plan)
        _remember(memory, key, stored.sha256)
        return stored.sha256

    async def _hash(self, order: PersistInput, link: str, memory: Memory) -> str:
        """The sha256 of what the vendor delivers, for an object that a forgotten attempt may have stored."""
        try:
            async with self._vendors[order.plan.vendor].download(link) as body:
                return await _sha256(body, order.plan.max_asset_bytes)
        except OnetakeError as failure:
            self._bad_copy(failure, memory, order.plan)

    def _bad_copy(self, failure: OnetakeError, memory: Memory, plan: Plan) -> NoReturn:
        """A link that is refused and a body that is cut are tried again with a fresh link; an outage as it says."""
        if failure.code in {"asset_unavailable", "asset_truncated"}:
            self._again_or_fail(memory, "bad_copies", CLIP_READS, Failed(failure.code, failure.detail), plan)
        raise failure

    def _again_or_fail(self, memory: Memory, what: Fault, most: int, failure: Failed, plan: Plan) -> NoReturn:
        """Try again a few times what is the vendor's fault; outages of other parts are not counted."""
        tries = _tries(memory)
        number: int = getattr(tries, what) + 1
        memory.keep(tries.model_copy(update={what: number}))
        if number >= most:
            raise failure
        raise TryLater(failure.code, failure.detail, after_s=RESULT_RETRY_S * plan.time_scale) from None


def _tries(memory: Memory) -> Tries:
    return memory.recall(Tries) or Tries()


def _remember(memory: Memory, key: str, sha256: str) -> None:
    tries = _tries(memory)
    memory.keep(tries.model_copy(update={"sha256": tries.sha256 | {key: sha256}}))


async def _sha256(body: Body, most_bytes: int) -> str:
    digest, size = hashlib.sha256(), 0
    async for chunk in body.chunks:
        size += len(chunk)
        if size > most_bytes:
            raise Failed("asset_too_large", f"The limit is {most_bytes} bytes.")
        digest.update(chunk)
    return digest.hexdigest()


def _prefix(order: PersistInput) -> str:
    return f"{order.tenant}/{order.generation_id}/{order.attempt}"


def _unheard(_: int) -> None:
    """Nobody follows how many bytes have moved."""


def _asset(key: str, stored: Stored, facts: ClipFacts) -> Asset:
    return Asset(
        key=key,
        sha256=stored.sha256,
        size_bytes=stored.size_bytes,
        content_type=CONTENT_TYPE,
        duration_s=round(facts.duration_s, 3),
        width=facts.width,
        height=facts.height,
        fps=round(facts.fps, 3),
        codec=facts.codec,
        has_audio=facts.has_audio,
    )


def _about_cost(status: VendorStatus) -> list[Notice]:
    if not status.cost_unusable:
        return []
    return [Notice(code="vendor_cost_unusable", message="the vendor's figure makes no sense: the pinned price counts")]


def _differences(plan: Plan, facts: ClipFacts) -> list[Notice]:
    """What differs from the request: the clip is kept, and its owner is told."""
    notices: list[Notice] = []
    if abs(facts.duration_s - plan.duration_s) > plan.duration_tolerance_s:
        notices.append(
            Notice(code="duration_differs", message=f"{facts.duration_s:.2f} s instead of {plan.duration_s} s")
        )
    if plan.width and plan.height and (facts.width, facts.height) != (plan.width, plan.height):
        pixels = f"{facts.width}x{facts.height} instead of {plan.width}x{plan.height}"
        notices.append(Notice(code="pixels_differ", message=pixels))
    if plan.sound and not facts.has_audio:
        notices.append(Notice(code="sound_missing", message="the clip has no sound track"))
    return notices
