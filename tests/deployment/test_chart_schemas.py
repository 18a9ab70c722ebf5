"""The rendered objects, held against the schemas of Kubernetes and of the projects whose kinds they are."""

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.deployment.rendering import EXAMPLES, Object, objects_of, read_yaml
from tests.deployment.structural import faults, schema_of
from tests.deployment.tools import program

VERSIONS = ("1.34", "1.35", "1.36", "1.37")
FOREIGN = {
    "Connection",
    "HTTPRoute",
    "PrometheusRule",
    "ScaledObject",
    "ServiceMonitor",
    "TriggerAuthentication",
    "WorkerDeployment",
    "WorkerResourceTemplate",
}
EXTRA = {"ExternalSecret"}  # an example of extraObjects


def _own(example: str) -> list[Object]:
    """What Kubernetes itself knows: with what the Worker Controller will make of its kinds."""
    found: list[Object] = []
    for each in objects_of(example):
        if each["kind"] == "WorkerDeployment":
            found.append(_deployment_of(each))
        elif each["kind"] == "WorkerResourceTemplate":
            found.append(_filled_in(each))
        else:
            found.append(each)
    return [each for each in found if each["kind"] not in FOREIGN | EXTRA]


def _deployment_of(versioned: Object) -> Object:
    template = versioned["spec"]["template"]
    labels = {"matchLabels": template["metadata"]["labels"]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "version"},
        "spec": {"selector": labels, "template": template},
    }


def _filled_in(resource: Object) -> Object:
    inner = resource["spec"]["template"] | {"metadata": {"name": resource["metadata"]["name"]}}
    if "scaleTargetRef" in inner["spec"]:
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "version"}
        inner = inner | {"spec": inner["spec"] | {"scaleTargetRef": target}}
    return inner


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_of_kubernetes_takes_the_objects(version: str, tmp_path: Path) -> None:
    _validate(version, [each for example in EXAMPLES for each in _own(example)], tmp_path)


def test_the_check_of_kubernetes_objects_finds_a_misspelt_field(tmp_path: Path) -> None:
    [first, *_] = [each for each in _own("plain") if "livenessProbe" in json.dumps(each)]
    wrong = json.loads(json.dumps(first).replace("livenessProbe", "livenesProbe"))
    with pytest.raises(AssertionError, match="livenesProbe"):
        _validate("1.37", [wrong], tmp_path)


def _validate(version: str, objects: list[Object], folder: Path) -> None:
    file = folder / "objects.yaml"
    file.write_text("\n---\n".join(map(json.dumps, objects)), encoding="utf-8")
    words = [program("kubernetes-validate"), "--kubernetes-version", version, "--strict", "--quiet", str(file)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@cache
def definitions() -> dict[str, Any]:
    """The definitions of the foreign kinds, by kind."""
    printed = subprocess.run([program("custom-resources")], capture_output=True, text=True, timeout=60, check=True)
    texts = re.split(r"^---$", printed.stdout, flags=re.MULTILINE)
    wanted = [text for text in texts if re.search(rf"^    kind: ({'|'.join(FOREIGN)})$", text, re.MULTILINE)]
    return {each["spec"]["names"]["kind"]: each for each in read_yaml("\n---\n".join(wanted))}


def _faults(each: Object) -> list[str]:
    definition = definitions()[each["kind"]]
    group, _, version = each["apiVersion"].partition("/")
    assert definition["spec"]["group"] == group
    return [f"{each['kind']}{fault}" for fault in faults(schema_of(definition, version), each)]


def _foreign(example: str) -> list[Object]:
    found = [each for each in objects_of(example) if each["kind"] in FOREIGN]
    return found + [_filled_in(each) for each in found if _is_scaled_object(each)]


def _is_scaled_object(each: Object) -> bool:
    return each["kind"] == "WorkerResourceTemplate" and each["spec"]["template"]["kind"] == "ScaledObject"


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_projects_whose_kinds_they_are_take_the_objects(example: str) -> None:
    assert [fault for each in _foreign(example) for fault in _faults(each)] == []


def test_all_foreign_kinds_are_looked_at() -> None:
    assert {each["kind"] for example in EXAMPLES for each in _foreign(example)} == FOREIGN


@pytest.mark.parametrize(
    ("example", "kind", "old", "new", "said"),
    [
        ("controller", "WorkerDeployment", '"connectionRef"', '"connection"', ".connection: unknown"),
        ("controller", "WorkerDeployment", '"livenessProbe"', '"livenesProbe"', ".livenesProbe: unknown"),
        ("controller", "WorkerDeployment", '"rampPercentage": 5}', '"rampPercentage": 0}', "0 is too small"),
        ("controller", "Connection", ":7233", "", "does not fit"),
        ("keda", "ScaledObject", '"minReplicaCount": 1', '"minReplicaCount": "1"', "not of type integer"),
        ("cloud", "HTTPRoute", '"PathPrefix"', '"Prefix"', "is none of"),
    ],
)
def test_the_check_of_foreign_kinds_finds_what_is_wrong(example: str, kind: str, old: str, new: str, said: str) -> None:
    [first, *_] = [each for each in _foreign(example) if each["kind"] == kind]
    text = json.dumps(first)
    assert old in text
    assert any(said in fault for fault in _faults(json.loads(text.replace(old, new, 1))))
