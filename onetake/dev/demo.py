"""Four short stories through the public client, each with what must be true at its end.

*finished*: a clip, woken by the vendor's callback long before the next poll. *refused*: a budget is too small and
nothing is sent. *rejected*: the vendor says no and the hold is released. *all five vendors*: one clip each, side by
side, with a contact sheet. Everything a story claims is looked up: in the
run's history, the simulator's journal, the ledger, the bucket. It brings nothing up and must never meet a real vendor.
"""

import asyncio
import hashlib
import json
import secrets
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent

from onetake.client import Onetake
from onetake.client.progress import ProgressLine, Together, follow
from onetake.core.contracts import GenerationRecord, GenerationRequest
from onetake.core.money import format_usd
from onetake.core.settings import Settings
from onetake.dev.contact_sheet import write_contact_sheet
from onetake.engine.temporal import connect
from onetake.ledger.budgets import Budgets
from onetake.ledger.database import Database
from onetake.ledger.holds import PostgresLedger
from providers.catalogue import load_catalogue

ROUTE: Final = "apixo/wan-2.6/text-to-video"
DURATION_S: Final = 5
RESOLUTION: Final = "720p"
PIXELS: Final = (1280, 720)
STORY_LIMIT_S: Final = 120.0
SMALL_BUDGET_MICROS: Final = 100_000
TOLERANCE_S: Final = 0.5
ALL_VENDORS: Final = "all five vendors"


@dataclass(frozen=True)
class Story:
    """How one story ended: its result document, what to show of it, and what is not as it must be."""

    name: str
    record: GenerationRecord
    facts: dict[str, str]
    broken: tuple[str, ...]

    @property
    def document(self) -> dict[str, Any]:
        return {**self.record.model_dump(mode="json"), "story": self.name}


