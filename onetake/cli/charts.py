"""The cost of a report as bars: in the terminal, and in a picture to be mailed."""

# ruff: noqa: PLC0415 - matplotlib is optional and slow to import

from collections.abc import Sequence
from importlib.util import find_spec
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from onetake.core.errors import Refused
from onetake.core.money import MICROS_PER_USD, format_usd

if TYPE_CHECKING:
    from rich.console import Console

    from onetake.ledger.spend import SpendReport, SpendRow

MOST_BARS: Final = 20  # of what is not a day; the rest is one bar
LONGEST_BAR: Final = 60
_COLOR: Final = "#2f6f9f"
_INK: Final = "#222222"


def bars(console: "Console", report: "SpendReport") -> None:
    """Draw one line for each row, the longest for the highest cost."""
    rows = _drawn(report)
    width = max((len(row.key) for row in rows), default=0)
    highest = max((row.cost_micros for row in rows), default=0)
    console.print(_title(report), soft_wrap=True)
    for row in rows:
        length = round(LONGEST_BAR * row.cost_micros / highest) if highest > 0 and row.cost_micros > 0 else 0
        bar = "█" * length or ("▏" if row.cost_micros > 0 else "")
        console.print(f"{row.key:<{width}}  {bar} {format_usd(row.cost_micros)}", soft_wrap=True)
    console.print(_sums(report), soft_wrap=True)


def require_matplotlib() -> None:
    """Raises Refused(`usage`) when it is not installed, with how to install it."""
    if find_spec("matplotlib") is None:
        raise Refused("usage", "A picture needs matplotlib, which is not installed: pip install 'onetake[charts]'")


def picture(report: "SpendReport") -> bytes:
    """Draw the report as PNG: days upright, everything else lying, with its period and total. No display is used."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, by_day = _drawn(report), report.query.by == "day"
    height = 5.0 if by_day else max(3.0, 1.6 + 0.34 * len(rows))
    figure: Any = Figure(figsize=(10, height), facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.14, h_pad=0.12)
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots()
    _draw_days(axes, rows) if by_day else _draw_names(axes, rows)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.set_axisbelow(True)
    figure.suptitle(_plain(_title(report)), x=0.012, ha="left", fontsize=15, fontweight="bold", color=_INK)
    axes.set_title(_plain(_sums(report)), loc="left", fontsize=10.5, color="#555555", pad=12)
    content = BytesIO()
    figure.savefig(content, format="png", dpi=150)
    return content.getvalue()


def _draw_days(axes: Any, rows: "Sequence[SpendRow]") -> None:
    axes.bar(range(len(rows)), _usd(rows), color=_COLOR, width=0.8)
    step = -(-len(rows) // 16)
    shown = range(0, len(rows), step)
    axes.set_xticks(list(shown), [rows[number].key for number in shown], rotation=40, ha="right", fontsize=9)
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.yaxis.set_major_formatter(_dollars)
    axes.set_ylabel("cost in USD", color=_INK)
    axes.grid(axis="y", color="#e3e3e3", linewidth=0.8)


def _draw_names(axes: Any, rows: "Sequence[SpendRow]") -> None:
    drawn = axes.barh(range(len(rows)), _usd(rows), color=_COLOR, height=0.72)
    axes.bar_label(drawn, [_plain(_cents(row.cost_micros)) for row in rows], padding=4, fontsize=9)
    axes.set_yticks(range(len(rows)), [_plain(row.key) for row in rows], fontsize=9.5)
    axes.invert_yaxis()
    axes.margins(x=0.12, y=0.02)
    axes.xaxis.set_major_formatter(_dollars)
    axes.set_xlabel("cost in USD", color=_INK)
    axes.grid(axis="x", color="#e3e3e3", linewidth=0.8)


def _dollars(value: float, _: int) -> str:
    return f"${value:,.2f}" if 0 < abs(value) < 10 else f"${value:,.0f}"


def _cents(micros: int) -> str:
    return f"${micros / MICROS_PER_USD:,.2f}"


def _plain(text: str) -> str:
    """A name as it is: matplotlib would read what stands between dollar signs as mathematics."""
    return text.replace("$", r"\$")


def _usd(rows: "Sequence[SpendRow]") -> list[float]:
    return [row.cost_micros / MICROS_PER_USD for row in rows]


def _drawn(report: "SpendReport") -> "Sequence[SpendRow]":
    from onetake.ledger.spend import every_day, total_of

    if report.query.by == "day":
        return every_day(report)
    if len(report.rows) <= MOST_BARS:
        return report.rows
    rest = report.rows[MOST_BARS - 1 :]
    return (*report.rows[: MOST_BARS - 1], total_of(rest, f"{len(rest)} others"))


def _title(report: "SpendReport") -> str:
    query = report.query
    given = (query.tenant, query.user, query.feature, query.route, query.vendor)
    only = f" of {', '.join(each for each in given if each)}" if any(given) else ""
    return f"Spend{only} by {query.by}, {query.first} to {query.last}"


def _sums(report: "SpendReport") -> str:
    total = report.total
    share = "" if total.failed_share is None else f", {total.failed_share:.1%} failed"
    seconds = f", {total.delivered_ms / 1000:,.0f} s delivered" if total.delivered_ms else ""
    where = "days in UTC" if report.query.days == "utc" else "days of each tenant"
    return f"Total {_cents(total.cost_micros)}, {total.generations:,} generations{share}{seconds}; {where}"
