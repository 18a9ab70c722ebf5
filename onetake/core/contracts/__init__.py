"""Every message that crosses a process boundary, and nothing else.

    request    what a service asks for            plan       what a run knows of its route
    results    a generation as the outside sees   messages   what our own parts say to each other

Messages between our own parts are frozen, carry a version and ignore fields they do not know, so that a newer
part can talk to an older one. What a caller sends (`GenerationRequest`) refuses unknown fields. Errors never echo the
values they refuse. Units are in the names: `_s` seconds, `_micros` millionths of a US dollar, `_bytes` bytes.
"""

from onetake.core.contracts.base import Message, Value
from onetake.core.contracts.messages import (
    AgedSuspense,
    CorrectInput,
    Finding,
    InspectInput,
    Persisted,
    PersistInput,
    ReadInput,
    Reconciled,
    ReconcileInput,
    RecordInput,
    Recovered,
    RecoveryCase,
    RecoveryRequest,
    Reserved,
    ReserveInput,
    ResolveInput,
    Restored,
    RestoreInput,
    SettleInput,
    StatusReading,
    Submission,
    SubmitInput,
    SubmitTries,
    SweepInput,
    Swept,
    Validated,
    ValidateInput,
    WakeSignal,
)
from onetake.core.contracts.plan import Cadence, Pace, Plan, Price, Queues
from onetake.core.contracts.policy import CountLimit, Policy, PolicyPoints, policy_name
from onetake.core.contracts.request import MOST_START_BYTES, GenerationRequest, Label, Tenant
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
    "MOST_START_BYTES",
    "AgedSuspense",
    "Asset",
    "Cadence",
    "CorrectInput",
    "Correction",
    "Cost",
    "CountLimit",
    "ErrorInfo",
    "Finding",
    "GenerationRecord",
    "GenerationRequest",
    "GenerationResult",
    "InspectInput",
    "Label",
    "Message",
    "Notice",
    "Pace",
    "PersistInput",
    "Persisted",
    "Plan",
    "Policy",
    "PolicyPoints",
    "Price",
    "Queues",
    "ReadInput",
    "ReconcileInput",
    "Reconciled",
    "RecordInput",
    "Recovered",
    "RecoveryCase",
    "RecoveryRequest",
    "ReserveInput",
    "Reserved",
    "ResolveInput",
    "RestoreInput",
    "Restored",
    "SettleInput",
    "StatusReading",
    "Submission",
    "SubmitInput",
    "SubmitTries",
    "SweepInput",
    "Swept",
    "Tenant",
    "ValidateInput",
    "Validated",
    "Value",
    "WakeSignal",
    "policy_name",
]
