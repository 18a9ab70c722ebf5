"""Policies as people set them, and who changed them."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from onetake.core.contracts import Policy, PolicyPoints, Value
from onetake.core.errors import Refused
from onetake.core.names import PolicyScope
from onetake.ledger.database import Database
from onetake.ledger.tenants import check_tenant_of

_ALL: Final = """
select (to_jsonb(p) || jsonb_build_object('key', p.scope_key, 'pattern', p.route_pattern))::text as policy
from onetake.policy p
order by array_position(array['everyone', 'tenant', 'feature', 'user'], p.scope), p.scope_key, p.route_pattern
"""
_CHANGES: Final = """
select (to_jsonb(c) || jsonb_build_object('key', c.scope_key, 'pattern', c.route_pattern))::text as change, c.id
from onetake.policy_change c where c.id < coalesce($1::bigint, 9223372036854775807) order by c.id desc limit $2
"""
PAGE: Final = 500
POINTS: Final = tuple(PolicyPoints.model_fields)


class PolicyChange(Value):
    """One change: who made it, when and why, and what the policy said before and after; None when there was none."""

    at: datetime
    who: str
    why: str
    scope: PolicyScope
    key: str
    pattern: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class Policies:
    """What the command line does with policies."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set_policy(
        self, scope: PolicyScope, key: str, pattern: str, points: dict[str, Any], *, who: str, why: str
    ) -> Policy | None:
        """Say something on these points (fields of `PolicyPoints`; None takes a point back), and keep the others.

        Returns the policy, or None when nothing is left to say. Writes down who and why, in the same transaction; a
        repeat changes nothing. Raises Refused(`usage`) when there is no such policy to take points back from, and for a
        tenant that cannot be.
        """
        check_tenant_of(scope, key)
        before_and_after = await self._database.answer(
            "select before::text, after::text from onetake.set_policy($1, $2, $3, $4, $5, $6)",
            scope,
            key,
            pattern,
            json.dumps(points),
            who,
            why,
        )
        if before_and_after["before"] is None and before_and_after["after"] is None:
            raise _absent(scope, key, pattern)
        named = (scope, key, pattern)
        return next((each for each in await self.all() if (each.scope, each.key, each.pattern) == named), None)

    async def remove_policy(self, scope: PolicyScope, key: str, pattern: str, *, who: str, why: str) -> None:
        """Take all points back. Raises Refused(`usage`) when there is no such policy."""
        await self.set_policy(scope, key, pattern, dict.fromkeys(POINTS), who=who, why=why)

    async def all(self) -> Sequence[Policy]:
        """Every policy: everyone's first, then by scope, key and pattern."""
        rows = await self._database.rows(_ALL)
        return [Policy.model_validate_json(row["policy"]) for row in rows]

    async def changes(self) -> Sequence[PolicyChange]:
        """Every change, the last one first."""
        changes, last_id = list[PolicyChange](), None
        while True:
            rows = await self._database.rows(_CHANGES, last_id, PAGE)
            changes += [PolicyChange.model_validate_json(row["change"]) for row in rows]
            if len(rows) < PAGE:
                return changes
            last_id = rows[-1]["id"]


def _absent(scope: PolicyScope, key: str, pattern: str) -> Refused:
    whom = f"{scope} {key}".strip()
    return Refused("usage", f"There is no policy of {whom} for {pattern}; `onetake policy show` lists all.")
