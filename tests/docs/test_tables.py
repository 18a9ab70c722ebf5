"""What the reference repeats from the code is what the code says."""

import ast
import re
import tomllib
from collections.abc import Iterator
from typing import Any, cast, get_args, get_origin

import pytest
from pydantic import BaseModel
from starlette.routing import Route

from onetake.core.contracts import GenerationRecord, GenerationRequest, GenerationResult
from onetake.core.errors import CATALOGUE
from onetake.core.names import COST_IN_REVIEW
from onetake.core.settings import Settings
from onetake.gateway.app import GatewayParts, create_app
from onetake.gateway.whoami import answer_whoami
from tests.docs.markdown import ROOT, blocks, names, page, section, table
from tests.docs.tables import Table, all_tables, help_of

REWRITE = "python -m tests.docs.tables"
SOURCES = ("onetake", "workflows", "activities", "providers")


@pytest.mark.parametrize("documented", all_tables(), ids=lambda each: f"{each.file} {each.heading}")
def test_a_table_says_what_the_code_says(documented: Table) -> None:
    rows = documented.committed()
    assert documented.rows == [row[: documented.derived_columns] for row in rows], f"run {REWRITE}"
    assert {len(documented.head)} == {len(row) for row in rows}
    assert all(all(row) for row in rows), "a cell is empty"


def test_each_limit_of_a_field_is_in_its_rule() -> None:
    rules = {names(row[0])[0]: row[3] for row in table(section(page("docs/reference/requests.md"), "## Request"))}
    for name, schema in GenerationRequest.model_json_schema()["properties"].items():
        parts = [schema, *schema.get("anyOf", [])]
        limits = [part[key] for part in parts for key in ("minimum", "maximum", "maxLength") if key in part]
        assert all(f"{limit:g}" in rules[name] for limit in limits), name
    assert GenerationRequest.model_json_schema()["properties"]["tenant"]["pattern"] in rules["tenant"]


def test_the_result_document_is_listed_to_its_last_field() -> None:
    section_of_result = section(page("docs/reference/requests.md"), "## Result")
    documented = [names(row[0])[0] for row in table(section_of_result)]
    assert documented == list(_paths(GenerationResult))
    added = set(GenerationRecord.model_fields) - set(GenerationResult.model_fields)
    sentence = next(line for line in section_of_result.splitlines() if line.startswith("`get`"))
    assert added == set(names(sentence.partition("add:")[2]))


def _paths(model: type[BaseModel], before: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{before}{name}"
        inner, many = _model_in(field.annotation)
        if inner is not None:
            yield from _paths(inner, f"{before}{name}{'[]' if many else ''}.")


def _model_in(annotation: object) -> tuple[type[BaseModel] | None, bool]:
    if isinstance(annotation, type):
        return (annotation if issubclass(annotation, BaseModel) else None), False
    inner = next(
        (part for part in get_args(annotation) if isinstance(part, type) and issubclass(part, BaseModel)), None
    )
    return inner, get_origin(annotation) is tuple


def test_every_warning_is_listed() -> None:
    listed = {names(row[0])[0] for row in table(section(page("docs/reference/errors.md"), "## Warnings"))}
    by_the_ledger = {COST_IN_REVIEW}
    assert f"'code', '{COST_IN_REVIEW}'" in (ROOT / "onetake/ledger/schema/55_review.sql").read_text(encoding="utf-8")
    assert listed == set(_first_words_of_calls("Notice", "code")) | by_the_ledger


def test_the_command_line_has_no_codes_of_its_own() -> None:
    codes = set(_first_words_of_calls("Problem"))
    assert len(codes) > 2, "the search must find what it is for"
    assert codes <= set(CATALOGUE)


def _first_words_of_calls(function: str, keyword: str | None = None) -> Iterator[str]:
    """The first argument, or the named one, of every call of a function that is written as a text."""
    for folder in SOURCES:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == function:
                    given = [each.value for each in node.keywords if each.arg == keyword] if keyword else node.args[:1]
                    yield from (
                        each.value for each in given if isinstance(each, ast.Constant) and isinstance(each.value, str)
                    )


def test_every_variable_that_the_source_names_is_documented() -> None:
    named: set[str] = set()
    for folder in SOURCES:
        for path in (ROOT / folder).rglob("*.py"):
            named |= set(re.findall(r"\bONETAKE_[A-Z0-9_]*[A-Z0-9]\b", path.read_text(encoding="utf-8")))
    assert len(named) > 10, "the search must find what it is for"
    assert {f"ONETAKE_{name.upper()}" for name in Settings.model_fields} | {
        "ONETAKE_CRASH",
        "ONETAKE_SECRETS_DIR",
    } >= named
    assert all(name in page("docs/reference/settings.md") for name in named)


def test_every_address_of_the_gateway_is_documented() -> None:
    async def unused(*_: object) -> None: ...

    parts = GatewayParts(None, unused, (), lambda _vendor, _body: (None, None), {}, {})  # pyright: ignore[reportArgumentType]
    served = {
        f"{method} {route.path}"
        for route in answer_whoami(create_app(parts), cast("Any", None)).routes
        if isinstance(route, Route)
        for method in route.methods or ()
    }
    assert {address for address in served if not address.startswith("HEAD ")} == {
        names(row[0])[0] for row in table(page("docs/reference/http.md"))
    }


def test_the_architecture_draws_the_arrows_that_the_linter_checks() -> None:
    contracts = tomllib.loads(page("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    (layers,) = [each["layers"] for each in contracts if each["name"].startswith("Arrows run one way")]
    drawn = re.search(r"^```\n(onetake\.cli\n.*?)^```", page("ARCHITECTURE.md"), re.MULTILINE | re.DOTALL)
    assert drawn
    assert layers == drawn[1].replace(" · ", " | ").splitlines()


def test_the_help_of_generate_is_the_help_of_generate() -> None:
    (documented,) = blocks(section(page("docs/reference/commands.md"), "## generate"), "text")
    assert documented.strip() == help_of("generate").strip()
