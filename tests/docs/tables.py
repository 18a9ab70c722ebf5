"""What the tables of the reference must say, from the code. `python -m tests.docs.tables` prints them as Markdown.

The last columns of a table may be written by hand: they are kept when their row's first cell is still the same.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from onetake.cli.generations import STATUSES
from onetake.contracts import PHASES, GenerationRequest, SearchAttribute
from onetake.errors import CATALOGUE
from onetake.ledger.holds import Entry
from onetake.settings import Settings
from onetake.simulator.faults import MARKERS
from providers.admission import Catalogue
from providers.catalogue import CatalogueData, Count, Route, Vendor, load_catalogue
from tests.docs.markdown import page, section, table

Rows = list[tuple[str, ...]]


@dataclass(frozen=True)
class Table:
    """One table: where it stands, and its rows without the columns that are written by hand."""

    file: str
    heading: str
    head: tuple[str, ...]
    rows: Rows

    @property
    def committed(self) -> Rows:
        return table(section(page(f"docs/reference/{self.file}"), self.heading))

    @property
    def derived_columns(self) -> int:
        return len(self.rows[0])

    def markdown(self) -> str:
        by_hand = {row[0]: row[self.derived_columns :] for row in self.committed}
        empty = ("",) * (len(self.head) - self.derived_columns)
        rows = [(*row, *by_hand.get(row[0], empty)) for row in self.rows]
        return "\n".join([_line(self.head), f"|{'---|' * len(self.head)}", *map(_line, rows)])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def code(*words: object) -> str:
    return ", ".join(f"`{word}`" for word in words)


# -- Requests ----------------------------------------------------------------------------------------------------------


def request_fields() -> Rows:
    schema = GenerationRequest.model_json_schema()
    required = schema["required"]
    return [
        (code(name), _type(name, rule), "required" if name in required else _default(name))
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
            return f"object of {part['additionalProperties']['type']}s"
        case kind:
            return str(kind)


def _default(name: str) -> str:
    value = GenerationRequest.model_fields[name].get_default(call_default_factory=True)
    match value:
        case None:
            return "none"
        case () | {}:
            return "empty"
        case _:
            return code(value)


# -- Routes ------------------------------------------------------------------------------------------------------------


def route_rules(data: CatalogueData) -> Rows:
    return [(code(name), *_rules(route)) for name, _, route in _routes(data)]


def _routes(data: CatalogueData) -> Iterable[tuple[str, Vendor, Route]]:
    for name in data.route_names():
        found = data.route(name)
        assert found
        yield name, found[1], found[2]


def _rules(route: Route) -> tuple[str, ...]:
    negative = str(route.negative_prompt.most) if route.negative_prompt else "no"
    ratios = f"; {', '.join(route.aspect_ratios.choices)}" if route.aspect_ratios else ""
    counts = (("image", route.image), ("videos", route.videos), ("references", route.references))
    inputs = [f"{code(name)}: {_count(count)}" for name, count in counts if count.most]
    others = route.fields - {"negative_prompt", "aspect_ratio", "image", "videos", "references"}
    sound = "" if route.sound_default is None else f" (sound {'on' if route.sound_default else 'off'} by default)"
    return (
        f"{route.duration_s}, default {route.duration_s.default}",
        f"{', '.join(route.resolutions.choices)}, default {route.resolutions.default}{ratios}",
        f"{route.prompt.most}, {negative}",
        "; ".join(inputs) or "none",
        f"{code(*sorted(others))}{sound}",
    )


def _count(count: Count) -> str:
    return f"exactly {count.least}" if count.least == count.most else f"{count.least} to {count.most}"


def prices(data: CatalogueData) -> Rows:
    return [
        (code(name), line.resolution, {None: "any", True: "on", False: "off"}[line.sound], str(line.usd))
        for name, _, route in _routes(data)
        for line in route.price.table
    ]


def vendors(data: CatalogueData) -> Rows:
    return [(code(name), *_manners(vendor)) for name, vendor in data.vendors.items()]


def _manners(vendor: Vendor) -> tuple[str, ...]:
    cadence = vendor.cadence
    gaps = f"{cadence.first_read_s:g} s, then every {cadence.interval_s:g} to {cadence.max_interval_s:g} s"
    yes = {True: "yes", False: "no"}
    return (
        f"`{vendor.base_url}`",
        yes[vendor.callbacks],
        yes[vendor.cancelable],
        gaps,
        f"{vendor.deadline_s:g} s",
        f"`{vendor.failed_job_cost}`",
    )


# -- Everything else ---------------------------------------------------------------------------------------------------


def errors() -> Rows:
    return [(code(name), entry.sentence, entry.hint, str(entry.exit_code)) for name, entry in CATALOGUE.items()]


def exit_codes() -> Rows:
    return [(str(number),) for number in sorted({0, 130, *(entry.exit_code for entry in CATALOGUE.values())})]


def settings() -> Rows:
    return [
        (code(f"ONETAKE_{name.upper()}"), _setting(field.get_default(call_default_factory=True)))
        for name, field in Settings.model_fields.items()
    ]


def _setting(value: object) -> str:
    text = getattr(value, "get_secret_value", lambda: value)()
    if text in (None, "", (), frozenset()):
        return "none"
    return code(str(text).lower() if isinstance(text, bool) else f"{text:g}" if isinstance(text, float) else text)


def markers() -> Rows:
    return [(f"`[[sim:{name}]]`", *_marker(text)) for name, text in MARKERS.items()]


def _marker(text: str) -> tuple[str, str]:
    value, colon, effect = text.removeprefix("=").partition(": ")
    return (f"`{value.replace('|', '`, `')}`", effect) if text.startswith("=") and colon else ("none", text)


def task_queues(data: CatalogueData) -> Rows:
    base = str(Settings.model_fields["task_queue"].default)
    catalogue = Catalogue(Settings.model_construct(apixo_api_key=None), data)
    names = [base]
    for vendor in catalogue.data.vendors:
        names += [f"{base}-submit-{vendor}", f"{base}-read-{vendor}"]
    return [(code(name),) for name in [*names, f"{base}-media"]]


def words(values: Iterable[object]) -> Rows:
    return [(code(value),) for value in values]


def all_tables() -> list[Table]:
    data = load_catalogue()
    return [
        Table("requests.md", "## Request", ("Field", "Type", "Default", "Rule"), request_fields()),
        Table("requests.md", "### Status", ("Status", "Meaning"), words(STATUSES)),
        Table("requests.md", "### Phase", ("Phase", "What happens"), words(PHASES)),
        Table(
            "routes.md",
            "## Rules",
            ("Route", "Seconds", "Resolution", "Characters (prompt, negative)", "Inputs", "Also accepted"),
            route_rules(data),
        ),
        Table("routes.md", "## Prices", ("Route", "Resolution", "Sound", "USD a second"), prices(data)),
        Table(
            "routes.md",
            "## Vendors",
            ("Vendor", "Base URL", "Callbacks", "Cancels", "Status is read after", "Deadline", "A failed job costs"),
            vendors(data),
        ),
        Table("errors.md", "## Codes", ("Code", "Sentence", "What to do", "Exit"), errors()),
        Table("errors.md", "## Exit codes", ("Exit", "Meaning"), exit_codes()),
        Table("settings.md", "## Onetake", ("Variable", "Default", "Meaning"), settings()),
        Table("simulator.md", "## Markers", ("Marker", "Value", "Effect"), markers()),
        Table("temporal.md", "## Search attributes", ("Attribute", "Value"), words(SearchAttribute.ALL)),
        Table("temporal.md", "## Task queues", ("Queue", "What runs there"), task_queues(data)),
        Table("money.md", "## Entries", ("Entry", "Meaning"), words(get_args(Entry.model_fields["kind"].annotation))),
    ]


if __name__ == "__main__":
    for each in all_tables():
        print(f"\n{each.file} {each.heading}\n\n{each.markdown()}")
