"""What `onetake doctor` says of a bucket."""

import secrets

import pytest
from pydantic import SecretStr

from onetake.cli.doctor.bucket import bucket as examined
from onetake.cli.doctor.findings import Finding
from onetake.cli.doctor.setup import Setup
from onetake.core.settings import Settings
from tests.media.storage.between import between
from tests.media.storage.parts import Server
from tests.servers import Servers


@pytest.fixture(scope="module")
def bucket(servers: Servers) -> Server:
    name = servers.bucket(f"doctor-{secrets.token_hex(4)}")
    return Server(servers.addresses.s3_endpoint, servers.keys, name, servers.objects / name)


async def finding(bucket: Server, **choices: bool) -> Finding:
    async with between(bucket, **choices) as (_, at):
        settings = Settings(
            s3_endpoint=at.endpoint,
            s3_access_key=SecretStr(at.keys.access_key),
            s3_secret_key=SecretStr(at.keys.secret_key),
            s3_bucket=at.bucket,
            s3_secure=False,
        )
        found = await examined(Setup(settings))
        assert isinstance(found, Finding)
        return found


async def test_a_bucket_that_verifies_what_it_is_sent_is_fine(bucket: Server) -> None:
    found = await finding(bucket)
    assert (found.verdict, found.exit_code) == ("fine", 0)
    assert "verifies what it is sent" in found.found
    assert list(bucket.folder.glob("check/*")) == []


async def test_a_bucket_that_does_not_is_noted_with_what_that_costs(bucket: Server) -> None:
    found = await finding(bucket, verifies=False)
    assert (found.verdict, found.exit_code) == ("absent", 0)
    assert "does not verify" in found.found
    assert "read each clip back" in found.fix
    assert list(bucket.folder.glob("check/*")) == []
