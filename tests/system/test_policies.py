"""Policies on real parts: what is forced is in the vendor's request, and what is refused never holds money."""

from typing import Any

import pytest
from temporalio.client import WorkflowFailureError

from onetake.client import Onetake
from onetake.core.contracts import GenerationRequest
from onetake.core.errors import Refused
from onetake.core.ids import new_generation_id, workflow_id_of
from onetake.core.names import GENERATION_WORKFLOW, PolicyScope
from onetake.ledger.policies import Policies
from tests.system.harness import ROUTE, Stack, ended, unique

WHY = {"who": "operator ann", "why": "a test"}


async def set_policy(stack: Stack, scope: PolicyScope, key: str, **points: Any) -> None:
    async with stack.database() as database:
        await Policies(database).set_policy(scope, key, "*/text-to-video", points, **WHY)


def new_tenant() -> str:
    return unique("policy").replace(" #", "-")


async def test_what_a_policy_forbids_is_not_rendered_and_the_narrowest_one_counts(
    stack: Stack, onetake: Onetake
) -> None:
    tenant, route = new_tenant(), "gmi/wan-2.6/text-to-video"
    asked = GenerationRequest(route=route, prompt=unique("as asked"), duration_s=5, tenant=tenant, sound=True)
    first = await onetake.start(asked)
    await set_policy(stack, "tenant", tenant, sound="forbidden", most_seconds=10)
    await set_policy(stack, "user", f"{tenant}/ann", most_seconds=5)
    request = GenerationRequest(route=route, prompt=unique("silent"), duration_s=5, tenant=tenant, user="ann")
    second = await onetake.start(request)
    assert [(await ended(onetake, each.id)).status for each in (first, second)] == ["completed", "completed"]
    assert [job["sound"] for each in (asked, request) for job in await stack.jobs_of(each.prompt)] == [True, False]
    with pytest.raises(Refused) as refused:
        await onetake.start(request.model_copy(update={"duration_s": 10}))
    assert refused.value.code == "policy_refused"
    assert f"by the policy of user {tenant}/ann for */text-to-video" in str(refused.value)


async def test_a_run_that_a_policy_refuses_ends_with_its_name_and_holds_nothing(stack: Stack, onetake: Onetake) -> None:
    tenant = new_tenant()
    await set_policy(stack, "tenant", tenant, most_open=0)
    request = GenerationRequest(route=ROUTE, prompt=unique("refused"), duration_s=2, tenant=tenant)
    with pytest.raises(Refused, match="at most 0 open generations"):
        await onetake.start(request)
    assert await onetake.list(tenant=tenant) == ()
    engine, workflow_id = await stack.temporal(), workflow_id_of(tenant, new_generation_id())
    queue = stack.settings().task_queue
    run = await engine.start_workflow(GENERATION_WORKFLOW, request, id=workflow_id, task_queue=queue)
    with pytest.raises(WorkflowFailureError):
        await run.result()
    (record,) = await onetake.list(tenant=tenant)
    assert record.error is not None
    assert (record.status, record.error.code, record.cost.reserved_micros) == ("failed", "policy_refused", 0)
    assert await stack.submits_of(request.prompt) == []
