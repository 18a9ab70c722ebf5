"""The values for Temporal's own chart, and the page for Temporal Cloud, compared with what we need of a server."""

import re
from pathlib import Path
from typing import Any

from onetake.core.names import SearchAttribute
from onetake.dev.devstack.temporal_server import server_command
from tests.deployment.rendering import ROOT, read_yaml
from workflows.options import LATE_WINDOW_S


def _server() -> dict[str, Any]:
    [values] = read_yaml((ROOT / "deployment/temporal/values-postgres.yaml").read_text(encoding="utf-8"))
    return values["server"]


def _persistence() -> dict[str, Any]:
    return _server()["config"]["persistence"]


def test_what_cannot_be_changed_later_is_chosen() -> None:
    assert _persistence()["numHistoryShards"] == 512
    stores = {name: store["sql"] for name, store in _persistence()["datastores"].items()}
    assert {_persistence()["defaultStore"], _persistence()["visibilityStore"]} == set(stores)
    assert len({store["databaseName"] for store in stores.values()}) == 2
    assert {(store["pluginName"], store["driverName"]) for store in stores.values()} == {("postgres12_pgx",) * 2}


def test_no_password_is_among_the_values() -> None:
    for store in _persistence()["datastores"].values():
        assert store["sql"]["existingSecret"]
        assert "password" not in store["sql"]


def test_all_of_its_pods_fit_a_small_database() -> None:
    each = sum(store["sql"]["maxConns"] for store in _persistence()["datastores"].values())
    services = 4  # frontend, history, matching, worker
    assert services * _server()["replicaCount"] * each <= 120


def test_the_switches_are_those_that_our_tests_run_with() -> None:
    said = {name: rows[0]["value"] for name, rows in _server()["dynamicConfig"].items()}
    assert said == {"matching.enableFairness": True}
    ports: dict[str, int] = dict.fromkeys(("temporal", "temporal_ui", "temporal_http", "codec"), 1)
    assert "matching.enableFairness=true" in server_command(Path("/bin/true"), ports, None, (), {}).argv


def test_closed_runs_are_kept_longer_than_a_recovery_needs() -> None:
    [namespace] = _server()["config"]["namespaces"]["namespace"]
    days = int(namespace["retention"].removesuffix("d"))
    assert days * 86_400 > LATE_WINDOW_S


def test_the_page_for_temporal_cloud_names_every_search_attribute() -> None:
    page = (ROOT / "docs/temporal-cloud.md").read_text(encoding="utf-8")
    assert re.findall(r"--search-attribute (\w+)=Keyword", page) == list(SearchAttribute.ALL)
    [days] = set(re.findall(r"--retention-days (\d+)", page))
    assert int(days) * 86_400 > LATE_WINDOW_S
