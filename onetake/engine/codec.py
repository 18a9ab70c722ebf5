"""What Temporal stores of us: payloads encrypted, and read back without ever echoing a value.

`PayloadCipher` encrypts every payload with AES-256-GCM. The associated data are the namespace and the workflow id, so
that a payload moved to another workflow does not open there; a digest of them travels in the metadata, so that the
codec endpoint, which knows neither, can still read. Each workflow has a key of its own, derived from the configured
one: random nonces then never come near their limit and nobody has to count. Plain payloads pass, so that a plain
Temporal client's start works.

`GenerationPayloadConverter` turns payloads into models. What cannot be read as the start of a workflow fails that
workflow with `request_invalid`, naming fields and rules and never what was given; between our own parts it fails the
task instead, because a rollback cures that.

This module reads no setting and logs nothing.
"""

import copy
import difflib
import functools
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final, Self, get_args

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from google.protobuf.message import DecodeError
from pydantic import BaseModel, ValidationError
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import (
    ActivitySerializationContext,
    DataConverter,
    PayloadCodec,
    SerializationContext,
    WithSerializationContext,
    WorkflowSerializationContext,
)
from temporalio.exceptions import ApplicationError, FailureError

from onetake.core.contracts import MOST_START_BYTES
from onetake.core.errors import CATALOGUE, Refused

ENCODING: Final = b"binary/onetake"
_REFUSED: Final = b"refused/onetake"
_NONCE_BYTES: Final = 12
_PROBLEMS_SHOWN: Final = 8
_SCHEDULED: Final = re.compile(r"-\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")


class PayloadRefused(Exception):
    """An encrypted payload that no key can ever open here: cut, altered, or written for another workflow."""


@dataclass(frozen=True)
class Owner:
    """To whom payloads belong; an empty part is not known: the endpoint knows a namespace, a bare converter nothing."""

    namespace: str = ""
    workflow_id: str = ""

    @property
    def digest(self) -> bytes:
        return _digest(self.workflow_id)

    def accepts(self, namespace: str, digest: bytes) -> bool:
        """Whether a payload with these marks may be read here. A payload bound to less is as free as a plain one."""
        return (namespace in ("", self.namespace) or not self.namespace) and (
            not digest or not self.workflow_id or digest in self._digests()
        )

    def _digests(self) -> tuple[bytes, ...]:
        # A schedule's arguments are written under its workflow id; the server then appends the time to each run's id.
        return self.digest, _digest(_SCHEDULED.sub("", self.workflow_id))


def key_id(key: bytes) -> str:
    """The name of a key in payload metadata: it says which key opens a payload and nothing about the key."""
    return hashlib.sha256(key).hexdigest()[:8]


class PayloadCipher(PayloadCodec, WithSerializationContext):
    """AES-256-GCM over whole payloads. The first key encrypts, all of them decrypt; without a key payloads stay plain.

    Decoding raises Refused(`settings_invalid`) when a key is missing: that is cured by configuration, so a workflow
    task waits for it. It raises PayloadRefused when nothing can cure the payload. Neither text holds content.
    """

    def __init__(self, keys: Sequence[bytes], owner: Owner | None = None, *, marks_refused: bool = False) -> None:
        if any(len(key) != 32 for key in keys):
            raise ValueError("A codec key is 32 bytes long.")
        self._keys = {key_id(key): key for key in keys}
        self._writing = key_id(keys[0]) if keys else None
        self._owner = owner or Owner()
        self._marks_refused = marks_refused

    def __repr__(self) -> str:
        return f"PayloadCipher(keys={list(self._keys)})"

    def with_context(self, context: SerializationContext) -> Self:
        """The cipher of one workflow; an activity's payloads belong to its workflow."""
        match context:
            case WorkflowSerializationContext():
                return self._for(Owner(context.namespace, context.workflow_id), marks_refused=True)
            case ActivitySerializationContext():
                return self._for(Owner(context.namespace, context.workflow_id or ""), marks_refused=False)
            case _:
                return self

    def in_namespace(self, namespace: str) -> Self:
        """The cipher of the codec endpoint, which knows no workflow."""
        return self._for(Owner(namespace), marks_refused=False)

    def _for(self, owner: Owner, *, marks_refused: bool) -> Self:
        return type(self)(tuple(self._keys.values()), owner, marks_refused=marks_refused)

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [self._seal(payload) if self._writing else payload for payload in payloads]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [
            self._open_or_mark(payload) if payload.metadata.get("encoding") == ENCODING else payload
            for payload in payloads
        ]

    def _seal(self, payload: Payload) -> Payload:
        name = self._writing or ""
        bound = _associated(self._owner.namespace, self._owner.digest)
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = _aead(self._keys[name], bound).encrypt(nonce, payload.SerializeToString(), bound)
        marks = {"encoding": ENCODING, "key": name.encode(), "namespace": self._owner.namespace.encode()}
        return Payload(metadata=marks | {"workflow": self._owner.digest}, data=nonce + sealed)

    def _open_or_mark(self, payload: Payload) -> Payload:
        try:
            return self._open(payload)
        except PayloadRefused as refused:
            if not self._marks_refused:
                raise
            # Raising here would fail the workflow task for ever. The converter refuses the mark instead: a start
            # fails its workflow, a signal is dropped.
            return Payload(metadata={"encoding": _REFUSED}, data=str(refused).encode())

    def _open(self, payload: Payload) -> Payload:
        name = payload.metadata.get("key", b"").decode("ascii", "replace")
        namespace, digest = payload.metadata.get("namespace", b""), payload.metadata.get("workflow", b"")
        if not re.fullmatch(r"[0-9a-f]{8}", name):
            raise PayloadRefused("An encrypted payload names no key.")
        if name not in self._keys:
            raise Refused("settings_invalid", f"ONETAKE_CODEC_KEY and ONETAKE_CODEC_OLD_KEYS lack the key {name}.")
        if not self._owner.accepts(namespace.decode("utf-8", "replace"), digest):
            raise PayloadRefused("An encrypted payload was written for another workflow.")
        bound = _associated_bytes(namespace, digest)
        nonce, sealed = payload.data[:_NONCE_BYTES], payload.data[_NONCE_BYTES:]
        try:
            return Payload.FromString(_aead(self._keys[name], bound).decrypt(nonce, sealed, bound))
        except (InvalidTag, ValueError, DecodeError):
            pass
        raise PayloadRefused("An encrypted payload was cut or altered.")


