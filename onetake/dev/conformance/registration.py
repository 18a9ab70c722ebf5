"""Where a vendor has to be entered before it can be tried, and what it still lacks there.

Nothing here crashes over a half-written vendor: a data file that is wrong, an adapter that cannot be imported and an
entry that is missing each become a finding that says what to do.
"""

import importlib
import importlib.util
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast

from pydantic import SecretStr, ValidationError

from onetake.core.errors import Refused
from onetake.core.settings import Settings
from onetake.dev.conformance.under_test import FUNCTIONS, OPTIONAL, VendorUnderTest, place_of
from onetake.dev.simulator import prices
from onetake.dev.simulator.vendor import SimulatedVendor
from providers.catalogue import ROUTES, Catalogue, VendorData, read_catalogue

Verdict = Literal["ok", "lacks"]


@dataclass(frozen=True)
class Finding:
    """One scenario of one vendor: whether it holds, and what to do when it does not."""

    group: str
    scenario: str
    verdict: Verdict
    todo: str = ""


@dataclass(frozen=True)
class Report:
    """What the kit found of one vendor."""

    vendor: str
    findings: tuple[Finding, ...]

    @property
    def conforms(self) -> bool:
        return all(finding.verdict == "ok" for finding in self.findings)

    @property
    def document(self) -> dict[str, Any]:
        scenarios = [asdict(finding) for finding in self.findings]
        return {"vendor": self.vendor, "conforms": self.conforms, "scenarios": scenarios}


@dataclass(frozen=True)
class Registries:
    """The registries that a vendor is entered in. `troubles` are those that cannot be read at all, by what is wrong."""

    adapters: Mapping[str, object]
    data: Catalogue | None
    simulators: Mapping[str, type[SimulatedVendor]]
    troubles: tuple[str, ...] = ()
    routes_folder: Path = ROUTES

    def names(self) -> tuple[str, ...]:
        """Every vendor that one of the registries or folders knows."""
        files = {path.stem for path in self.routes_folder.glob("*.toml")}
        modules = {path.stem for path in self.routes_folder.parent.glob("*.py") if _is_adapter(path)}
        return tuple(sorted({*files, *modules, *self.adapters, *self.simulators}))


def _is_adapter(path: Path) -> bool:
    """Whether a file defines a function of an adapter, however little else it has."""
    return re.search(rf"^def ({'|'.join(FUNCTIONS)})\(", path.read_text(encoding="utf-8"), re.MULTILINE) is not None


def shipped_registries() -> Registries:
    """The registries of this installation, read as far as they can be."""
    troubles: list[str] = []
    data = None
    try:
        data = read_catalogue(ROUTES)
    except ValueError as error:
        troubles += _wrong_data(error)
    vendors = _imported("providers.vendors", troubles)
    app = _imported("onetake.dev.simulator.app", troubles)
    return Registries(
        adapters=getattr(vendors, "VENDORS", {}),
        data=data,
        simulators=getattr(app, "VENDORS", {}),
        troubles=tuple(troubles),
    )


def _imported(name: str, troubles: list[str]) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except Exception as error:  # noqa: BLE001 - a vendor file that is being written may do anything
        troubles.append(f"{name} cannot be imported: {place_of(error)}: {error}".splitlines()[0][:300])
        return None


def _wrong_data(error: ValueError) -> list[str]:
    if not isinstance(error, ValidationError):
        return [f"providers/routes: {error}"]
    return [_missing_section(problem) for problem in error.errors(include_input=False, include_url=False)]


def _missing_section(problem: Any) -> str:
    """A problem of the whole catalogue: the second step of its path is the vendor."""
    path = [*map(str, problem["loc"])]
    return f"providers/routes/{path[1] if len(path) > 1 else ''}.toml: {_wrong_place(path[2:], problem)}"


def _wrong_place(path: list[str], problem: Any) -> str:
    place = ".".join(path)
    return f"[{place}] is missing" if problem["type"] == "missing" else f"{place}: {problem['msg']}"


def examine(name: str, registries: Registries) -> tuple[list[Finding], VendorUnderTest | None]:
    """Look whether the vendor is entered everywhere; a VendorUnderTest when it can be tried."""
    findings = [*_findings(name, registries)]
    ready = all(finding.verdict == "ok" or finding.scenario in _ADAPTER_ROWS for finding in findings)
    if not ready or registries.data is None:
        return findings, None
    vendor = _under_test(name, registries)
    return [*findings, *_prices(vendor)], vendor


