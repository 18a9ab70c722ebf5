"""What the tables of the reference must say, from the code.

`python -m tests.docs.tables` writes them into the committed pages. The last columns of a table may be written by hand:
they are kept as long as their row's first cell is the same, and are left empty in a new row.
"""

import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from onetake.cli.routes import routes
from onetake.core.contracts import GenerationRequest
from onetake.core.errors import CATALOGUE
from onetake.core.names import PHASES, VENDOR_NAMES, SearchAttribute, Status
from onetake.core.settings import Settings
from onetake.dev.simulator.faults import MARKERS
from onetake.ledger.holds import Entry
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
        (code(document["route"]), *_rules(document["rules"]), _defaults(document["route"])) for document in _documents()
    ]


def _defaults(name: str) -> str:
    """What a request gets that leaves the choice to the route."""
    found = load_catalogue().route(name)
    assert found
    route = found[2]
    sound = {None: "", True: ", sound on", False: ", sound off"}[route.sound_default]
    return f"{route.duration_s.default} s, {route.resolutions.default}{sound}"


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
    by_vendor = [f"{base}-{verb}-{name}" for name in names for verb in ("submit", "read")]
    return one_column([base, *by_vendor, f"{base}-media"])


def all_tables() -> list[Table]:
    entries = one_column(get_args(Entry.model_fields["kind"].annotation))
    rules = ("Route", *_LIMITED, "Inputs", "Also accepted", "Defaults")
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
        Table("money.md", "## Entries", ("Entry", "Meaning"), entries),
    ]


if __name__ == "__main__":
    for each in all_tables():
        each.write()
