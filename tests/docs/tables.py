"""What the tables of the reference must say, from the code.

`python -m tests.docs.tables` writes them into the committed pages. The last columns of a table may be written by hand:
they are kept as long as their row's first cell is the same, and are left empty in a new row.
"""

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from temporalio.common import MetricMeter

from onetake.cli.routes import routes
from onetake.core.contracts import GenerationRequest
from onetake.core.errors import CATALOGUE
from onetake.core.names import PHASES, VENDOR_NAMES, SearchAttribute, Status
from onetake.core.settings import Settings
from onetake.dev.simulator.faults import MARKERS
from onetake.ledger.holds import Entry
from onetake.metrics import Instruments
from providers.catalogue import load_catalogue
from tests.cli import tree
from tests.docs.markdown import ROOT, page, section, table

Rows = list[tuple[str, ...]]

_LIMITED = ("prompt", "negative_prompt", "duration_s", "resolution", "aspect_ratio")
_INPUTS = ("image", "videos", "references")


@dataclass(frozen=True)
class Table:
    """One table: where it stands, and its rows without the columns that are written by hand."""

    file: str
    heading: str
    head: tuple[str, ...]
    rows: Rows

    @property
    def name(self) -> str:
        return f"docs/reference/{self.file}"

    @property
    def derived_columns(self) -> int:
        return len(self.rows[0])

    def committed(self) -> Rows:
        return table(section(page(self.name), self.heading))

    def markdown(self) -> str:
        by_hand = {row[0]: row[self.derived_columns :] for row in self.committed()}
        empty = ("",) * (len(self.head) - self.derived_columns)
        rows = [(*row, *by_hand.get(row[0], empty)) for row in self.rows]
        return "\n".join([_line(self.head), f"|{'---|' * len(self.head)}", *map(_line, rows)])

    def write(self) -> None:
        text = page(self.name)
        part = section(text, self.heading)
        lines = part.splitlines()
        first = next(number for number, line in enumerate(lines) if line.startswith("|"))
        last = next((number for number in range(first, len(lines)) if not lines[number].startswith("|")), len(lines))
        changed = "\n".join([*lines[:first], self.markdown(), *lines[last:]]) + "\n"
        (ROOT / self.name).write_text(text.replace(part, changed), encoding="utf-8")


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def code(*words: object) -> str:
    return ", ".join(f"`{word}`" for word in words)


def one_column(values: Iterable[object]) -> Rows:
    return [(code(value),) for value in values]


# -- Requests ----------------------------------------------------------------------------------------------------------


def request_fields() -> Rows:
    schema = GenerationRequest.model_json_schema()
    return [
        (code(name), _type(name, rule), "required" if name in schema["required"] else _default(name))
        for name, rule in schema["properties"].items()
    ]


def _type(name: str, rule: Mapping[str, Any]) -> str:
    kinds = [part for part in rule.get("anyOf", [rule]) if part["type"] != "null"]
    words = " or ".join(dict.fromkeys(_kind(part) for part in kinds))
    unit = {"s": ", seconds", "usd": ", US dollars"}.get(name.rpartition("_")[2], "")
    return words + unit


def _kind(part: Mapping[str, Any]) -> str:
    match part["type"]:
        case "array":
            return f"array of {part['items']['type']}s"
        case "object":
            return "object of strings"
        case kind:
            return str(kind)


def _default(name: str) -> str:
    value = GenerationRequest.model_fields[name].get_default(call_default_factory=True)
    if value is None:
        return "none"
    return code(value) if value else "empty"


# -- Routes ------------------------------------------------------------------------------------------------------------


def _documents() -> list[dict[str, Any]]:
    """What `onetake routes --json` says."""
    return routes().document["routes"]


def route_rules() -> Rows:
    return [
        (
            code(document["route"]),
            *_rules(document["rules"]),
            _defaults(**document["defaults"]),
            _vendors_defaults(document["route"]),
        )
        for document in _documents()
    ]


def _defaults(duration_s: int, resolution: str, sound: bool | None = None, **_: object) -> str:
    return f"{duration_s} s, {resolution}{ {None: '', True: ', sound on', False: ', sound off'}[sound] }"