def _digest(workflow_id: str) -> bytes:
    # 16 bytes: the server allows 400 bytes for a summary, and its envelope counts.
    return hashlib.sha256(workflow_id.encode()).digest()[:16] if workflow_id else b""


def _associated(namespace: str, digest: bytes) -> bytes:
    return _associated_bytes(namespace.encode(), digest)


def _associated_bytes(namespace: bytes, digest: bytes) -> bytes:
    return b"onetake/1\0" + len(namespace).to_bytes(4) + namespace + digest


@functools.lru_cache(maxsize=4096)
def _aead(key: bytes, bound: bytes) -> AESGCM:
    return AESGCM(hmac.digest(key, bound, "sha256"))


class GenerationPayloadConverter(PydanticPayloadConverter):
    """The SDK's pydantic converter, with refusals that never hold a value.

    Raises ApplicationError(`request_invalid`, not retryable) for what a caller sent, and ValueError with the same text
    for what passes between a workflow and its activities.
    """

    def __init__(self) -> None:
        super().__init__()
        self._between_our_parts = False

    def with_context(self, context: SerializationContext) -> Self:
        bound = copy.copy(self)
        bound._between_our_parts = isinstance(context, ActivitySerializationContext)  # noqa: SLF001 - our own copy
        return bound

    def from_payloads(self, payloads: Sequence[Payload], type_hints: list[type] | None = None) -> list[Any]:
        hints = (type_hints or [])[: len(payloads)]
        return [self._read(payload, hint) for payload, hint in zip_longest(payloads, hints)]

    def _read(self, payload: Payload, hint: type | None) -> Any:
        encoding = payload.metadata.get("encoding", b"")
        if encoding == _REFUSED:
            raise self._refusal(payload.data.decode())
        if _is_model(hint) and encoding != b"json/plain":
            raise self._refusal("The payload is not JSON (encoding json/plain).")
        if not self._between_our_parts and len(payload.data) > MOST_START_BYTES:
            raise self._refusal(f"The payload is larger than {MOST_START_BYTES} bytes.")
        try:
            return super().from_payloads([payload], None if hint is None else [hint])[0]
        except FailureError:
            raise
        except ValidationError as error:
            problem = _broken_rules(error, hint)
        except Exception:  # noqa: BLE001 - whatever a converter raises may quote the payload
            problem = "The payload cannot be read."
        raise self._refusal(problem)

    def _refusal(self, problem: str) -> Exception:
        return ValueError(problem) if self._between_our_parts else request_invalid(problem)


def request_invalid(detail: str) -> ApplicationError:
    """The failure that ends a workflow whose start cannot be used. `detail` holds no value of the request.

    It carries no details: they would be encrypted, and the plain client that made the mistake could not read any of it.
    """
    entry = CATALOGUE["request_invalid"]
    return ApplicationError(f"{entry.sentence} {detail}", type="request_invalid", non_retryable=True)


def data_converter_with(keys: Sequence[bytes]) -> DataConverter:
    """The one data converter of clients, workers and replayers; without keys it writes plain payloads."""
    return DataConverter(payload_converter_class=GenerationPayloadConverter, payload_codec=PayloadCipher(keys))


def _is_model(hint: type | None) -> bool:
    return isinstance(hint, type) and issubclass(hint, BaseModel)


def _broken_rules(error: ValidationError, hint: type | None) -> str:
    """Fields and rule names, for example `duration_s: int_type; prompt: missing`."""
    known = frozenset(_field_names(hint))
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    shown = dict.fromkeys(_problem(problem["loc"], problem["type"], known) for problem in problems[:_PROBLEMS_SHOWN])
    more = f" and {len(problems) - _PROBLEMS_SHOWN} more" if len(problems) > _PROBLEMS_SHOWN else ""
    return "; ".join(shown) + more + "."


def _problem(place: tuple[int | str, ...], rule: str, known: frozenset[str]) -> str:
    if rule == "extra_forbidden" and place and isinstance(place[-1], str):
        near = difflib.get_close_matches(place[-1][:64], known, n=1)
        return "unknown field" + (f" (perhaps {near[0]})" if near else "")
    # A key that the caller chose, of `labels` for example, is a value too.
    named = [str(part) if isinstance(part, int) or part in known else "?" for part in place]
    return f"{'.'.join(named)}: {rule}" if named else rule


def _field_names(hint: Any) -> Iterable[str]:
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        for name, field in hint.model_fields.items():
            yield name
            yield from _field_names(field.annotation)
    for part in get_args(hint):
        yield from _field_names(part)
