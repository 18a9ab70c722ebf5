"""The S3 server on this machine: versitygw over a plain folder, one bucket, keys of its own."""

import errno
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import urllib3
from minio import Minio
from minio.error import S3Error
from urllib3.exceptions import HTTPError

from onetake.dev.devstack.errors import DevStackError
from onetake.dev.devstack.ports import LOOPBACK
from onetake.dev.devstack.postgres import write_secret
from onetake.dev.devstack.processes import Command

PART: Final = "s3"


@dataclass(frozen=True)
class Keys:
    """The one account of the server."""

    access_key: str
    secret_key: str


def open_keys(home: Path) -> Keys:
    """The keys of this home's server, made once and readable by their owner only."""
    path = home / "s3.json"
    if not path.exists():
        draft = path.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        write_secret(draft, json.dumps({"access_key": secrets.token_hex(10), "secret_key": secrets.token_hex(20)}))
        draft.replace(path)
    return Keys(**json.loads(path.read_text()))


def server_command(program: Path, port: int, home: Path, keys: Keys, environ: Mapping[str, str]) -> Command:
    """Serve `HOME/s3`. Metadata lie in extended attributes, or beside the data where the file system has none."""
    folder, sidecar = home / "s3", home / "s3-metadata"
    folder.mkdir(parents=True, exist_ok=True)
    argv = [str(program), "--port", f"{LOOPBACK}:{port}", "--quiet", "--health", "/healthz", "posix"]
    if sidecar.exists() or not _keeps_attributes(folder):
        sidecar.mkdir(exist_ok=True)
        argv += ["--sidecar", str(sidecar)]
    env = {name: value for name, value in environ.items() if not name.startswith("VGW_")}
    env |= {"ROOT_ACCESS_KEY": keys.access_key, "ROOT_SECRET_KEY": keys.secret_key}
    return Command(PART, [*argv, str(folder)], env)


def health_url(port: int) -> str:
    return f"http://{LOOPBACK}:{port}/healthz"


def ensure_bucket(port: int, keys: Keys, bucket: str) -> None:
    """Make the bucket unless it exists. Raises DevStackError."""
    pool = urllib3.PoolManager(timeout=5.0, retries=False)
    client = Minio(
        endpoint=f"{LOOPBACK}:{port}",
        access_key=keys.access_key,
        secret_key=keys.secret_key,
        secure=False,
        region="us-east-1",
        http_client=pool,
    )
    try:
        if not client.bucket_exists(bucket_name=bucket):
            client.make_bucket(bucket_name=bucket)
    except (S3Error, HTTPError, ValueError) as error:
        raise DevStackError(PART, f"the bucket {bucket} cannot be made: {error}") from error
    finally:
        pool.clear()


def _keeps_attributes(folder: Path) -> bool:
    if not hasattr(os, "setxattr"):
        return True  # macOS: always, and Python cannot ask
    try:
        os.setxattr(folder, "user.onetake", b"1")
    except OSError as error:
        return error.errno not in (errno.ENOTSUP, errno.EPERM)
    return True
