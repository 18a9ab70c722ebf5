"""Before the hold: who has to wait for the vendor, for how long, and what is told of it. The ports are made up."""

from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from temporalio.testing import ActivityEnvironment

from activities.reserve import Reserve
from onetake.core.contracts import Plan, Reserved, ReserveInput
from onetake.core.errors import Failed, NoMoney, OnetakeError, Refused, TryLater
from tests.providers.parts import plan_of, request_for

PLAN: Plan = plan_of(request_for())
FULL = TryLater("vendor_full", "(waiting for apixo: place 3, about 4 min)", after_s=30)
PAUSED = Refused("vendor_paused", "(vendor_auth)")


@dataclass
class Ports:
    """All that the step calls: the vendors say `says`; what was done is in `did`."""

    says: OnetakeError | None = None
    did: list[str] = field(default_factory=list[str])
    may_probe: bool = False
    probing: OnetakeError | None = None
    holding: OnetakeError | None = None

    async def admit(self, _: ReserveInput) -> bool:
        if self.says is not None:
            raise self.says
        return self.may_probe

    async def probe(self, *_: str) -> None:
        if self.probing is not None:
            raise self.probing
        self.did.append("probe")

    async def leave_probe(self, *_: str) -> None:
        self.did.append("left")

    async def reserve(self, _: ReserveInput) -> Reserved:
        if self.holding is not None:
            raise self.holding
        self.did.append("held")
        return Reserved(amount_micros=1, budgets=0)

    async def enter(self, _: str, phase: str) -> None:
        self.did.append(phase)


async def reserve(ports: Ports, *, late_s: float = 0, **fields: object) -> Reserved:
    environment = ActivityEnvironment()
    environment.info = replace(
        environment.info,
        current_attempt_scheduled_time=environment.info.scheduled_time + timedelta(seconds=late_s),
    )
    given: dict[str, object] = {"generation_id": "g", "attempt": 1, "tenant": "acme", "user": None, "feature": None}
    given |= {"route": PLAN.route, "vendor": PLAN.vendor, "price": PLAN.price, "deadline_s": 600.0} | fields
    order = ReserveInput.model_validate(given)
    return await environment.run(Reserve(ports, ports, ports).reserve, order)  # pyright: ignore[reportArgumentType]


async def test_a_generation_that_need_not_wait_holds_its_price_at_once() -> None:
    ports = Ports()
    assert (await reserve(ports)).waits_for is None
    assert ports.did == ["held"]


async def test_a_full_vendor_is_an_answer_first_and_then_waited_for_without_a_hold() -> None:
    ports = Ports(FULL)
    told = (await reserve(ports)).waits_for
    assert told is not None
    assert (told.code, "place 3, about 4 min" in told.message) == ("vendor_full", True)
    with pytest.raises(TryLater) as later:
        await reserve(ports, patient=True)
    assert (later.value.code, later.value.after_s) == ("vendor_full", 30)
    assert ports.did == ["reserving"]


async def test_the_wait_ends_at_the_generations_own_deadline_and_says_how_long_it_was() -> None:
    ports = Ports(FULL)
    with pytest.raises(TryLater) as later:
        await reserve(ports, patient=True, age_s=500.0, late_s=90)
    assert later.value.after_s == pytest.approx(10)
    with pytest.raises(Failed) as failed:
        await reserve(ports, patient=True, age_s=500.0, late_s=100)
    assert failed.value.code == "vendor_throttled"
    assert str(failed.value).endswith("It waited for 10 min.")
    assert ports.did == []


async def test_a_paused_vendor_refuses_who_does_not_park_and_is_waited_for_by_who_does() -> None:
    ports = Ports(PAUSED)
    with pytest.raises(Refused):
        await reserve(ports)
    told = (await reserve(ports, parks=True)).waits_for
    assert told is not None
    assert told.code == "vendor_paused"
    with pytest.raises(TryLater):
        await reserve(ports, parks=True, patient=True)
    with pytest.raises(Refused) as refused:
        await reserve(ports, parks=True, patient=True, age_s=600.0)
    assert refused.value.code == "vendor_paused"


async def test_who_may_probe_holds_its_price_with_the_probe_and_parks_without_either() -> None:
    ports = Ports(may_probe=True)
    assert (await reserve(ports, parks=True)).waits_for is None
    assert ports.did == ["probe", "held"]
    ports = Ports(may_probe=True, probing=PAUSED)
    assert (await reserve(ports, parks=True)).waits_for is not None
    assert ports.did == ["reserving"]


async def test_who_has_no_money_gives_the_probe_back() -> None:
    ports = Ports(may_probe=True, holding=NoMoney(""))
    with pytest.raises(NoMoney):
        await reserve(ports)
    assert ports.did == ["probe", "left"]
