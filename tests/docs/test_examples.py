"""The examples of the texts run as they are written, against a running stack."""

import asyncio
import json
import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from onetake.dev.devstack.binaries import TEMPORAL, ProgramFinder
from onetake.dev.devstack.progress import SilentProgress
from tests.cli.processes import LIMIT_S, Finished, bare_environment, run
from tests.docs.markdown import ROOT, blocks, page, section
from tests.system.harness import ROUTE, Stack, ended, unique

README = page("README.md")
Cli = Callable[[str], Finished]


@pytest.fixture
def cli(stack: Stack, tmp_path: Path) -> Cli:
    """Run a command line as it stands in a text."""

    def call(line: str) -> Finished:
        return run(*shlex.split(line)[1:], env=stack.environment, cwd=tmp_path)

    return call


def commands(text: str, program: str) -> list[str]:
    lines = "\n".join(blocks(text, "sh")).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith(f"{program} ")]


async def test_the_command_lines_of_the_readme_do_what_they_say(stack: Stack, cli: Cli, tmp_path: Path) -> None:
    async with stack.client() as onetake:
        started = await onetake.start(route=ROUTE, prompt=unique("readme"), duration_s=2)
        await ended(onetake, started.id)
    dry, made, budget, listed, fetched = [
        await asyncio.to_thread(cli, line.replace("ID", started.id)) for line in commands(README, "onetake")
    ]
    assert [each.code for each in (dry, made, budget, listed, fetched)] == [0] * 5
    assert "Nothing was sent and nothing was reserved." in dry.stdout
    assert made.document["status"] == "completed"
    assert "$250.00" in budget.stdout
    assert made.document["id"] in listed.stdout
    assert (tmp_path / "clip.mp4").stat().st_size > 0


def test_the_make_verbs_of_the_readme_exist() -> None:
    makefile = page("Makefile")
    named = {line.split()[1] for line in commands(README, "make")}
    assert named == {"demo", "test", "dev"}
    assert all(f"\n{verb}: $(ENV)" in makefile for verb in named)


@pytest.mark.parametrize("program", blocks(README, "python"), ids=["blocking", "async"])
async def test_a_service_can_start_as_the_readme_says(
    stack: Stack, program: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name, value in stack.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    await asyncio.to_thread(exec, compile(program, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1].startswith(("completed http://", "done 200000"))


def test_the_first_example_of_the_readme_has_six_lines() -> None:
    assert len([line for line in blocks(README, "python")[0].splitlines() if line]) <= 6


async def test_a_fault_on_demand_ends_as_the_simulators_page_says(stack: Stack, cli: Cli) -> None:
    text = section(page("docs/reference/simulator.md"), "## Markers")
    (line,) = commands(text, "onetake")
    finished = await asyncio.to_thread(cli, f"{line} --json")
    await stack.reopen("apixo")  # an account that is empty pauses the vendor for every other test
    assert (finished.code, finished.document["error"]["code"]) == (5, "vendor_account_empty")
    assert "`vendor_account_empty`, exit code 5" in text


async def test_temporals_own_command_line_starts_and_reads_a_generation(stack: Stack) -> None:
    """With the program that the development stack found, as docs/reference/temporal.md says."""
    with ProgramFinder(os.environ, SilentProgress()) as finder:
        program = finder.find(TEMPORAL)
    start, read = commands(page("docs/reference/temporal.md"), "temporal")
    started = await asyncio.to_thread(_temporal, program, start, stack)
    assert "shop-order-7" in started
    read = read.replace("http://127.0.0.1:8081", stack.running.addresses.codec_url)
    result = json.loads(await asyncio.to_thread(_temporal, program, f"{read} --output json", stack))["result"]
    assert (result["status"], result["workflow_id"], result["cost"]["settled_micros"]) == (
        "completed",
        "shop-order-7",
        200_000,
    )
    async with stack.client() as onetake:
        assert result["id"] in [record.id for record in await onetake.list(tenant="shop")]


def _temporal(program: Path, line: str, stack: Stack) -> str:
    words = [str(program), *shlex.split(line)[1:]]
    env = bare_environment(**{name: stack.environment[name] for name in ("TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE")})
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_other_examples_of_the_reference_are_for_programs_that_exist() -> None:
    """Whatever else is written in a block of shell is one of these."""
    pages = [README, *(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs/reference").glob("*.md")))]
    lines = "\n".join("\n".join(blocks(text, "sh")) for text in pages).replace("\\\n", " ").splitlines()
    assert {line.split()[0] for line in lines if line} == {"onetake", "temporal", "make", "."}
