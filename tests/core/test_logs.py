"""One line for each event, allow-listed fields, and no secret in any of them."""

import ast
import io
import json
import logging
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from onetake.core import logs
from onetake.core.settings import load_settings

CANARY = "canary-51f0c3d2"
ROOT = Path(logs.__file__).parents[2]
OURS = ("onetake", "activities", "providers", "workflows")


class Lines(io.StringIO):
    """What was logged, one decoded object a line."""

    def read_all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]

    def only(self) -> dict[str, Any]:
        [line] = self.read_all()
        return line


@pytest.fixture
def lines() -> Generator[Lines]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = Lines()
    logs.configure("debug", stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)


def test_an_event_is_one_json_line_with_its_bound_ids(lines: Lines) -> None:
    with logs.bound(generation_id="gen_1", workflow_id="gen/acme/gen_1", attempt=1, vendor=None):
        logs.logger("onetake.x").info("submitted", vendor_task_id="t-1")
    logs.logger("onetake.x").info("after")
    line, after = lines.read_all()
    assert line["event"] == "submitted"
    assert (line["generation_id"], line["attempt"], line["vendor_task_id"]) == ("gen_1", 1, "t-1")
    assert line["level"] == "info"
    assert "vendor" not in line
    assert "generation_id" not in after


def test_fields_nobody_listed_are_dropped_and_counted(lines: Lines) -> None:
    logs.logger("onetake.x").info("submitted", prompt=CANARY, payload={"prompt": CANARY}, code="ok")
    line = lines.only()
    assert (line["dropped"], line["code"]) == (2, "ok")
    assert CANARY not in lines.getvalue()


LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}


