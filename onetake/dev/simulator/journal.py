"""The journal: what was received, accepted, charged, refunded, delivered and called back.

Every change is one event; an event is applied in memory and appended to `journal.jsonl`, and the same function reads
the journal at start, so that a job outlives the simulator's process. The journal is flushed to the kernel for every
event: it survives a kill of the process, not a loss of power. States, finishing times and refunds are never stored:
they follow from the clock. Prompts are never stored, only their sha256.

Times are Unix seconds, money is integer micro-USD.
"""

import fcntl
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, BinaryIO, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from onetake.dev.simulator.faults import Fault, Script

JobState = Literal["pending", "processing", "success", "failed"]
PENDING_SHARE = 0.2  # of the render time; processing takes the rest
HOLDING = frozenset({"held", "list-late", "status-down", "status-lost", "refund-late", "asset-away", "asset-slow"})


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Submit(_Frozen):
    """One HTTP submission as it arrived, and what became of it. `status` is None when the connection was closed."""

    vendor: str
    received_at: float
    body_sha256: str
    body_bytes: int
    prompt_sha256: str | None
    accepted: bool
    status: int | None
    reason: str
    task_id: str | None


class Job(_Frozen):
    """What was agreed when a submission was accepted. `echo` is the vendor file's own, never shown in the journal;
    `said` is the request itself, for a vendor that repeats it: it is never written down and ends with the process."""

    vendor: str
    task_id: str
    model: str
    mode: str
    duration_s: int
    resolution: str
    width: int
    height: int
    sound: bool
    charged_micros: int
    refund_if_failed: bool
    callback_url: str | None
    prompt_sha256: str
    prompt_truncated: bool
    created_at: float
    render_s: float
    faults: tuple[Fault, ...]
    echo: dict[str, JsonValue] = {}
    said: dict[str, JsonValue] = Field(default={}, exclude=True)

    @property
    def script(self) -> Script:
        return Script(self.faults)

    @property
    def finished_at(self) -> float | None:
        """When the job ends, or None when it never does, or not before it is released."""
        return None if "never" in self.script or "held" in self.script else self.created_at + self.render_s

    @property
    def fail_code(self) -> str | None:
        fault = self.script.find("fail")
        return fault.value if fault else None

    def released(self, at: float) -> "Job":
        """This job once nothing that its markers ask for holds it up any more."""
        held = "held" in self.script
        faults = tuple(fault for fault in self.faults if fault.name not in HOLDING)
        return self.model_copy(update={"faults": faults, "render_s": at - self.created_at if held else self.render_s})

    def state(self, now: float) -> JobState:
        if self.finished_at is not None and now >= self.finished_at:
            return "failed" if self.fail_code else "success"
        return "pending" if now < self.created_at + PENDING_SHARE * self.render_s else "processing"

    def refunded_micros(self, now: float) -> int:
        if not self.refund_if_failed or self.finished_at is None or self.state(now) != "failed":
            return 0
        late = self.script.find("refund-late")
        return self.charged_micros if late is None or now >= self.finished_at + late.number else 0


class Submitted(_Frozen):
    event: Literal["submit"] = "submit"
    submit: Submit
    job: Job | None = None


class StatusRead(_Frozen):
    """One status read; `status` is None when it got no answer."""

    event: Literal["status"] = "status"
    task_id: str
    at: float
    status: int | None


class StatusRefused(_Frozen):
    """A status read that the vendor answered without looking at the job: it was out, or we were too fast."""

    event: Literal["refused"] = "refused"
    task_id: str
    at: float


class AssetRequested(_Frozen):
    """A GET of the clip, whatever the answer."""

    event: Literal["asset"] = "asset"
    task_id: str
    at: float


class Delivered(_Frozen):
    """The clip was sent up to its last byte (a range that ends there counts)."""

    event: Literal["delivered"] = "delivered"
    task_id: str
    at: float


class CallbackTried(_Frozen):
    """One POST to the callback address. `outcome` is the HTTP status or the kind of failure."""

    event: Literal["callback"] = "callback"
    task_id: str
    at: float
    outcome: str
    acknowledged: bool


class Released(_Frozen):
    """Whatever holds up the jobs of a prompt ended."""

    event: Literal["released"] = "released"
    prompt_sha256: str
    at: float


Event = Annotated[
    Submitted | StatusRead | StatusRefused | AssetRequested | Delivered | CallbackTried | Released,
    Field(discriminator="event"),
]
_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


