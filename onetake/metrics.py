"""Our own instruments. A process that exports nothing records into nothing.

Every label comes from a closed list: what is not in it is counted as `other`. A tenant, a user, an id or a text of a
request is no label. Workflow code never imports this module: a replay would count again. A counter that nobody has
added to would be absent, and its first step invisible to `increase()`: so those that alerts read begin at zero, with
every value of their labels. Those with too many values for that, as `onetake_generations`, are for dashboards.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from importlib.metadata import version
from itertools import product
from typing import Final, Literal

from temporalio.common import MetricCounter, MetricMeter

from onetake.core.errors import CATALOGUE
from onetake.core.names import PHASES, VENDOR_NAMES, EndStatus, FindingKind, Phase

OTHER: Final = "other"
NONE: Final = "none"

Outcome = Literal["accepted", "rejected", "throttled", "not_sent", "ambiguous"]
Received = Literal["stored", "unknown", "refused", "not_stored"]
MoneyEvent = Literal["hold", "post", "release", "suspense", "overrun"]

OUTCOMES: Final[tuple[Outcome, ...]] = ("accepted", "rejected", "throttled", "not_sent", "ambiguous")
RECEIVED: Final[tuple[Received, ...]] = ("stored", "unknown", "refused", "not_stored")
ENDS: Final[tuple[EndStatus, ...]] = ("completed", "failed", "canceled")
MONEY_EVENTS: Final[tuple[MoneyEvent, ...]] = ("hold", "post", "release", "suspense", "overrun")
FINDINGS: Final[tuple[FindingKind, ...]] = (
    "never_started", "run_closed", "cancel_undelivered", "suspense", "stuck", "lost", "not_looked_at",
)  # fmt: skip
# By SQLSTATE: what may work later by its class; all the rest is a fault of ours.
SQLSTATE_CLASSES: Final = ("08", "25", "26", "28", "3D", "3F", "40", "42", "53", "55", "57", "58", "XX", OTHER)
_VENDORS: Final = (*VENDOR_NAMES, OTHER)
BACKUPS: Final = ("base", "incremental", "archive")

PHASE_BUCKETS_S: Final = (0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)
LAG_BUCKETS_S: Final = (0.01, 0.05, 0.25, 1.0, 5.0, 30.0, 300.0, 3600.0)
BUCKETS: Final[Mapping[str, tuple[float, ...]]] = {
    "onetake_phase_duration": PHASE_BUCKETS_S,
    "onetake_callback_wake_lag": LAG_BUCKETS_S,
}


class Instruments:
    """What one process counts and shows. Nothing here raises, waits or fails what is being counted."""

    def __init__(self, meter: MetricMeter, routes: Collection[str] = ()) -> None:
        self._routes = frozenset(routes)
        counter, gauge = meter.create_counter, meter.create_gauge_float
        self._generations = counter("onetake_generations", "Generations that ended, in all detail.")
        self._ended = counter("onetake_generations_ended", "Generations that ended, as alerts read them.")
        self._phases = meter.create_histogram_timedelta("onetake_phase_duration", "How long a phase took.")
        self._submissions = counter("onetake_submissions", "POSTs by how they ended.")
        self._callbacks = counter("onetake_callbacks", "Callbacks by what became of them.")
        self._lag = meter.create_histogram_timedelta(
            "onetake_callback_wake_lag", "From a callback's arrival to the signal that wakes its run."
        )
        self._money = counter("onetake_money_micros", "Micro-USD by what became of them.")
        self._assets = counter("onetake_assets_bytes", "Bytes of clips that were stored.")
        self._database = counter("onetake_database_errors", "Errors of the database by class of SQLSTATE.")
        self._refusals = counter("onetake_temporal_refusals", "Calls that Temporal refused again and again.")
        self._found = counter("onetake_reconciler_found", "What passes of the reconciler found.")
        self._pass = gauge("onetake_reconciler_last_pass", "When the last good pass ended, in Unix seconds.")
        self._every = gauge("onetake_reconciler_every", "Seconds between passes; 0 when they are made by hand.")
        self._held = gauge("onetake_held_micros", "Micro-USD that are held.")
        self._suspense = gauge("onetake_suspense_micros", "Micro-USD in suspense.")
        self._suspended = gauge("onetake_suspense_count", "Amounts in suspense.")
        self._oldest = gauge("onetake_suspense_oldest_age", "Seconds that the oldest amount has been in suspense.")
        self._open = gauge("onetake_open", "Open generations by phase.")
        self._open_age = gauge("onetake_open_oldest_age", "Seconds since the longest unchanged one was changed.")
        self._paused = gauge("onetake_vendor_paused", "1 while the vendor, or a model of it, is paused.")
        self._drift = gauge("onetake_vendor_cost_drift_micros", "Micro-USD that reports differ beyond the tolerance.")
        self._backup = gauge("onetake_backup_last", "When the last backup ended, in Unix seconds; 0 for never.")
        self._build = gauge("onetake_build_info", "1 for each role that the process serves.")
        self._ends = gauge("onetake_credential_ends", "When a credential for Temporal ends, in Unix seconds.")

    # -- What a process counts -----------------------------------------------------------------------------------------

    def generation_ended(self, route: str, outcome: str, code: str) -> None:
        """A generation has ended: completed, failed or canceled."""
        known = route if route in self._routes else OTHER
        labels = {"vendor": _vendor(route.partition("/")[0]), "outcome": outcome}
        self._ended.add(1, labels)
        self._generations.add(1, {**labels, "route": known, "code": _code(code)})

    def phase_ended(self, phase: Phase, vendor: str, seconds: float) -> None:
        """A phase of a generation has ended, after so many seconds."""
        self._phases.record(timedelta(seconds=max(seconds, 0.0)), {"phase": phase, "vendor": _vendor(vendor)})

    def submitted(self, vendor: str, outcome: Outcome) -> None:
        """A POST is over."""
        self._submissions.add(1, {"vendor": _vendor(vendor), "outcome": outcome})

    def callback(self, vendor: str, result: Received) -> None:
        """A callback was answered."""
        self._callbacks.add(1, {"vendor": _vendor(vendor), "result": result})

    def woken(self, lag_s: float) -> None:
        """A run was woken so many seconds after its callback came."""
        self._lag.record(timedelta(seconds=max(lag_s, 0.0)))

    def money(self, event: MoneyEvent, micros: int) -> None:
        """An amount was held, or became something else."""
        if micros > 0:
            self._money.add(micros, {"event": event})

    def stored(self, size_bytes: int) -> None:
        """Clips of so many bytes were stored."""
        self._assets.add(size_bytes)

    def database_failed(self, sqlstate: str) -> None:
        """The database refused a statement, or was not there."""
        known = sqlstate[:2] if sqlstate[:2] in SQLSTATE_CLASSES else OTHER
        self._database.add(1, {"sqlstate_class": known})

    def temporal_refused(self) -> None:
        """Temporal refuses a call for its rate, also after several repetitions."""
        self._refusals.add(1)

    def credential(self, name: str, ends: float) -> None:
        """A credential for Temporal ends at this Unix time; infinity for never, or for one that does not say."""
        self._ends.set(ends, {"credential": name})

    # -- What one pass of the reconciler shows -------------------------------------------------------------------------

    def passed(self, at: float, found: Iterable[FindingKind]) -> None:
        """A good pass ended at this Unix time."""
        self._pass.set(at)
        for kind in found:
            self._found.add(1, {"found": kind})

    def books(self, held_micros: int, suspense_micros: int, suspended: int, oldest_s: float) -> None:
        """What is held and in suspense."""
        self._held.set(float(held_micros))
        self._suspense.set(float(suspense_micros))
        self._suspended.set(float(suspended))
        self._oldest.set(oldest_s)

    def open(self, by_phase: Mapping[str, tuple[int, float]]) -> None:
        """Open generations by phase: how many, and how long the longest unchanged one is."""
        for phase in PHASES[:-1]:
            count, age_s = by_phase.get(phase, (0, 0.0))
            self._open.set(float(count), {"phase": phase})
            self._open_age.set(age_s, {"phase": phase})

    def vendors(self, paused: Collection[str], drift_micros: Mapping[str, int]) -> None:
        """Which vendors are paused, and by how much their reports have drifted beyond the tolerance."""
        for name in VENDOR_NAMES:
            self._paused.set(float(name in paused), {"vendor": name})
            self._drift.set(float(drift_micros.get(name, 0)), {"vendor": name})

    def backups(self, ended_at: Mapping[str, float]) -> None:
        """When each kind of backup last ended, in Unix seconds."""
        for kind in BACKUPS:
            self._backup.set(ended_at.get(kind, 0.0), {"kind": kind})

    # -- At the start --------------------------------------------------------------------------------------------------

    def begin(self, roles: Collection[str], credentials: Mapping[str, float], pass_every_s: float) -> None:
        """Say what this process is, and let every counter that an alert reads begin at zero. Who orchestrates shows how
        often passes are to be made, also while none is made; 0 for never."""
        for role in roles:
            self._build.set(1.0, {"version": version("onetake"), "role": role})
        for name, ends in credentials.items():
            self.credential(name, ends)
        _zero(self._database, sqlstate_class=SQLSTATE_CLASSES)
        self._refusals.add(0)
        if "gateway" in roles:
            _zero(self._callbacks, vendor=_VENDORS, result=RECEIVED)
        if "vendors" in roles:
            _zero(self._submissions, vendor=_VENDORS, outcome=OUTCOMES)
        if "media" in roles:
            self._assets.add(0)
        if "orchestrate" in roles:
            self._every.set(pass_every_s)
            _zero(self._ended, vendor=_VENDORS, outcome=ENDS)
            _zero(self._money, event=MONEY_EVENTS)
            _zero(self._found, found=FINDINGS)
            for route in self._routes:
                labels = {"vendor": _vendor(route.partition("/")[0]), "route": route, "code": NONE}
                self._generations.add(0, {**labels, "outcome": "completed"})


def _zero(counter: MetricCounter, **values: Iterable[str]) -> None:
    """Let a counter begin at zero with all of these labels."""
    for each in product(*values.values()):
        counter.add(0, dict(zip(values, each, strict=True)))


def _vendor(name: str) -> str:
    return name if name in VENDOR_NAMES else OTHER


def _code(code: str) -> str:
    return (code if code in CATALOGUE else OTHER) if code else NONE


class _Process:
    instruments = Instruments(MetricMeter.noop)


def instruments() -> Instruments:
    """This process's instruments."""
    return _Process.instruments


def record_into(meter: MetricMeter, routes: Collection[str]) -> Instruments:
    """Let this process record into a meter from now on. `routes` are those that may be a label."""
    _Process.instruments = Instruments(meter, routes)
    return _Process.instruments