def _is_a_level(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr in LEVELS and ast.unparse(node.value) == "_log"


def _given_fields(tree: ast.AST) -> Iterator[str]:
    """The fields of every call of a module's `_log`, also of one of its methods that has got a name of its own."""
    named = {
        ast.unparse(node.targets[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and any(_is_a_level(each) for each in ast.walk(node.value))
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (_is_a_level(node.func) or ast.unparse(node.func) in named):
            yield from (each.arg for each in node.keywords if each.arg)
            spread = (each.value for each in node.keywords if each.arg is None)
            yield from (
                ast.literal_eval(key) for each in spread if isinstance(each, ast.Dict) for key in each.keys if key
            )


def test_no_field_that_we_write_is_dropped() -> None:
    modules = [path for folder in OURS for path in (ROOT / folder).rglob("*.py")]
    given = {str(path): set(_given_fields(ast.parse(path.read_text()))) for path in modules}
    assert {"deployment", "build", "current"} <= set().union(*given.values())
    dropped = {name: fields - logs.FIELDS - {"exc_info"} for name, fields in given.items()}
    assert {name: fields for name, fields in dropped.items() if fields} == {}


def test_libraries_pass_through_the_same_chain(lines: Lines) -> None:
    extra = {"temporal_workflow": {"workflow_id": "w", "run_id": "r", "input": CANARY}, "prompt": CANARY}
    logging.getLogger("temporalio.worker").warning("slow %s", "task", extra=extra)
    line = lines.only()
    assert (line["event"], line["logger"], line["workflow_id"]) == ("slow task", "temporalio.worker", "w")
    assert CANARY not in lines.getvalue()


def test_libraries_that_write_payloads_and_addresses_are_quiet(lines: Lines) -> None:
    logging.getLogger("temporalio.activity").debug("Completing activity with completion: %s", CANARY)
    logging.getLogger("httpx").info('HTTP Request: GET https://cdn.example/%s "HTTP/1.1 200 OK"', CANARY)
    logging.getLogger("uvicorn.access").info("POST /callbacks/apixo/%s", CANARY)
    assert lines.getvalue() == ""


@pytest.mark.parametrize(
    "text",
    [
        f"GET https://cdn.example/clip.mp4?X-Amz-Signature={CANARY}",
        f"https://user:{CANARY}@vendor.example/v1",
        f"postgresql://onetake:{CANARY}@db:5432/onetake",
        f"postgresql://{CANARY}@db",
        f"s3://bucket/{CANARY}",
        f"Authorization: Bearer {CANARY}",
        f"{{'authorization': 'Bearer {CANARY}'}}",
        f"api_key={CANARY}&x=1",
        f'"api-key": "{CANARY}"',
        f"ONETAKE_APIXO_API_KEY={CANARY}",
        f"aws_secret_access_key = {CANARY}",
        f"POST /callbacks/apixo/{CANARY} HTTP/1.1",
    ],
)
def test_links_and_keys_are_masked_wherever_they_stand(lines: Lines, text: str) -> None:
    logs.logger("onetake.x").warning("failed", detail=text)
    logging.getLogger("alembic").warning(text)
    assert CANARY not in lines.getvalue()
    assert lines.getvalue().count("[masked]") >= 2


def test_a_registered_secret_is_masked_in_every_form(lines: Lines) -> None:
    logs.mask(f"{CANARY}+/=")
    logs.logger("onetake.x").info(f"got {CANARY}+/= and {CANARY}%2B%2F%3D")
    assert CANARY not in lines.getvalue()


def test_every_secret_of_the_settings_can_be_masked_at_once(lines: Lines) -> None:
    logs.mask_secrets(load_settings(apixo_api_key=f"{CANARY}-1", codec_old_keys=(f"{CANARY}-2",)))
    logs.logger("onetake.x").info(f"{CANARY}-1 {CANARY}-2")
    assert lines.only()["event"] == "[masked] [masked]"


def test_hosts_and_plain_words_stay(lines: Lines) -> None:
    logs.logger("onetake.x").info("no answer", address="http://127.0.0.1:8080", detail="the token bucket is empty")
    line = lines.only()
    assert (line["address"], line["detail"]) == ("http://127.0.0.1:8080", "the token bucket is empty")


def test_hostile_text_stays_on_one_line_is_escaped_and_cut(lines: Lines) -> None:
    logs.logger("onetake.x").info("bad", detail="a\r\n{}\x1b[31m\u202egpj\u2028" + "x" * 1_000_000)
    line = lines.only()
    assert line["detail"].startswith(r"a\r\n{}\x1b[31m\u202egpj\u2028xxx")
    assert len(line["detail"]) == logs.VALUE_LIMIT


@pytest.mark.parametrize("unit", ["a-", "secret_", "https://", "bearer ", "x=", "\x00", "/callbacks/a/"])
def test_hostile_text_costs_no_time(unit: str) -> None:
    began = time.perf_counter()
    logs.scrub(unit * 500_000)
    assert time.perf_counter() - began < 60, "what backtracks takes hours"


def test_an_exception_shows_types_and_places_without_secrets_or_values(lines: Lines) -> None:
    def fail(prompt: str) -> None:
        try:
            int(prompt)
        except ValueError as error:
            raise LookupError(f"https://cdn.example/{CANARY}") from error

    shown = ""
    try:
        fail(CANARY)
    except LookupError as error:
        shown = logs.exception_text(error, also=[CANARY])
        logs.logger("onetake.x").exception("broke")
        logging.getLogger("library").exception("broke too")
    ours, theirs = lines.read_all()
    assert ours["exception"].startswith("LookupError: https://cdn.example/[masked] at test_logs.py:")
    assert "caused by ValueError" in theirs["exception"]
    assert "\n" not in theirs["exception"]
    assert CANARY not in shown


class Terminal(Lines):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_readable_form(lines: Lines) -> None:
    del lines
    terminal = Terminal()
    logs.configure("info", stream=terminal)
    logs.logger("onetake.x").info("started", port=8080, prompt=CANARY)
    assert "started" in terminal.getvalue()
    assert CANARY not in terminal.getvalue()
