"""The bench reads what the simulator and the Temporal server write down themselves."""

import time
from pathlib import Path

from bench.journal import Journal as Book
from bench.server import counted
from onetake.dev.simulator.journal import Event, Journal, StatusRead, Submit, Submitted

METRICS = """
# TYPE action counter
action{action_type="command_StartTimer",namespace="default",operation="RespondWorkflowTaskCompleted"} 3
action{action_type="grpc_RecordActivityTaskHeartbeat",namespace="default",service_name="frontend"} 1.2e+03
action{action_type="grpc_StartWorkflowExecution",namespace="temporal_system",service_name="frontend"} 2
action_latency{action_type="command_StartTimer",namespace="default"} 9
"""


def submitted(task_id: str | None, at: float) -> Event:
    rejected = task_id is None
    submit = Submit(
        vendor="apixo",
        received_at=at,
        body_sha256="",
        body_bytes=0,
        prompt_sha256=None,
        accepted=not rejected,
        status=400 if rejected else 200,
        reason="",
        task_id=task_id,
    )
    return Submitted(submit=submit)


def read(task_id: str, at: float) -> Event:
    return StatusRead(task_id=task_id, at=at, status=200)


def write(path: Path, *events: Event) -> None:
    """As the simulator does."""
    with path.open("ab") as file:
        file.writelines(event.model_dump_json().encode() + b"\n" for event in events)


def test_submissions_and_reads_since_the_book_was_opened(tmp_path: Path) -> None:
    path, now = tmp_path / "journal.jsonl", time.time()
    write(path, submitted("before", now))
    book = Book(path)
    write(path, submitted("one", now), submitted(None, now), submitted("two", now + 5))
    book.read()
    write(path, read("one", now + 30), read("two", now + 31), read("one", now + 41))
    book.read()
    book.read()
    assert book.submitted == {"one": now, "two": now + 5}
    assert [book.reads_until("one", age_s) for age_s in (29, 30, 40, 60)] == [0, 1, 1, 2]
    assert [book.reads_until("two", age_s) for age_s in (25, 27)] == [0, 1]


def test_half_a_line_is_read_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.touch()
    book, line = Book(path), submitted("one", 1.0).model_dump_json() + "\n"
    path.write_text(line[:20])
    book.read()
    assert not book.submitted
    path.write_text(line)
    book.read()
    assert book.submitted == {"one": 1.0}


def test_the_names_are_those_of_the_simulators_journal(tmp_path: Path) -> None:
    Journal(tmp_path).close()
    assert Book(tmp_path / "journal.jsonl").submitted == {}


def test_the_servers_actions_by_kind() -> None:
    assert counted(METRICS) == {"command_StartTimer": 3, "grpc_RecordActivityTaskHeartbeat": 1200}
    assert not counted("no metrics here")
