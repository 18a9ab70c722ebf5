"""What a failover took of runs that have ended, or are under way, is written again from Temporal's histories."""

from collections.abc import Mapping

from onetake.client import Onetake
from onetake.core.contracts import GenerationRecord
from onetake.ledger import Database
from onetake.ledger.invariants import violations
from onetake.operations.failover import AfterFailover
from tests.faults.table import shows
from tests.system.harness import ROUTE, Stack, ended, in_phase, unique

TABLES = ("callback_inbox", "callback_token", "job_end", "submission", "event", "hold", "generation")
_OF_TOKENS = "token_sha256 in (select token_sha256 from onetake.callback_token where generation_id = '{id}')"


async def lose(database: Database, generation_id: str, tenant: str) -> None:
    """As if no commit about it, the only one of its tenant, had reached the standby."""
    special = {"callback_inbox": _OF_TOKENS, "generation": "id = '{id}'"}
    conditions = {table: special.get(table, "generation_id = '{id}'") for table in TABLES}
    deletes = [f"delete from onetake.{table} where {condition}" for table, condition in conditions.items()]
    lines = [*deletes, f"delete from onetake.spend where tenant = '{tenant}'"]
    body = "; ".join(line.format(id=generation_id) for line in lines)
    await database.row(f"do $$ begin set local session_replication_role = replica; {body}; end $$")


async def test_a_completed_generation_that_is_lost_is_written_again_with_its_clip_and_its_cost(
    stack: Stack, onetake: Onetake
) -> None:
    prompt = unique("lost at its end")
    started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2, tenant="lost-at-end")
    await ended(onetake, started.id)
    await stack.listed(started.workflow_id, "Completed")
    before = await onetake.get(started.id)
    async with stack.database() as database:
        await lose(database, started.id, "lost-at-end")
        pass_ = AfterFailover(await stack.temporal(), database)
        (told,) = [each for each in (await pass_.run_once(dry_run=True)).findings if each.generation_id == started.id]
        assert (told.kind, told.action) == ("lost", "restored")
        (found,) = [each for each in (await pass_.run_once()).findings if each.generation_id == started.id]
        assert found.found == "lost: generation, hold, submission, end"
        after = await onetake.get(started.id)
        assert _kept(after) == _kept(before)
        await shows("F120", stack, after, prompt, end="ended")
        assert started.id not in [each.generation_id for each in (await pass_.run_once()).findings]
        assert await violations(database) == []


async def test_a_generation_that_is_lost_under_way_is_found_again_and_ends_as_any_other(
    stack: Stack, onetake: Onetake
) -> None:
    prompt = unique("lost under way [[sim:held]]")
    started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2, tenant="lost-under-way")
    await in_phase(onetake, started.id, "generating")
    await stack.listed(started.workflow_id, "Running")
    async with stack.database() as database:
        await lose(database, started.id, "lost-under-way")
        findings = (await AfterFailover(await stack.temporal(), database).run_once()).findings
        assert "lost: generation, hold, submission" in {f.found for f in findings if f.generation_id == started.id}
        await stack.release(prompt)
        await shows("F120", stack, await ended(onetake, started.id), prompt, end="under_way")
        assert await violations(database) == []


def _kept(record: GenerationRecord) -> Mapping[str, object]:
    document = record.model_dump(exclude={"created_at", "ended_at"})
    return document | {"assets": [{**asset, "url": None} for asset in document["assets"]]}
