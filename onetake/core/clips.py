"""What the activities and the adapters of media ask of those who read a clip on this machine, and what these say.

Errors are those of `onetake.core.ports`.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol


@dataclass(frozen=True)
class ClipFacts:
    """What reading every packet of a clip showed."""

    duration_s: float
    width: int
    height: int
    fps: float
    codec: str
    has_audio: bool
    warnings: tuple[str, ...] = field(default=())


class Spool(Protocol):
    """Room on this machine for bytes that are looked at."""

    def new_file(self) -> AbstractContextManager[Path]:
        """The path of a file that is not there yet; what is written there is removed with the `with` block.

        Raises TryLater(`spool_full`) before anything is begun when there is no room.
        """
        ...


class ClipReader(Protocol):
    """Reads a clip to its last packet, in a process of its own."""

    async def read(self, path: Path, *, patience: int = 1) -> ClipFacts:
        """Raises Failed (`asset_not_video`, `asset_truncated`) for what the bytes are, and TryLater
        (`asset_unverified`) when they could not be read here and now. `patience` multiplies the time it may take."""
        ...


class InputReader(ClipReader, Protocol):
    """Reads sounds as well."""

    async def read_sound(self, path: Path, form: Literal["mp3", "wav"]) -> float:
        """The seconds of a sound, read to its last packet. Raises as `read`."""
        ...
