"""What an attempt at storing clips leaves to the next, through the engine: the vendor's word, copies and troubles."""

from pydantic import Field

from activities.heartbeat import Memory
from onetake.core.contracts import Message, StatusReading

DOUBTFUL_READS = 4


class Trouble(Message):
    """One kind of fault: how often it came, and when first, in seconds after the activity was scheduled."""

    times: int = 0
    since_s: float = 0.0


class Copy(Message):
    """One copy of a clip: its key, what was sent there once the store has taken all of it, and how often it could not
    be read."""

    key: str
    sha256: str = ""
    unread: int = 0

    @property
    def is_doubtful(self) -> bool:
        """Whether another copy is worth a try: the bytes themselves may be what no reader survives."""
        return self.unread > 0 and self.unread % DOUBTFUL_READS == 0


class Success(Message):
    """What the vendor said of the job when it was done, without its links, which are read afresh."""

    reading: StatusReading
    clips: int
    cost_unusable: bool = False


class Tries(Message):
    """What earlier attempts leave to the next: the vendor's word, the copy of each clip by its number, and what went
    wrong: clips `withheld` by the vendor, copies `refused` for what is in them, `damaged` by the store or `unread`."""

    success: Success | None = None
    copies: dict[int, Copy] = Field(default_factory=dict[int, Copy])
    withheld: Trouble = Trouble()
    refused: Trouble = Trouble()
    damaged: Trouble = Trouble()
    unread: Trouble = Trouble()

    @property
    def all_stored(self) -> bool:
        """Whether nothing is wanted of the vendor any more."""
        clips = self.success.clips if self.success else 0
        return clips > 0 and all(number in self.copies and self.copies[number].sha256 for number in range(clips))

    def as_left(self) -> "Tries":
        """What another activity goes on with: the copies, and none of the troubles."""
        copies = {number: copy.model_copy(update={"unread": 0}) for number, copy in self.copies.items()}
        return Tries(success=self.success, copies=copies)

    @property
    def is_doubtful(self) -> bool:
        """Whether another copy is worth a try for any of the clips."""
        return any(copy.is_doubtful for copy in self.copies.values())


def tries_of(memory: Memory) -> Tries:
    return memory.recall(Tries) or Tries()


def remember(memory: Memory, number: int, copy: Copy) -> None:
    tries = tries_of(memory)
    if tries.copies.get(number) != copy:
        memory.keep(tries.model_copy(update={"copies": tries.copies | {number: copy}}))


def forget(memory: Memory, number: int) -> None:
    tries = tries_of(memory)
    memory.keep(tries.model_copy(update={"copies": {key: kept for key, kept in tries.copies.items() if key != number}}))
