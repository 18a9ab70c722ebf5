"""What compose.yaml says, as podman-compose resolves it, turned into containers by podman.

They run on a bridge of their own, on which the servers of the tests stand under the names that the file gives to
PostgreSQL, Temporal and S3: nothing of what the file says of our services is changed.
"""

import asyncio
import json
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.connections import dialled, handed_on, listening
from tests.deployment.containers import ROOT, Container, Podman
from tests.deployment.tools import program

FOLDER: Final = ROOT / "deployment/compose"
_AS_JSON: Final = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)"
_IP_FREEBIND: Final = 15  # of Linux; the module `socket` does not name it


def project(folder: Path) -> Path:
    """A copy of the compose project with its secrets made, beside copies of what its files mount."""
    copy = folder / "deployment/compose"
    shutil.copytree(FOLDER, copy, ignore=shutil.ignore_patterns("secrets", ".env"))
    for name in ("deployment/backup", "deployment/chart/files", "deployment/monitoring", "onetake/dev/simulator"):
        if (ROOT / name).exists():
            shutil.copytree(ROOT / name, folder / name)
    subprocess.run([str(copy / "secrets.sh")], check=True, capture_output=True)
    return copy


def resolved(folder: Path, *names: str, **env: str) -> dict[str, Any]:
    """The files of a project as one document."""
    compose = Path(program("podman-compose"))
    files = ["--profile", "cli", *(word for name in names for word in ("-f", name))]
    told = subprocess.run(
        [compose, *files, "config"], cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, check=True
    )
    python = compose.resolve().with_name("python")
    done = subprocess.run([python, "-c", _AS_JSON], input=told.stdout, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def flags_of(service: Mapping[str, Any], folder: Path) -> list[str]:
    """What podman is told for a service. A key that this does not know is an error, so that none is left out."""
    words: list[str] = []
    for key, value in service.items():
        words += _FLAGS[key](value, folder)
    return words


_Told = Callable[[Any, Path], list[str]]  # the value of a key, and the folder of the project


def _each(flag: str) -> _Told:
    return lambda values, _: [word for value in values for word in (flag, str(value))]


def _mounts(values: Sequence[str], folder: Path) -> Iterator[str]:
    for value in values:
        source, _, target = value.partition(":")
        yield "--volume"
        yield f"{(folder / source).resolve()}:{target}" if target else source


def _nothing(_value: object, _folder: Path) -> list[str]:
    """What is compose's own business: the test starts, waits and stops by it itself."""
    return []


_FLAGS: Final[Mapping[str, _Told]] = {
    "cap_drop": _each("--cap-drop"),
    "security_opt": lambda values, _: [w for each in values for w in ("--security-opt", each.removesuffix(":true"))],
    "tmpfs": _each("--tmpfs"),
    "read_only": lambda value, _: ["--read-only"] if value else [],
    "user": lambda value, _: ["--user", value],
    "env_file": lambda values, folder: [word for each in values for word in ("--env-file", str(folder / each))],
    "environment": lambda values, _: [word for pair in values.items() for word in ("--env", "=".join(pair))],
    "volumes": lambda values, folder: list(_mounts(values, folder)),
    "ports": _nothing,  # they are this machine's, and may be taken
    "healthcheck": _nothing,  # without systemd nobody would run it: the test does
    "entrypoint": lambda value, _: ["--entrypoint", json.dumps(value)],
    **dict.fromkeys(("image", "command", "profiles", "restart", "depends_on", "pull_policy"), _nothing),
    "network_mode": _nothing,  # see `Bridge`
    "stop_grace_period": _nothing,
}


@dataclass(frozen=True)
class Bridge:
    """A network of podman. `hosts` stand at this machine's own address on it."""

    engine: Podman
    name: str
    hosts: Mapping[str, str]
    folder: Path

    @contextmanager
    def service(self, name: str, service: Mapping[str, Any], *command: str) -> Generator[Container]:
        """A service as its file says, with another command if one is given; removed after the block."""
        flags = [*self._network_of(name, service), *flags_of(service, self.folder)]
        words = command or service.get("command", ())
        with self.engine.container(service["image"], *words, flags=flags, name=f"{self.name}-{name}") as container:
            yield container

    def _network_of(self, name: str, service: Mapping[str, Any]) -> list[str]:
        if other := service.get("network_mode", "").removeprefix("service:"):
            return ["--network", f"container:{self.name}-{other}"]
        hosts = [word for pair in self.hosts.items() for word in ("--add-host", ":".join(pair))]
        return ["--network", self.name, "--network-alias", name, *hosts]

    def once(self, name: str, service: Mapping[str, Any], *command: str) -> str:
        """A service that ends by itself, and well; returns what it said."""
        with self.service(name, service, *command) as container:
            ended = container.wait()
        assert ended.code == 0, ended.log
        return ended.out


@asynccontextmanager
async def bridge(engine: Podman, name: str, folder: Path, servers: Mapping[str, str]) -> AsyncGenerator[Bridge]:
    """A bridge on which each `NAME:PORT` of `servers` leads to a server of this machine at `HOST:PORT`."""
    await asyncio.to_thread(engine.run, "network", "create", name)
    try:
        told = json.loads((await asyncio.to_thread(engine.run, "network", "inspect", name)).stdout)[0]
        gateway = told["subnets"][0]["gateway"]
        async with AsyncExitStack() as leading:
            for named, target in servers.items():
                await leading.enter_async_context(_led(gateway, int(named.rpartition(":")[2]), target))
            yield Bridge(engine, name, {named.partition(":")[0]: gateway for named in servers}, folder)
    finally:
        await asyncio.to_thread(engine.run, "network", "rm", "--force", name)


@asynccontextmanager
async def _led(host: str, port: int, target: str) -> AsyncGenerator[None]:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_IP, _IP_FREEBIND, 1)  # the address comes with the bridge's first container
    listener.bind((host, port))
    to_host, _, to_port = target.rpartition(":")

    async def lead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with dialled(to_host, int(to_port)) as there:  # unless the server has gone
            await handed_on((reader, writer), there)

    async with listening(lead, on=listener):
        yield