_ADAPTER_ROWS = {f"It offers `{function}`." for function in FUNCTIONS} | {
    f"It offers `{function}`, as its facts promise." for functions in OPTIONAL.values() for function in functions
}


def _findings(name: str, registries: Registries) -> Iterator[Finding]:
    def finding(scenario: str, holds: bool, todo: str) -> Finding:
        return Finding("registration", scenario, "ok" if holds else "lacks", "" if holds else todo)

    yield finding("The files of all vendors can be read.", not registries.troubles, "; ".join(registries.troubles))
    adapter, file = registries.adapters.get(name), f"providers/{name}.py"
    there = importlib.util.find_spec(f"providers.{name}") is not None or adapter is not None
    yield finding(f"`{file}` is there.", there, f"write {file} with {', '.join(FUNCTIONS)}")
    registered = f"add it to VENDORS in providers/vendors.py: {name!r}: {name}"
    yield finding("The driver knows it.", adapter is not None, registered)
    for function, signature in FUNCTIONS.items():
        offers = callable(getattr(adapter, function, None))
        yield finding(f"It offers `{function}`.", offers, f"add to {file}: def {signature}")
    for function, signature in _promised(name, registries).items():
        offers = callable(getattr(adapter, function, None))
        yield finding(f"It offers `{function}`, as its facts promise.", offers, f"add to {file}: def {signature}")
    lacking = _lacking_data(registries.routes_folder / f"{name}.toml")
    yield finding(f"`providers/routes/{name}.toml` has every section.", not lacking, lacking)
    settings = {f"{name}_base_url", f"{name}_api_key"} - set(Settings.model_fields)
    todo = f"add {name!r} to VENDOR_NAMES in onetake/core/names.py: {', '.join(sorted(settings))} follow"
    yield finding("Its address and its key have settings.", not settings, todo)
    folder = "onetake/dev/simulator"
    todo = f"write {folder}/{name}.py, and add it to VENDORS in {folder}/app.py"
    yield finding("The simulator plays it.", name in registries.simulators, todo)


def _promised(name: str, registries: Registries) -> Mapping[str, str]:
    """The functions that the vendor's facts promise besides those of every adapter."""
    facts = registries.data.vendors[name].vendor if registries.data and name in registries.data.vendors else None
    promises = (functions for fact, functions in OPTIONAL.items() if getattr(facts, fact, None))
    return {function: signature for functions in promises for function, signature in functions.items()}


def _lacking_data(path: Path) -> str:
    """What a data file lacks: itself, sections, or what is wrong in them; empty when it is whole."""
    if not path.exists():
        return f"write it with {', '.join(_SECTIONS)}"
    try:
        VendorData.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
        return "; ".join(_wrong_place([*map(str, problem["loc"])], problem) for problem in problems[:5])
    except ValueError as error:
        return f"it is no TOML: {error}"
    return ""


_SECTIONS = ("[vendor]", "[credit]", "[cadence]", "[[outcomes]]", "[[routes]]")


def _under_test(name: str, registries: Registries) -> VendorUnderTest:
    simulated = registries.simulators[name]
    key = f"{simulated.key_prefix}sim-{name}-key"
    # The vendor's own defaults: what is compared with them must not depend on what they cost.
    fields = {f"{name}_api_key": SecretStr(key), "prices": str(prices.FILE), "defaults": "vendor"}
    # Validated and not loaded: the kit does not look at the environment.
    settings = Settings.model_validate(fields)
    data = cast("Catalogue", registries.data)
    return VendorUnderTest(name, registries.adapters[name], data, settings, simulated(key), key)


def _prices(vendor: VendorUnderTest) -> Iterator[Finding]:
    scenario = "Every route has a price, documented or in the development prices."
    lacking: list[str] = []
    for name, route in vendor.routes():
        for resolution in route.resolutions.choices:
            try:
                vendor.plan(vendor.request(name, resolution=resolution))
            except Refused as refusal:
                lacking.append(f"{route.mode}: {refusal.detail}")
            except Exception as error:  # noqa: BLE001 - facts that pass the loader and contradict each other
                lacking.append(f"{route.mode}, {resolution}: {place_of(error)}: {error}.")
    if lacking:
        todo = f"{lacking[0]} The simulator's own is onetake/dev/simulator/prices.toml."
        yield Finding("registration", scenario, "lacks", todo)
    else:
        yield Finding("registration", scenario, "ok")
