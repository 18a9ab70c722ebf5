"""A server, or a key, that gives no list of the search attributes: what can be used is there."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from temporalio.api.operatorservice.v1 import ListSearchAttributesResponse
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from onetake.core.errors import Refused
from onetake.core.names import SearchAttribute
from onetake.engine.temporal import ensure_search_attributes, missing_search_attributes


class Engine:
    """Refuses the list, and searches by the attributes or says that it has none."""

    namespace = "default"

    def __init__(self, listing: str, counting: str, *, host: str = "localhost:7233", api_key: str = "") -> None:
        self._listing, self._counting = listing, counting
        self.service_client, self.api_key = SimpleNamespace(config=SimpleNamespace(target_host=host)), api_key
        self.operator_service = self
        self.registered = False

    async def list_search_attributes(self, *_: object, **__: object) -> ListSearchAttributesResponse:
        raise RPCError("", RPCStatusCode[self._listing], b"")

    async def count_workflows(self, *_: object, **__: object) -> int:
        if self._counting != "OK":
            raise RPCError("", RPCStatusCode[self._counting], b"")
        return 0


def client_of(engine: Engine) -> Client:
    return cast("Client", cast("Any", engine))


@pytest.mark.parametrize("listing", ["PERMISSION_DENIED", "UNIMPLEMENTED"])
async def test_attributes_that_may_not_be_listed_and_can_be_used_are_there(listing: str) -> None:
    client = client_of(Engine(listing, "OK"))
    assert await missing_search_attributes(client) == []
    await ensure_search_attributes(client)


@pytest.mark.parametrize("listing", ["PERMISSION_DENIED", "UNIMPLEMENTED"])
@pytest.mark.parametrize("counting", ["INVALID_ARGUMENT", "PERMISSION_DENIED"])
async def test_those_that_cannot_be_used_stop_the_worker_with_the_command_to_run(listing: str, counting: str) -> None:
    with pytest.raises(Refused) as caught:
        await ensure_search_attributes(client_of(Engine(listing, counting)))
    assert caught.value.code == "settings_invalid"
    assert "temporal operator search-attribute create" in caught.value.detail


COMMANDS = {
    "tcld": ("tcld namespace search-attributes add", "--search-attribute {}=Keyword"),
    "temporal": ("temporal operator search-attribute create", "--name {} --type Keyword"),
}


@pytest.mark.parametrize(
    ("host", "api_key", "tool"),
    [
        ("ns.a1b2c.tmprl.cloud:7233", "", "tcld"),
        ("eu-central-1.aws.api.temporal.io:7233", "canary-key", "tcld"),
        ("NS.A1B2C.TMPRL.CLOUD.:7233", "", "tcld"),
        ("temporal.example:7233", "", "temporal"),
        ("nottmprl.cloud:7233", "", "temporal"),
    ],
)
async def test_the_command_to_run_is_that_of_the_place(host: str, api_key: str, tool: str) -> None:
    with pytest.raises(Refused) as caught:
        await ensure_search_attributes(
            client_of(Engine("PERMISSION_DENIED", "INVALID_ARGUMENT", host=host, api_key=api_key))
        )
    command, each = COMMANDS[tool]
    assert f"Run: {command} --namespace default {' '.join(each.format(name) for name in SearchAttribute.ALL)}" in (
        caught.value.detail
    )
    assert "canary" not in caught.value.detail
