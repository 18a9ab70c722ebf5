"""A storm of callbacks on the running gateway: what is answered, what reaches the workflows, and what it costs."""

import asyncio
import json
import re
from typing import Final
from urllib.parse import urlsplit

from bench import processes
from bench.report import Goal, Row, quantile
from bench.stack import LIMIT_S, RESOLUTION, ROUTE, SHORT_CLIP_S, TENANT, Bench, BenchError, completed
from bench.storm import Storm, callback, storm
from onetake.client import Started
from onetake.core.contracts import WakeSignal
from onetake.engine.temporal import connect
from onetake.gateway.wakes import INTERVAL_S

TOKENS: Final = 20
PER_S: Final = 1_000
SECONDS: Final = 10
ROUND: Final = 3_000
ROUNDS: Final = 3
# Nobody but the storm calls back, and the clips are done when it is over.
PROMPT: Final = "a harbour in a storm [[sim:no-callback]][[sim:delay=45]]"
_HEALTH: Final = b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n"
_URL: Final = re.compile(r'"(https?://[^"]+/callbacks/[^"]+)"')


async def measure(bench: Bench) -> list[Row]:
    """Twenty generations that wait at their vendor, then all callbacks in turns over their tokens."""
    generations = await asyncio.gather(*(_rendering(bench) for _ in range(TOKENS)))
    paths = [path for _, path in generations]
    found, paced = await _paced(bench, paths)
    await asyncio.sleep(2 * INTERVAL_S)
    signals = [await _signals(bench, started) for started, _ in generations]
    fast = await _as_fast_as_answered(bench, paths)
    for started, _ in generations:
        completed(await bench.onetake.result(started.id, LIMIT_S))
    return [*paced, _coalesced(signals, found.duration_s), *fast]


async def _rendering(bench: Bench) -> tuple[Started, str]:
    """A generation that waits, and the path of its callbacks, which only the vendor knows."""
    started = await bench.onetake.start(
        route=ROUTE, prompt=PROMPT, duration_s=SHORT_CLIP_S, resolution=RESOLUTION, tenant=TENANT
    )
    async with asyncio.timeout(LIMIT_S):
        while True:
            task_id = (await bench.onetake.get(started.id)).vendor_task_id
            if task_id is not None:
                break
            await asyncio.sleep(0.1)
    journal = await asyncio.to_thread((bench.home / "simulator" / "journal.jsonl").read_text)
    (line,) = [each for each in journal.splitlines() if task_id in each and "/callbacks/" in each]
    found = _URL.search(line)
    if found is None:
        raise BenchError("the vendor was given no callback address")
    return started, urlsplit(found[1]).path


def _callbacks(paths: list[str], number: int) -> list[bytes]:
    """All different; the last of each token has the highest number."""
    bodies = ({"code": 200, "data": {"taskId": f"storm-{each}", "state": "success"}} for each in range(number))
    return [callback(paths[each % TOKENS], json.dumps(body).encode()) for each, body in enumerate(bodies)]


async def _paced(bench: Bench, paths: list[str]) -> tuple[Storm, list[Row]]:
    number, gateway = PER_S * SECONDS, {"gateway": bench.pids["gateway"]}
    before, held = processes.cpu_seconds(gateway), processes.rss_bytes(gateway["gateway"])
    found = await storm(bench.running.addresses.gateway_url, _callbacks(paths, number), per_s=PER_S)
    used_s = processes.cpu_seconds(gateway)["gateway"] - before["gateway"]
    grown_mb = (processes.rss_bytes(gateway["gateway"]) - held) / 1024**2
    p50, p99 = (1000 * quantile(found.waits_s, share) for share in (0.5, 0.99))
    stored = found.statuses[200] / number
    facts = {"statuses": dict(found.statuses), "per_s": found.per_s, "p50_ms": p50, "p99_ms": p99}
    name, measured = f"callbacks, {PER_S:,}/s for {SECONDS} s on {TOKENS} tokens", f"{found.per_s:,.0f}/s"
    waits = f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"
    return found, [
        Row(name, f"{measured}, {waits}", "share answered 200", stored, Goal("≥", 1), facts),
        Row("  processor: gateway, one callback", f"{1000 * used_s / number:.2f} ms"),
        Row("  MB of the gateway over before", f"{grown_mb:.0f} MB", value=grown_mb, goal=Goal("≤", 64)),
    ]


def _coalesced(signals: list[list[WakeSignal]], duration_s: float) -> Row:
    """What the workflows heard of it: one signal at once, one in five seconds, and the last."""
    most, heard = max(map(len, signals)), [[wake.claimed_task_id for wake in each][-1:] for each in signals]
    first = PER_S * SECONDS - TOKENS
    if lost := [token for token in range(TOKENS) if heard[token] != [f"storm-{first + token}"]]:
        raise BenchError(f"the last callback of {len(lost)} tokens reached no workflow")
    goal, facts = Goal("≤", round(duration_s / INTERVAL_S + 2, 1)), {"signals": [len(each) for each in signals]}
    return Row("  most signals for one token", f"{most}, the last never lost", "", most, goal, facts)


async def _signals(bench: Bench, started: Started) -> list[WakeSignal]:
    converter = (await connect(bench.settings)).data_converter
    heard = [event.workflow_execution_signaled_event_attributes for event in await bench.history(started.workflow_id)]
    return [
        wake
        for each in heard
        if each.signal_name
        for wake in await converter.decode(each.input.payloads, type_hints=[WakeSignal])
    ]


async def _as_fast_as_answered(bench: Bench, paths: list[str]) -> list[Row]:
    """In turns with the same server's answer to a request that stores nothing."""
    url, callbacks = bench.running.addresses.gateway_url, _callbacks(paths, ROUND)
    ours, bare = list[Storm](), list[Storm]()
    for _ in range(ROUNDS):
        bare.append(await storm(url, [_HEALTH] * ROUND))
        ours.append(await storm(url, callbacks))
    per_s, bare_per_s = (ROUNDS * ROUND / sum(each.duration_s for each in form) for form in (ours, bare))
    if any(each.statuses != {200: ROUND} for each in (*ours, *bare)):
        raise BenchError("a callback was not answered 200")
    facts = {"per_s": per_s, "bare_per_s": bare_per_s}
    against = f"GET /healthz {bare_per_s:,.0f}/s"
    return [Row("callbacks as fast as they are answered", f"{per_s:,.0f}/s", against, per_s / bare_per_s, None, facts)]
