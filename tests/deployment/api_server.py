"""A real API server of Kubernetes on this machine, without controllers or nodes: what is applied there is checked and
kept, and nothing runs."""

import json
import os
import subprocess
import time
from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from onetake.dev.devstack.ports import free_port
from tests.deployment.tools import program

RECIPE: Final = "`deployment/devtools/kube-apiserver.sh`, which takes a quarter of an hour"
START_S: Final = 300.0
_TOKEN: Final = "of-this-test"
_LOOPBACK: Final = "127.0.0.1"


@dataclass(frozen=True)
class ApiServer:
    """`environment` is for programs that are to talk to it."""

    environment: Mapping[str, str]

    def kubectl(self, *words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl; nothing is raised when it fails."""
        return self.run(program("kubectl"), *words, text=text)

    def run(self, *words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, input=text, capture_output=True, text=True, timeout=900, check=False, env=self.environment
        )

    def objects(self, kinds: str, namespace: str) -> list[dict[str, Any]]:
        """What is there of these kinds."""
        done = self.kubectl("get", kinds, "--namespace", namespace, "--output", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["items"]


@contextmanager
def api_server(folder: Path) -> Generator[ApiServer]:
    """Start etcd and the server, and stop both at the end."""
    etcd, server = program("etcd", RECIPE), program("kube-apiserver", RECIPE)
    store = free_port(set())
    peers = free_port({store})
    secure = free_port({store, peers})
    with ExitStack() as running:
        url = f"http://{_LOOPBACK}:{store}"
        own = [f"--listen-peer-urls=http://{_LOOPBACK}:{peers}", f"--data-dir={folder / 'etcd'}"]
        running.enter_context(
            _process(folder, etcd, f"--listen-client-urls={url}", f"--advertise-client-urls={url}", *own)
        )
        running.enter_context(_process(folder, server, *_arguments(folder, url, secure)))
        ready = ApiServer(_environment(folder, secure))
        _wait_for(ready, folder)
        yield ready


@contextmanager
def _process(folder: Path, *words: str) -> Generator[None]:
    log = folder / f"{Path(words[0]).name}.log"
    with log.open("w") as output, subprocess.Popen(words, stdout=output, stderr=output, cwd=folder) as process:
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _arguments(folder: Path, store: str, port: int) -> list[str]:
    key = folder / "service-accounts.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    tokens = folder / "tokens.csv"
    tokens.write_text(f'{_TOKEN},admin,1,"system:masters"\n', encoding="utf-8")
    return [
        f"--etcd-servers={store}",
        f"--bind-address={_LOOPBACK}",
        f"--secure-port={port}",
        f"--cert-dir={folder / 'certificates'}",
        f"--token-auth-file={tokens}",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-signing-key-file={key}",
        f"--service-account-key-file={key}",
        "--disable-admission-plugins=ServiceAccount",  # no controller makes the accounts
    ]


def _environment(folder: Path, port: int) -> dict[str, str]:
    config = folder / "kubeconfig"
    cluster = {"server": f"https://{_LOOPBACK}:{port}", "insecure-skip-tls-verify": True}
    parts: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "own",
        "clusters": [{"name": "own", "cluster": cluster}],
        "users": [{"name": "own", "user": {"token": _TOKEN}}],
        "contexts": [{"name": "own", "context": {"cluster": "own", "user": "own"}}],
    }
    config.write_text(json.dumps(parts), encoding="utf-8")
    home = {"HOME": str(folder), "HELM_CACHE_HOME": str(folder), "KUBECONFIG": str(config)}
    return {"PATH": os.environ["PATH"]} | home


def _wait_for(server: ApiServer, folder: Path) -> None:
    until = time.monotonic() + START_S
    while server.kubectl("get", "--raw", "/readyz").returncode != 0:
        assert time.monotonic() < until, (folder / "kube-apiserver.log").read_text(encoding="utf-8")[-2000:]
        time.sleep(0.5)
