"""The chart on a real API server: installed, upgraded, rolled back and removed.

Nothing runs there, so a test does what the controller of Jobs would. Continuous integration does not build the server:
that takes longer than all other tests together. Without it these tests name themselves at the end of the run.
"""

import json
import subprocess
import threading
from collections.abc import Generator
from contextlib import contextmanager

import pytest

from tests.deployment.api_server import ApiServer, api_server
from tests.deployment.rendering import CHART, EXAMPLES, NAMESPACE, RELEASE, Object, objects_of, values_of
from tests.deployment.test_chart_schemas import EXTRA, definitions
from tests.deployment.tools import program

KINDS = "deployments,jobs,services,poddisruptionbudgets,networkpolicies,serviceaccounts,horizontalpodautoscalers"
FOREIGN_KINDS = "workerdeployments,connections,workerresourcetemplates,scaledobjects,triggerauthentications"
OWN = ("app.kubernetes.io/instance", RELEASE)
MOMENT = "2026-11-29T00:00:00Z"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("kubernetes")) as started:
        text = "\n---\n".join(json.dumps(each) for each in definitions().values())
        applied = started.kubectl("apply", "--server-side", "--filename", "-", text=text)
        assert applied.returncode == 0, applied.stderr
        assert started.kubectl("wait", "--for=condition=Established", "crd", "--all").returncode == 0
        for namespace in (NAMESPACE, "controlled"):
            assert started.kubectl("create", "namespace", namespace).returncode == 0
            strict = "pod-security.kubernetes.io/warn=restricted"
            assert started.kubectl("label", "namespace", namespace, strict).returncode == 0
        yield started


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_server_takes_every_object(server: ApiServer, example: str) -> None:
    text = "\n---\n".join(json.dumps(each) for each in objects_of(example) if each["kind"] not in EXTRA)
    words = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "--namespace", NAMESPACE)
    applied = server.kubectl(*words, "--filename", "-", text=text)
    assert applied.returncode == 0, applied.stderr
    assert "would violate PodSecurity" not in applied.stderr


def test_the_server_refuses_a_misspelt_field(server: ApiServer) -> None:
    [first, *_] = [each for each in objects_of("plain") if "livenessProbe" in json.dumps(each)]
    text = json.dumps(first).replace("livenessProbe", "livenesProbe")
    words = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "--namespace", NAMESPACE)
    assert "livenesProbe" in server.kubectl(*words, "--filename", "-", text=text).stderr


def test_the_server_warns_of_a_pod_with_rights(server: ApiServer) -> None:
    [first, *_] = [each for each in objects_of("plain") if each["kind"] == "Deployment"]
    text = json.dumps(first).replace('"allowPrivilegeEscalation": false', '"allowPrivilegeEscalation": true')
    words = ("apply", "--server-side", "--dry-run=server", "--namespace", NAMESPACE)
    assert "would violate PodSecurity" in server.kubectl(*words, "--filename", "-", text=text).stderr


def test_a_release_lives_from_its_installation_to_its_end(server: ApiServer) -> None:
    with _jobs_end(server, NAMESPACE) as ended:
        _helm(server, "install", RELEASE, str(CHART), "--values", str(values_of("plain")))
        assert _replicas(server, "gateway") == 2
        assert _own(server, NAMESPACE, "jobs") == []  # it has ended well

        more = ("--set", "gateway.replicas=3", "--set", "image.tag=0.2.0")
        _helm(server, "upgrade", RELEASE, str(CHART), "--values", str(values_of("plain")), *more)
        assert _replicas(server, "gateway") == 3
        _helm(server, "rollback", RELEASE, "1")
        assert _replicas(server, "gateway") == 2
        assert _image(server, "vendors") == "registry.example/onetake:0.1.0"
        _helm(server, "uninstall", RELEASE)
    assert _own(server, NAMESPACE, KINDS) == []
    # A rollback migrates nothing: its hooks would be those of a rollback.
    assert ended == {f"{RELEASE}-migrate-1", f"{RELEASE}-migrate-2"}


