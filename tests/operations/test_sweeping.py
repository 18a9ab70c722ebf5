"""The sweep of the bucket: what nobody names goes after a day, and nothing that anybody may still name."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from onetake.core.contracts import Asset, ErrorInfo, Persisted, SettleInput, StatusReading
from onetake.core.errors import TryLater
from onetake.core.ids import recovery_id_of
from onetake.ledger import Database, PostgresLedger
from onetake.media.s3 import Listed
from onetake.operations.reconciler import Reconciler
from onetake.operations.sweeping import SWEEP_AGE_S, Sweeper, running_at

Accept = Callable[..., Awaitable[str]]
OLD = timedelta(seconds=SWEEP_AGE_S + 60)
YOUNG = timedelta(seconds=SWEEP_AGE_S - 60)


@dataclass
class InMemory:
    """A bucket; its list has two objects a page."""

    documents: dict[str, bytes] = field(default_factory=dict[str, bytes])
    ages: dict[str, timedelta] = field(default_factory=dict[str, timedelta])

    def put(self, key: str, data: bytes = b"clip", *, age: timedelta = OLD) -> str:
        self.documents[key], self.ages[key] = data, age
        return key

    async def objects(self) -> AsyncIterator[Sequence[Listed]]:
        keys = sorted(self.documents)
        for start in range(0, len(keys), 2):
            now = datetime.now(UTC)
            yield [Listed(key, len(self.documents[key]), now - self.ages[key]) for key in keys[start : start + 2]]

    async def get_document(self, key: str) -> bytes | None:
        return self.documents.get(key)

    async def remove(self, key: str) -> None:
        del self.documents[key]


@dataclass
class Sweeping:
    """A bucket and a database, and the recoveries that are under way."""

    database: Database
    ledger: PostgresLedger
    accept: Accept
    bucket: InMemory = field(default_factory=InMemory)
    running: set[str] = field(default_factory=set[str])

    async def sweep(self, *, dry_run: bool = False) -> tuple[int, int]:
        async def is_running(workflow_id: str) -> bool:
            return workflow_id in self.running

        sweeper = Sweeper(is_running, self.database, cast("Any", self.bucket))
        swept = await sweeper.sweep_once(dry_run=dry_run)
        return swept.removed, swept.freed_bytes

    async def ended(self, code: str | None = "asset_unavailable", asset: str = "") -> str:
        """A generation that has ended with this error, or completed with this asset."""
        generation_id = await self.accept()
        order = {"generation_id": generation_id, "attempt": 1, "tenant": "acme", "resolution": "none"}
        order |= {"status": "failed" if code else "completed", "error": ErrorInfo.of(code) if code else None}
        assets = (asset_of(asset.format(generation_id)),) if asset else ()
        await self.ledger.settle(SettleInput.model_validate(order | {"assets": assets}))
        return generation_id


@pytest.fixture
def sweeping(database: Database, ledger: PostgresLedger, accept: Accept) -> Sweeping:
    return Sweeping(database, ledger, accept)


def asset_of(key: str) -> Asset:
    return Asset(
        key=key,
        sha256="0" * 64,
        size_bytes=4,
        content_type="video/mp4",
        duration_s=5,
        width=1280,
        height=720,
        fps=24,
        codec="h264",
        has_audio=True,
    )


def manifest_of(*keys: str) -> bytes:
    reading = StatusReading(state="succeeded", vendor_state="done")
    return Persisted(reading=reading, assets=tuple(map(asset_of, keys))).model_dump_json().encode()


def copy_of(generation_id: str, letter: str = "a") -> str:
    return f"acme/{generation_id}/1/0-{letter * 16}.mp4"


async def test_a_copy_that_nobody_names_goes_after_a_day_and_nothing_else(sweeping: Sweeping) -> None:
    bucket, generation_id = sweeping.bucket, await sweeping.ended()
    rubbish = bucket.put(copy_of(generation_id, "a"))
    bucket.put(copy_of(generation_id, "b"), age=YOUNG)
    bucket.put(f"acme/{generation_id}/1/0.mp4")  # nobody's copy
    bucket.put("somebody/elses/file.mp4")
    before = dict(bucket.documents)
    assert await sweeping.sweep(dry_run=True) == (1, 4)
    assert bucket.documents == before
    assert await sweeping.sweep() == (1, 4)
    assert before.keys() - bucket.documents.keys() == {rubbish}
    assert await sweeping.sweep() == (0, 0)


async def test_what_a_manifest_names_is_kept_although_its_generation_does_not_name_it(sweeping: Sweeping) -> None:
    """A recovery was cut off between its manifest and its correction: the next one takes what the manifest says."""
    generation_id = await sweeping.ended()
    named, other = (sweeping.bucket.put(copy_of(generation_id, letter)) for letter in "ab")
    sweeping.bucket.put(f"acme/{generation_id}/1/manifest.json", manifest_of(named))
    assert await sweeping.sweep() == (1, 4)
    assert (named in sweeping.bucket.documents, other in sweeping.bucket.documents) == (True, False)


async def test_what_a_generation_names_is_kept_whatever_the_manifest_says(sweeping: Sweeping) -> None:
    generation_id = await sweeping.ended(None, "acme/{}/1/0-aaaaaaaaaaaaaaaa.mp4")
    named = sweeping.bucket.put(copy_of(generation_id))
    sweeping.bucket.put(f"acme/{generation_id}/1/manifest.json", manifest_of(copy_of(generation_id, "b")))
    assert await sweeping.sweep() == (0, 0)
    assert named in sweeping.bucket.documents


async def test_nothing_is_touched_beside_a_manifest_that_cannot_be_understood(sweeping: Sweeping) -> None:
    generation_id = await sweeping.ended()
    sweeping.bucket.put(copy_of(generation_id))
    sweeping.bucket.put(f"acme/{generation_id}/1/manifest.json", b"of a later version")
    assert await sweeping.sweep() == (0, 0)


async def test_what_may_still_be_published_or_could_not_be_read_is_kept(sweeping: Sweeping) -> None:
    unverified, recovered = await sweeping.ended("asset_unverified"), await sweeping.ended()
    sweeping.running.add(recovery_id_of("acme", recovered))
    for generation_id in (await sweeping.accept(), "gen_of_another_database", unverified, recovered):
        sweeping.bucket.put(copy_of(generation_id))
    assert await sweeping.sweep() == (0, 0)
    sweeping.running.clear()
    assert await sweeping.sweep() == (1, 4)


async def test_what_could_not_be_read_is_kept_although_a_cancellation_named_the_end(sweeping: Sweeping) -> None:
    """Until a manifest says which copy counts."""
    bucket, canceled = sweeping.bucket, await sweeping.ended("canceled")
    kept, other = (bucket.put(copy_of(canceled, letter)) for letter in "ab")
    bucket.put(f"acme/{canceled}/1/unverified.json", b"{}")
    assert await sweeping.sweep() == (0, 0)
    bucket.put(f"acme/{canceled}/1/manifest.json", manifest_of(kept))
    assert await sweeping.sweep() == (1, 4)
    assert (kept in bucket.documents, other in bucket.documents) == (True, False)


@pytest.mark.parametrize(
    ("status", "running"),
    [(WorkflowExecutionStatus.RUNNING, True), (WorkflowExecutionStatus.COMPLETED, False), (None, False)],
)
async def test_temporal_says_whether_a_recovery_is_under_way(status: Any, running: bool) -> None:
    assert await running_at(cast("Client", Described(status)))("recover/acme/gen_1") is running


async def test_a_temporal_that_cannot_be_asked_ends_the_pass() -> None:
    with pytest.raises(TryLater) as later:
        await running_at(cast("Client", Described(RPCStatusCode.UNAVAILABLE)))("recover/acme/gen_1")
    assert later.value.code == "engine_unavailable"


class Described:
    """A Temporal that says one thing of every workflow."""

    def __init__(self, said: Any) -> None:
        self._said = said

    def get_workflow_handle(self, _: str) -> "Described":
        return self

    async def describe(self, **_: object) -> Any:
        if self._said is None or isinstance(self._said, RPCStatusCode):
            raise RPCError("", self._said or RPCStatusCode.NOT_FOUND, b"")
        return type("Description", (), {"status": self._said})


@pytest.mark.parametrize("already", [False, True])
async def test_the_reconciler_begins_the_sweep_once_a_day(database: Database, *, already: bool) -> None:
    engine = Starting(already=already)
    reconciler = Reconciler(cast("Client", engine), database, sweep_from="onetake")
    engine.is_away = True
    await reconciler.run_once()
    engine.is_away = False
    await reconciler.run_once(dry_run=True)
    await reconciler.run_once()
    await reconciler.run_once()
    assert engine.started == [f"sweep/onetake/{datetime.now(UTC):%Y-%m-%d}"] * 2  # the one that failed, too


class Starting:
    """A Temporal that only starts workflows."""

    def __init__(self, *, already: bool) -> None:
        self._already = already
        self.is_away = False
        self.started: list[str] = []

    async def start_workflow(self, kind: str, *_: object, id: str, **__: object) -> None:  # noqa: A002
        self.started.append(id)
        if self.is_away:
            raise RPCError("", RPCStatusCode.UNAVAILABLE, b"")
        if self._already:
            raise WorkflowAlreadyStartedError(id, kind)
