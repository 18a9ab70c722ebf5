"""Values that the chart refuses, each by its message: before anything is installed."""

import json
from typing import Any

import pytest

from tests.deployment.rendering import template

MTLS = {"apiKey": {"secretName": "a"}, "tls": {"clientSecretName": "b"}, "address": "a:1"}

# What a value is set to, and what is said of it.
REFUSED: list[tuple[str, Any, str]] = [
    ("image.tag", None, "'/image/tag': got null, want string"),
    ("image.tag", "latest", "'/image/tag': 'not' failed"),
    ("image.repository", "registry.example/onetake:1", "'/image/repository'"),
    ("image.digest", "sha256:1", "'/image/digest'"),
    ("profile", "keda,controller", "'/profile': value must be one of 'plain', 'keda', 'controller'"),
    ("profile", ["keda", "controller"], "'/profile'"),
    ("replicas", 3, "additional properties 'replicas' not allowed"),
    ("workers.gateway", {"replicas": 1}, "'/workers': additional properties 'gateway' not allowed"),
    ("workers.vendors.replica", 3, "'/workers/vendors': additional properties 'replica' not allowed"),
    ("workers.vendors.replicas", -1, "'/workers/vendors/replicas': minimum"),
    ("workers.orchestrate.replicas", 0, "'/workers/orchestrate/replicas': minimum"),
    ("workers.vendors.terminationGracePeriodSeconds", 30, "'/workers/vendors/terminationGracePeriodSeconds'"),
    ("workers.media.terminationGracePeriodSeconds", 5, "'/workers/media/terminationGracePeriodSeconds'"),
    ("workers.media.autoscaling.minReplicas", 0, "'/workers/media/autoscaling/minReplicas'"),
    ("workers.media.spoolSizeLimit", "a lot", "'/workers/media/spoolSizeLimit'"),
    ("workers.media.autoscaling", {"enabled": True, "minReplicas": 5}, "minReplicas is above maxReplicas"),
    ("gateway.terminationGracePeriodSeconds", 10, "'/gateway/terminationGracePeriodSeconds'"),
    ("gateway.preStopSeconds", 20, "must be 15 above gateway.preStopSeconds"),
    ("database.maxConnections", None, "'/database/maxConnections': got null, want integer"),
    ("database.maxConnections", 90, "The processes may open 99 database connections"),
    ("database.pool", 33, "'/database/pool': maximum"),
    ("database.url", "postgresql://u:p@h/n", "'/database': additional properties 'url' not allowed"),
    ("secrets.everyone", [], "'/secrets/everyone': minItems"),
    ("secrets.values", {"ONETAKE_CODEC_KEY": "x"}, "'/secrets': additional properties 'values' not allowed"),
    ("settings.ONETAKE_CODEC_KEY", "x", "'/settings': additional properties 'ONETAKE_CODEC_KEY' not allowed"),
    ("settings.ONETAKE_GMI_API_KEY", "x", "'/settings': additional properties 'ONETAKE_GMI_API_KEY' not allowed"),
    ("settings.ONETAKE_TASK_QUEU", "x", "'/settings': additional properties 'ONETAKE_TASK_QUEU' not allowed"),
    ("settings.ONETAKE_DATABASE_POOL", 9, "'/settings': additional properties 'ONETAKE_DATABASE_POOL' not allowed"),
    ("extraEnv", [{"name": "ONETAKE_CODEC_KEY", "value": "x"}], "'/extraEnv/0/name': 'not' failed"),
    ("temporal.address", "temporal", "'/temporal/address'"),
    ("temporal", MTLS, "'/temporal': 'not' failed"),
    ("vendors", ["nobody"], "'/vendors/0'"),
    ("vendors", [], "'/vendors': minItems"),
    ("versioning.buildId", "3f2c9a", "'/versioning/deploymentName'"),
    ("versioning", {"deploymentName": "one.take", "buildId": "1"}, "'/versioning/deploymentName'"),
    ("ingress.enabled", True, "'/ingress/host': minLength"),
    ("httpRoute.enabled", True, "'/httpRoute/hostnames': minItems"),
    ("controller.rollout", {"strategy": "Progressive", "steps": []}, "'/controller/rollout/steps': minItems"),
    ("controller.rollout.steps", [{"rampPercentage": 100, "pauseDuration": "5m"}], "rampPercentage': maximum"),
    ("keda.slotsInUse", 70, "'/keda/slotsInUse': maximum"),
    ("profile", "keda", "Profile keda scales nothing"),
    ("metrics", {"enabled": False, "prometheusRule": {"enabled": True}}, "there are no metrics while metrics.enabled"),
    ("migrate.deadlineSeconds", 5, "'/migrate/deadlineSeconds': minimum"),
]


@pytest.mark.parametrize(("path", "value", "said"), REFUSED, ids=[f"{path}={value}" for path, value, _ in REFUSED])
def test_a_bad_value_is_refused_by_name(path: str, value: Any, said: str) -> None:
    refused = template("plain", "--set-json", f"{path}={json.dumps(value)}")
    assert refused.returncode != 0
    assert said in refused.stderr
    assert refused.stdout == ""


def test_a_vendors_key_among_the_values_is_not_repeated_in_the_answer() -> None:
    refused = template("plain", "--set", "settings.ONETAKE_GMI_API_KEY=very-secret")
    assert refused.returncode != 0
    assert "very-secret" not in refused.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["temporal.tls.enabled=true"],
            "uses TLS with an API key or a client certificate only",
        ),
        (["temporal.tls.caSecretName=a"], "a private authority with a certificate only"),
    ],
)
def test_what_keda_would_leave_out_is_refused(words: list[str], said: str) -> None:
    refused = template("keda", *(word for each in words for word in ("--set", each)))
    assert said in refused.stderr


def test_builds_that_the_worker_controller_names_itself_are_refused() -> None:
    refused = template("controller", "--set", "versioning.deploymentName=onetake,versioning.buildId=3f2c9a")
    assert "the Worker Controller names deployments and builds itself" in refused.stderr


def test_an_authority_that_the_worker_controller_would_leave_out_is_refused() -> None:
    refused = template("controller", "--set", "temporal.tls.caSecretName=a")
    assert "the Worker Controller's Connection has no authority of its own" in refused.stderr
