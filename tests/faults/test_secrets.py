"""Secrets that are replaced while a worker runs. They are files, mounted as Kubernetes does it."""

from pathlib import Path

from tests.core.test_secret_files import mount
from tests.faults.scenes import LIMIT_S, own_worker
from tests.faults.table import shows
from tests.system.harness import ROUTE, Stack, ended, unique


async def test_a_key_that_is_revoked_and_replaced_costs_no_restart_and_no_generation(
    stack: Stack, tmp_path: Path
) -> None:
    """The worker has the former key still when the vendor refuses it. The refused POST is repeated with the new one."""
    name, prompt = "ONETAKE_APIXO_API_KEY", unique("a key of today [[sim:delay=0.3]]")
    mount(tmp_path, 1, **{name: "canary-revoked-key\n"})
    async with own_worker(stack, "new-key", ONETAKE_SECRETS_DIR=str(tmp_path), **{name: ""}) as (onetake, worker):
        process = stack.child(worker)
        mount(tmp_path, 2, **{name: stack.environment[name]})
        started = await onetake.start(route=ROUTE, prompt=prompt, duration_s=2, deadline_s=60)
        result = await ended(onetake, started.id, LIMIT_S)
        assert stack.child(worker) is process
        assert process.ended() is None
        said = stack.log_of(worker)
    assert "vendor_key_replaced" in said
    assert "canary" not in said
    assert stack.environment[name] not in said
    await shows("F118", stack, result, prompt)
