"""What a run will do, from its seed alone: which generations with which faults, and when whom is killed or stopped.

The seed decides the plan and not the run: what a kill meets depends on the machine. A seed that failed is worth
running again several times.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from onetake.core.crashpoints import CRASH_POINTS
from onetake.core.names import VENDOR_NAMES
from onetake.dev.simulator import faults

VENDORS: Final = VENDOR_NAMES
SECONDS: Final = {"wan26ai": 5, "gmi": 5}  # the shortest clip of the others is 2 s
PER_SECOND: Final = 5.0  # generations started
QUIET_SHARE: Final = 0.15  # generations without a fault, for each with one
RICH: Final = ("acme", "globex", "initech")
POOR: Final = "umbrella"  # its budget is soon used up
KINDS: Final = ("worker", "worker", "media", "gateway")  # workers are hit twice as often
SERVERS: Final = ("s3", "simulator", "temporal")
BLOW_EVERY_S: Final = 0.8
AFTERWARDS_S: Final = 4.0  # blows go on after the last start
CALM: Final = 5  # generations started when all is over

# Values that do something within seconds. A marker that is not named here takes the first of `_ANY` that it accepts.
VALUES: Final[dict[str, tuple[str, ...]]] = {
    "reject": ("400", "401", "402", "403", "404", "429"),
    "reject-200": ("400", "500"),
    "throttle": ("1", "2", "1,1"),
    "submit-page": ("429,1", "401,1", "403,1"),
    "submit-503": ("overloaded",),
    "submit-slow": ("0.5", "2"),
    "submit-hang": ("0.5", "3"),
    "delay": ("0", "0.3", "3"),
    "fail": ("Timeout", "SensitiveContent", "InternalError"),
    "callback-duplicate": ("3", "20"),
    "status-500": ("1", "4"),
    "status-429": ("1", "2,1"),
    "status-404": ("1", "2"),
    "status-page": ("429,1", "401,1", "502,2"),
    "end-word": ('"SUCCESS "', '"done"', '"Cancelled"', "7"),
    "shape": ("text", "list", "object", "objects", "json"),
    "asset-500": ("1", "2"),
    "asset-slow": ("200000", "60000,1"),
    "asset-cut-at": ("300000", "700000", "50000,1"),
    "asset-length": ("50000000000", "1000"),
    "asset-redirect": ("private", "metadata", "plain", "file", "loop"),
    "asset-as": ("json", "zip", "playlist", "svg", "elf", "sound"),
    "asset-reset": ("1", "3"),
    "busy": ("1", "2", "1,1"),
    "charge": ("100", "40", "150"),
    "cost": ("-1", "NaN", '"nothing"', "null"),  # unusable ones: a vendor that says less than it took is beyond us
    # For ever they would be sought for hours, which no run waits for.
    **dict.fromkeys(
        (
            "no-url",
            "bad-result",
            "asset-403",
            "asset-404",
            "asset-html",
            "asset-truncated-file",
            "asset-compressed",
            "asset-cut",
            "asset-cut-closed",
            "asset-cut-chunked",
            "asset-short-length",
            "asset-two-lengths",
        ),
        ("1", "4"),
    ),
    "asset-away": ("2", "4,410", "3,500"),
}
_ANY: Final = ("1", "0.5", "2", "400", "Timeout", "x", "1,1")

BlowKind = Literal["kill", "stop", "crash", "reader", "hogs", "freeze", "outage", "storm", "silence", "forge"]


@dataclass(frozen=True)
class _Habit:
    """How often a kind of blow comes, whom it may hit, and for how long."""

    weight: int
    targets: tuple[str, ...]
    least_s: float
    most_s: float


_HABITS: Final[dict[BlowKind, _Habit]] = {
    "kill": _Habit(6, KINDS, 0, 3),
    "stop": _Habit(4, KINDS, 0.2, 6),  # now and then the engine gives up on what the process was doing
    "crash": _Habit(8, (), 6, 15),  # until the point is reached, or for so long
    "reader": _Habit(2, ("kill", "stop"), 0.5, 8),  # the process that reads clips, now and then for too long
    "hogs": _Habit(1, ("1", "4"), 1, 4),  # processes that only burn the processor
    "freeze": _Habit(1, SERVERS, 0.2, 2),
    "outage": _Habit(1, VENDORS, 0.5, 4),
    "storm": _Habit(1, VENDORS, 0.5, 3),  # a vendor answers 429 to everything
    "silence": _Habit(1, ("callbacks",), 0.5, 4),
    "forge": _Habit(2, ("unknown token", "deep json", "too large", "not json"), 0, 0),
}
_CLIENTS: Final = ("start", "cancel")  # points of the client's process, which is not killed here


@dataclass(frozen=True)
class Order:
    """One generation. `repeats` further starts with the same key; `abandoned`: its row is written, nothing starts."""

    number: int
    at_s: float
    vendor: str
    tenant: str
    faults: tuple[str, ...]
    cancel_after_s: float | None = None
    terminate_after_s: float | None = None
    repeats: int = 0
    abandoned: bool = False

    @property
    def markers(self) -> str:
        return "".join(f"[[sim:{fault}]]" for fault in self.faults)


@dataclass(frozen=True)
class Blow:
    """One disturbance. `target` is a kind of part, a server, a vendor, a crash point, or what is forged."""

    at_s: float
    kind: BlowKind
    target: str
    for_s: float


@dataclass(frozen=True)
class Plan:
    seed: int
    orders: tuple[Order, ...]
    blows: tuple[Blow, ...]


def plan(seed: int, generations: int) -> Plan:
    """The plan of a seed. Pure: it depends on the seed, the number, and the tables of markers and crash points."""
    chance = random.Random(seed)
    orders = tuple(_orders(chance, generations))
    return Plan(seed, orders, tuple(_blows(chance, orders[-1].at_s + AFTERWARDS_S)))


def undisturbed(seed: int, generations: int) -> Plan:
    """So many generations without a fault, a repeat or a blow: each must complete, however busy the machine is."""
    vendors = _deck(random.Random(seed), VENDORS, generations)
    return Plan(seed, tuple(Order(n, n / PER_SECOND, vendors[n], RICH[0], ()) for n in range(generations)), ())


def _orders(chance: random.Random, generations: int) -> Iterator[Order]:
    quiet = [""] * round(QUIET_SHARE * len(faults.MARKERS))
    markers, vendors = _deck(chance, [*faults.MARKERS, *quiet], generations), _deck(chance, VENDORS, generations)
    for number in range(generations):
        given = (fault_of(markers[number], chance),) if markers[number] else ()
        if given and chance.random() < 0.2:
            given = (*given, f"delay={chance.choice(VALUES['delay'])}")
        yield Order(
            number=number,
            at_s=number / PER_SECOND,
            vendor=vendors[number],
            tenant=POOR if chance.random() < 0.06 else chance.choice(RICH),
            faults=tuple(dict.fromkeys(given)),
            cancel_after_s=chance.uniform(0, 6) if chance.random() < 0.08 else None,
            terminate_after_s=chance.uniform(0.5, 5) if chance.random() < 0.03 else None,
            repeats=chance.choice((1, 2, 8)) if chance.random() < 0.15 else 0,
            abandoned=chance.random() < 0.02,
        )


def _deck(chance: random.Random, cards: Sequence[str], number: int) -> list[str]:
    """So many cards from shuffled decks: each is dealt once before any comes again."""
    dealt: list[str] = []
    while len(dealt) < number:
        dealt += chance.sample(cards, len(cards))
    return dealt[:number]


def fault_of(marker: str, chance: random.Random) -> str:
    """A marker with a value that it takes. Raises ValueError for a new marker that takes none of those known here."""
    choices = [f"{marker}={value}" for value in VALUES.get(marker, _ANY)]
    alone = [] if marker in VALUES else [marker]
    for fault in [*alone, *chance.sample(choices, len(choices))]:
        if _is_known(fault):
            return fault
    raise ValueError(f"say in tests/chaos/plan.py which values {marker} takes")


def _is_known(fault: str) -> bool:
    try:
        faults.script(f"[[sim:{fault}]]")
    except ValueError:
        return False
    return True


def _blows(chance: random.Random, until_s: float) -> Iterator[Blow]:
    at_s, points = 1.0, _deck(chance, _points(), 1000)
    while at_s < until_s:
        (kind,) = chance.choices(list(_HABITS), [habit.weight for habit in _HABITS.values()])
        habit = _HABITS[kind]
        point = f"{points.pop()}:{chance.choice((1, 1, 1, 3))}"
        target = point if kind == "crash" else chance.choice(habit.targets)
        for_s = chance.uniform(habit.least_s, habit.most_s)
        yield Blow(at_s, kind, target, min(for_s, until_s + AFTERWARDS_S - at_s))
        at_s += chance.expovariate(1 / BLOW_EVERY_S)


def _points() -> list[str]:
    """The crash points of workers and gateways."""
    return [point for point in CRASH_POINTS if point.partition(".")[0] not in _CLIENTS]


def part_of(point: str) -> str:
    """The kind of part in which a crash point lies."""
    phase = re.split(r"[.:]", point)[0]
    return {"persist": "media", "callback": "gateway", "sweep": "gateway"}.get(phase, "worker")
