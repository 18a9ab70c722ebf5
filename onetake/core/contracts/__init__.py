"""Every message that crosses a process boundary, and nothing else.

    request    what a service asks for            plan       what a run knows of its route
    results    a generation as the outside sees   messages   what our own parts say to each other

Messages between our own parts are frozen, carry a version and ignore fields they do not know, so that a newer
part can talk to an older one. What a caller sends (`GenerationRequest`) refuses unknown fields. Errors never echo the
values they refuse. Units are in the names: `_s` seconds, `_micros` millionths of a US dollar, `_bytes` bytes.
"""

from onetake.core.contracts.base import Message, Value
from onetake.core.contracts.messages import (
    CorrectInput,
    Finding,
    Persisted,
    PersistInput,
    ReadInput,
    Reconciled,
    ReconcileInput,
    Recovered,
    RecoveryCase,
    RecoveryRequest,
    Reserved,
    ReserveInput,
    ResolveInput,
    SettleInput,
    StatusReading,
    Submission,
    SubmitInput,
    Validated,
    ValidateInput,
    WakeSignal,
)
from onetake.core.contracts.plan import Cadence, Plan, Price, Queues
from onetake.core.contracts.request import GenerationRequest, Label, Tenant
from onetake.core.contracts.results import (
    Asset,
    Correction,
    Cost,
    ErrorInfo,
    GenerationRecord,
    GenerationResult,
    Notice,
)

__all__ = [
    "Asset",
    "Cadence",
    "CorrectInput",
    "Correction",
    "Cost",
    "ErrorInfo",
    "Finding",
    "GenerationRecord",
    "GenerationRequest",
    "GenerationResult",
    "Label",
    "Message",
    "Notice",
    "PersistInput",
    "Persisted",
    "Plan",
    "Price",
    "Queues",
    "ReadInput",
    "ReconcileInput",
    "Reconciled",
    "Recovered",
    "RecoveryCase",
    "RecoveryRequest",
    "ReserveInput",
    "Reserved",
    "ResolveInput",
    "SettleInput",
    "StatusReading",
    "Submission",
    "SubmitInput",
    "Tenant",
    "ValidateInput",
    "Validated",
    "Value",
    "WakeSignal",
]
