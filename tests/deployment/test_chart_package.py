"""What the chart takes from another folder, by links, and takes along into its package."""

import pytest

from tests.deployment.rendering import CHART, ROOT, helm, kinds, read_yaml, template


def test_the_rules_are_those_of_the_monitoring_folder() -> None:
    files = sorted((ROOT / "deployment/monitoring/rules").glob("*.yaml"))
    [rule] = kinds("scaled", "PrometheusRule")
    groups = [group for file in files for group in read_yaml(file.read_text(encoding="utf-8"))[0]["groups"]]
    assert rule["spec"]["groups"] == groups != []


def test_the_dashboards_are_those_of_the_monitoring_folder() -> None:
    files = (ROOT / "deployment/monitoring/dashboards").glob("*.json")
    data = {name: text for each in kinds("scaled", "ConfigMap") for name, text in each["data"].items()}
    assert data == {file.name: file.read_text(encoding="utf-8") for file in files} != {}


def test_a_package_needs_no_other_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("package")
    packed = helm("package", str(CHART), "--destination", str(folder))
    assert packed.returncode == 0, packed.stderr
    [package] = folder.iterdir()
    assert template("scaled", chart=package).stdout == template("scaled").stdout
