"""The image: what is in it and what is not, and that each role lives in it as an operator runs it."""

import csv
import json
import os
import re
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Final

import pytest

from onetake.core.names import ROLES
from onetake.dev.devstack.ports import LOOPBACK, free_port
from tests.conftest import FOLDER
from tests.deployment.containers import CONFINED, ROOT, Build, Podman, base, build, until
from tests.deployment.layers import Entry, entries, occurs, saved
from tests.deployment.probing import answers
from tests.deployment.sources import LEFT, canary
from tests.faults.table import expect
from tests.servers import Servers

MOST_BYTES: Final = 520_000_000
KILLED: Final = 137
GRACE_S: Final = 120  # whoever has nothing under way needs a moment, and who does not end at all is killed
FLAGS: Final = ("--network", "host", *CONFINED, "--tmpfs", "/tmp", "--tmpfs", "/var/spool/onetake:mode=1777")
CODEC_KEY: Final = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


@pytest.fixture(scope="session", autouse=True)  # begins before `image`, which is waited for
def again(engine: Podman, sources: Path, pytestconfig: pytest.Config) -> Generator[Build]:
    """The same sources built a second time, beside the first; nothing is shared but the base."""
    run = pytestconfig.stash[FOLDER]
    tag = f"localhost/onetake-test:{run.name}-again"
    second = build(engine, sources, tag, base(engine), run / "image-again")
    yield second
    second.process.kill()
    engine.remove_image(tag)


@pytest.fixture
def environ(servers: Servers) -> dict[str, str]:
    """What a role needs to serve: real servers, and the key of a vendor, which nobody asks for anything."""
    return servers.of_ones_own("image") | {"ONETAKE_CODEC_KEY": CODEC_KEY, "ONETAKE_APIXO_API_KEY": "none"}


def test_it_says_what_it_is_and_runs_as_nobody_else(engine: Podman, image: str) -> None:
    told = engine.inspect(image)["Config"]
    labels = {name.rpartition(".")[2]: value for name, value in told["Labels"].items() if "opencontainers" in name}
    assert re.fullmatch(r"[0-9a-f]{40}", labels.pop("revision"))
    assert labels == {
        "name": base(engine),
        "title": "onetake",
        "description": "A durable pipeline for generative video on Temporal",
        "licenses": "Apache-2.0",
        "version": "0.1.0",
    }
    assert (told["User"], told["Entrypoint"]) == ("10001:10001", ["tini", "--", "onetake"])


def test_it_is_small_enough(engine: Podman, image: str) -> None:
    assert engine.inspect(image)["Size"] <= MOST_BYTES


def test_its_bill_of_materials_and_its_licences_name_every_package(image: str, pytestconfig: pytest.Config) -> None:
    beside = pytestconfig.stash[FOLDER] / "image"
    bill = json.loads((beside / "sbom.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    components = [bill["metadata"]["component"], *bill["components"]]
    named = {each["name"].lower().replace("_", "-") for each in components}
    missing = {*_locked(), "onetake", "libc6", "tini"} - named
    with (beside / "licences.tsv").open() as table:
        licences = {row[0].lower().replace("_", "-"): row for row in csv.reader(table, delimiter="\t")}
    assert licences.keys() == named
    assert [name for name in (*_locked(), "onetake") if licences[name][2] == "not declared"] == []
    assert (
        "libx264" in licences["av"][4]
    )  # what the wheel of PyAV brings along is named, whatever PyAV's own licence is
    seen = f"{sorted(missing)} is not named" if missing else "every package is named"
    expect("S73", sees=seen, ledger=(), jobs=0, end="named")
    assert image


def _locked() -> list[str]:
    """Packages that `requirements/otel.txt` has for the Python of the base."""
    lines = re.findall(r"^([\w.-]+)==[^;\\]*(;[^\\]*)?", (ROOT / "requirements/otel.txt").read_text(), re.MULTILINE)
    return [name.lower().replace("_", "-").replace(".", "-") for name, marker in lines if not marker]


@pytest.mark.parametrize("command", [("migrate", "--json"), ("doctor", "--help"), ("--version",)])
def test_a_verb_runs_confined(engine: Podman, image: str, environ: Mapping[str, str], command: tuple[str, ...]) -> None:
    with engine.container(image, *command, flags=FLAGS, env=environ, name=f"onetake-verb-{os.getpid()}") as verb:
        ended = verb.wait()
    assert ended.code == 0, ended.log


def test_a_gateway_serves_confined_and_is_stopped(engine: Podman, image: str, environ: Mapping[str, str]) -> None:
    port = free_port(set())
    command = ("gateway", "--host", "0.0.0.0", "--port", str(port))
    with engine.container(image, *command, flags=FLAGS, env=environ, name=f"onetake-gateway-{os.getpid()}") as gateway:
        for _ in until("the gateway is ready"):
            if answers(f"http://{LOOPBACK}:{port}/readyz"):
                break
        ended = gateway.stop(GRACE_S)
    assert ended.code == 0, ended.log


@pytest.mark.parametrize("role", ROLES)
def test_a_worker_serves_confined_and_is_stopped(
    engine: Podman, image: str, environ: Mapping[str, str], role: str
) -> None:
    port = free_port(set())
    command = ("worker", "--role", role, "--health-host", "0.0.0.0", "--health-port", str(port))
    with engine.container(image, *command, flags=FLAGS, env=environ, name=f"onetake-worker-{os.getpid()}") as worker:
        for _ in until("the worker is ready"):
            if answers(f"http://{LOOPBACK}:{port}/readyz"):
                break
        ended = worker.stop(GRACE_S)
    assert ended.code == 0, ended.log
    expect("S73", sees="serves with a read-only root and without capabilities", ledger=(), jobs=0, end="confined")


@pytest.mark.parametrize("after_s", [0.2, 0.6, 1.5])
def test_a_worker_that_still_starts_is_stopped(
    engine: Podman, image: str, environ: Mapping[str, str], after_s: float
) -> None:
    with engine.container(
        image, "worker", "--role", "orchestrate", flags=FLAGS, env=environ, name=f"onetake-starting-{os.getpid()}"
    ) as worker:
        time.sleep(after_s)
        ended = worker.stop(GRACE_S)
    assert ended.code != KILLED, ended.log


def test_no_layer_holds_a_secret_and_two_builds_hold_the_same_files(
    engine: Podman, image: str, again: Build, tmp_path: Path
) -> None:
    with saved(engine, image, tmp_path) as archive:
        found = [word for word in (*LEFT.values(), "pip", "environment") if occurs(archive, canary(word))]
        assert occurs(archive, "10001:10001")  # what is there is found
        seen = f"{found} in a layer" if found else "no secret in any layer"
        expect("S73", sees=seen, ledger=(), jobs=0, end="secrets")
        again.wait()
        layers, layers_again = (engine.inspect(each)["RootFS"]["Layers"] for each in (image, again.tag))
        differ = [] if layers == layers_again else _differences(engine, archive, again, tmp_path)
    assert differ == []


def _differences(engine: Podman, archive: Path, again: Build, folder: Path) -> list[Entry]:
    """The files of two builds whose layers differ in some byte; a layer's own order of files may be all."""
    first = entries(archive)
    with saved(engine, again.tag, folder / "again") as other:
        second = entries(other)
    return sorted((one for ours, theirs in zip(first, second, strict=True) for one in set(ours) ^ set(theirs)), key=str)
