"""The journal as a page for people: what each vendor received, accepted, charged and delivered. It only shows."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from html import escape
from typing import Any

from onetake.dev.simulator.faults import MARKERS

_MICROS_PER_USD = 1_000_000
_MOST_ROWS = 200
_STYLE = """
body{font:14px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:78rem;padding:0 1rem}
body{color:#18181b;background:#fafafa}
h1{font-size:1.4rem}h2{font-size:1.05rem;margin-top:2rem}p{max-width:60rem}
table{border-collapse:collapse;width:100%;background:#fff}
th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #e4e4e7;vertical-align:top}
th{font-weight:600;background:#f4f4f5}td.n{text-align:right;font-variant-numeric:tabular-nums}
code{font-family:ui-monospace,monospace;font-size:.92em}
"""


def render(journal: Mapping[str, Any], vendors: Iterable[str]) -> str:
    """Draw the page from what `GET /journal` answers. The newest jobs come first; every text is escaped."""
    jobs: list[Mapping[str, Any]] = list(journal["jobs"])
    submits: list[Mapping[str, Any]] = list(journal["submits"])
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Onetake simulator</title><style>{_STYLE}</style>"
        "<h1>Simulated vendors</h1><p>What each vendor received, accepted, charged and delivered: the journal that"
        " tests compare the ledger with. As JSON at <a href=/journal><code>/journal</code></a>. Reload for news.</p>"
        f"{_totals(vendors, submits, jobs)}{_jobs(jobs)}{_refusals(submits)}{_markers()}</html>"
    )


def _totals(vendors: Iterable[str], submits: list[Mapping[str, Any]], jobs: list[Mapping[str, Any]]) -> str:
    rows: list[tuple[str, ...]] = []
    for vendor in vendors:
        own = [job for job in jobs if job["vendor"] == vendor]
        received = sum(submit["vendor"] == vendor for submit in submits)
        charged, refunded = (sum(job[name] for job in own) for name in ("charged_micros", "refunded_micros"))
        delivered = sum(bool(job["downloads"]) for job in own)
        rows.append((vendor, f"{received}", f"{len(own)}", f"{delivered}", _usd(charged), _usd(refunded)))
    return "<h2>Vendors</h2>" + _table(("vendor", "submissions", "jobs", "delivered", "charged", "refunded"), rows, 1)


def _jobs(jobs: list[Mapping[str, Any]]) -> str:
    newest = sorted(jobs, key=lambda job: -job["created_at"])[:_MOST_ROWS]
    rows = [
        (
            job["vendor"],
            job["task_id"],
            job["mode"],
            f"{job['duration_s']} s, {job['width']}x{job['height']}",
            job["state"] + (f" ({job['fail_code']})" if job["fail_code"] else ""),
            ", ".join(job["faults"]),
            _time(job["created_at"]),
            f"{job['status_reads']}",
            f"{len(job['callbacks'])}{' acknowledged' if job['callback_acknowledged'] else ''}",
            f"{job['downloads']}",
            _usd(job["charged_micros"] - job["refunded_micros"]),
        )
        for job in newest
    ]
    heads = ("vendor", "task", "mode", "clip", "state", "faults", "accepted", "reads", "callbacks", "downloads", "cost")
    return "<h2>Jobs</h2>" + _table(heads, rows, 7)


def _refusals(submits: list[Mapping[str, Any]]) -> str:
    refused = [submit for submit in submits if not submit["accepted"]]
    rows = [
        (submit["vendor"], _time(submit["received_at"]), str(submit["status"] or "closed"), submit["reason"])
        for submit in sorted(refused, key=lambda submit: -submit["received_at"])[:_MOST_ROWS]
    ]
    return "<h2>Refused submissions</h2>" + _table(("vendor", "received", "answer", "why"), rows, 4)


def _markers() -> str:
    rows = [(f"[[sim:{name}]]", text) for name, text in MARKERS.items()]
    return "<h2>Faults on demand</h2><p>A marker in the prompt asks for a fault.</p>" + _table(
        ("marker", "what happens"), rows, 2
    )


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]], first_number: int) -> str:
    if not rows:
        return "<p>None yet.</p>"
    head = "".join(f"<th>{escape(text)}" for text in heads)
    body = "".join(
        "<tr>" + "".join(f"<td{' class=n' if n >= first_number else ''}>{escape(cell)}" for n, cell in enumerate(row))
        for row in rows
    )
    return f"<table><thead><tr>{head}</thead><tbody>{body}</tbody></table>"


def _usd(micros: int) -> str:
    return f"${micros / _MICROS_PER_USD:.4f}".rstrip("0").rstrip(".")


def _time(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%H:%M:%S")
