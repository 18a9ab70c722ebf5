"""How this package speaks to Temporal: one client, one data converter, one plugin for clients, workers and replayers.

Every client is made by `connect`, so that nothing can reach a history unencrypted, with another converter, or with an
exception's text in it. It registers no workflow and no activity.
"""

import asyncio
import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, cast

from temporalio import activity, workflow
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.converter import DataConverter
from temporalio.envconfig import ClientConfig
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory, FailureError
from temporalio.plugin import SimplePlugin
from temporalio.runtime import Runtime
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    ExecuteWorkflowInput,
    HandleSignalInput,
    Interceptor,
    ReplayerConfig,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from onetake import tracing
from onetake.core import logs
from onetake.core.contracts import ErrorInfo, GenerationRequest
from onetake.core.errors import OnetakeError, Refused, TryLater
from onetake.core.names import SearchAttribute
from onetake.core.settings import Settings
from onetake.engine.cloud import api_key, is_cloud
from onetake.engine.codec import data_converter_with, request_invalid
from onetake.engine.limits import RPC_LIMIT
from onetake.engine.measuring import Measuring
from onetake.engine.under_way import under_way

CONNECT_LIMIT_S: Final = 15.0
_SEARCHABLE_LIMIT_S: Final = 20.0
# Of a server, or a key, that gives no list of them.
UNLISTED: Final = frozenset(
    {RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.UNAUTHENTICATED}
)
_MIN_RETRY_DELAY_S: Final = 0.001  # the SDK does not send a delay of zero

# Read but never changed by a workflow. `workflows` itself is not here: its modules stay in the sandbox.
_PASSTHROUGH: Final = (
    "onetake",
    "pydantic",
    "pydantic_core",
    "annotated_types",
    "typing_extensions",
    "typing_inspection",
)
# Part of the normal course of a generation: not worth a warning, nor a count of failures.
_BENIGN: Final = frozenset({"not_ready", "vendor_throttled", "vendor_full"})

_log = logs.logger(__name__)


async def connect(
    settings: Settings,
    *,
    address: str | None = None,
    namespace: str | None = None,
    lazy: bool = False,
    runtime: Runtime | None = None,
) -> Client:
    """Connect as the SDK's standard says (`TEMPORAL_ADDRESS`, `TEMPORAL_NAMESPACE`, `TEMPORAL_API_KEY`, profiles).

    `address` and `namespace` override the environment's. A `lazy` client connects at its first call; a worker cannot
    use one. `runtime` is the process's own, else the SDK's default. Raises Refused(`settings_invalid`), or
    TryLater(`engine_unavailable`) after at most `CONNECT_LIMIT_S`.
    """
    logs.mask_secrets(settings)
    config = _connect_config(address, namespace)
    if key := (config.get("api_key") or "").strip() or api_key():  # a key read from a file ends with a line break
        config["api_key"] = key
    logs.mask(config.get("api_key") or "")
    target = config.setdefault("target_host", "localhost:7233")
    opening = Client.connect(**config, plugins=[plugin(settings)], lazy=lazy, runtime=runtime)
    try:
        return await asyncio.wait_for(opening, CONNECT_LIMIT_S)
    except (RuntimeError, TimeoutError, RPCError):
        reason = TryLater("engine_unavailable", f"No answer from {target} within {CONNECT_LIMIT_S:g} s.")
    except (TypeError, ValueError):
        reason = Refused("settings_invalid", "The TEMPORAL_ settings cannot be used together.")
    raise reason


def _connect_config(address: str | None = None, namespace: str | None = None) -> dict[str, Any]:
    try:
        config = dict(ClientConfig.load_client_connect_config())
    except (RuntimeError, ValueError, OSError):
        config = None
    if config is None:
        raise Refused("settings_invalid", "The TEMPORAL_ settings or the profile they name cannot be read.")
    given = {"target_host": address, "namespace": namespace}
    return config | {name: value for name, value in given.items() if value}


def namespace_in_use() -> str:
    """The namespace that `connect` would use."""
    return _connect_config().get("namespace") or "default"


def data_converter(settings: Settings) -> DataConverter:
    """The data converter of this deployment.

    Raises Refused(`settings_invalid`) without a codec key, unless plain histories are asked for by name. A `Replayer`
    that is given it must also be given the history's namespace: encrypted payloads are bound to it.
    """
    if not settings.codec_keys and not settings.insecure_plaintext_history:
        raise Refused(
            "settings_invalid",
            "Missing: ONETAKE_CODEC_KEY (32 random bytes in base64: `openssl rand -base64 32`). Without it prompts"
            " would be readable in Temporal's histories; ONETAKE_INSECURE_PLAINTEXT_HISTORY=true accepts that.",
        )
    return data_converter_with(settings.codec_keys)


