"""Typed, sortable identifiers and the workflow ids made of them.

A generation id is ``gen_`` and a UUIDv7: it sorts by the time it was made, and it is never derived from
anything a caller sent.
"""

import re
import secrets
import time
import uuid
from datetime import UTC, datetime
from typing import NewType

GenerationId = NewType("GenerationId", str)

_GENERATION_ID = re.compile(r"gen_[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def new_generation_id() -> GenerationId:
    """Make a new id: 48 bits of Unix milliseconds, then 74 random bits (RFC 9562, version 7)."""
    return GenerationId(f"gen_{_uuid7()}")


def made_at(generation_id: str) -> datetime:
    """When the id was made, in UTC, by the clock of whoever made it."""
    milliseconds = uuid.UUID(generation_id.removeprefix("gen_")).int >> 80
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def new_quote_id() -> str:
    """The id of a quote: ``quo_`` and a UUIDv7."""
    return f"quo_{_uuid7()}"


def _uuid7() -> uuid.UUID:
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & (1 << 48) - 1) << 80 | 0x7 << 76 | secrets.randbits(12) << 64
    value |= 0b10 << 62 | secrets.randbits(62)
    return uuid.UUID(int=value)


def is_generation_id(text: str) -> bool:
    return _GENERATION_ID.fullmatch(text) is not None


def workflow_id_of(tenant: str, generation_id: str) -> str:
    """The one workflow that may run this generation."""
    return f"gen/{tenant}/{generation_id}"


def recovery_id_of(tenant: str, generation_id: str) -> str:
    """The one workflow that may look again for this generation's job after its end."""
    return f"recover/{tenant}/{generation_id}"


def generation_id_in(workflow_id: str, tenant: str) -> GenerationId | None:
    """The generation id inside a workflow id of our own form, or None when a plain client chose another form."""
    prefix = f"gen/{tenant}/"
    candidate = workflow_id.removeprefix(prefix)
    return GenerationId(candidate) if workflow_id.startswith(prefix) and is_generation_id(candidate) else None
