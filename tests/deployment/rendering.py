"""The chart as Helm renders it, read into plain objects.

`python -m tests.deployment.rendering` writes the goldens again.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from tests.deployment.tools import program

ROOT: Final = Path(__file__).parents[2]
CHART: Final = ROOT / "deployment/chart"
GOLDENS: Final = Path(__file__).parent / "goldens"
RELEASE, NAMESPACE = "onetake", "video"

# Each of these files of values is a whole example, deployment/chart/ci/NAME-values.yaml.
EXAMPLES: Final = (
    "plain",
    "scaled",
    "cloud",
    "mtls",
    "keda",
    "keda-cloud",
    "controller",
    "controller-keda",
)
_TO_JSON = "import json, sys, yaml; json.dump(list(yaml.load_all(sys.stdin, yaml.CSafeLoader)), sys.stdout)"

Object = dict[str, Any]


def values_of(example: str) -> Path:
    return CHART / "ci" / f"{example}-values.yaml"


def helm(*words: str) -> subprocess.CompletedProcess[str]:
    """Run Helm; nothing is raised when it refuses."""
    return subprocess.run([program("helm"), *words], capture_output=True, text=True, timeout=300, check=False)


def template(example: str, *words: str, chart: Path = CHART) -> subprocess.CompletedProcess[str]:
    """`helm template` of an example, with further words such as `--set`."""
    return helm("template", RELEASE, str(chart), "--namespace", NAMESPACE, "--values", str(values_of(example)), *words)


@cache
def text_of(example: str, *words: str) -> str:
    """What an example renders to."""
    done = template(example, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def objects_of(example: str, *words: str) -> tuple[Object, ...]:
    """The objects of an example."""
    return tuple(read_yaml(text_of(example, *words)))


def read_yaml(text: str) -> list[Any]:
    """The documents of a YAML text, by the parser that the schema check brings."""
    python = Path(program("kubernetes-validate")).resolve().with_name("python")
    done = subprocess.run([python, "-c", _TO_JSON], input=text, capture_output=True, text=True, timeout=300, check=True)
    return [document for document in json.loads(done.stdout) if document is not None]


def kinds(example: str, kind: str, *words: str) -> list[Object]:
    """The objects of one kind."""
    return [each for each in objects_of(example, *words) if each["kind"] == kind]


def component(thing: Object) -> str:
    return thing["metadata"]["labels"]["app.kubernetes.io/component"]


def pods(objects: Sequence[Object]) -> dict[str, Object]:
    """The pod's metadata and spec of each component."""
    found: dict[str, Object] = {}
    for each in objects:
        if each["kind"] in ("Deployment", "WorkerDeployment", "Job"):
            found[component(each)] = each["spec"]["template"]
        elif each["kind"] == "Pod":
            found[component(each)] = each
    return found


def container(pod: Object) -> Object:
    [only] = pod["spec"]["containers"]
    return only


def environment(pod: Object) -> dict[str, str | None]:
    """Variables by name; None for one that a Secret gives."""
    return {each["name"]: each.get("value") for each in container(pod).get("env", [])}


def most_pods(each: Object) -> int:
    """How many pods an autoscaler may make; 0 for what is none."""
    spec = (
        each["spec"]["template"].get("spec", {}) if each["kind"] == "WorkerResourceTemplate" else each.get("spec", {})
    )
    return spec.get("maxReplicas", spec.get("maxReplicaCount", 0))


def golden(example: str) -> str:
    """What is kept of an example: all but the rules and dashboards, which are files of the chart."""
    kept = [
        document
        for document in text_of(example).split("\n---\n")
        if "kind: PrometheusRule" not in document and "-dashboard-" not in document
    ]
    return "\n---\n".join(kept)


def main() -> None:
    for example in EXAMPLES:
        (GOLDENS / f"{example}.yaml").write_text(golden(example), encoding="utf-8")
        sys.stdout.write(f"{example}\n")


if __name__ == "__main__":
    main()