def test_a_migration_that_fails_leaves_everything_as_it_was(server: ApiServer) -> None:
    with _jobs_end(server, NAMESPACE):
        _helm(server, "install", RELEASE, str(CHART), "--values", str(values_of("plain")))
    with _jobs_end(server, NAMESPACE, failing=True):
        words = ("upgrade", RELEASE, str(CHART), "--values", str(values_of("plain")), "--set", "gateway.replicas=3")
        failed = _helm_said(server, *words)
        assert failed.returncode != 0
        assert _replicas(server, "gateway") == 2
        [job] = _own(server, NAMESPACE, "jobs")  # it stays, with its log
        assert job["metadata"]["name"] == f"{RELEASE}-migrate-2"
    _helm(server, "uninstall", RELEASE)


def test_the_worker_controllers_objects_come_and_go_with_the_release(server: ApiServer) -> None:
    with _jobs_end(server, "controlled"):
        values = str(values_of("controller-keda"))
        _helm(server, "install", RELEASE, str(CHART), "--values", values, namespace="controlled")
        there = sorted(each["kind"] for each in _own(server, "controlled", FOREIGN_KINDS))
        assert there == [
            "Connection",
            *["ScaledObject"] * 2,
            "TriggerAuthentication",
            "WorkerDeployment",
            *["WorkerResourceTemplate"] * 2,
        ]
        _helm(server, "uninstall", RELEASE, namespace="controlled")
    assert _own(server, "controlled", f"{KINDS},{FOREIGN_KINDS}") == []


# -- What these tests do and look at -----------------------------------------------------------------------------------


def _helm(server: ApiServer, *words: str, namespace: str = NAMESPACE) -> None:
    done = _helm_said(server, *words, namespace=namespace)
    assert done.returncode == 0, done.stderr


def _helm_said(server: ApiServer, *words: str, namespace: str = NAMESPACE) -> subprocess.CompletedProcess[str]:
    return server.run(program("helm"), *words, "--namespace", namespace, "--timeout", "600s")


def _own(server: ApiServer, namespace: str, kinds: str) -> list[Object]:
    label, value = OWN
    return [each for each in server.objects(kinds, namespace) if each["metadata"].get("labels", {}).get(label) == value]


def _deployment(server: ApiServer, name: str) -> Object:
    [found] = [
        each
        for each in _own(server, NAMESPACE, "deployments")
        if each["metadata"]["labels"]["app.kubernetes.io/component"] == name
    ]
    return found


def _replicas(server: ApiServer, name: str) -> int:
    return _deployment(server, name)["spec"]["replicas"]


def _image(server: ApiServer, name: str) -> str:
    [only] = _deployment(server, name)["spec"]["template"]["spec"]["containers"]
    return only["image"]


@contextmanager
def _jobs_end(server: ApiServer, namespace: str, *, failing: bool = False) -> Generator[set[str]]:
    """End each Job as its controller would; gives the names of those that were ended."""
    ended: set[str] = set()
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.3):
            for job in _own(server, namespace, "jobs"):
                if job["metadata"]["name"] not in ended:
                    ended.add(job["metadata"]["name"])
                    _end(server, job, failing=failing)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield ended
    finally:
        over.set()
        worker.join()


def _end(server: ApiServer, job: Object, *, failing: bool) -> None:
    words = ("Failed", "FailureTarget") if failing else ("Complete", "SuccessCriteriaMet")
    conditions = [
        {"type": each, "status": "True", "lastProbeTime": MOMENT, "lastTransitionTime": MOMENT, "reason": "Test"}
        for each in words
    ]
    count = {"failed": 1} if failing else {"succeeded": 1, "completionTime": MOMENT}
    status = {"status": {"startTime": MOMENT, "conditions": conditions} | count}
    named = ("patch", "job", job["metadata"]["name"], "--namespace", job["metadata"]["namespace"])
    patched = server.kubectl(*named, "--subresource=status", "--type=merge", "--patch", json.dumps(status))
    assert patched.returncode == 0, patched.stderr
