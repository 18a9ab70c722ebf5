"""The compose project: it resolves, it is pinned, it names every setting, and its services make a clip."""

import asyncio
import json
import os
import re
import secrets
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import pytest

from onetake.core.names import SearchAttribute
from onetake.core.settings import Settings
from onetake.dev.devstack.binaries import TEMPORAL, ProgramFinder
from onetake.dev.devstack.ports import LOOPBACK, free_port
from onetake.dev.devstack.postgres import open_cluster
from onetake.dev.devstack.progress import SilentProgress
from onetake.ledger.database import connect_once
from tests.deployment.composed import FOLDER, Bridge, bridge, project, resolved
from tests.deployment.containers import ROOT, Container, Podman, until
from tests.servers import Servers, on_this_server
from tests.system.standby import Server

PARTS: Final = ("gateway", "orchestrate", "vendors", "media")
BASE, SIMULATOR, OBSERVABILITY = "compose.yaml", "compose.simulator.yaml", "compose.observability.yaml"
PEOPLE: Final = 10  # connections of people, migrations and backups
SETTING: Final = re.compile(r"\b(?:ONETAKE|TEMPORAL|OTEL)_[A-Z0-9_]+\b")
# Settings that a deployment never has: those of tests, and the one that gives a promise away.
NEVER: Final = {"ONETAKE_CRASH", "ONETAKE_TIME_SCALE", "ONETAKE_INSECURE_PLAINTEXT_HISTORY"}
# Texts of certificates, which are files here.
AS_FILES: Final = {"ONETAKE_SPOOL_DIR"}
WHERE_FILES_ARE: Final = {"ONETAKE_SECRETS_DIR"}  # no setting itself: only the environment is asked for it


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project(tmp_path_factory.mktemp("compose"))


@pytest.mark.parametrize("more", [(), (SIMULATOR,), (OBSERVABILITY,), (SIMULATOR, OBSERVABILITY)])
def test_the_project_resolves_and_every_foreign_image_is_pinned(folder: Path, more: tuple[str, ...]) -> None:
    services = resolved(folder, BASE, *more, IMAGE="ours")["services"]
    images = {name: service["image"] for name, service in services.items()}
    assert {*PARTS, "cli", "migrate", "bucket"} <= {name for name, image in images.items() if image == "ours"}
    foreign = sorted({image for image in images.values() if image != "ours"})
    pinned = re.compile(r"docker\.io/[a-z/-]+(:v?\d+\.\d+(\.\d+)?(-[a-z]+)?|@sha256:[0-9a-f]{64})")
    assert [image for image in foreign if not pinned.fullmatch(image)] == []


def test_what_the_files_mount_is_there(folder: Path) -> None:
    services = resolved(folder, BASE, SIMULATOR, OBSERVABILITY)["services"].values()
    sources = {mount.split(":")[0] for service in services for mount in service.get("volumes", ()) if mount[0] == "."}
    missing = {source for source in sources if not (folder / source).exists()}
    assert missing == set()


def test_every_role_of_ours_is_confined_and_has_time_to_end(folder: Path) -> None:
    services = resolved(folder, BASE, SIMULATOR)["services"]
    ours = {name: service for name, service in services.items() if service["image"].startswith("localhost/onetake")}
    for name, service in ours.items():
        confined = (service["read_only"], service["cap_drop"], service["security_opt"], service["user"])
        assert confined == (True, ["ALL"], ["no-new-privileges:true"], "10001:10001"), name
    graces = {name: ours[name]["stop_grace_period"] for name in PARTS}
    assert graces == {"gateway": "30s", "orchestrate": "120s", "vendors": "120s", "media": "30s"}


def test_vendors_keys_are_where_they_are_needed_and_nowhere_else(folder: Path) -> None:
    services = resolved(folder, BASE, SIMULATOR, OBSERVABILITY)["services"]
    mounted = {
        name for name, each in services.items() if any("/vendors:" in mount for mount in each.get("volumes", ()))
    }
    assert mounted == {"orchestrate", "vendors", "media", "cli"}  # requests are accepted by `orchestrate`
    read = {name: services[name]["environment"]["ONETAKE_SECRETS_DIR"] for name in mounted}
    assert set(read.values()) == {"/run/secrets/onetake:/run/secrets/vendors"}


