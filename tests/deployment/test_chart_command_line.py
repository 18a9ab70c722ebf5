"""The pod of the command line, what docs/kubernetes.md runs in it, and where the runbooks of alerts are found."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.cli.tree import parse
from tests.deployment.rendering import (
    CHART,
    RELEASE,
    ROOT,
    Object,
    container,
    environment,
    kinds,
    objects_of,
    pods,
    read_yaml,
)


def _cli(*words: str) -> Object:
    return pods(objects_of("keda", *words))["cli"]


def test_the_command_line_waits_in_a_pod_of_its_own_and_may_be_left_out() -> None:
    assert container(_cli())["command"] == ["tini", "--", "sleep", "infinity"]
    assert _cli()["spec"]["restartPolicy"] == "Always"
    assert environment(_cli())["TEMPORAL_DEPLOYMENT_NAME"] == "onetake"  # for `onetake deploy`
    assert "TEMPORAL_WORKER_BUILD_ID" not in environment(_cli())
    assert "cli" not in pods(objects_of("plain", "--set", "cli.enabled=false"))


def test_its_pod_goes_when_the_commands_in_it_have_ended(tmp_path: Path) -> None:
    program, option, script = container(_cli())["lifecycle"]["preStop"]["exec"]["command"]
    others = {"1": "tini\0--\0sleep\0infinity\0", "7": f"{program}\0{option}\0{script}\0"}
    command = {"9": "/opt/onetake/bin/python\0/opt/onetake/bin/onetake\0deploy\0current\0"}
    for number, line in (others | command).items():
        (tmp_path / number).mkdir()
        (tmp_path / number / "cmdline").write_text(line, encoding="utf-8")
    # One turn of the loop ends it here: it says whether the loop would go on.
    turn = [program, option, script.replace("/proc", str(tmp_path)).replace("sleep 1", "exit 3")]
    assert subprocess.run(turn, check=False).returncode == 3
    (tmp_path / "9/cmdline").unlink()
    assert subprocess.run(turn, check=False).returncode == 0


def test_the_page_names_the_pod_and_commands_that_there_are() -> None:
    text = _page().replace("\\\n", " ")
    commands = re.findall(r"^kubectl --namespace video exec (\S+) -- onetake (.*)$", text, re.MULTILINE)
    names = {each["metadata"]["name"] for each in kinds("plain", "Deployment")}
    assert {where for where, _ in commands} == {f"deploy/{RELEASE}-cli"}
    assert f"{RELEASE}-cli" in names
    verbs = [shlex.split(words, comments=True) for _, words in commands]
    for words in verbs:
        parse(words)
    assert {"doctor", "budget", "generate", "deploy", "reconcile"} <= {words[0] for words in verbs}


def test_on_the_page_a_build_is_waited_for_as_long_as_helm_waits() -> None:
    text = _page()
    waits = [int(each) for each in re.findall(r"deploy current \w+ --timeout (\d+)", text)]
    helms = [60 * int(each) for each in re.findall(r"helm \w+ onetake .*--timeout (\d+)m", text)]
    assert (len(waits), len(helms)) == (2, 3)  # there, and back; and the installation
    # The Job that migrates may take its deadline before the new pods are made at all.
    assert all(each > _values()["migrate"]["deadlineSeconds"] for each in waits + helms)
    assert max(waits) <= _values()["cli"]["terminationGracePeriodSeconds"]


def test_the_first_generation_of_the_page_is_made_by_the_vendor_that_has_a_key_there() -> None:
    text = _page()
    [vendor] = re.findall(r"onetake generate (\w+)/", text)
    assert f"vendors: [{vendor}]" in text
    assert f"--from-file=ONETAKE_{vendor.upper()}_API_KEY=" in text


def _runbooks(*words: str) -> list[str]:
    [rules] = kinds("scaled", "PrometheusRule", *words)
    alerts = [rule for group in rules["spec"]["groups"] for rule in group["rules"] if "alert" in rule]
    return [alert["annotations"]["runbook_url"] for alert in alerts]


@pytest.mark.parametrize("base", ["https://git.example.com/onetake/blob/0.1.0", "https://git.example.com/"])
def test_an_alerts_runbook_is_a_link_where_the_address_is_given(base: str) -> None:
    plain = _runbooks()
    assert plain
    assert all((ROOT / path).is_file() for path in plain)
    linked = _runbooks("--set", f"metrics.prometheusRule.runbookBaseUrl={base}")
    assert linked == [f"{base.removesuffix('/')}/{path}" for path in plain]


def _page() -> str:
    return (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8")


def _values() -> Object:
    return read_yaml((CHART / "values.yaml").read_text(encoding="utf-8"))[0]
