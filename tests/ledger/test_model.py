"""The ledger against a model of sixty lines: whatever is asked in whatever order, both say the same."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count
from typing import Any, Literal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onetake.core.contracts import ReserveInput, SettleInput
from onetake.core.errors import Failed, NoMoney, Refused
from onetake.ledger import Budgets, Database, PostgresGenerations, PostgresLedger, PostgresSubmissions
from onetake.ledger.invariants import violations

USERS = ("ann", "bob")
TENANTS = count()
State = Literal["posted", "released", "suspended"]
# What becomes of a hold, by what is asked. Nothing was sent: nothing can be in doubt. Sent, and nobody knows: all is.
NOT_SENT: dict[str, State] = {"post": "posted", "release": "released", "none": "released", "suspend": "released"}
IN_DOUBT: dict[str, State] = {"post": "posted", "release": "suspended", "none": "suspended", "suspend": "suspended"}


@dataclass
class Hold:
    user: str
    amount: int
    state: Literal["held", "posted", "released", "suspended"] = "held"
    actual: int = 0
    sent: bool = False

    @property
    def spent(self) -> int:
        return self.amount if self.state == "suspended" else self.actual


@dataclass
class Model:
    """Holds by generation, and limits: of the tenant (None) and of users."""

    limits: dict[str | None, int] = field(default_factory=dict[str | None, int])
    holds: dict[int, Hold] = field(default_factory=dict[int, Hold])
    ended: set[int] = field(default_factory=set[int])

    def balance(self, scope: str | None) -> tuple[int, int]:
        mine = [hold for hold in self.holds.values() if scope in (None, hold.user)]
        return sum(h.amount for h in mine if h.state == "held"), sum(h.spent for h in mine if h.state != "held")

    def reserve(self, generation: int, user: str, amount: int) -> int | str:
        if generation in self.ended:
            return "canceled"
        if generation not in self.holds:
            if any(sum(self.balance(scope)) + amount > self.limits[scope] for scope in (user, None)):
                return "budget_exceeded"
            self.holds[generation] = Hold(user, amount)
        return self.holds[generation].amount

    def settle(self, generation: int, resolution: str, actual: int | None) -> tuple[int, int, int]:
        hold = self.holds.get(generation)
        if generation not in self.ended and hold is not None:
            hold.state = (IN_DOUBT if hold.sent else NOT_SENT)[resolution]
            hold.actual = (hold.amount if actual is None else actual) if resolution == "post" else 0
        self.ended.add(generation)
        return self.cost(generation)

    def send(self, generation: int) -> bool:
        hold = self.holds.get(generation)
        if hold is None or generation in self.ended:
            return False
        fresh, hold.sent = not hold.sent, True
        return fresh

    def decide(self, generation: int, to: Literal["posted", "released"], actual: int | None) -> tuple[int, int, int]:
        hold = self.holds.get(generation)
        if hold is not None and hold.state == "suspended":
            hold.state, hold.actual = to, (hold.amount if actual is None else actual) if to == "posted" else 0
        return self.cost(generation)

    def cost(self, generation: int) -> tuple[int, int, int]:
        hold = self.holds.get(generation)
        return (hold.amount, hold.actual, hold.spent - hold.actual) if hold else (0, 0, 0)


generation = st.integers(0, 5)
amount = st.integers(1, 12)
actual = st.none() | st.integers(0, 20)
step = st.one_of(
    st.tuples(st.just("reserve"), generation, st.sampled_from(USERS), amount),
    st.tuples(st.just("send"), generation),
    st.tuples(st.just("settle"), generation, st.sampled_from(["post", "release", "suspend", "none"]), actual),
    st.tuples(st.just("decide"), generation, st.sampled_from(["posted", "released"]), actual),
    st.tuples(st.just("limit"), st.sampled_from([None, *USERS]), st.integers(0, 40)),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(step, min_size=5, max_size=40))
async def test_ledger_and_model_agree(
    database: Database,
    ledger: PostgresLedger,
    budgets: Budgets,
    generations: PostgresGenerations,
    submissions: PostgresSubmissions,
    accept: Callable[..., Awaitable[str]],
    steps: list[tuple[Any, ...]],
) -> None:
    tenant, model = f"t{next(TENANTS)}", Model()
    ids = [await accept(tenant=tenant) for _ in range(6)]
    real = Real(tenant, ledger, budgets, generations, submissions, ids)
    for scope in (None, *USERS):
        model.limits[scope] = 25
        await real.limit(scope, 25)
    for name, *given_arguments in steps:
        if name == "limit":
            scope, limit = given_arguments
            model.limits[scope] = limit
            await real.limit(scope, limit)
        else:
            assert getattr(model, name)(*given_arguments) == await getattr(real, name)(*given_arguments)
        assert await real.balances() == {scope: model.balance(scope) for scope in (None, *USERS)}
    assert await violations(database) == []


@dataclass
class Real:
    """The ledger, asked in the model's words."""

    tenant: str
    ledger: PostgresLedger
    budgets: Budgets
    generations: PostgresGenerations
    submissions: PostgresSubmissions
    ids: list[str]

    async def limit(self, scope: str | None, limit: int) -> None:
        if scope is None:
            await self.budgets.set_budget("tenant", self.tenant, "month", limit)
        else:
            await self.budgets.set_budget("user", f"{self.tenant}/{scope}", "total", limit)

    async def balances(self) -> dict[str | None, tuple[int, int]]:
        shown = [row for row in await self.budgets.show_budgets() if row.key.partition("/")[0] == self.tenant]
        return {row.key.partition("/")[2] or None: (row.held_micros, row.spent_micros) for row in shown}

    async def reserve(self, generation: int, user: str, amount: int) -> int | str:
        order = {
            "generation_id": self.ids[generation],
            "attempt": 1,
            "tenant": self.tenant,
            "user": user,
            "feature": None,
            "route": "r",
            "vendor": "v",
            "price": {"amount_micros": amount, "unit": "u", "table_version": "v"},
        }
        try:
            return (await self.ledger.reserve(ReserveInput.model_validate(order))).amount_micros
        except (NoMoney, Refused) as refused:
            return refused.code

    async def send(self, generation: int) -> bool:
        """Commit an intent, and lose what came of it."""
        try:
            begun = await self.submissions.begin(
                self.ids[generation],
                1,
                vendor="v",
                token_sha256=sha256(f"{self.ids[generation]} {next(TENANTS)}".encode()).digest(),
                request_sha256=bytes(32),
                seed=None,
            )
        except Failed:  # no hold, no intent
            return False
        if begun.fresh:
            await self.submissions.record(self.ids[generation], 1, state="ambiguous")
        return begun.fresh

    async def settle(self, generation: int, resolution: str, actual: int | None) -> tuple[int, int, int]:
        order = {
            "generation_id": self.ids[generation],
            "attempt": 1,
            "tenant": "acme",
            "status": "failed",
            "resolution": resolution,
        }
        result = await self.ledger.settle(SettleInput.model_validate(order | {"actual_micros": actual}))
        return result.cost.reserved_micros, result.cost.settled_micros, result.cost.suspense_micros

    async def decide(
        self, generation: int, to: Literal["posted", "released"], actual: int | None
    ) -> tuple[int, int, int]:
        try:
            record = await self.ledger.resolve_suspense(
                self.ids[generation], 1, to=to, actual_micros=actual, who="ops", why="a test"
            )
        except Refused:
            record = await self.generations.get(self.ids[generation])
            assert record is not None
        return record.cost.reserved_micros, record.cost.settled_micros, record.cost.suspense_micros