def plugin(settings: Settings) -> SimplePlugin:
    """Converter, interceptors and sandbox for clients, workers and replayers; give it to one `Client` or `Replayer`.

    No exception type is added to those that fail a workflow: payload errors are ApplicationErrors already, and a bug in
    workflow code must wait for its fix rather than end a paid generation.
    """
    return _Plugin(
        "onetake",
        data_converter=data_converter(settings),
        interceptors=[under_way, *tracing.interceptors(), FailureText(), Measuring(), StrictArguments()],
        workflow_runner=sandbox(),
    )


def sandbox() -> SandboxedWorkflowRunner:
    """The SDK's sandbox; contracts and pydantic pass through it, `workflows` does not."""
    return SandboxedWorkflowRunner(restrictions=SandboxRestrictions.default.with_passthrough_modules(*_PASSTHROUGH))


class _Plugin(SimplePlugin):
    def configure_replayer(self, config: ReplayerConfig) -> ReplayerConfig:
        # The SDK's placeholder would be another namespace, for which no encrypted payload was written.
        if config.get("namespace") in (None, "ReplayNamespace"):
            config["namespace"] = namespace_in_use()
        return super().configure_replayer(config)


# -- Failures ----------------------------------------------------------------------------------------------------------


def failure_of(error: OnetakeError) -> ApplicationError:
    """The one translation of our errors into what Temporal records: code as type, the sentence, and an ErrorInfo."""
    told = ErrorInfo(code=error.code, message=logs.scrub(str(error)), hint=error.hint)
    after_s = error.after_s if isinstance(error, TryLater) else None
    return ApplicationError(
        told.message,
        told,
        type=error.code,
        non_retryable=not isinstance(error, TryLater),
        next_retry_delay=None if after_s is None else timedelta(seconds=max(after_s, _MIN_RETRY_DELAY_S)),
        category=(ApplicationErrorCategory.BENIGN if error.code in _BENIGN else ApplicationErrorCategory.UNSPECIFIED),
    )


class FailureText(Interceptor):
    """Lets no exception text of an activity reach a history: ours are translated, others named by their class."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:  # noqa: A002
        return _FailureText(next)


class _FailureText(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:  # noqa: A002
        message = input.args[0] if input.args else None
        with logs.bound(**_ids_in(message)):
            try:
                return await super().execute_activity(input)
            except FailureError as error:
                failure = error
            except OnetakeError as error:
                failure = failure_of(error)
            except Exception as error:  # noqa: BLE001 - this is where texts of unknown origin stop
                failure = _internal(error, message)
            # A cause would take its own text into the history.
            raise failure from None


def _internal(error: Exception, message: Any) -> ApplicationError:
    name = type(error).__name__
    _log.error("activity_failed", error_type=name, exception=logs.exception_text(error, also=_words_in(message)))
    told = ErrorInfo.of("internal_error", f"({name})")
    return ApplicationError(told.message, told, type=told.code)


def _ids_in(message: Any) -> dict[str, Any]:
    info, plan = activity.info(), getattr(message, "plan", None)
    return {
        "workflow_id": info.workflow_id,
        "activity": info.activity_type,
        "try": info.attempt,
        "generation_id": getattr(message, "generation_id", None),
        "attempt": getattr(message, "attempt", None),
        "vendor": getattr(plan, "vendor", None) or getattr(message, "vendor", None),
    }


def _words_in(message: Any) -> list[str]:
    """The texts of the request in an activity's message: no log line may quote a prompt."""
    request = getattr(message, "request", message)
    if not isinstance(request, GenerationRequest):
        return []
    words = (request.prompt, request.negative_prompt, request.image, request.audio_url)
    return [word for word in (*words, *request.videos, *request.references) if word]


class StrictArguments(Interceptor):
    """Ends a workflow that was started with missing or surplus arguments, and drops a signal that carries such.

    Either would otherwise fail the workflow task again and again and leave the workflow running for ever. A workflow
    must not take its arguments in `@workflow.init`: the SDK calls that before any interceptor.
    """

    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: A002, ARG002
    ) -> type[WorkflowInboundInterceptor]:
        return _StrictArguments


