"""What the chart renders for its examples, compared with what our own processes need."""

import json
import re
import shlex
from collections.abc import Iterator

import pytest

from onetake import worker
from onetake.core.names import VENDOR_NAMES
from onetake.core.settings import Settings
from onetake.gateway import serve
from onetake.gateway.app import CALLBACKS
from onetake.gateway.whoami import WHOAMI
from onetake.ledger import database
from onetake.media.inputs import MOST_REQUESTS
from providers.catalogue import load_catalogue
from tests.cli.tree import parse
from tests.deployment.rendering import (
    CHART,
    EXAMPLES,
    GOLDENS,
    ROOT,
    Object,
    component,
    container,
    environment,
    golden,
    helm,
    kinds,
    most_pods,
    objects_of,
    pods,
    read_yaml,
    template,
    values_of,
)

SERVING = {"gateway", "orchestrate", "vendors", "media"}
SCALED = ["orchestrate", "vendors", "media"]
KEYED = {"orchestrate", "vendors", "media", "doctor", "cli"}  # who may read vendors' and the store's keys
LEAVING_S = 15  # between the end of the grace and the end of the process
DEFAULT_CLIP = Settings.model_fields["asset_max_bytes"].default
UNITS = {"Mi": 2**20, "Gi": 2**30}

every_example = pytest.mark.parametrize("example", EXAMPLES)


@every_example
def test_helm_finds_no_fault_in_the_chart(example: str) -> None:
    linted = helm("lint", "--strict", str(CHART), "--values", str(values_of(example)))
    assert linted.returncode == 0, linted.stdout


@every_example
def test_an_example_renders_as_it_did(example: str) -> None:
    """`python -m tests.deployment.rendering` writes them again."""
    assert golden(example) == (GOLDENS / f"{example}.yaml").read_text(encoding="utf-8")


def test_the_examples_are_all_that_there_are() -> None:
    assert {path.name for path in (CHART / "ci").iterdir()} == {f"{name}-values.yaml" for name in EXAMPLES}
    assert {path.stem for path in GOLDENS.iterdir()} == set(EXAMPLES)


def test_the_chart_has_the_version_of_the_project() -> None:
    [chart] = read_yaml(_page("deployment/chart/Chart.yaml"))
    [version] = re.findall(r'^version = "(.*)"$', _page("pyproject.toml"), re.MULTILINE)
    assert chart["appVersion"] == chart["version"] == version


# -- Processes ---------------------------------------------------------------------------------------------------------


@every_example
def test_the_command_line_reads_every_command(example: str) -> None:
    for name, pod in pods(objects_of(example)).items():
        if name == "cli":
            assert "args" not in container(pod)
            continue
        words = container(pod)["args"]
        parse(words)
        assert name in SERVING or words[0] in {"migrate", "attributes", "doctor"}
        assert name not in SCALED or words[:3] == ["worker", "--role", name]


@every_example
def test_every_variable_is_one_that_the_reference_explains(example: str) -> None:
    documented = set(re.findall(r"`((?:ONETAKE|TEMPORAL|OTEL|SSL)_[A-Z0-9_]+)`", _page("docs/reference/settings.md")))
    foreign = {"HTTPS_PROXY"}
    for pod in pods(objects_of(example)).values():
        assert set(environment(pod)) - documented <= foreign


def test_the_settings_are_those_that_have_no_secret_and_that_the_chart_does_not_set_itself() -> None:
    pod = pods(objects_of("scaled"))["gateway"]
    own = set(environment(pod)) - {"HTTPS_PROXY"} - set(read_yaml(values_of("scaled").read_text())[0]["settings"])
    plain = {
        f"ONETAKE_{name.upper()}"
        for name, field in Settings.model_fields.items()
        if "Secret" not in str(field.annotation)
    }
    assert set(_schema()["properties"]["settings"]["properties"]) == plain - own


def test_the_vendors_are_all_vendors() -> None:
    schema, values = _schema(), _values()
    assert schema["properties"]["vendors"]["items"]["enum"] == list(VENDOR_NAMES) == values["vendors"]


def test_every_value_of_the_schema_is_explained_among_the_values() -> None:
    own = {"settings", "global"}  # the one is in the settings' reference, the other is Helm's
    properties = {name: each for name, each in _schema()["properties"].items() if name not in own}
    assert list(_unexplained(properties, _values())) == []


