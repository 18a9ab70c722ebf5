"""Row S72, and what can be read of S73 without building an image: where the code comes from that runs in production."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import Final

import pytest

from tests.faults.table import expect

ROOT: Final = Path(__file__).parents[2]
LOCKS: Final = sorted((ROOT / "requirements").glob("*.txt"))
CONTAINERFILE: Final = ROOT / "deployment/image/Containerfile"
MOST_DIRECT: Final = 25
# Permissive, or such that they oblige only who changes the package itself (MPL). A new word here is read by a person.
READ: Final = re.compile(
    r"(MIT|MIT-0|MIT-CMU|ISC|BSD|Apache|PSF|0BSD|Mozilla Public License 2\.0|MPL-2\.0)\b.*|3-Clause BSD License"
)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_locked_package_has_its_hashes(lock: Path) -> None:
    packages = re.split(r"\n(?=\S)", lock.read_text().strip())
    assert [each.splitlines()[0] for each in packages if not re.search(r"--hash=sha256:[0-9a-f]{64}", each)] == []


def test_whatever_installs_asks_for_the_hashes() -> None:
    recipes = [CONTAINERFILE, *(ROOT / "deployment/devtools").glob("*.sh")]
    words = re.compile(r"(pip|\$uv\").* (install|sync) .*-")
    installs = [line for each in recipes for line in _commands(each) if words.search(line) and "fail " not in line]
    named = [line for line in installs if "requirements/" in line]
    assert len(named) >= 6
    assert [line for line in named if "--require-hashes" not in line] == []
    assert [line for line in installs if line not in named and "--no-deps" not in line] == []


def _commands(file: Path) -> list[str]:
    """The lines of a recipe, each whole, one command a line, without comments."""
    whole = re.sub(r"\\\n", " ", file.read_text())
    return [each for line in whole.splitlines() if not line.strip().startswith("#") for each in line.split("&&")]


def test_few_packages_are_asked_for_and_all_are_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = {_name(each) for each in project["dependencies"]}
    assert len(direct) <= MOST_DIRECT
    assert sorted(direct - _locked()) == []


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower().replace("_", "-").replace(".", "-")


def _locked() -> set[str]:
    lines = (ROOT / "requirements/run.txt").read_text().splitlines()
    return {_name(line) for line in lines if "==" in line}


def test_every_package_that_runs_is_under_a_licence_that_was_read() -> None:
    licences = {name: licence for name, licence in _licences().items() if name in _locked()}
    assert len(licences) > 40  # the others are for other systems
    unread = {name: licence for name, licence in licences.items() if not READ.fullmatch(licence)}
    expect("S72", sees=f"{unread} is not" if unread else "each is on the list", ledger=(), jobs=0, end="licences")


def _licences() -> dict[str, str]:
    """Of everything that is installed here, as the recipe of the image reads it."""
    look = (
        "import inventory as i, json; print(json.dumps({each.name: i.licence_of(each) for each in i.distributions()}))"
    )
    words = [sys.executable, "-c", look]
    asked = subprocess.run(words, cwd=ROOT / "deployment/image", capture_output=True, text=True, check=True)
    return {_name(name): licence for name, licence in json.loads(asked.stdout).items()}


def test_a_package_whose_bytes_are_others_is_not_installed(tmp_path: Path) -> None:
    wheel, lock = tmp_path / "tampered-1.0-py3-none-any.whl", tmp_path / "lock.txt"
    _write_wheel(wheel, "answer = 1\n")
    lock.write_text(f"tampered==1.0 --hash=sha256:{sha256(wheel.read_bytes()).hexdigest()}\n")
    assert _install(tmp_path, lock).returncode == 0
    _write_wheel(wheel, "answer = 2\n")
    refused = _install(tmp_path, lock)
    seen = "refused by its hash" if refused.returncode and "ash" in refused.stderr else "installed"
    expect("S72", sees=seen, ledger=(), jobs=0, end="bytes")


def _install(folder: Path, lock: Path) -> subprocess.CompletedProcess[str]:
    """As the recipes do, from a folder that stands for the index."""
    places = [str(ROOT / ".onetake/bootstrap/bin"), str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    uv = shutil.which("uv", path=os.pathsep.join(places))
    words = ["pip", "install", "--target", str(folder / "installed"), "--no-cache", "--offline", "--no-index"]
    words += ["--find-links", str(folder), "--require-hashes", "--reinstall", "-r", str(lock)]
    assert uv, "the environment was made with uv"
    return subprocess.run([uv, *words], cwd=folder, capture_output=True, text=True, check=False)


def _write_wheel(path: Path, module: str) -> None:
    metadata = "Metadata-Version: 2.1\nName: tampered\nVersion: 1.0\n"
    files = {
        "tampered.py": module,
        "tampered-1.0.dist-info/METADATA": metadata,
        "tampered-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},sha256={_record_hash(text)},{len(text)}\n" for name, text in files.items())
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in (files | {"tampered-1.0.dist-info/RECORD": record}).items():
            wheel.writestr(name, text)


def _record_hash(text: str) -> str:
    return base64.urlsafe_b64encode(sha256(text.encode()).digest()).rstrip(b"=").decode()


def test_the_image_ends_as_a_user_without_rights_behind_an_init() -> None:
    stages = re.split(r"^FROM ", CONTAINERFILE.read_text(), flags=re.MULTILINE)
    final = stages[-1].splitlines()
    assert 'ENTRYPOINT ["tini", "--", "onetake"]' in final
    assert [line for line in final if line.startswith("USER ")] == ["USER 10001:10001"]
    assert [line for line in final if line.startswith(("RUN ", "ADD "))] == []
    assert re.search(r"^ARG PYTHON_IMAGE=\S+(:\d+\.\d+\.\d+-slim-\w+|@sha256:[0-9a-f]{64})$", stages[0], re.MULTILINE)
