"""Traces: off unless `OTEL_EXPORTER_OTLP_ENDPOINT` is set, and nothing of OpenTelemetry is loaded then.

A generation is one trace, whose id is made of the generation's id: whoever knows that id joins the trace, so that
nothing is stored, asked for, or taken from outside for it. Spans hold ids, names, codes and times, never a text:
`onetake.tracing.interceptor` writes no other, and `onetake.tracing.export` lets no other out.
"""

# ruff: noqa: PLC0415 - OpenTelemetry is an extra, and is loaded by who uses it

import os
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from onetake.core.calls import VendorCall
from onetake.core.errors import Refused

if TYPE_CHECKING:
    from onetake.tracing.interceptor import Tracing

ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
PROTOCOL: Final = "OTEL_EXPORTER_OTLP_PROTOCOL"
ONLY_PROTOCOL: Final = "http/protobuf"

# The exchanges with vendors of the activity's attempt that runs here; None where no attempt is traced.
calls: ContextVar[list[VendorCall] | None] = ContextVar("calls", default=None)

_names = ["onetake-client"]  # the last is this process's
# By address and name: a process has one, tests have more.
_opened: "dict[tuple[str, str], Tracing]" = {}


def is_on() -> bool:
    """Whether this process writes spans."""
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return bool(os.environ.get(ENDPOINT)) and not disabled


def interceptors() -> "list[Tracing]":
    """For the client of this process, outside of all others; none when traces are off. Raises
    Refused(`settings_invalid`) when they are on and cannot be."""
    if not is_on():
        return []
    which = (os.environ[ENDPOINT], _names[-1])
    if which not in _opened:
        _opened[which] = _open(_names[-1])
    return [_opened[which]]


def note_call(call: VendorCall) -> None:
    """Keep an exchange for the attempt under way; it is written when the attempt is over."""
    noted = calls.get()
    if noted is not None:
        noted.append(call)


def note_callback(vendor: str, generation_id: str, began_ns: int) -> None:
    """Write the span of a callback that was stored; its generation is known by then."""
    for tracing in interceptors():
        tracing.write_callback(vendor, generation_id, began_ns, time.time_ns())


@asynccontextmanager
async def traced_as(name: str) -> AsyncGenerator[None]:
    """This process is called `name` in its spans. At the end of the block spans that wait are sent, within a second."""
    _names.append(name)
    try:
        yield
    finally:
        if opened := _opened.get((os.environ.get(ENDPOINT, ""), name)):
            await opened.spans.flush()
        _names.remove(name)


def _open(name: str) -> "Tracing":
    if os.environ.get(PROTOCOL, ONLY_PROTOCOL) != ONLY_PROTOCOL:
        raise Refused("settings_invalid", f"{PROTOCOL} must be {ONLY_PROTOCOL}, or not be set.")
    try:
        from onetake.tracing.export import Spans
        from onetake.tracing.interceptor import Tracing
    except ImportError:
        missing = f"{ENDPOINT} is set, and traces are not installed. Run: pip install 'onetake[otel]'."
        raise Refused("settings_invalid", missing) from None
    return Tracing(Spans.to_collector(name))