def _unexplained(properties: Object, values: Object, at: str = "") -> Iterator[str]:
    for name, schema in properties.items():
        if name not in values:
            yield f"{at}{name}"
        elif "properties" in schema:
            yield from _unexplained(schema["properties"], values[name], f"{at}{name}.")


# What Helm reads of whole numbers are floats: none may become 1.073741824e+09.
def test_numbers_among_the_settings_stay_whole() -> None:
    found = environment(pods(objects_of("scaled"))["media"])
    assert (found["ONETAKE_ASSET_MAX_BYTES"], found["ONETAKE_RECONCILE_EVERY_S"]) == ("1073741824", "30")


# -- Stopping, probes, disruption --------------------------------------------------------------------------------------


@every_example
def test_the_grace_is_longer_than_what_a_role_needs(example: str) -> None:
    graces = {
        name: pod["spec"].get("terminationGracePeriodSeconds", 0) for name, pod in pods(objects_of(example)).items()
    }
    needed = worker.GRACE.total_seconds() + LEAVING_S
    assert min(graces["orchestrate"], graces["vendors"]) >= needed
    assert graces["media"] >= worker.MEDIA_GRACE.total_seconds() + LEAVING_S
    gateway = container(pods(objects_of(example))["gateway"])
    assert graces["gateway"] >= gateway["lifecycle"]["preStop"]["sleep"]["seconds"] + serve.GRACE_S


def test_the_schema_knows_the_least_grace() -> None:
    needed = int(worker.GRACE.total_seconds() + LEAVING_S)
    for role in ("orchestrate", "vendors"):
        refused = template("plain", "--set", f"workers.{role}.terminationGracePeriodSeconds={needed}")
        assert f"/workers/{role}/terminationGracePeriodSeconds" in refused.stderr


@every_example
def test_probes_ask_the_process_that_serves(example: str) -> None:
    for name, pod in pods(objects_of(example)).items():
        each = container(pod)
        if name not in SERVING:
            assert "livenessProbe" not in each
            assert "ports" not in each
            continue
        port = {port["name"]: port["containerPort"] for port in each["ports"]}
        told = shlex.join(each["args"])
        for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
            asked = each[probe]["httpGet"]
            assert asked["path"] == path
            assert f"port {port[asked['port']]}" in told
        assert "host 0.0.0.0" in told
        assert ("lifecycle" in each) == (name == "gateway")  # nobody sends a worker requests


@every_example
def test_one_pod_of_each_role_may_be_taken_away_at_a_time(example: str) -> None:
    budgets = {component(each): each["spec"] for each in kinds(example, "PodDisruptionBudget")}
    versioned = {
        component(each): each["spec"]["template"]["spec"]
        for each in kinds(example, "WorkerResourceTemplate")
        if each["spec"]["template"]["kind"] == "PodDisruptionBudget"
    }
    assert {*budgets, *versioned} == (set[str]() if example == "mtls" else SERVING)
    assert all(spec["maxUnavailable"] == 1 and "minAvailable" not in spec for spec in (budgets | versioned).values())
    assert all(spec["selector"]["matchLabels"] == {} for spec in versioned.values())  # the controller fills it
    _select_the_pods(example, {name: spec["selector"]["matchLabels"] for name, spec in budgets.items()})


def _select_the_pods(example: str, selectors: dict[str, Object]) -> None:
    found = pods(objects_of(example))
    for name, labels in selectors.items():
        assert labels.items() <= found[name]["metadata"]["labels"].items()
        others = [pod for other, pod in found.items() if other != name]
        assert not any(labels.items() <= pod["metadata"]["labels"].items() for pod in others)


@every_example
def test_each_selector_finds_its_own_pods(example: str) -> None:
    deployments = {component(each): each["spec"]["selector"]["matchLabels"] for each in kinds(example, "Deployment")}
    policies = {component(each): each["spec"]["podSelector"]["matchLabels"] for each in kinds(example, "NetworkPolicy")}
    there = pods(objects_of(example))
    _select_the_pods(example, deployments)
    _select_the_pods(example, {name: labels for name, labels in policies.items() if name in there})


# -- Room --------------------------------------------------------------------------------------------------------------


def _bytes(size: str) -> int:
    return int(size[:-2]) * UNITS[size[-2:]]


def _spool(pod: Object) -> int:
    [size] = [volume["emptyDir"]["sizeLimit"] for volume in pod["spec"]["volumes"] if volume["name"] == "spool"]
    return _bytes(size)


