"""One log for everything: JSON lines on stderr, or a readable form when stderr is a terminal.

Only the fields of `FIELDS` pass; others are dropped and counted, because a field nobody listed is a field nobody
checked. Values are cut, control characters are escaped, and what looks like a link, a key or a callback token is
masked, in our own events and in those of the libraries. A prompt belongs in no field.
"""

import logging
import re
import sys
import traceback
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Final, TextIO
from urllib.parse import quote

import structlog
from pydantic import BaseModel, SecretStr
from structlog.typing import EventDict, WrappedLogger

VALUE_LIMIT: Final = 2048
_FRAMES_SHOWN: Final = 8
_CAUSES_SHOWN: Final = 3

FIELDS: Final = frozenset({
    "event", "level", "timestamp", "logger", "dropped", "exception",
    "generation_id", "workflow_id", "workflow_type", "run_id", "attempt", "try", "activity", "queue", "queues",
    "signal", "tenant", "vendor", "route", "phase", "outcome", "status", "state", "vendor_state", "vendor_task_id",
    "limit_micros", "scope", "scope_key", "period", "percent", "starts_at",
    "code", "detail", "hint", "error_type", "part", "name", "version", "mode", "fault",
    "deployment", "build", "current",
    "address", "port", "pid", "method", "http_status", "key_id", "object_key", "bucket", "sha256",
    "count", "size_bytes", "amount_micros", "duration_s", "elapsed_s", "after_s",
})  # fmt: skip

_MASK: Final = "[masked]"
_SCHEME: Final = r"(?i)\b([a-z][a-z0-9+.-]{1,20}://)"
_PATTERNS: Final = (
    # A link is a capability even without a query; the host is what an operator needs.
    (re.compile(_SCHEME + r"(?:[^\s/?#@\"'<>]*@)?([^\s/?#\"'<>]*)[/?#][^\s\"'<>]*"), rf"\1\2/{_MASK}"),
    (re.compile(_SCHEME + r"[^\s/?#@\"'<>]*@"), rf"\1{_MASK}@"),
    (re.compile(r"(/callbacks/[\w-]{1,40}/)[^\s\"'<>]+"), rf"\1{_MASK}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), rf"\1 {_MASK}"),
    (
        re.compile(
            r"(?i)\b((?:[\w-]{0,32}[_-])?(?:api[_-]?key|secret|token|password|passwd|authorization|signature|credential)(?:[_-]\w{1,16}){0,2})"
            r"([\"']?\s*[:=]\s*[\"']?)[^\s\"',;&)}\]]+"
        ),
        rf"\1\2{_MASK}",
    ),
)  # fmt: skip
# C0, C1, line and paragraph separators, and the characters that reorder or hide text.
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")

_secrets: set[str] = set()


def mask(secret: str) -> None:
    """Show a mask in place of this text in every later event. Short texts would mask words and are ignored."""
    if len(secret) >= 6:
        _secrets.update({secret, quote(secret, safe="")})


def mask_secrets(model: BaseModel) -> None:
    """Mask every secret of a model of settings."""
    for _, value in model:
        for part in value if isinstance(value, tuple) else (value,):  # pyright: ignore[reportUnknownVariableType]
            if isinstance(part, SecretStr):
                mask(part.get_secret_value())


def scrub(text: str, *, also: Iterable[str] = ()) -> str:
    """A text fit for a log or a failure: masked, on one line, at most `VALUE_LIMIT` characters.

    `also` names texts to mask in this one only, for example the prompt of the request at hand.
    """
    # Cut first, with room for what masking removes: hostile text must not cost time.
    text = text[: 8 * VALUE_LIMIT]
    for secret in sorted(_secrets.union(word for word in also if len(word) >= 6), key=len, reverse=True):
        text = text.replace(secret, _MASK)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    text = _UNPRINTABLE.sub(lambda found: found.group().encode("unicode_escape").decode(), text)
    return text if len(text) <= VALUE_LIMIT else text[: VALUE_LIMIT - 1] + "…"


def exception_text(error: BaseException, *, also: Iterable[str] = ()) -> str:
    """An exception and its causes on one line: type, scrubbed message, and the innermost frames without values."""
    shown: list[str] = []
    words = tuple(also)
    current: BaseException | None = error
    while current is not None and len(shown) < _CAUSES_SHOWN:
        name = type(current).__name__
        shown.append(f"{name}: {scrub(str(current), also=words)[:400]} at {_frames(current.__traceback__)}")
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return " | caused by ".join(shown)


def _frames(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)[-_FRAMES_SHOWN:]
    return " < ".join(f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in reversed(frames))


def bound(**ids: object) -> AbstractContextManager[None]:
    """Bind ids to every event inside the block; None values are left out."""
    return structlog.contextvars.bound_contextvars(**{name: value for name, value in ids.items() if value is not None})


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """The logger of one module. Fields outside `FIELDS` are dropped."""
    return structlog.stdlib.get_logger(name)


def configure(level: str = "info", *, stream: TextIO | None = None) -> None:
    """Route structlog and the standard library's logging through one chain. Repeatable; the last call counts."""
    target = stream or sys.stderr
    chain: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _take_sdk_ids,
        _take_exception,
        _allow_listed,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *chain,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=chain,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _renderer(target)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    _quieten(root.level)


def _renderer(target: TextIO) -> structlog.typing.Processor:
    if target.isatty():
        return structlog.dev.ConsoleRenderer()
    return structlog.processors.JSONRenderer(sort_keys=True)


def _quieten(level: int) -> None:
    # Below these levels the libraries write payloads and addresses.
    lowest_of = {"temporalio": logging.INFO, "httpx": logging.WARNING, "httpcore": logging.WARNING}
    lowest_of["opentelemetry"] = logging.CRITICAL  # says at each batch that it was not sent; we say it once
    for name, lowest in lowest_of.items():
        logging.getLogger(name).setLevel(max(level, lowest))
    for name in ("asyncio", "urllib3", "multipart", "asyncpg"):
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "alembic"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = name != "uvicorn.access"


def _take_sdk_ids(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Temporal's SDK hangs dictionaries on its records; only the ids in them are ours to show."""
    record = event.get("_record")
    if isinstance(record, logging.LogRecord):
        for source in ("temporal_workflow", "temporal_activity"):
            given: Mapping[str, Any] = getattr(record, source, None) or {}
            for name, ours in (("workflow_id", "workflow_id"), ("run_id", "run_id"), ("activity_type", "activity")):
                if name in given:
                    event.setdefault(ours, given[name])
    return event


def _take_exception(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    info: Any = event.pop("exc_info", None)
    record = event.get("_record")
    if isinstance(record, logging.LogRecord):
        info = info or record.exc_info
        # The formatter would otherwise append the plain traceback to the line.
        record.exc_info = record.exc_text = None
    error: Any = sys.exc_info() if info is True else info
    if isinstance(error, tuple):
        error = error[1]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(error, BaseException):
        event["exception"] = exception_text(error)
    return event


def _allow_listed(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    kept: EventDict = {name: _value(value) for name, value in event.items() if name in FIELDS}
    internal = {name: value for name, value in event.items() if name in ("_record", "_from_structlog")}
    dropped = len(event) - len(kept) - len(internal)
    return kept | ({"dropped": dropped} if dropped else {}) | internal


def _value(value: object) -> object:
    return value if value is None or isinstance(value, bool | int | float) else scrub(str(value))
