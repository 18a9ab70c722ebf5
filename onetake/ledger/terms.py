"""What the ledger says about a request before it is admitted."""

from typing import Final

from pydantic import TypeAdapter

from onetake.core.contracts import GenerationRequest, Plan, Policy
from onetake.core.ports import Quoted, Terms
from onetake.ledger.database import Database, Row
from onetake.ledger.generations import request_sha256

_TERMS: Final = """
select onetake.clock() as at, q.plan::text as plan, q.expires_at, q.request_sha256 = $3 as fits, (
    select coalesce(jsonb_agg(to_jsonb(p) || jsonb_build_object('key', p.scope_key, 'pattern', p.route_pattern)), '[]')
    from onetake.policy p
    where (p.scope, p.scope_key) in (
        ('everyone', ''), ('tenant', $2), ('user', $2 || '/' || $4), ('feature', $2 || '/' || $5)))::text as policies
from (values (1)) as one left join onetake.quote q on q.id = $1 and q.tenant = $2
"""
_POLICIES: Final = TypeAdapter(tuple[Policy, ...])


class PostgresTerms:
    """The port `TermsReader`: one query a request."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, request: GenerationRequest) -> Terms:
        """See `onetake.core.ports.TermsReader.of`."""
        caller = (request.tenant, request_sha256(request), request.user, request.feature)
        return _terms(await self._database.answer(_TERMS, request.quote_id, *caller))

    async def of_caller(self, tenant: str, user: str | None, feature: str | None) -> Terms:
        """The terms of whatever this caller asks for."""
        return _terms(await self._database.answer(_TERMS, None, tenant, None, user, feature))


def _terms(row: Row) -> Terms:
    return Terms(at=row["at"], policies=_POLICIES.validate_json(row["policies"]), quote=_quoted(row))


def _quoted(row: Row) -> Quoted | None:
    if row["plan"] is None:
        return None
    return Quoted(Plan.model_validate_json(row["plan"]), row["expires_at"], row["fits"])
