"""Callback tokens and the inbox: what the gateway stores before it wakes anybody. Nothing in a callback is believed."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from onetake.ledger.database import Database

# Equal bodies are counted in one row; whoever has a token can still vary the body, so the rows are capped.
MAX_BODIES_PER_TOKEN: Final = 100

_TAKE: Final = """
with target as (
    select t.token_sha256, t.generation_id, t.attempt, g.workflow_id, g.phase = 'done' as ended
    from onetake.callback_token t
    join onetake.submission s using (generation_id, attempt)
    join onetake.generation g on g.id = t.generation_id
    where t.token_sha256 = $1 and s.vendor = $2
), stored as (
    insert into onetake.callback_inbox as i
        (token_sha256, vendor, claimed_task_id, claimed_state, body_sha256, size_bytes)
    select token_sha256, $2, $3, $4, $5, $6 from target
    where (select count(*) from onetake.callback_inbox b where b.token_sha256 = $1) < $7
       or exists (select from onetake.callback_inbox b where b.token_sha256 = $1 and b.body_sha256 = $5)
    on conflict (token_sha256, body_sha256) do update set seen = i.seen + 1, last_seen_at = now()
)
select * from target
"""


@dataclass(frozen=True)
class TokenTarget:
    """Whom a token was made for. `ended`: the generation is over, and its workflow may be gone."""

    token_sha256: bytes
    generation_id: str
    attempt: int
    workflow_id: str
    ended: bool


class Callbacks:
    """What the gateway needs of the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(
        self,
        vendor: str,
        token: str,
        *,
        claimed_task_id: str | None,
        claimed_state: str | None,
        body_sha256: bytes,
        size_bytes: int,
    ) -> TokenTarget | None:
        """Store a callback in one round trip and say whom it concerns; None for a token we never gave this vendor.

        Claims that are too long (256 and 64 characters) or unprintable are dropped. Repeats are counted.
        """
        row = await self._database.row(
            _TAKE,
            token_sha256(token),
            vendor,
            _storable(claimed_task_id, 256),
            _storable(claimed_state, 64),
            body_sha256,
            size_bytes,
            MAX_BODIES_PER_TOKEN,
        )
        return TokenTarget(**dict(row)) if row else None

    async def signalled(self, token_sha256: bytes) -> None:
        """Note that the workflow was woken for everything that came with this token so far."""
        await self._database.row(
            "update onetake.callback_inbox set signalled_at = now() where token_sha256 = $1 and signalled_at is null",
            token_sha256,
        )


def token_sha256(token: str) -> bytes:
    """How a token is stored; what came in a URL may be no proper text."""
    return sha256(token.encode(errors="replace")).digest()


def _storable(text: str | None, limit: int) -> str | None:
    return text if text and len(text) <= limit and text.isprintable() else None
