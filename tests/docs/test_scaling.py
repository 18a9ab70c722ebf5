"""The page on scaling counts with the limits that the code has, and its sums are right."""

import re
from math import ceil

from onetake.core.names import ROLES
from onetake.core.settings import Settings
from onetake.gateway import wakes
from onetake.gateway.serve import MOST_CONNECTIONS
from onetake.ledger.callbacks import MAX_BODIES_PER_TOKEN, WAKE_EVERY_S
from onetake.ledger.database import RESERVED
from onetake.media.inputs import MOST_REQUESTS
from onetake.worker import (
    GRACE,
    MEDIA_GRACE,
    MOST_CLIPS,
    MOST_LEDGER_ACTIVITIES,
    MOST_READS,
    MOST_SUBMISSIONS,
    MOST_WORKFLOW_TASKS,
)
from tests.docs.markdown import page

PAGE = page("docs/scaling.md")


def test_its_limits_are_those_of_the_code() -> None:
    assert WAKE_EVERY_S == 5
    for said in (
        f"| `orchestrate` | {MOST_WORKFLOW_TASKS} workflow tasks |",
        f"| `orchestrate` | {MOST_LEDGER_ACTIVITIES} activities |",
        f"| `orchestrate` | {MOST_REQUESTS} inspections |",
        f"| `vendors` | {MOST_SUBMISSIONS} submissions at each vendor |",
        f"| `vendors` | {MOST_READS} reads at each vendor |",
        f"| `media` | {MOST_CLIPS} clips of each vendor |",
        f"| {MOST_SUBMISSIONS} POSTs at once at one vendor, until it says 429 | {MOST_SUBMISSIONS} N |",
        f"| {MOST_READS} status reads at once at one vendor | {MOST_READS} N |",
        f"| {MOST_CLIPS} clips of one vendor, so {MOST_CLIPS} downloads from its host | {MOST_CLIPS} N |",
        f"| {wakes.MOST_AT_ONCE} signals at once and {wakes.MOST_TOKENS:,} tokens that wait in a gateway |",
        f"| {MOST_CONNECTIONS:,} connections of a gateway |",
        f"{MAX_BODIES_PER_TOKEN} different bodies kept of one token",
        (
            f"up to {GRACE.total_seconds():g} s to finish its POSTs (`vendors`, `orchestrate`) or "
            f"{MEDIA_GRACE.total_seconds():g} s (`media`)"
        ),
    ):
        assert said in PAGE


def test_its_connections_are_those_of_the_pools() -> None:
    pool = Settings.model_fields["database_pool"].default
    most = pool + (pool - 1) + RESERVED
    assert f"{pool} + {pool - 1} + {RESERVED} = {most} at most" in PAGE
    times = "\u00d7"
    sums = re.findall(
        rf"^\| \d+ \| (\d+) \+ (\d+) \| (\d+) \| (\d+) {times} (\d+) \+ 10 = (\d+) \| (\d+) \|$", PAGE, re.MULTILINE
    )
    in_an_update = len(ROLES) + 1  # and the gateway
    assert len(sums) == 3
    assert f"+ {in_an_update} more in an update" in PAGE
    for gateways, workers, clients, processes, each, total, limit in (map(int, row) for row in sums):
        assert (gateways + workers + in_an_update + clients, each) == (processes, most)
        assert processes * each + 10 == total <= limit


def test_its_divisions_are_right() -> None:
    found = re.findall(r"([\d.]+) ÷ 0\.6 = ([\d.]+)(?:: (\d+))?", PAGE)
    assert len(found) == 18
    for load, cores, processes in found:
        assert abs(float(load) / 0.6 - float(cores)) <= 0.06 * max(float(cores), 1)
        assert not processes or int(processes) == ceil(float(load) / 0.6)