@pytest.mark.parametrize(
    ("example", "vendors", "clip"), [("plain", len(VENDOR_NAMES), DEFAULT_CLIP), ("scaled", 2, 2**30)]
)
def test_the_spool_holds_the_largest_clips_of_all_slots(example: str, vendors: int, clip: int) -> None:
    room = _spool(pods(objects_of(example))["media"]) - Settings.model_fields["spool_reserve_bytes"].default
    assert 0 <= room - worker.MOST_CLIPS * vendors * clip < 2**20


def test_the_spool_of_inputs_holds_the_largest_of_all_that_are_looked_at() -> None:
    media = [route.media for _, _, route in load_catalogue().by_name.values()]
    largest = max(each.most_bytes for one in media for each in (one.image, one.video, one.audio) if each)
    assert _spool(pods(objects_of("plain"))["orchestrate"]) >= MOST_REQUESTS * largest


def _processes(example: str, *words: str) -> int:
    """How many may be there at once: in an update one more of each role; two versions of what the controller runs."""
    most = 0
    scaled: dict[str, int] = {
        component(each): most_pods(each) for each in objects_of(example, *words) if most_pods(each)
    }
    for each in objects_of(example, *words):
        if each["kind"] in ("Deployment", "WorkerDeployment") and component(each) in SERVING:
            versions = 2 if each["kind"] == "WorkerDeployment" else 1
            most += versions * (1 + (scaled.get(component(each)) or int(each["spec"]["replicas"])))
    return most


@every_example
def test_all_processes_together_fit_the_database(example: str) -> None:
    pool = int(environment(pods(objects_of(example))["gateway"])["ONETAKE_DATABASE_POOL"] or 0)
    each = pool + max(1, pool - 1) + database.RESERVED
    needed = _processes(example) * each
    [given] = read_yaml(values_of(example).read_text())
    assert needed <= given["database"]["maxConnections"] - 20
    exact = template(example, "--set", f"database.maxConnections={needed + 20}")
    assert exact.returncode == 0, exact.stderr
    short = template(example, "--set", f"database.maxConnections={needed + 19}")
    assert f"may open {needed} database connections" in short.stderr


def test_what_may_be_scaled_up_later_counts_as_if_it_were() -> None:
    refused = template("keda", "--set", "workers.media.autoscaling.maxReplicas=30")
    assert "may open" in refused.stderr
    fixed = template("plain", "--set", "workers.media.autoscaling.maxReplicas=30")
    assert fixed.returncode == 0, fixed.stderr


# -- Secrets and rights ------------------------------------------------------------------------------------------------


@every_example
def test_no_secret_is_rendered_and_each_one_is_a_file(example: str) -> None:
    assert kinds(example, "Secret") == []
    [given] = read_yaml(values_of(example).read_text())
    secrets = given["secrets"]
    for name, pod in pods(objects_of(example)).items():
        [volume] = [each for each in pod["spec"]["volumes"] if each["name"] == "secrets"]
        sources = [source["secret"] for source in volume["projected"]["sources"]]
        mounted = [source["name"] for source in sources if "items" not in source]
        keys: list[str] = secrets.get("workers", []) if name in KEYED else []
        assert mounted == [*secrets["everyone"], *keys]
        [mount] = [each for each in container(pod)["volumeMounts"] if each["name"] == "secrets"]
        assert mount == {"name": "secrets", "mountPath": "/run/secrets/onetake", "readOnly": True}
        assert environment(pod)["ONETAKE_SECRETS_DIR"] == mount["mountPath"]
        assert [each for each, value in environment(pod).items() if value is None] == []


def _api_key(pod: Object) -> list[Object]:
    [volume] = [each for each in pod["spec"]["volumes"] if each["name"] == "secrets"]
    return [source["secret"] for source in volume["projected"]["sources"] if "items" in source["secret"]]


def test_temporals_key_is_a_file_where_temporal_is_called() -> None:
    wanted = {"name": "temporal-cloud", "items": [{"key": "api-key", "path": "TEMPORAL_API_KEY"}]}
    for name, pod in pods(objects_of("cloud")).items():
        assert _api_key(pod) == ([] if name == "migrate" else [wanted])
    # The Worker Controller gives its pods the key, in their environment, which goes before a file.
    assert _api_key(pods(objects_of("controller"))["orchestrate"]) == []
    assert _api_key(pods(objects_of("controller"))["vendors"]) == [wanted]


