"""Which builds of our workers Temporal knows, and whether the one that should run is the one that does."""

# ruff: noqa: PLC0415 - each examination imports what it examines

import os
from typing import TYPE_CHECKING

from onetake.cli.doctor.engine import named, pollers
from onetake.cli.doctor.findings import Finding, broken, fine, warning
from onetake.cli.doctor.setup import Setup

if TYPE_CHECKING:
    from onetake.operations.versions import Doubt


async def versions(setup: Setup) -> Finding | list[Finding]:
    """Two builds on a queue without versions; no current build; one that lacks a queue; one that nobody serves."""
    from onetake.engine.versioning import NAME_VARIABLE
    from onetake.operations.versions import deployments_of, doubts_of

    client, polled = await setup.engine(), await pollers(setup)
    ours = os.environ.get(NAME_VARIABLE, "").strip()
    doubts = await doubts_of(client, setup.settings.task_queue, polled, ours)
    if doubts:
        return [of_doubt(each) for each in doubts]
    names = await deployments_of(client, setup.settings.task_queue, polled, ours)
    return fine(f"the current build of {named(names)} serves its queues" if names else "workers have no builds")


def of_doubt(doubt: "Doubt") -> Finding:
    """A doubt as the finding that it has been from version to version."""
    match doubt.kind:
        case "two_codes":
            return warning("builds_mixed", doubt.found, doubt.fix)
        case "nothing_current":
            return broken("version_not_current", doubt.found, doubt.fix, "engine_unavailable")
        case "queue_missing":
            return broken("current_lacks_queue", doubt.found, doubt.fix, "engine_unavailable")
        case "runs_unserved":
            return broken("version_without_pollers", doubt.found, doubt.fix, "engine_unavailable")
        case "drained_polled":
            return warning("drained_version_polled", doubt.found, doubt.fix)
        case "server_too_old":
            return broken("server_too_old", doubt.found, doubt.fix, "settings_invalid")
