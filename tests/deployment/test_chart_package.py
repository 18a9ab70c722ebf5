"""The rules and dashboards, which compose uses as well, and what of the chart comes into its package."""

import pytest

from tests.deployment.rendering import CHART, helm, kinds, read_yaml, template


def test_the_rules_are_rendered_as_they_are() -> None:
    files = sorted((CHART / "files/rules").glob("*.yaml"))
    [rule] = kinds("scaled", "PrometheusRule")
    groups = [group for file in files for group in read_yaml(file.read_text(encoding="utf-8"))[0]["groups"]]
    assert rule["spec"]["groups"] == groups != []


def test_the_dashboards_are_rendered_as_they_are() -> None:
    files = (CHART / "files/dashboards").glob("*.json")
    data = {name: text for each in kinds("scaled", "ConfigMap") for name, text in each["data"].items()}
    assert data == {file.name: file.read_text(encoding="utf-8") for file in files} != {}


def test_a_package_renders_as_the_folder_does(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("package")
    packed = helm("package", str(CHART), "--destination", str(folder))
    assert packed.returncode == 0, packed.stderr
    [package] = folder.iterdir()
    assert template("scaled", chart=package).stdout == template("scaled").stdout
