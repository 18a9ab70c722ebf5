"""Each invariant bites: evidence that is right passes, and the same evidence with one thing doctored does not."""

from dataclasses import replace
from types import ModuleType
from typing import Any, Final

import pytest

from onetake.core.contracts import GenerationRequest
from tests.chaos import histories
from tests.chaos.evidence import (
    Answer,
    Change,
    Correction,
    Entry,
    Evidence,
    Generation,
    Hold,
    Intent,
    Repeat,
    Run,
    Seen,
    Stored,
)
from tests.chaos.invariants import INVARIANTS, broken
from tests.providers.parts import plan_of, request_for
from workflows import options

ID: Final = "gen_1"
KEY: Final = f"acme/{ID}/1/0.mp4"
PRICE: Final = 200_000
REQUEST: Final = GenerationRequest.model_validate(request_for().model_dump() | {"tenant": "acme", "prompt": "a fox"})
PLAN: Final = plan_of(request_for())
PINNED: Final = PLAN.model_copy(update={"price": PLAN.price.model_copy(update={"amount_micros": PRICE})})
ASSET: Final = {"key": KEY, "sha256": "aa", "size_bytes": 5, "content_type": "video/mp4"}

GENERATION: Final = Generation(
    id=ID,
    tenant="acme",
    workflow_id=f"gen/acme/{ID}",
    vendor="apixo",
    status="completed",
    phase="done",
    error_code=None,
    basis="pinned_price",
    vendor_task_id="task_1",
    request=REQUEST,
    plan=PINNED,
    assets=[ASSET],
    created_at=100.0,
    ended_at=110.0,
)
HOLD: Final = Hold(ID, PRICE, "posted", PRICE, [1], PINNED.price.table_version, 101.0)
JOURNAL: Final = [
    Entry(1, ID, "hold", PRICE, [800_000], 101.0),
    Entry(2, ID, "post", PRICE, [800_000], 110.0),
]
JOB: Final[dict[str, Any]] = {
    "task_id": "task_1",
    "prompt_sha256": GENERATION.prompt_sha256,
    "charged_micros": PRICE,
    "refunded_micros": 0,
    "state": "success",
    "created_at": 103.0,
    "finished_at": 109.0,
    "last_read_at": 109.0,
    "faults": [],
    "callbacks": [],
}
SUBMIT: Final[dict[str, Any]] = {
    "vendor": "apixo",
    "prompt_sha256": GENERATION.prompt_sha256,
    "received_at": 103.0,
    "status": 200,
}
RUN: Final = Run(GENERATION.workflow_id, "run", "Generation", "completed", 100.0, 28, b"events")


def sound() -> Evidence:
    """One generation, completed, with nothing wrong about it."""
    return Evidence(
        taken_at=120.0,
        time_scale=1.0,
        generations=[GENERATION],
        holds=[HOLD],
        journal=JOURNAL,
        intents=[Intent(ID, "apixo", "accepted", "task_1", 1, 102.0)],
        changes=[Change(ID, "queued", "in_progress", 1, 2), Change(ID, "in_progress", "completed", 2, 9)],
        limits={1: 1_000_000},
        submits=[SUBMIT],
        jobs=[JOB],
        objects=[Stored(KEY, "aa", 5, "video/mp4"), Stored(f"acme/{ID}/1/manifest.json", "bb", 9, "")],
        runs=[RUN],
        logs={"worker.log": b'{"event": "worker_started"}'},
        rows={"event": b"{}"},
        secrets={"key": "sim-apixo-key"},
        prompt="canary-of-the-lighthouse",
        connects=frozenset({"127.0.0.1:1"}),
        allowed=frozenset({"127.0.0.1:1"}),
        before_second_pass=["a"],
        after_second_pass=["a"],
        prices={ID: (PRICE, PINNED.price.table_version)},
        seen=Seen(
            etags={KEY: {"one"}},
            commands={"onetake worker"},
            answers=[Answer("forged", 404, b"")],
            repeats=[Repeat("acme", "key", "gen_1"), Repeat("acme", "key", "gen_1")],
            calm={ID},
        ),
    )


def of_generation(**fields: Any) -> Evidence:
    return replace(sound(), generations=[replace(GENERATION, **fields)])


def of_hold(**fields: Any) -> Evidence:
    return replace(sound(), holds=[replace(HOLD, **fields)])


def with_entry(kind: str, amount_micros: int = PRICE) -> Evidence:
    return replace(sound(), journal=[*JOURNAL, Entry(3, ID, kind, amount_micros, [0], 111.0)])


def of_job(**fields: Any) -> Evidence:
    return replace(sound(), jobs=[JOB | fields])


def of_run(**fields: Any) -> Evidence:
    return replace(sound(), runs=[replace(RUN, **fields)])


def of_seen(**fields: Any) -> Evidence:
    return replace(sound(), seen=replace(sound().seen, **fields))


def ledger_says(line: str) -> Evidence:
    return replace(sound(), ledger=[line])


HELD: Final = {"state": "held", "actual_micros": None}
ELSE: Final = replace(RUN, workflow_id="recover/acme/gen_1", kind="Recovery", status="running")

