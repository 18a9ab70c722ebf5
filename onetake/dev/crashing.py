"""Crash points at the edges of the ports: a worker built for a test dies just before a call of an activity, or just
after its answer, and no activity knows of it.

`decorate("submit", port)` is handed to the worker, which wraps what it gives to each activity. A port's method without
a point here is the port's own.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar, cast

from onetake.core.contracts import Submission
from onetake.core.crashpoints import CrashPoint, crashpoint
from onetake.core.ports import Begun, Body, VendorStatus

T = TypeVar("T")

Arguments = Mapping[str, Any]


@dataclass(frozen=True)
class Edge:
    """Where to die around one call. `when` looks at the call's keyword arguments, `given` at its answer."""

    before: CrashPoint | None = None
    after: CrashPoint | None = None
    when: Callable[[Arguments], bool] = lambda _: True
    given: Callable[[Any], bool] = lambda _: True


def _is_doubt(arguments: Arguments) -> bool:
    """An attempt that found the row `sending` knows nothing but that: neither an error nor which POST it was."""
    return arguments["state"] == "ambiguous" and arguments.get("error") is None and arguments.get("post") is None


def _is_outcome(arguments: Arguments) -> bool:
    return not _is_doubt(arguments)


def _is_fresh(begun: Begun) -> bool:
    return begun.fresh


def _is_missing(status: VendorStatus) -> bool:
    return status.reading.state == "missing"


def _is_accepted(stored: Submission) -> bool:
    return stored.state == "accepted"


_EDGES: Final[Mapping[tuple[str, str], tuple[Edge, ...]]] = {
    ("validate", "pin"): (Edge("validate.before_pin", "validate.after_pin"),),
    ("reserve", "admit"): (Edge(before="reserve.before_admit"),),
    ("reserve", "reserve"): (Edge("reserve.before_commit", "reserve.after_commit"),),
    ("submit", "begin"): (Edge("submit.before_intent", "submit.after_intent", given=_is_fresh),),
    ("submit", "submit"): (Edge(after="submit.after_send"),),
    ("submit", "record"): (
        Edge("submit.before_record", "submit.after_record", when=_is_outcome),
        Edge("submit.before_doubt", "submit.after_doubt", when=_is_doubt),
    ),
    ("submit", "submission_refused"): (Edge("submit.before_slow_down", "submit.after_slow_down"),),
    ("resolve", "read"): (Edge(before="resolve.before_look"),),
    ("resolve", "read_status"): (Edge(after="resolve.after_look"),),
    ("resolve", "find_jobs"): (Edge(after="resolve.after_look"),),
    ("resolve", "record"): (Edge(after="resolve.after_record", given=_is_accepted),),
    ("wait", "read_status"): (
        Edge("wait.before_read", "wait.after_read"),
        Edge(after="wait.after_missing", given=_is_missing),
    ),
    ("wait", "read_refused"): (Edge(before="wait.before_slow_down"),),
    ("persist", "read_status"): (Edge("persist.before_links", "persist.after_links"),),
    ("persist", "note_end"): (Edge(after="persist.after_end"),),
    ("persist", "put_stream"): (Edge("persist.before_put", "persist.after_put"),),
    ("persist", "read"): (Edge("persist.before_read", "persist.after_read"),),
    ("persist", "put_document"): (Edge("persist.before_manifest", "persist.after_manifest"),),
    ("settle", "settle"): (Edge("settle.before_commit", "settle.after_commit"),),
    ("correct", "correct"): (Edge("correct.before_commit", "correct.after_commit"),),
    ("correct", "decide"): (Edge("correct.before_commit", "correct.after_commit"),),
}


def decorate(activity: str, port: T) -> T:
    """The port, with the crash points of this activity around its calls."""
    return cast("T", _Armed(activity, port))


class _Armed:
    def __init__(self, activity: str, port: object) -> None:
        self._activity = activity
        self._port = port

    def __getattr__(self, name: str) -> Any:
        method, edges = getattr(self._port, name), _EDGES.get((self._activity, name), ())
        if not edges:
            return method
        return _around(_dying_inside(method) if name == "put_stream" else method, edges)


def _around(method: Callable[..., Any], edges: tuple[Edge, ...]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        _before(edges, kwargs)
        answer = await method(*args, **kwargs)
        _after(edges, kwargs, answer)
        return answer

    return call


def _before(edges: tuple[Edge, ...], arguments: Arguments) -> None:
    for edge in edges:
        if edge.before is not None and edge.when(arguments):
            crashpoint(edge.before)


def _after(edges: tuple[Edge, ...], arguments: Arguments, answer: Any) -> None:
    for edge in edges:
        if edge.after is not None and edge.when(arguments) and edge.given(answer):
            crashpoint(edge.after)


def _dying_inside(put_stream: Callable[..., Any]) -> Callable[..., Any]:
    """Also between two chunks, and when the last has been taken and the object is not complete."""

    async def call(key: str, body: Body, **kwargs: Any) -> Any:
        return await put_stream(key, replace(body, chunks=_mortal(body.chunks)), **kwargs)

    return call


async def _mortal(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    async for chunk in chunks:
        yield chunk
        crashpoint("persist.during_put")
    crashpoint("persist.before_complete")