def test_the_example_names_every_setting_and_no_other(folder: Path) -> None:
    documented = set(SETTING.findall(_table(ROOT / "docs/reference/settings.md")))
    example = set(SETTING.findall("\n".join(_names(FOLDER / ".env.example"))))
    services = resolved(folder, BASE)["services"]
    composed = {name for part in PARTS for name in services[part]["environment"]}
    files = {path.name for path in (folder / "secrets/onetake").iterdir()}
    assert sorted((example | composed | files) - documented - WHERE_FILES_ARE) == []
    keys = {name for name in documented if name.endswith(("_API_KEY", "_OLD_KEYS"))}
    assert sorted(documented - example - composed - files - keys - NEVER - AS_FILES) == []
    assert sorted(example & (composed | files | keys)) == []  # one place for each


def _names(example: Path) -> list[str]:
    """What stands before `=`, also where the line is a comment and the default holds."""
    return re.findall(r"^#?([A-Z][A-Z0-9_]*)=", example.read_text(), re.MULTILINE)


def _table(page: Path) -> str:
    """The first cells of its tables."""
    return "\n".join(line.split("|")[1] for line in page.read_text().splitlines() if line.startswith("| `"))


def test_the_example_names_every_variable_of_the_files_themselves() -> None:
    files = [path.read_text() for path in FOLDER.glob("compose*.yaml")]
    read = {name for text in files for name in re.findall(r"\$\{([A-Z0-9_]+)", text)}
    assert read == {name for name in _names(FOLDER / ".env.example") if not SETTING.match(name)} - {"COMPOSE_FILE"}


def test_the_database_takes_all_connections_that_may_be_opened(folder: Path) -> None:
    services = resolved(folder, BASE)["services"]
    told, own = services["temporal"]["environment"], services["postgres"]["command"]
    (most,) = [int(word.partition("=")[2]) for word in own if word.startswith("-cmax_connections=")]
    engine = 4 * (int(told["SQL_MAX_CONNS"]) + int(told["SQL_VIS_MAX_CONNS"]))
    ours = 2 * len(PARTS) * (2 * Settings().database_pool + 1)  # twice: one more of each, or clients
    assert engine + ours + PEOPLE <= most


def test_no_secret_is_in_the_project_and_none_is_made_twice(folder: Path) -> None:
    ignored = ["git", "check-ignore", "deployment/compose/.env", "deployment/compose/secrets/postgres"]
    assert subprocess.run(ignored, cwd=ROOT, capture_output=True, check=False).returncode == 0
    made = {path: path.read_text() for path in (folder / "secrets").rglob("*") if path.is_file()}
    assert len(set(made.values())) == len(made)
    subprocess.run([str(folder / "secrets.sh")], check=True, capture_output=True)
    assert {path: path.read_text() for path in made} == made


async def test_the_script_of_roles_makes_the_databases_that_the_files_name(folder: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)  # PostgreSQL may run as another user
    server = Server(open_cluster(tmp_path, os.environ), port := free_port(set()))
    try:
        await server.ready()
        for _ in range(2):
            await asyncio.to_thread(_make_roles, folder, server.cluster.url(port), server.cluster.binaries)
        password = (folder / "secrets/postgres-temporal").read_text()
        for name in ("temporal", "temporal_visibility"):
            session = await connect_once(f"postgresql://temporal:{password}@{LOOPBACK}:{port}/{name}")
            await session.execute("create table mine (word text)")
            await session.close()
    finally:
        server.kill()


def _make_roles(folder: Path, url: str, binaries: Path) -> None:
    """Run the script as the image of PostgreSQL does, with a server and a superuser of this machine."""
    at = urlsplit(url)
    own = {"PGHOST": str(at.hostname), "PGPORT": str(at.port), "PGPASSWORD": str(at.password)}
    own |= {"POSTGRES_USER": str(at.username), "SECRETS": str(folder / "secrets")}
    path = f"{binaries}:{os.environ['PATH']}"
    subprocess.run([str(folder / "postgres/roles.sh")], env={**os.environ, **own, "PATH": path}, check=True)


async def test_the_namespace_script_may_be_run_again(servers: Servers, folder: Path) -> None:
    namespace = f"compose-{secrets.token_hex(4)}"
    for _ in range(2):
        await asyncio.to_thread(_make_namespace, servers, folder, namespace)
    listed = await asyncio.to_thread(
        _temporal, servers, "operator", "search-attribute", "list", "--namespace", namespace
    )
    assert [name for name in SearchAttribute.ALL if name not in listed] == []
    described = await asyncio.to_thread(_temporal, servers, "operator", "namespace", "describe", "-n", namespace)
    assert "720h" in described