class Entry:
    """One job and what has happened to it since."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.status_reads = 0
        self.final_reads = 0  # those that were answered after the job's end
        self.last_read_at: float | None = None  # refused ones too
        self.asset_requests = 0
        self.downloads = 0
        self.callbacks: list[CallbackTried] = []

    @property
    def acknowledged(self) -> bool:
        return any(tried.acknowledged for tried in self.callbacks)

    def page(self, now: float) -> dict[str, JsonValue]:
        """The job as the journal shows it: no prompt, and of the callback address only its host."""
        job = self.job
        ended = job.finished_at is not None and now >= job.finished_at
        return {
            **job.model_dump(mode="json", exclude={"callback_url", "echo", "faults"}),
            "faults": [f"{fault.name}={fault.value}".rstrip("=") for fault in job.faults],
            "state": job.state(now),
            "finished_at": job.finished_at if ended else None,
            "fail_code": job.fail_code if ended else None,
            "refunded_micros": job.refunded_micros(now),
            "callback_host": urlsplit(job.callback_url).netloc.rpartition("@")[2] if job.callback_url else None,
            "callbacks": [tried.model_dump(mode="json", exclude={"event", "task_id"}) for tried in self.callbacks],
            "callback_acknowledged": self.acknowledged,
            "status_reads": self.status_reads,
            "last_read_at": self.last_read_at,
            "asset_requests": self.asset_requests,
            "downloads": self.downloads,
        }


class Journal:
    """Everything the simulator knows. `record` is the only way to change it.

    With a folder, raises BlockingIOError when another simulator is using it.
    """

    def __init__(self, home: Path | None = None) -> None:
        self.submits: list[Submit] = []
        self.entries: dict[str, Entry] = {}
        self._answers: Counter[tuple[str, str | None, int | None]] = Counter()
        self._file = self._open(home) if home else None

    def record(self, event: Event) -> None:
        """Apply one event and append it to the journal."""
        if self._file:
            self._file.write(event.model_dump_json().encode() + b"\n")
            self._file.flush()
        self._apply(event)

    def answers(self, vendor: str, prompt_sha256: str, status: int) -> int:
        """How many submissions of this prompt this vendor has answered with this HTTP status."""
        return self._answers[vendor, prompt_sha256, status]

    def spent_micros(self, vendor: str, now: float) -> int:
        """What this vendor has charged, less what it has refunded."""
        jobs = [entry.job for entry in self.entries.values() if entry.job.vendor == vendor]
        return sum(job.charged_micros - job.refunded_micros(now) for job in jobs)

    def of_prompt(self, prompt_sha256: str) -> list[Entry]:
        """The jobs of this prompt."""
        return [entry for entry in self.entries.values() if entry.job.prompt_sha256 == prompt_sha256]

    def running(self, vendor: str, now: float) -> int:
        """How many jobs of this vendor have not ended."""
        jobs = (entry.job for entry in reversed(self.entries.values()) if entry.job.vendor == vendor)
        return sum(job.finished_at is None or now < job.finished_at for job in jobs)

    def page(self, now: float, vendor: str | None = None) -> dict[str, JsonValue]:
        """The whole journal, or one vendor's part of it: `submits`, `jobs`, `totals`."""
        submits = [submit for submit in self.submits if vendor in (None, submit.vendor)]
        entries = [entry for entry in self.entries.values() if vendor in (None, entry.job.vendor)]
        return {
            "submits": [submit.model_dump(mode="json") for submit in submits],
            "jobs": [entry.page(now) for entry in entries],
            "totals": {**_totals(submits, entries, now)},
        }

    def close(self) -> None:
        if self._file:
            self._file.close()

    def _open(self, home: Path) -> BinaryIO:
        home.mkdir(parents=True, exist_ok=True)
        file = (home / "journal.jsonl").open("a+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.truncate(self._read(file))
        except BaseException:
            file.close()
            raise
        return file

    def _read(self, file: BinaryIO) -> int:
        """Apply the journal; return the length that is whole (a kill may have left half a line at the end)."""
        file.seek(0)
        whole = 0
        for number, line in enumerate(file, start=1):
            if line.endswith(b"\n"):
                self._apply(_read_event(line, number))
                whole += len(line)
        return whole

    def _apply(self, event: Event) -> None:
        match event:
            case Submitted():
                self._apply_submit(event)
            case StatusRead():
                self._apply_status_read(event)
            case StatusRefused():
                self.entries[event.task_id].last_read_at = event.at
            case AssetRequested():
                self.entries[event.task_id].asset_requests += 1
            case Delivered():
                self.entries[event.task_id].downloads += 1
            case CallbackTried():
                self.entries[event.task_id].callbacks.append(event)
            case Released():
                for entry in self.of_prompt(event.prompt_sha256):
                    entry.job = entry.job.released(event.at)

    def _apply_status_read(self, event: StatusRead) -> None:
        entry = self.entries[event.task_id]
        ended = entry.job.finished_at is not None and event.at >= entry.job.finished_at
        entry.last_read_at = event.at
        entry.status_reads += 1
        entry.final_reads += ended and event.status == 200

    def _apply_submit(self, event: Submitted) -> None:
        submit = event.submit
        self.submits.append(submit)
        self._answers[submit.vendor, submit.prompt_sha256, submit.status] += 1
        if event.job:
            self.entries[event.job.task_id] = Entry(event.job)


def _read_event(line: bytes, number: int) -> Event:
    try:
        return _EVENT.validate_json(line)
    except ValidationError as error:
        raise ValueError(f"line {number} of the simulator's journal cannot be read; move the folder away") from error


def _totals(submits: list[Submit], entries: Iterable[Entry], now: float) -> Mapping[str, int]:
    totals: Counter[str] = Counter(
        {"submits": len(submits), "accepted": sum(submit.accepted for submit in submits)}
        | dict.fromkeys(("jobs", "pending", "processing", "success", "failed", "delivered"), 0)
        | dict.fromkeys(("charged_micros", "refunded_micros", "callbacks_tried", "callbacks_acknowledged"), 0)
    )
    for entry in entries:
        totals["jobs"] += 1
        totals[entry.job.state(now)] += 1
        totals["delivered"] += entry.downloads > 0
        totals["charged_micros"] += entry.job.charged_micros
        totals["refunded_micros"] += entry.job.refunded_micros(now)
        totals["callbacks_tried"] += len(entry.callbacks)
        totals["callbacks_acknowledged"] += entry.acknowledged
    return totals
