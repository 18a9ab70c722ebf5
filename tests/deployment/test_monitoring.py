"""Rules, their cases, dashboards and runbooks, looked at by Prometheus' own tools."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.deployment.monitoring import CASES, DASHBOARDS, MONITORING, ROOT, RULES, alerts, document, panels, rules
from tests.deployment.tools import program

RUNBOOKS = ROOT / "docs/runbooks"
SECTIONS = ["What it means", "What users see", "What to look at", "What to do", "What not to do"]


def run(*argv: str) -> str:
    found = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=600)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def test_the_rules_can_be_read() -> None:
    run(program("promtool"), "check", "rules", *map(str, RULES))
    assert (len(alerts()), len(rules()) - len(alerts())) == (24, 6)


def test_the_configurations_can_be_read() -> None:
    run(program("promtool"), "check", "config", str(MONITORING / "prometheus.yml"))
    run(program("amtool"), "check-config", str(MONITORING / "alertmanager.yml"))


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_cases_of_the_rules_hold(path: Path) -> None:
    run(program("promtool"), "test", "rules", str(path))


def test_each_alert_has_a_case_in_which_it_fires_and_one_of_a_deploy() -> None:
    cases: dict[str, list[bool]] = {}
    for path in CASES:
        for case in document(path)["tests"]:
            for expected in case["alert_rule_test"]:
                cases.setdefault(expected["alertname"], []).append(bool(expected["exp_alerts"]))
    assert {name: set(fires) for name, fires in cases.items()} == {name: {False, True} for name in alerts()}


COUNTERS_OF_ALERTS = {
    "onetake_callbacks_total",
    "onetake_database_errors_total",
    "onetake_generations_ended_total",
    "onetake_submissions_total",
    "onetake_temporal_refusals_total",
}


def test_rules_read_only_counters_of_ours_that_begin_at_zero() -> None:
    """`tests/engine/test_telemetry.py` scrapes the zeros of all label values of these."""
    read = {name for rule in rules() for name in re.findall(r"\bonetake_\w+_total\b", rule["expr"])}
    assert read == COUNTERS_OF_ALERTS


def test_rules_that_ask_for_one_event_of_temporals_see_the_first() -> None:
    for rule in rules():
        if re.search(r"increase\(temporal_", rule["expr"]):
            assert re.search(r"unless\s+temporal_\w+\{[^}]*\} offset", rule["expr"]), rule["alert"]


def test_each_alert_names_a_runbook_and_each_runbook_of_an_alert_its_rule() -> None:
    linked = {alert["annotations"]["runbook_url"] for alert in alerts().values()}
    assert len(linked) == len(alerts())
    for name, alert in alerts().items():
        text = (ROOT / alert["annotations"]["runbook_url"]).read_text(encoding="utf-8")
        assert text.startswith(f"# {name}\n")
        assert re.findall("^## (.*)$", text, re.MULTILINE) == SECTIONS
    titles = {path: path.read_text(encoding="utf-8").partition("\n")[0] for path in RUNBOOKS.glob("*.md")}
    about_alerts = {str(path.relative_to(ROOT)) for path, title in titles.items() if title.startswith("# Onetake")}
    assert about_alerts == linked


def test_what_holds_back_an_alert_names_alerts_that_exist() -> None:
    text = (MONITORING / "alertmanager.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"Onetake\w+", text)) <= set(alerts())


def matches(matcher: str, labels: dict[str, str]) -> bool:
    name, operator, value = re.fullmatch(r'(\w+) (=~?) "([^"]*)"', matcher.strip()).groups()  # pyright: ignore[reportOptionalMemberAccess]
    label = labels.get(name, "")
    return bool(re.fullmatch(value, label)) if operator == "=~" else label == value


def held_back(target: dict[str, str], source: dict[str, str]) -> bool:
    """As Alertmanager does it: all matchers of both sides, and equal labels, where absent is as empty."""
    return any(
        all(matches(each, source) for each in rule["source_matchers"])
        and all(matches(each, target) for each in rule["target_matchers"])
        and all(source.get(name, "") == target.get(name, "") for name in rule.get("equal", ()))
        for rule in document(MONITORING / "alertmanager.yml")["inhibit_rules"]
    )


def test_full_slots_hold_back_only_the_pages_of_their_own_queue_and_work() -> None:
    def full(queue: str, kind: str) -> dict[str, str]:
        return {"alertname": "OnetakeSlotsFull", "task_queue": queue, "worker_type": kind}

    unpolled = {"alertname": "OnetakeNoPollers", "task_queue": "onetake", "poller_type": "workflow_task"}
    waiting = {"alertname": "OnetakeWorkflowTasksWait", "task_queue": "onetake"}
    for page in (unpolled, waiting):
        assert held_back(page, full("onetake", "WorkflowWorker"))
        assert not held_back(page, full("onetake", "ActivityWorker"))
        assert not held_back(page, full("onetake-submit-apixo", "WorkflowWorker"))
    activities = {**unpolled, "task_queue": "onetake-submit-apixo", "poller_type": "activity_task"}
    assert held_back(activities, full("onetake-submit-apixo", "ActivityWorker"))
    assert not held_back(activities, full("onetake-read-apixo", "ActivityWorker"))


def test_a_role_that_is_gone_is_told_once_and_by_nobody_held_back() -> None:
    gone = {"alertname": "OnetakeRoleMissing", "role": "media"}
    assert not any(held_back(gone, {"alertname": name, **labels}) for name in alerts() for labels in ({}, gone))
    assert held_back({"alertname": "OnetakeNoPollers", "task_queue": "onetake-media-apixo"}, gone)


def boards() -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in DASHBOARDS]


def test_dashboards_are_classic_ones_of_one_source_that_the_reader_chooses() -> None:
    assert [path.stem for path in DASHBOARDS] == ["money", "pipeline", "workers"]
    for board in boards():
        assert board["schemaVersion"] == 41
        assert [variable["name"] for variable in board["templating"]["list"]] == ["datasource"]
        sources = [panel["datasource"]["uid"] for panel in board["panels"] if panel["type"] != "row"]
        assert set(sources) == {"${datasource}"}
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids))


def test_rates_of_panels_follow_the_scrapes() -> None:
    for name, expression in panels().items():
        assert set(re.findall(r"\[([^\]]*)\]", expression)) <= {"$__rate_interval"}, name


def documented() -> set[str]:
    text = (ROOT / "docs/reference/metrics.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE))


def test_every_metric_that_is_read_is_documented() -> None:
    texts = [*panels().values(), *(rule["expr"] for rule in rules())]
    read = {name for text in texts for name in re.findall(r"\b(?:onetake|temporal)_\w+", text)}
    names = {re.sub("_bucket$", "", name) for name in read - {"temporal_worker_build_id"}}
    assert {name for name in names if name.removesuffix("_count") not in documented()} <= documented()