class Simulator:
    """The simulator's own journal: the truth about what a vendor received."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def counts(self) -> Counter[str]:
        """How many submissions it has seen, and how many jobs it has accepted."""
        answer = await self._http.get("/journal", params={"vendor": "apixo"})
        journal = answer.raise_for_status().json()
        return Counter(submits=len(journal["submits"]), jobs=len(journal["jobs"]))


@dataclass(frozen=True)
class Stage:
    """What a story needs. The tenant is new in each run, so that no budget of an earlier one matters."""

    onetake: Onetake
    database: Database
    simulator: Simulator
    tenant: str
    folder: Path

    def request(self, prompt: str, feature: str | None = None) -> GenerationRequest:
        return GenerationRequest(
            route=ROUTE,
            prompt=prompt,
            duration_s=DURATION_S,
            resolution=RESOLUTION,
            tenant=self.tenant,
            feature=feature,
        )

    async def run(self, name: str, request: GenerationRequest) -> GenerationRecord:
        """Start it and follow it to its end."""
        line = ProgressLine(f"{name:<9}")
        try:
            started = await self.onetake.start(request)
            return await follow(self.onetake.watch(started.id, STORY_LIMIT_S), line)
        finally:
            line.close()


async def play(settings: Settings, simulator_url: str, folder: Path) -> list[Story]:
    """Play all four; write `result.json`, the clips and `contact-sheet.jpg` into the folder. Raises OnetakeError."""
    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - nothing else runs yet
    async with (
        Onetake.connect(settings) as onetake,
        httpx.AsyncClient(base_url=simulator_url, trust_env=False, timeout=10) as http,
    ):
        database = await Database.connect(settings.database_url.get_secret_value(), pool_size=1)
        try:
            stage = Stage(onetake, database, Simulator(http), f"demo-{secrets.token_hex(4)}", folder)
            stories = [await finished(stage), await refused(stage), await rejected(stage), *await all_vendors(stage)]
        finally:
            await database.close()
    documents = [story.document for story in stories]
    (folder / "result.json").write_text(json.dumps(documents, indent=2) + "\n")
    return stories


async def finished(stage: Stage) -> Story:
    """A clip, and proof that the callback woke it."""
    record = await stage.run("finished", stage.request("A red kite over a harbour at dawn, slow pan, soft light."))
    facts, broken = {}, []
    if record.assets:
        asset = record.assets[0]
        clip = await stage.onetake.download(record.id, stage.folder / "finished.mp4")
        wake = wake_of(await _history(stage.onetake.settings, record.workflow_id))
        broken = [*_broken_clip(record), *wake.broken, *await _broken_link(asset.url, asset.sha256)]
        facts = {
            "clip": str(clip.absolute()),
            "link": asset.url or "",
            "sha256": asset.sha256,
            "seconds": f"{asset.duration_s:g}",
            "pixels": f"{asset.width}x{asset.height}",
            "woken": wake.sentence,
        }
    if record.status != "completed":
        broken.append(f"it ended as {record.status} {record.error.code if record.error else ''}".rstrip())
    return _story("finished", record, facts, broken)


async def refused(stage: Stage) -> Story:
    """A budget that is too small: nothing is sent, nothing is held."""
    feature = "small-budget"
    await Budgets(stage.database).set_budget("feature", f"{stage.tenant}/{feature}", "total", SMALL_BUDGET_MICROS)
    before = await stage.simulator.counts()
    record = await stage.run("refused", stage.request("This clip is not in the budget.", feature))
    sent = await stage.simulator.counts() - before
    entries = await PostgresLedger(stage.database).entries(record.id)
    facts = {
        "budget": f"{format_usd(SMALL_BUDGET_MICROS)} in total for the feature",
        "sent": f"{sent['submits']} submissions in the vendor's journal",
    }
    broken = [
        *_unless(_code(record) == "budget_exceeded", f"it ended with {_code(record)}"),
        *_unless(not sent, f"the vendor's journal grew by {dict(sent)}"),
        *_unless(not entries, "the ledger has entries"),
    ]
    return _story("refused", record, facts, broken)


async def rejected(stage: Stage) -> Story:
    """The vendor refuses the submission: one POST, no job, and the whole hold comes back."""
    before = await stage.simulator.counts()
    record = await stage.run("rejected", stage.request("[[sim:reject=400]] The vendor refuses this one."))
    sent = await stage.simulator.counts() - before
    entries = await PostgresLedger(stage.database).entries(record.id)
    kinds = [entry.kind for entry in entries]
    facts = {
        "ledger": ", ".join(f"{entry.kind} {format_usd(entry.amount_micros)}" for entry in entries),
        "sent": f"{sent['submits']} submission, {sent['jobs']} jobs in the vendor's journal",
    }
    broken = [
        *_unless(_code(record) == "vendor_rejected", f"it ended with {_code(record)}"),
        *_unless(kinds == ["hold", "release"], f"the ledger says {kinds}"),
        *_unless(len({entry.amount_micros for entry in entries}) == 1, "the hold was not released whole"),
        *_unless(sent == Counter(submits=1), f"the vendor's journal grew by {dict(sent)}"),
    ]
    return _story("rejected", record, facts, broken)


async def all_vendors(stage: Stage) -> list[Story]:
    """One clip from each vendor, side by side: the same request, the same workflow, five dialects."""
    line = Together("all five")
    vendors = sorted(load_catalogue().vendors)
    records = await asyncio.gather(*(_one_of_all(stage, vendor, line) for vendor in vendors))
    clips = {
        vendor: await stage.onetake.download(record.id, stage.folder / f"{vendor}.mp4")
        for vendor, record in zip(vendors, records, strict=True)
        if record.assets
    }
    sheet = stage.folder / "contact-sheet.jpg"
    if clips:
        await asyncio.to_thread(write_contact_sheet, clips, sheet)
    stories: list[Story] = []
    for vendor, record in zip(vendors, records, strict=True):
        shown = {"vendor": vendor, "clip": str(clips.get(vendor, "none")), "contact sheet": str(sheet.absolute())}
        complete = _unless(record.status == "completed", f"{vendor} ended as {record.status} {_code(record)}")
        broken = [*complete, *(_broken_clip(record) if record.assets else ["there is no clip"])]
        stories.append(_story(ALL_VENDORS, record, shown, broken))
    return stories


async def _one_of_all(stage: Stage, vendor: str, line: Together) -> GenerationRecord:
    request = stage.request(f"A paper boat on a mountain lake, seen by {vendor}.")
    request = request.model_copy(update={"route": f"{vendor}/wan-2.6/text-to-video"})
    started = await stage.onetake.start(request)
    last: GenerationRecord | None = None
    async for record in stage.onetake.watch(started.id, STORY_LIMIT_S):
        line.show(vendor, record)
        last = record
    assert last is not None
    return last


def _story(name: str, record: GenerationRecord, facts: dict[str, str], broken: Sequence[str]) -> Story:
    cost = record.cost
    shown = {
        "id": record.id,
        "status": record.status,
        **({"error": f"{record.error.code}: {record.error.message}"} if record.error else {}),
        **facts,
        "cost": f"reserved {format_usd(cost.reserved_micros)}, settled {format_usd(cost.settled_micros)}",
        "run": record.ui_url or record.workflow_id,
    }
    return Story(name, record, shown, tuple(broken))


def _broken_clip(record: GenerationRecord) -> list[str]:
    asset, cost = record.assets[0], record.cost
    return [
        *_unless(abs(asset.duration_s - DURATION_S) <= TOLERANCE_S, f"the clip lasts {asset.duration_s:g} s"),
        *_unless((asset.width, asset.height) == PIXELS, f"the clip has {asset.width}x{asset.height} pixels"),
        *_unless(cost.settled_micros == cost.reserved_micros > 0, "what was settled is not what was reserved"),
        *_unless(not cost.suspense_micros, "an amount is in suspense"),
    ]


async def _broken_link(url: str | None, sha256: str) -> list[str]:
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
        answer = await http.get(url or "")
    same = answer.status_code == 200 and hashlib.sha256(answer.content).hexdigest() == sha256
    return _unless(same, f"the signed link answers {answer.status_code} or other bytes")


def _code(record: GenerationRecord) -> str:
    return record.error.code if record.error else record.status


def _unless(holds: bool, complaint: str) -> list[str]:
    return [] if holds else [complaint]


# -- What woke it ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Wake:
    """What ended the wait of a run, as its history tells: the events of the first signal, of the timer that it
    interrupted, and of the step that asked the vendor afterwards."""

    signal: int | None
    timer: int | None
    asked: int | None

    @property
    def broken(self) -> list[str]:
        """Empty when the callback woke the run: the timer for the next read was still running, and then it asked."""
        return [
            *_unless(self.signal is not None, "no callback came"),
            *_unless(self.timer is not None, "no timer was running that it could have interrupted"),
            *_unless(self.asked is not None, "the vendor was not asked afterwards"),
        ]

    @property
    def sentence(self) -> str:
        if self.broken:
            return "not by the callback"
        return (
            f"by the vendor's callback: signal is event {self.signal}, the step that asked the vendor is event"
            f" {self.asked}; the timer of event {self.timer}, for the next read, was still running"
        )


def wake_of(events: Iterable[HistoryEvent]) -> Wake:
    """Read a history: the first signal, the timer canceled after it, and the first activity after that."""
    signal = timer = asked = None
    for event in events:
        match event.event_type:
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
                signal = signal or event.event_id
            case EventType.EVENT_TYPE_TIMER_CANCELED if signal:
                timer = timer or event.timer_canceled_event_attributes.started_event_id
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED if signal:
                asked = asked or event.event_id
            case _:
                pass
    return Wake(signal, timer, asked)


async def _history(settings: Settings, workflow_id: str) -> list[HistoryEvent]:
    client = await connect(settings)
    return [event async for event in client.get_workflow_handle(workflow_id).fetch_history_events()]