DOCTORED: Final[dict[str, tuple[str, Evidence]]] = {
    "a hold above the limit": ("I1", replace(sound(), limits={1: PRICE - 1})),
    "an entry without a hold": ("I1", replace(sound(), holds=[])),
    "the database finds a budget below zero": ("I1", ledger_says("I1 a hold took a budget below zero: gen_1")),
    "half of a hold is unaccounted for": (
        "I2",
        replace(sound(), journal=[JOURNAL[0], replace(JOURNAL[1], amount_micros=PRICE // 2)]),
    ),
    "an overrun beside half a post": (
        "I2",
        replace(
            sound(),
            journal=[
                JOURNAL[0],
                replace(JOURNAL[1], amount_micros=PRICE // 2),
                Entry(3, ID, "release", PRICE // 2, [0], 110.0),
                Entry(4, ID, "overrun", 1, [0], 110.0),
            ],
        ),
    ),
    "the database cannot add up": ("I2", ledger_says("I2 the journal does not add up to the hold: gen_1 #1")),
    "posted and suspended": ("I3", with_entry("suspense")),
    "decided without suspense": ("I3", with_entry("suspense_resolved")),
    "the database finds two resolutions": ("I3", ledger_says("I3 the hold and its journal disagree: gen_1 #1")),
    "released although it may have been sent": ("I3", ledger_says("F035 released although: gen_1 #1")),
    "a second job": ("I4", replace(sound(), jobs=[JOB, JOB | {"task_id": "task_2", "charged_micros": 0}])),
    "another job's id": ("I4", of_generation(vendor_task_id="task_9")),
    "a job of nobody": ("I4", of_job(prompt_sha256="??")),
    "bytes before the hold": ("I5", replace(sound(), submits=[SUBMIT | {"received_at": 100.5}])),
    "bytes without a hold": ("I5", replace(sound(), journal=[], holds=[])),
    "more arrivals than intents": ("I5", replace(sound(), submits=[SUBMIT, SUBMIT])),
    "completed without a clip": ("I6", of_generation(assets=[])),
    "the clip is not there": ("I6", replace(sound(), objects=[])),
    "the clip is another": ("I6", of_generation(assets=[ASSET | {"sha256": "cc"}])),
    "the clip is of another type": ("I6", of_generation(assets=[ASSET | {"content_type": "text/html"}])),
    "the clip is another tenant's": ("I6", of_generation(tenant="globex")),
    "a hold that nobody serves": ("I7", replace(of_hold(**HELD, created_at=-50.0), runs=[])),
    "a hold whose run is closed": ("I7", replace(of_hold(**HELD, created_at=-50.0), runs=[RUN])),
    "a run that is open for ever": ("I8", of_run(status="running", started_at=-200_000.0)),
    "a recovery that is open for ever": ("I8", replace(sound(), runs=[replace(ELSE, started_at=-200_000.0)])),
    "charged more than is booked": ("I9", of_job(charged_micros=PRICE + 1)),
    "posted more than was charged": ("I9", of_job(charged_micros=PRICE - 1)),
    "charged and released": ("I9", of_hold(state="released", actual_micros=None)),
    "an end that changes": ("I10", replace(sound(), changes=[Change(ID, "completed", "failed", 9, 9)])),
    "a phase that moves back": ("I10", replace(sound(), changes=[Change(ID, "in_progress", "in_progress", 5, 4)])),
    "corrected twice": ("I10", replace(sound(), corrections=[Correction(ID, "failed", "completed")] * 2)),
    "an object that was gone for a while": ("I6", of_seen(vanished={KEY})),
    "an object replaced": ("I12", of_seen(etags={KEY: {"one", "two"}})),
    "an object of nobody": (
        "I12",
        replace(sound(), objects=[*sound().objects, Stored("acme/x/1/0.mp4", "", 1, "")]),
    ),
    "an object of one that failed": ("I12", of_generation(status="failed", assets=[])),
    "a key in a log": ("I13", replace(sound(), logs={"worker.log": b"Bearer sim-apixo-key"})),
    "a key in a history, in base64": ("I13", of_run(raw=b"eHh4c2ltLWFwaXhvLWtleXh4eA==")),
    "a key in a table": ("I13", replace(sound(), rows={"event": b'{"detail": "sim-apixo-key"}'})),
    "a key in an answer": ("I13", of_seen(answers=[Answer("forged", 404, b"sim-apixo-key")])),
    "a key on a command line": ("I13", of_seen(commands={"onetake --key sim-apixo-key"})),
    "a prompt in a log": ("I14", replace(sound(), logs={"worker.log": b"a canary-of-the-lighthouse sang"})),
    "a prompt in a history": ("I14", of_run(raw=b"a canary-of-the-lighthouse sang")),
    "a strange address": ("I16", replace(sound(), connects=frozenset({"169.254.169.254:80"}))),
    "a history that does not replay": ("I17", of_run(replay_failure="NondeterminismError")),
    "a history of many events": ("I18", of_run(events=10_240)),
    "a history of many bytes": ("I18", of_run(raw=bytes(10 * 1024 * 1024))),
    "a usual history that is long": ("I18", of_run(events=120)),
    "a repeat that is told something else": (
        "I21",
        of_seen(repeats=[Repeat("acme", "key", "gen_1"), Repeat("acme", "key", "gen_2")]),
    ),
    "an upload left behind": ("I22", replace(sound(), uploads=["acme/gen_1/1/0.mp4"])),
    "a file left behind": ("I22", replace(sound(), spool=["onetake-abc"])),
    "slow although nothing was broken": ("I23", of_generation(ended_at=900.0)),
    "failed although nothing was broken": ("I23", of_generation(status="failed", error_code="internal_error")),
    "never ended": ("I24", of_generation(status="in_progress", phase="generating", ended_at=None)),
    "a second pass that acts": ("I25", replace(sound(), after_second_pass=["a", "b"])),
    "an answer of 500": ("I27", of_seen(answers=[Answer("forged", 500, b"")])),
    "an answer that quotes an exception": ("I27", of_seen(answers=[Answer("forged", 400, b"ValueError: no")])),
    "a hold of another price": ("I28", replace(of_hold(amount_micros=1), prices={ID: (1, HOLD.price_version)})),
    "a price that is computed otherwise": ("I28", replace(sound(), prices={ID: (PRICE, "another table")})),
    "too late, and never asked": ("I31", of_generation(status="failed", error_code="vendor_timeout", assets=[])),
    "throttled by nobody": ("I31", of_generation(status="failed", error_code="vendor_throttled", assets=[])),
    "nobody watched the sockets": ("looked", replace(sound(), connects=frozenset())),
    "nobody watched the bucket": ("looked", of_seen(etags={})),
    "paid for and gone": ("lost", replace(of_hold(state="released", actual_micros=None), generations=[
        replace(GENERATION, status="failed", assets=[])])),
    "there to be had": ("found", of_generation(status="failed", error_code="vendor_timeout", assets=[])),
}  # fmt: skip


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    # I19 reads the code and not the evidence.
    assert {number: found for number, found in broken(sound()).items() if number != "I19"} == {}


@pytest.mark.parametrize("what", DOCTORED)
def test_a_doctored_world_is_noticed(what: str) -> None:
    number, evidence = DOCTORED[what]
    assert INVARIANTS[number](evidence), f"{number} does not notice: {what}"


def test_every_invariant_has_been_seen_to_fail() -> None:
    assert {number for number, _ in DOCTORED.values()} | {"I19"} == set(INVARIANTS)


def test_what_a_recovery_may_still_take_is_no_rubbish() -> None:
    failed = of_generation(status="failed", assets=[])
    assert INVARIANTS["I12"](replace(failed, runs=[RUN, ELSE])) == []


def with_anothers_id(**other: Any) -> Evidence:
    """The vendor answered the POST with the id of a job that it had made just before for somebody else."""
    jobs = [
        JOB | {"faults": ["submit-other-id"]},
        JOB | {"task_id": "task_0", "prompt_sha256": "other", "created_at": 102.5} | other,
    ]
    return replace(of_generation(vendor_task_id="task_0"), jobs=jobs)


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"callbacks": [{"at": 109.5, "acknowledged": True}]}, True),
        ({"created_at": 2.0}, True),
        ({"callbacks": [{"at": 109.5, "acknowledged": False}]}, False),
        ({"callbacks": [{"at": 110.5, "acknowledged": True}]}, False),
    ],
    ids=["by a callback", "by its age", "by a callback that nobody took", "by a callback after the end"],
)
def test_anothers_job_is_known_as_such_by_who_was_told(other: dict[str, Any], told: bool) -> None:
    believes = f"{ID}: believes in task_0, its job is task_1"
    assert (believes in INVARIANTS["I4"](with_anothers_id(**other))) == told


def test_who_could_not_ask_for_an_hour_may_end_by_its_deadline() -> None:
    ended_at = 103.0 + options.kept_away_s(PINNED, PINNED.deadline_s)
    absent = of_generation(status="failed", error_code="vendor_timeout", assets=[], ended_at=ended_at)
    assert INVARIANTS["I31"](absent) == []


def test_a_recorded_correction_is_no_change_of_an_end() -> None:
    changed = replace(
        sound(),
        changes=[Change(ID, "failed", "completed", 9, 9)],
        corrections=[Correction(ID, "failed", "completed")],
    )
    assert INVARIANTS["I10"](changed) == []


@pytest.mark.parametrize("missing", ["heartbeat_timeout", "schedule_to_close_timeout"])
def test_an_activity_that_may_hang_is_noticed(missing: str) -> None:
    def persist() -> dict[str, Any]:
        made = histories.make(PLAN, options.persist)
        return {name: value for name, value in made.items() if name != missing}

    module = ModuleType("options")
    persist.__module__ = module.__name__
    vars(module)["persist"] = persist
    assert [line.partition(":")[0] for line in histories.i19(module)] == ["persist"]


def test_no_activity_may_hang() -> None:
    assert histories.i19() == []
