"""The console on which people read answers; imported when one is shown, because rich is slow to load."""

from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table


class Screen(Console):
    """rich's console. A reader that goes away ends nothing, and no id is shortened: ids are there to be copied."""

    def on_broken_pipe(self) -> None:
        """Called while the BrokenPipeError is handled; rich would end the process with code 1."""
        raise  # noqa: PLE0704 - the error that is handled

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does, with whole ids."""
        for each in objects:
            if isinstance(each, Table):
                _keep_ids(each)
        super().print(*objects, **options)


def _keep_ids(table: Table) -> None:
    """Where a table has ids, they keep their line, and the other cells go on in the next one."""
    for column in table.columns:
        if column.header == "id":
            column.no_wrap = True
            column.min_width = max((cell_len(str(cell)) for cell in column.cells), default=0)
        else:
            column.overflow = "fold"
