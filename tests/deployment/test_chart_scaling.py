"""How the chart scales the roles, and which of them has versions."""

import pytest

from onetake.core.names import VENDOR_NAMES, media_queue, submit_queue
from tests.deployment.rendering import EXAMPLES, Object, component, environment, kinds, most_pods, objects_of, pods


def _triggers(example: str, role: str) -> list[Object]:
    found = [each["spec"] for each in kinds(example, "ScaledObject") if component(each) == role]
    found += [
        each["spec"]["template"]["spec"]
        for each in kinds(example, "WorkerResourceTemplate")
        if component(each) == role and each["spec"]["template"]["kind"] == "ScaledObject"
    ]
    [spec] = found
    assert spec["minReplicaCount"] >= 1
    return spec["triggers"]


def test_keda_watches_the_queues_that_the_workers_serve() -> None:
    assert [each["metadata"]["taskQueue"] for each in _triggers("keda", "orchestrate")] == ["onetake"]
    assert [each["metadata"]["taskQueue"] for each in _triggers("keda", "vendors")] == [
        submit_queue("onetake", name) for name in VENDOR_NAMES
    ]
    assert [each["metadata"]["taskQueue"] for each in _triggers("keda", "media")] == [
        media_queue("onetake", name) for name in VENDOR_NAMES
    ]


def test_keda_has_the_workers_credentials_by_reference() -> None:
    [authentication] = kinds("keda-cloud", "TriggerAuthentication")
    assert {each["parameter"] for each in authentication["spec"]["secretTargetRef"]} == {"cert", "key"}
    temporal = [each for each in _triggers("keda-cloud", "vendors") if each["type"] == "temporal"]
    assert [each["authenticationRef"]["name"] for each in temporal] == [authentication["metadata"]["name"]]


def test_what_is_scaled_has_no_fixed_number() -> None:
    for example in EXAMPLES:
        scaled = {component(each) for each in objects_of(example) if most_pods(each)}
        for each in objects_of(example):
            if each["kind"] in ("Deployment", "WorkerDeployment"):
                assert ("replicas" in each["spec"]) == (component(each) not in scaled), example


def test_only_workflows_are_versioned_and_only_by_both_names() -> None:
    names = {"TEMPORAL_DEPLOYMENT_NAME", "TEMPORAL_WORKER_BUILD_ID"}
    # The command line knows which deployment `onetake deploy` means, and the doctor which to look at: no builds of it.
    given = {"orchestrate": names, "cli": {"TEMPORAL_DEPLOYMENT_NAME"}, "doctor": {"TEMPORAL_DEPLOYMENT_NAME"}}
    for name, pod in pods(objects_of("keda")).items():
        assert names & set(environment(pod)) == given.get(name, set())
    [trigger] = _triggers("keda", "orchestrate")
    assert trigger["metadata"]["workerDeploymentBuildId"] == "3f2c9a"


@pytest.mark.parametrize("example", ["controller", "controller-keda"])
def test_what_the_worker_controller_sets_is_not_set_by_us(example: str) -> None:
    found = pods(objects_of(example))
    assert [name for name in environment(found["orchestrate"]) if name.startswith("TEMPORAL_")] == []
    assert "TEMPORAL_ADDRESS" in environment(found["vendors"])
    [deployment], [connection] = kinds(example, "WorkerDeployment"), kinds(example, "Connection")
    assert deployment["spec"]["workerOptions"]["connectionRef"]["name"] == connection["metadata"]["name"]
    assert connection["spec"]["hostPort"] == environment(found["vendors"])["TEMPORAL_ADDRESS"]
    for each in kinds(example, "WorkerResourceTemplate"):
        assert each["spec"]["workerDeploymentRef"]["name"] == deployment["metadata"]["name"]
        inner = each["spec"]["template"]
        assert inner["kind"] == "PodDisruptionBudget" or inner["spec"]["scaleTargetRef"] == {}


def test_a_new_release_of_the_same_code_is_no_new_version() -> None:
    """Each change of the pod template would be one; a release's number and the chart's version are not in it."""
    [before] = kinds("controller", "WorkerDeployment")
    [after] = kinds("controller", "WorkerDeployment", "--is-upgrade", "--set", "metrics.serviceMonitor.enabled=true")
    assert after["spec"]["template"] == before["spec"]["template"]
    assert "helm.sh/chart" not in before["spec"]["template"]["metadata"]["labels"]