def _make_namespace(servers: Servers, folder: Path, namespace: str) -> None:
    """Run the script of the one-shot `namespace` as compose does, with Temporal's command line of this machine."""
    service = resolved(folder, BASE)["services"]["namespace"]
    path = f"{_temporal_program().parent}:{os.environ['PATH']}"
    given = {**service["environment"], "TEMPORAL_NAMESPACE": namespace}
    address = {"TEMPORAL_ADDRESS": servers.addresses.temporal_address, "PATH": path}
    script = folder / "temporal" / Path(service["entrypoint"][-1]).name
    subprocess.run(["/bin/sh", str(script)], env={**os.environ, **given, **address}, check=True, capture_output=True)


def _temporal_program() -> Path:
    with ProgramFinder(os.environ, SilentProgress()) as finder:
        return finder.find(TEMPORAL)


def _temporal(servers: Servers, *words: str) -> str:
    command = [str(_temporal_program()), *words, "--address", servers.addresses.temporal_address]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


async def test_up_one_generation_and_down(engine: Podman, image: str, servers: Servers, tmp_path: Path) -> None:
    folder = project(tmp_path)
    await _with_these_servers(folder, servers)
    services = resolved(folder, BASE, SIMULATOR, IMAGE=image)["services"]
    await asyncio.to_thread(_make_namespace, servers, folder, services["gateway"]["environment"]["TEMPORAL_NAMESPACE"])
    addresses = servers.addresses
    stand = {
        "postgres:5432": _place(addresses.database_url),
        "temporal:7233": addresses.temporal_address,
        "s3:7070": addresses.s3_endpoint,
    }
    async with bridge(engine, f"onetake-{servers.folder.name[-8:]}", folder, stand) as network:
        await asyncio.to_thread(_a_clip, network, services)


def _a_clip(network: Bridge, services: Mapping[str, Any]) -> None:
    for name in ("migrate", "bucket", "migrate"):  # compose may run a one-shot again
        network.once(name, services[name])
    with ExitStack() as running:
        up = {name: running.enter_context(network.service(name, services[name])) for name in (*PARTS, "simulator")}
        for name in PARTS:
            _wait_until_healthy(up[name], services[name]["healthcheck"]["test"])
        cli = services["cli"]
        network.once("doctor", cli, "doctor")
        network.once("budget", cli, "budget", "set", "tenant", "shop", "month", "250", "--json")
        words = ("apixo/wan-2.6/text-to-video", "a harbour at dawn", "--duration", "5", "--tenant", "shop", "--json")
        result = json.loads(network.once("generate", cli, "generate", *words))
        assert (result["status"], len(result["assets"])) == ("completed", 1)
        ended = {name: up[name].stop(int(services[name]["stop_grace_period"].rstrip("s"))) for name in PARTS}
        assert {name: (end.code, end.log[-1000:]) for name, end in ended.items() if end.code} == {}


def _wait_until_healthy(container: Container, check: Sequence[str]) -> None:
    assert check[0] == "CMD"
    for _ in until(f"{container.name} is healthy"):
        if container.passes(*check[1:]):
            return
        assert container.state["Running"], container.log


async def _with_these_servers(folder: Path, servers: Servers) -> None:
    """Put what leads to the tests' servers into the files of secrets: a new database, the keys of the store."""
    database = f"compose_{secrets.token_hex(4)}"
    session = await connect_once(servers.addresses.database_url)
    await session.execute(f"create database {database}")
    await session.close()
    url = urlsplit(on_this_server(servers.addresses.database_url, database))
    named = url._replace(netloc=url.netloc.replace(_place(servers.addresses.database_url), "postgres:5432"))
    values = {
        "ONETAKE_DATABASE_URL": urlunsplit(named),
        "ONETAKE_S3_ACCESS_KEY": servers.addresses.s3_access_key,
        "ONETAKE_S3_SECRET_KEY": servers.addresses.s3_secret_key,
    }
    for name, value in values.items():
        file = folder / "secrets/onetake" / name
        file.unlink()
        file.write_text(value)


def _place(url: str) -> str:
    """`HOST:PORT` of an address."""
    return urlsplit(url).netloc.rpartition("@")[2]