class _StrictArguments(WorkflowInboundInterceptor):
    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:  # noqa: A002
        if not _fits(input.run_fn, self, *input.args):
            raise request_invalid(f"The workflow takes one payload; {len(input.args)} were given.")
        try:
            return await super().execute_workflow(input)
        except OnetakeError as error:
            failure = failure_of(error)
        raise failure

    async def handle_signal(self, input: HandleSignalInput) -> None:  # noqa: A002
        handler = cast("Callable[..., Any] | None", workflow.get_signal_handler(input.signal))  # pyright: ignore[reportUnknownMemberType]
        if handler is not None and not _fits(handler, *input.args):
            workflow.logger.warning("signal_dropped: it carries %d payloads", len(input.args))
            return
        await super().handle_signal(input)


def _fits(function: Callable[..., Any], *args: Any) -> bool:
    try:
        inspect.signature(function).bind(*args)
    except TypeError:
        return False
    return True


# -- Search attributes -------------------------------------------------------------------------------------------------


async def ensure_search_attributes(client: Client) -> None:
    """Register our search attributes in the client's namespace and wait until they can be used. Idempotent.

    Raises Refused(`settings_invalid`) with the command to run where we may not, or where a name has another type.
    """
    refused = ""
    try:
        missing = await missing_search_attributes(client)
        if missing:
            await _register(client, missing)
            await asyncio.wait_for(_until_searchable(client), _SEARCHABLE_LIMIT_S)
    except TimeoutError:
        refused = "The search attributes are registered but cannot be used yet; start again in a minute."
    except RPCError as error:
        if error.status in (RPCStatusCode.UNAVAILABLE, RPCStatusCode.DEADLINE_EXCEEDED):
            raise TryLater("engine_unavailable", "The search attributes could not be read.") from None
        command = search_attribute_command(client)
        refused = f"The search attributes may not be registered by us ({error.status.name}). Run: {command}"
    if refused:
        raise Refused("settings_invalid", refused)


def search_attribute_command(client: Client) -> str:
    """What an operator runs to register our search attributes in the client's namespace."""
    if is_cloud(client):  # whose operator service registers nothing
        names = " ".join(f"--search-attribute {name}=Keyword" for name in SearchAttribute.ALL)
        return f"tcld namespace search-attributes add --namespace {client.namespace} {names}"
    names = " ".join(f"--name {name} --type Keyword" for name in SearchAttribute.ALL)
    return f"temporal operator search-attribute create --namespace {client.namespace} {names}"


async def missing_search_attributes(client: Client) -> list[str]:
    """Those of our search attributes that the client's namespace lacks.

    A server that does not let us list them is asked to search by them: what can be used is there. Raises Refused
    (`settings_invalid`) where a name has another type, or RPCError.
    """
    request = ListSearchAttributesRequest(namespace=client.namespace)
    try:
        listed = await client.operator_service.list_search_attributes(request, timeout=RPC_LIMIT)
    except RPCError as error:
        if error.status not in UNLISTED or not await _are_searchable(client):
            raise
        return []
    present = listed.custom_attributes
    keyword = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
    wrong = [name for name in SearchAttribute.ALL if present.get(name, keyword) != keyword]
    if wrong:
        raise Refused("settings_invalid", f"Search attributes of another type than Keyword: {', '.join(wrong)}.")
    return [name for name in SearchAttribute.ALL if name not in present]


async def _register(client: Client, names: list[str]) -> None:
    kinds = dict.fromkeys(names, IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD)
    request = AddSearchAttributesRequest(namespace=client.namespace, search_attributes=kinds)
    try:
        await client.operator_service.add_search_attributes(request, timeout=RPC_LIMIT)
    except RPCError as error:
        if error.status != RPCStatusCode.ALREADY_EXISTS:
            raise


async def _until_searchable(client: Client) -> None:
    """A frontend serves its own copy of the names; a start that uses one it does not know yet is refused."""
    while True:
        if await _are_searchable(client):
            return
        await asyncio.sleep(0.2)


async def _are_searchable(client: Client) -> bool:
    query = " AND ".join(f'{name} = "x"' for name in SearchAttribute.ALL)
    try:
        await client.count_workflows(query, rpc_timeout=RPC_LIMIT)
    except RPCError as error:
        if error.status != RPCStatusCode.INVALID_ARGUMENT:
            raise
        return False
    return True
