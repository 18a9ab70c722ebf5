"""The vendor's own book: when each submission came, and when the status of each job was read."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any


class Journal:
    """What the simulator has written since this was made. Reading its file costs the simulator nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = path.stat().st_size
        self.submitted: dict[str, float] = {}
        self.reads: defaultdict[str, list[float]] = defaultdict(list)

    def read(self) -> None:
        """Take in what has been written meanwhile: times by task id, in seconds since 1970."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                self._apply(json.loads(line))

    def _apply(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "submit" if event["submit"]["accepted"]:
                self.submitted[event["submit"]["task_id"]] = event["submit"]["received_at"]
            case "status":
                self.reads[event["task_id"]].append(event["at"])
            case _:
                pass

    def reads_until(self, task_id: str, age_s: float) -> int:
        """How often a job was read in its first seconds."""
        return sum(at - self.submitted[task_id] <= age_s for at in self.reads[task_id])