def _vendors_defaults(name: str) -> str:
    found = load_catalogue().route(name)
    assert found
    route = found[2]
    return _defaults(route.duration_s.default, route.resolutions.default, route.sound_default)


def _rules(rules: Mapping[str, str]) -> tuple[str, ...]:
    limited = [rules.get(name, "refused").removesuffix(" characters") for name in _LIMITED]
    inputs = "; ".join(f"{code(name)}: {rules[name]}" for name in _INPUTS if name in rules)
    others = code(*(name for name in rules if name not in {*_LIMITED, *_INPUTS}))
    return (*limited, inputs or "none", others or "none")


def prices() -> Rows:
    sound = {None: "any", True: "on", False: "off"}
    return [
        (code(document["route"]), line["resolution"], sound[line.get("sound")], _price(line))
        for document in _documents()
        for line in _price_lines(document)
    ]


def _price_lines(document: dict[str, Any]) -> list[dict[str, Any]]:
    return document["prices"] or [{"resolution": "any"}]


def _price(line: Mapping[str, Any]) -> str:
    if set(line) == {"resolution"}:
        return "not documented: needs `ONETAKE_PRICES`"
    amount = f"${line['usd']}" if "usd" in line else f"{line['credits']} credits"
    return f"{amount} for {line['duration_s']} s" if "duration_s" in line else f"{amount} a second"


def vendors() -> Rows:
    yes = {True: "yes", False: "no"}
    rows = [
        (
            code(_vendor_of(document)),
            yes[document["callbacks"]],
            yes[document["cancelable"]],
            code(document["failed_job_cost"]),
        )
        for document in _documents()
    ]
    return list(dict.fromkeys(rows))


def _vendor_of(document: Mapping[str, Any]) -> str:
    return document["route"].partition("/")[0]


# -- Everything else ---------------------------------------------------------------------------------------------------


def errors() -> Rows:
    return [(code(name), entry.sentence, entry.hint, str(entry.exit_code)) for name, entry in CATALOGUE.items()]


def exit_codes() -> Rows:
    return one_column(sorted({0, 130, *(entry.exit_code for entry in CATALOGUE.values())}))


def settings() -> Rows:
    of_vendors = {f"{vendor}_{kind}" for vendor in VENDOR_NAMES for kind in ("base_url", "api_key")}
    return [
        (code(f"ONETAKE_{name.upper()}"), _setting(field.get_default(call_default_factory=True)))
        for name, field in sorted(Settings.model_fields.items(), key=lambda each: each[0] in of_vendors)
    ]


def _setting(value: Any) -> str:
    match getattr(value, "get_secret_value", lambda: value)():
        case bool() as flag:
            return code(str(flag).lower())
        case float() as number:
            return code(f"{number:g}")
        case plain if plain:
            return code(plain)
        case _:
            return "none"


def markers() -> Rows:
    return [(code(f"[[sim:{name}]]"), *_marker(text)) for name, text in MARKERS.items()]


def _marker(text: str) -> tuple[str, str]:
    if not text.startswith("="):
        return "none", text
    value, _, effect = text.removeprefix("=").partition(": ")
    return code(*value.split("|")), effect


def verbs() -> Rows:
    """Every verb with the first sentence of its help, as `onetake --help` shows it."""
    return [(code(name), command.get_short_help_str(200)) for name, command in tree.verbs().items()]