def test_the_search_attributes_may_be_made_with_a_key_of_more_rights() -> None:
    words = ("--set", "searchAttributes.enabled=true", "--set", "searchAttributes.apiKey.secretName=admin")
    found = pods(objects_of("cloud", *words))
    assert [source["name"] for source in _api_key(found["search-attributes"])] == ["admin"]
    assert [source["name"] for source in _api_key(found["gateway"])] == ["temporal-cloud"]


@every_example
def test_pods_have_no_more_rights_than_they_need(example: str) -> None:
    for pod in pods(objects_of(example)).values():
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["enableServiceLinks"] is False  # they would be variables with the prefix ONETAKE_
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert container(pod)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        writable = {each["mountPath"] for each in container(pod)["volumeMounts"] if not each.get("readOnly")}
        assert writable == {"/tmp", "/var/spool/onetake"}
        assert all("sizeLimit" in each["emptyDir"] for each in pod["spec"]["volumes"] if "emptyDir" in each)


@every_example
def test_an_image_has_a_tag_or_a_digest(example: str) -> None:
    for pod in pods(objects_of(example)).values():
        assert re.search(r":0\.1\.0$|@sha256:[0-9a-f]{64}$", container(pod)["image"])


def test_each_component_reaches_what_it_calls_and_nothing_else() -> None:
    ports = {
        component(each): {port["port"] for rule in each["spec"]["egress"] for port in rule["ports"]}
        for each in kinds("plain", "NetworkPolicy")
    }
    dns, database_port, temporal, web = {53}, {5432}, {7233}, {443, 8443}
    assert ports == {
        "gateway": dns | database_port | temporal,
        "orchestrate": dns | database_port | temporal | web,  # inputs
        "vendors": dns | database_port | temporal | web,
        "media": dns | database_port | temporal | web,
        "migrate": dns | database_port,
        "search-attributes": dns | temporal,
        "doctor": dns | database_port | temporal | web,
        "cli": dns | database_port | temporal | web,
    }
    assert set(pods(objects_of("plain"))) <= set(ports)


def test_vendors_are_not_looked_for_at_private_and_metadata_addresses() -> None:
    [policy] = [each for each in kinds("plain", "NetworkPolicy") if component(each) == "vendors"]
    [rule] = [each for each in policy["spec"]["egress"] if {"protocol": "TCP", "port": 8443} in each["ports"]]
    closed = {block for each in rule["to"] for block in each["ipBlock"]["except"]}
    assert {"169.254.0.0/16", "10.0.0.0/8", "fc00::/7", "fe80::/10"} <= closed


def test_outside_only_callbacks_and_what_the_doctor_asks_are_reachable() -> None:
    [ingress], [route] = kinds("scaled", "Ingress"), kinds("cloud", "HTTPRoute")
    [rule] = ingress["spec"]["rules"]
    assert [path["path"] for path in rule["http"]["paths"]] == [CALLBACKS, WHOAMI]
    matches = route["spec"]["rules"][0]["matches"]
    assert {match["path"]["value"]: match["method"] for match in matches} == {CALLBACKS: "POST", WHOAMI: "GET"}


# -- Jobs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("example", "name", "weight"), [("plain", "migrate", -5), ("mtls", "search-attributes", -4)])
def test_a_job_before_an_update_needs_nothing_of_the_update(example: str, name: str, weight: int) -> None:
    [job] = [each for each in kinds(example, "Job") if component(each) == name]
    notes = job["metadata"]["annotations"]
    assert notes["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert notes["helm.sh/hook-weight"] == str(weight)
    assert notes["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
    assert notes["argocd.argoproj.io/hook"] == "Sync"
    assert notes["argocd.argoproj.io/sync-wave"] == "-1"
    assert job["metadata"]["name"].endswith("-1")  # the revision: a Job cannot be changed
    assert job["spec"]["template"]["spec"].get("serviceAccountName") is None
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_a_migration_is_tried_once() -> None:
    [job] = kinds("plain", "Job")
    assert job["spec"]["backoffLimit"] == 0


def test_the_doctor_is_the_releases_test() -> None:
    [pod] = kinds("plain", "Pod")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert container(pod)["args"] == ["doctor", "--json"]


def _schema() -> Object:
    return json.loads(_page("deployment/chart/values.schema.json"))


def _values() -> Object:
    return read_yaml(_page("deployment/chart/values.yaml"))[0]


def _page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")
