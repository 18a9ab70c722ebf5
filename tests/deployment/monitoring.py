"""What `deployment/monitoring` and the chart's files hold, and a Prometheus that watches a stack by it."""

import json
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from onetake.dev.devstack.ports import LOOPBACK, free_port
from tests.deployment.tools import program

ROOT: Final = Path(__file__).parents[2]
MONITORING: Final = ROOT / "deployment/monitoring"
WATCHED: Final = ROOT / "deployment/chart/files"
RULES: Final = tuple(sorted((WATCHED / "rules").glob("*.yaml")))
CASES: Final = tuple(sorted((MONITORING / "tests").glob("*.yaml")))
DASHBOARDS: Final = tuple(sorted((WATCHED / "dashboards").glob("*.json")))

LEAST_WINDOW_S: Final = 15
MOST_WINDOW_S: Final = 60
_DURATION: Final = re.compile(r"(\[|offset )(\d+)([smhd])\b")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
# A day is too long for a test: what an amount of seconds must reach, by the text that says it.
_LIMITS: Final = {
    "> 26 * 3600": "> 20",
    "> 86400": "> 10",
    "> 3600": "> 5",
    "> 0), 300)": "> 0), 15)",
    "_bucket[15m]))) > 60": "_bucket[15m]))) > 10",
}


def document(path: Path) -> dict[str, Any]:
    """A YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def rules() -> list[dict[str, Any]]:
    """All rules of all groups."""
    return [rule for path in RULES for group in document(path)["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    """The alerts by their names."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def panels() -> dict[str, str]:
    """Every query of every panel, by dashboard, panel and letter."""
    return {
        f"{path.stem}: {panel['title']} {target['refId']}": target["expr"]
        for path in DASHBOARDS
        for panel in json.loads(path.read_text(encoding="utf-8"))["panels"]
        for target in panel.get("targets", ())
    }


def scaled(expression: str) -> str:
    """The same expression for minutes that last four seconds."""
    for limit, short in _LIMITS.items():
        expression = expression.replace(limit, short)
    return _DURATION.sub(lambda found: f"{found[1]}{_window_s(int(found[2]) * _SECONDS[found[3]])}s", expression)


def _window_s(seconds: int) -> int:
    return min(max(seconds // 15, LEAST_WINDOW_S), MOST_WINDOW_S)


@dataclass(frozen=True)
class Prometheus:
    """A server that scrapes and evaluates every second."""

    url: str

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What an expression answers now. Raises HTTPError for one that cannot be parsed."""
        found = self._get("/api/v1/query", query=expression)
        return found["data"]["result"]

    def had(self, expression: str, seconds: int) -> bool:
        """Whether an expression had an answer at any second lately."""
        now = time.time()
        found = self._get("/api/v1/query_range", query=expression, start=str(now - seconds), end=str(now), step="2")
        return bool(found["data"]["result"])

    def firing(self) -> set[str]:
        """The alerts that fire now."""
        return {each["metric"]["alertname"] for each in self.query('ALERTS{alertstate="firing"}')}

    def fired(self, since: float) -> set[str]:
        """The alerts that fire, or did since this Unix time."""
        lately = f'max_over_time(ALERTS{{alertstate="firing"}}[{max(int(time.time() - since), 1)}s])'
        return {each["metric"]["alertname"] for each in self.query(lately)} | self.firing()

    def names(self) -> set[str]:
        """All metrics that are known."""
        return set(self._get("/api/v1/label/__name__/values")["data"])

    def until(self, reached: Callable[[], bool], limit_s: float = 600.0) -> bool:
        """Whether it is reached in time."""
        end = time.monotonic() + limit_s
        while not reached():
            if time.monotonic() > end:
                return False
            time.sleep(0.5)
        return True

    def _get(self, path: str, **parameters: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}?{urllib.parse.urlencode(parameters)}", timeout=30) as answer:
            return json.load(answer)


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, str]) -> Generator[Prometheus]:
    """A real Prometheus with our rules, whose times are scaled down; `targets` are the addresses by name."""
    for path in RULES:
        rules = document(path)
        for group in rules["groups"]:
            group["interval"] = "1s"
            for rule in group["rules"]:
                rule["expr"] = scaled(rule["expr"])
                if "for" in rule:
                    rule["for"] = "2s"
        (folder / path.name).write_text(yaml.safe_dump(rules), encoding="utf-8")
    static = [{"targets": list(targets.values())}]
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(folder / path.name) for path in RULES],
        "scrape_configs": [{"job_name": "onetake", "static_configs": static}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    address = f"{LOOPBACK}:{free_port(set())}"
    argv = [
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with (folder / "prometheus.log").open("wb") as log, subprocess.Popen(argv, stdout=log, stderr=log) as process:
        try:
            started = Prometheus(f"http://{address}")
            assert started.until(lambda: _answers(started)), (folder / "prometheus.log").read_text()
            yield started
        finally:
            process.terminate()


def _answers(server: Prometheus) -> bool:
    with suppress(OSError):
        return bool(server.query("vector(1)"))
    return False
