"""What a terminal shows of an answer, however narrow it is."""

import asyncio
from io import StringIO
from pathlib import Path

import pytest
from rich.table import Table

from onetake.cli.screens import Screen
from tests.cli.processes import bare_environment, run_on_a_terminal
from tests.ledger.databases import Accept


async def test_ids_of_a_list_can_be_copied_from_a_narrow_terminal(
    database_url: str, tmp_path: Path, accept: Accept
) -> None:
    first, second = await accept(), await accept()
    env = bare_environment(ONETAKE_DATABASE_URL=database_url, COLUMNS="80", NO_COLOR="1")
    shown = (await asyncio.to_thread(run_on_a_terminal, "list", env=env, cwd=tmp_path)).stdout
    assert first in shown
    assert second in shown


@pytest.mark.parametrize("width", [20, 40, 80])
def test_the_column_of_ids_is_never_shortened(width: int) -> None:
    text, name = StringIO(), "gen_01a22b37-1111-7222-8333-123456789abc"
    table = Table("id", "tenant", "why", box=None, pad_edge=False)
    table.add_row(name, "acme" * 9, "a long story of many words " * 3)
    Screen(file=text, width=width).print(table)
    assert name in text.getvalue() or width < len(name)
