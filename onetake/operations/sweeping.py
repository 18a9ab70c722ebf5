"""The sweeper: removes copies of clips that no manifest names, two days after they were stored.

Attempts at a clip never delete one: each has a key of its own, and the manifest selects. What is left over belongs to
attempts that died, came second, or stored what was no clip. An object is removed only when all of this holds:

- its key is that of a copy, and it is older than any attempt that might still publish it;
- its generation has a row, has ended, and does not name it; neither does the manifest beside it;
- no recovery of the generation is running;
- its clip is not kept because it could not be read: the generation did not end with `asset_unverified`, and no attempt
  has left the note `unverified.json` there, which says the same when a cancellation named the end.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Final, Protocol

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from onetake.core import logs
from onetake.core.contracts import Persisted, Swept
from onetake.core.errors import TryLater
from onetake.core.ids import recovery_id_of
from onetake.engine.limits import RPC_LIMIT
from onetake.ledger.clips import Clips, Owner
from onetake.ledger.database import Database
from onetake.media.s3 import Listed
from workflows.options import PERSIST_LIMIT_S

SWEEP_AGE_S: Final = 2 * PERSIST_LIMIT_S  # an attempt may begin at its end, and last as long
_COPY: Final = re.compile(r"(?P<folder>(?P<tenant>[^/]+)/(?P<generation>[^/]+)/\d+)/\d+-[0-9a-f]{16}\.mp4")

_log = logs.logger(__name__)


class Bucket(Protocol):
    """What the sweeper needs of the store."""

    def objects(self) -> AsyncIterator[Sequence[Listed]]: ...

    async def get_document(self, key: str) -> bytes | None: ...

    async def remove(self, key: str) -> None: ...


IsRunning = Callable[[str], Awaitable[bool]]


class Sweeper:
    """Goes through the bucket. `beat` is called for every generation and every page."""

    def __init__(
        self, is_running: IsRunning, database: Database, bucket: Bucket, *, older_than_s: float = SWEEP_AGE_S
    ) -> None:
        """`is_running` says whether a workflow of this id is under way."""
        self._is_running = is_running
        self._clips = Clips(database)
        self._bucket = bucket
        self._older_than = timedelta(seconds=older_than_s)

    async def sweep_once(self, *, dry_run: bool = False, beat: Callable[[], None] = lambda: None) -> Swept:
        """One pass. With `dry_run` it only counts. A second pass finds nothing more to remove.

        Raises TryLater (`storage_unavailable`, `ledger_unavailable`, `engine_unavailable`); what was removed until then
        stays removed.
        """
        looked_at, removed, freed = 0, 0, 0
        async for page in self._bucket.objects():
            beat()
            old = [each for each in page if self._is_old(each)]
            owners = await self._clips.owners(sorted({_named(each)["generation"] for each in old}))
            for folder, copies in groupby(old, key=lambda each: _named(each)["folder"]):
                rubbish = await self._rubbish(folder, list(copies), owners)
                for each in [] if dry_run else rubbish:
                    _log.info("swept", object_key=each.key)
                    await self._bucket.remove(each.key)
                removed, freed = removed + len(rubbish), freed + sum(each.size_bytes for each in rubbish)
                beat()
            looked_at += len(page)
        return Swept(looked_at=looked_at, removed=removed, freed_bytes=freed)

    def _is_old(self, found: Listed) -> bool:
        return _COPY.fullmatch(found.key) is not None and datetime.now(UTC) - found.at >= self._older_than

    async def _rubbish(self, folder: str, copies: Sequence[Listed], owners: Mapping[str, Owner]) -> list[Listed]:
        """Those copies of one generation that nobody names, and nobody will."""
        tenant, generation_id, _ = folder.split("/")
        owner = owners.get(generation_id)
        if owner is None or not owner.has_ended or owner.error_code == "asset_unverified":
            return []
        unnamed = [each for each in copies if each.key not in owner.keys]
        if not unnamed or await self._is_running(recovery_id_of(tenant, generation_id)):
            return []
        named = await self._named_by_manifest(folder)
        return [] if named is None else [each for each in unnamed if each.key not in named]

    async def _named_by_manifest(self, folder: str) -> frozenset[str] | None:
        """The keys that the manifest of a folder names; None when it cannot be understood, or when there is none and a
        clip is kept unread: then nothing is touched."""
        manifest = await self._bucket.get_document(f"{folder}/manifest.json")
        if manifest is None:
            unread = await self._bucket.get_document(f"{folder}/unverified.json")
            return frozenset() if unread is None else None
        try:
            return frozenset(asset.key for asset in Persisted.model_validate_json(manifest).assets)
        except ValueError:
            return None


def running_at(engine: Client) -> IsRunning:
    """Ask Temporal whether a workflow is under way. Raises TryLater(`engine_unavailable`)."""

    async def is_running(workflow_id: str) -> bool:
        try:
            description = await engine.get_workflow_handle(workflow_id).describe(rpc_timeout=RPC_LIMIT)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return False
            raise TryLater("engine_unavailable", f"It answered {error.status.name}.") from None
        return description.status in {WorkflowExecutionStatus.RUNNING, WorkflowExecutionStatus.CONTINUED_AS_NEW}

    return is_running


def _named(found: Listed) -> Mapping[str, str]:
    match = _COPY.fullmatch(found.key)
    assert match is not None
    return match.groupdict()