def help_of(*words: str) -> str:
    """What a verb's `--help` prints on a terminal of 100 columns."""
    argv = [sys.executable, "-m", "onetake.cli", *words, "--help"]
    return subprocess.run(argv, env={"COLUMNS": "100"}, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def task_queues() -> Rows:
    base = str(Settings.model_fields["task_queue"].default)
    names = dict.fromkeys(map(_vendor_of, _documents()))
    by_vendor = [f"{base}-{verb}-{name}" for name in names for verb in ("submit", "read", "media")]
    return one_column([base, f"{base}-inputs", *by_vendor])


# -- Metrics and logs --------------------------------------------------------------------------------------------------

LOGGERS = {"_log", "workflow.logger"}
_SUFFIXES = {"counter": "_total", "histogram": "_seconds", "gauge": ""}


class _Naming(MetricMeter):
    """Notes the instruments that are made with it, as they are exported."""

    def __init__(self) -> None:
        self.rows: Rows = []

    def _note(self, kind: str, name: str, description: str | None) -> Any:
        self.rows.append((code(name + _SUFFIXES[kind]), kind, description or ""))

    def create_counter(self, name: str, description: str | None = None, unit: str | None = None) -> Any:
        return self._note("counter", name, description or unit)

    def create_histogram_timedelta(self, name: str, description: str | None = None, unit: str | None = None) -> Any:
        return self._note("histogram", name, description or unit)

    def create_gauge_float(self, name: str, description: str | None = None, unit: str | None = None) -> Any:
        return self._note("gauge", name, description or unit)

    def create_gauge(self, name: str, description: str | None = None, unit: str | None = None) -> Any:
        raise NotImplementedError

    create_histogram = create_histogram_float = create_gauge

    def with_additional_attributes(self, additional_attributes: Any) -> Any:
        raise NotImplementedError


def own_metrics() -> Rows:
    naming = _Naming()
    Instruments(naming)
    return sorted(naming.rows)


def log_events() -> Rows:
    """Every event that our code names in a call of its logger, with the levels it has."""
    levels: defaultdict[str, set[str]] = defaultdict(set)
    for folder in ("onetake", "activities", "providers", "workflows"):
        for path in (ROOT / folder).rglob("*.py"):
            if "dev" not in path.parts:
                for event, level in _events_in(ast.parse(path.read_text(encoding="utf-8"))):
                    levels[event].add(level)
    return [(code(event), code(*sorted(levels[event]))) for event in sorted(levels)]


def _events_in(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for call in ast.walk(tree):
        match call:
            case ast.Call(func=ast.Attribute(value=logger, attr=level), args=[event, *_]) if (
                ast.unparse(logger) in LOGGERS
            ):
                yield _event(event), level
            case _:
                pass


def _event(named: ast.expr) -> str:
    """The name; a part that is known only when it runs stands in capitals."""
    match named:
        case ast.Constant():
            return str(named.value).partition(":")[0]
        case ast.JoinedStr():
            return "".join(str(part.value) if isinstance(part, ast.Constant) else "NOTE" for part in named.values)
        case _:
            return ast.unparse(named).rpartition(".")[2].upper()


def all_tables() -> list[Table]:
    entries = one_column(get_args(Entry.model_fields["kind"].annotation))
    rules = ("Route", *_LIMITED, "Inputs", "Also accepted", "Defaults", "Vendor's defaults")
    manners = ("Vendor", "Sends callbacks", "Can cancel a job", "A failed job costs")
    return [
        Table("requests.md", "## Request", ("Field", "Type", "Default", "Rule"), request_fields()),
        Table("requests.md", "### Status", ("Status", "Meaning"), one_column(get_args(Status))),
        Table("requests.md", "### Phase", ("Phase", "What happens"), one_column(PHASES)),
        Table("routes.md", "## Rules", rules, route_rules()),
        Table("routes.md", "## Prices", ("Route", "Resolution", "Sound", "Price"), prices()),
        Table("routes.md", "## Vendors", manners, vendors()),
        Table("errors.md", "## Codes", ("Code", "Sentence", "What to do", "Exit"), errors()),
        Table("errors.md", "## Exit codes", ("Exit", "Meaning"), exit_codes()),
        Table("settings.md", "## Onetake", ("Variable", "Default", "Meaning"), settings()),
        Table("commands.md", "## Verbs", ("Verb", "What it does"), verbs()),
        Table("simulator.md", "## Markers", ("Marker", "Value", "Effect"), markers()),
        Table("temporal.md", "## Search attributes", ("Attribute", "Value"), one_column(SearchAttribute.ALL)),
        Table("temporal.md", "## Task queues", ("Queue", "What runs there"), task_queues()),
        Table("metrics.md", "## Onetake", ("Metric", "Kind", "Meaning", "Labels"), own_metrics()),
        Table("logs.md", "## Events", ("Event", "Level", "Meaning"), log_events()),
        Table("money.md", "## Entries", ("Entry", "Meaning"), entries),
    ]


if __name__ == "__main__":
    for each in all_tables():
        each.write()
