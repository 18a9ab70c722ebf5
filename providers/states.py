"""What a vendor's status words mean: those of its documents, and the synonyms that vendors of this kind use."""

import re
from functools import cached_property
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from providers.pricing import Fact

Meaning = Literal["open", "succeeded", "failed", "canceled"]

# What vendors of this kind are known to call the same: read when no document of the vendor's own names the word.
SYNONYMS: Final[dict[Meaning, tuple[str, ...]]] = {
    "open": (
        *("queued", "queuing", "queueing", "pending", "waiting", "submitted", "created", "dispatched", "scheduled"),
        *("starting", "started", "processing", "running", "in_progress", "in_queue", "generating", "rendering"),
    ),
    "succeeded": ("success", "succeeded", "successful", "completed", "complete", "done", "finished", "ok"),
    "failed": (
        *("failed", "fail", "failure", "error", "errored", "aborted", "expired", "timeout", "timed_out", "rejected"),
        "refused",
    ),
    "canceled": ("canceled", "cancelled"),
}


def folded(word: str) -> str:
    """A status word as it is compared: case, surrounding blanks, and how its parts are joined make no difference."""
    return re.sub(r"[\s_-]+", "_", word.strip().casefold())


class States(Fact):
    """What a vendor's status words mean. The documented ones come first; `seen` holds others that the vendor has been
    seen to use, beside those of `SYNONYMS`."""

    open: Annotated[tuple[str, ...], Field(min_length=1)]
    succeeded: Annotated[tuple[str, ...], Field(min_length=1)]
    failed: Annotated[tuple[str, ...], Field(min_length=1)]
    canceled: tuple[str, ...] = ()
    seen: dict[Meaning, tuple[str, ...]] = Field(default_factory=dict[Meaning, tuple[str, ...]])

    def documented(self, meaning: Meaning) -> tuple[str, ...]:
        words: dict[Meaning, tuple[str, ...]] = {
            "open": self.open,
            "succeeded": self.succeeded,
            "failed": self.failed,
            "canceled": self.canceled,
        }
        return words[meaning]

    def meaning(self, word: object) -> Meaning | None:
        """What a word means; None for one that nobody knows, and for what is no word."""
        return self._by_word.get(folded(word)) if isinstance(word, str) else None

    def is_documented(self, word: object) -> bool:
        """Whether a document names this word, letter by letter."""
        return any(word in self.documented(meaning) for meaning in SYNONYMS)

    def is_documented_somehow(self, word: object) -> bool:
        """Whether a document names this word, perhaps in another spelling."""
        return isinstance(word, str) and folded(word) in {folded(each) for each in self._words_in_documents}

    @property
    def _words_in_documents(self) -> list[str]:
        return [word for meaning in SYNONYMS for word in self.documented(meaning)]

    @cached_property
    def _by_word(self) -> dict[str, Meaning]:
        """The nearer table counts: documents, then what this vendor was seen to say, then what others say."""
        found: dict[str, Meaning] = {}
        documented: dict[Meaning, tuple[str, ...]] = {meaning: self.documented(meaning) for meaning in SYNONYMS}
        for table in (SYNONYMS, self.seen, documented):
            for meaning, words in table.items():
                for word in words:
                    found[folded(word)] = meaning
        return found

    @model_validator(mode="after")
    def _no_word_means_two_things(self) -> Self:
        for table in (self._words_in_documents, [word for words in self.seen.values() for word in words]):
            spelled = [folded(word) for word in table]
            if twice := [word for word in spelled if spelled.count(word) > 1]:
                raise ValueError(f"{twice[0]!r} stands there twice")
        return self
