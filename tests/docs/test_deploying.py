"""The page about deploying names files, services and verbs that exist."""

import re
import shlex

from tests.cli.tree import parse
from tests.docs.markdown import ROOT, fences, page

COMPOSE = ROOT / "deployment/compose"
LINES = [shlex.split(line, comments=True) for line in "\n".join(fences(page("docs/deploying.md"))).splitlines() if line]

COMPOSE_LINES = [words for words in LINES if words[:2] == ["docker", "compose"]]
BUILD_STEPS = ("--print-build-id", "run --rm migrate", "--no-deps orchestrate", "deploy current")


def test_every_verb_that_is_run_in_a_container_can_be_read() -> None:
    ran = [words[words.index("cli") + 1 :] for words in LINES if words[:2] == ["docker", "compose"] and "cli" in words]
    assert len(ran) >= 5
    for words in ran:
        parse(words)


def test_all_commands_of_the_page_are_of_one_project() -> None:
    """A command that names fewer files than `up` did makes the services anew without them."""
    assert [words for words in COMPOSE_LINES if {"-f", "--file"} & {*words[2:4]}] == []
    example = (COMPOSE / ".env.example").read_text()
    assert re.findall(r"^COMPOSE_FILE=(.*)$", example, re.MULTILINE) == ["compose.yaml"]


def test_an_upgrade_of_a_build_makes_it_current_before_all_is_replaced() -> None:
    (lines,) = [body for body in fences(page("docs/deploying.md")) if "deploy current" in body]
    steps = [line.split("compose ")[1] for line in lines.strip().splitlines()]
    order = [next(number for number, step in enumerate(steps) if word in step) for word in BUILD_STEPS]
    assert order == sorted(order)


def test_every_file_and_service_that_is_named_exists() -> None:
    files = {file for words in LINES for word in words for file in re.findall(r"compose\.[a-z.]+", word)}
    assert files == {"compose.yaml", "compose.simulator.yaml", "compose.observability.yaml"}
    assert [name for name in sorted(files) if not (COMPOSE / name).exists()] == []
    services = set(re.findall(r"^  ([a-z-]+):$", (COMPOSE / "compose.yaml").read_text(), re.MULTILINE))
    named = {words[words.index("--rm") + 1] for words in COMPOSE_LINES if "--rm" in words}
    assert sorted(named - services) == []
    scripts = [words[0] for words in LINES if "/" in words[0]]
    assert [name for name in scripts if not any((place / name).exists() for place in (ROOT, COMPOSE))] == []
