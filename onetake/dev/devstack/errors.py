"""What the development stack says when a part cannot be had: which part, why, the end of its log, and what to do."""

from pathlib import Path

TAIL_LINES = 15


class DevStackError(Exception):
    """One part of the stack could not be built, started or kept alive.

    `str(error)` is the whole text for a person; `part`, `sentence`, `hint` and `log` are its pieces. Closing the stack
    ends whatever did start.
    """

    exit_code = 9  # a part is away: the same command works once the hint is followed

    def __init__(self, part: str, sentence: str, *, hint: str = "", log: Path | None = None) -> None:
        self.part = part
        self.sentence = sentence
        self.hint = hint
        self.log = log
        super().__init__("\n".join(self._lines()))

    def _lines(self) -> list[str]:
        lines = [f"{self.part}: {self.sentence}"]
        if self.log is not None:
            tail = tail_of(self.log)
            lines += [f"  last lines of {self.log}:", *(f"    {line}" for line in tail)] if tail else []
        return lines + ([f"  {self.hint}"] if self.hint else [])


def tail_of(log: Path, *, max_bytes: int = 16_384) -> list[str]:
    """The last lines of a log, however long it is."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - max_bytes))
            return file.read().decode(errors="replace").splitlines()[-TAIL_LINES:]
    except OSError:
        return []
