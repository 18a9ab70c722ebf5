"""Policies: what may be asked for, by whom and of which routes."""

from typing import Literal

from onetake.core.contracts.base import Value
from onetake.core.errors import Violation
from onetake.core.names import Force, PolicyScope


class PolicyPoints(Value):
    """What a policy says; None says nothing on that point. Amounts in micros, seconds of the clip."""

    allowed: bool | None = None
    most_seconds: int | None = None
    highest_resolution: str | None = None
    most_micros: int | None = None
    most_open: int | None = None
    most_starts_per_minute: int | None = None
    watermark: Force | None = None
    sound: Force | None = None
    prompt_extend: Force | None = None


class Policy(PolicyPoints):
    """One policy. The key of a user or a feature is `TENANT/NAME`, that of everyone is empty. In the pattern `*` stands
    for any text."""

    id: int
    scope: PolicyScope
    key: str
    pattern: str

    @property
    def name(self) -> str:
        """How answers name it."""
        return policy_name(self.scope, self.key, self.pattern)


class CountLimit(Value):
    """A policy's limit on a number of generations: those that are open, or those priced within the last minute."""

    policy_id: int
    scope: PolicyScope
    key: str
    pattern: str
    counts: Literal["open", "starts"]
    most: int

    def violation(self) -> Violation:
        """What is said when it allows no more."""
        what = "open generations" if self.counts == "open" else "starts a minute"
        name = policy_name(self.scope, self.key, self.pattern)
        return Violation("/route", "one more", f"at most {self.most} {what}, by {name}")


def policy_name(scope: PolicyScope, key: str, pattern: str) -> str:
    """`the policy of tenant acme for apixo/*`."""
    whom = "everyone" if scope == "everyone" else f"{scope} {key}"
    return f"the policy of {whom} for {pattern}"
