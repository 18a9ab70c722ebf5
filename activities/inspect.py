"""The second half of phase one, on a queue of its own: the media that a request names, before any money is held."""

from typing import Final

from temporalio import activity

from activities.heartbeat import Memory
from onetake.core import names
from onetake.core.contracts import ErrorInfo, InspectInput, Message, Validated
from onetake.core.errors import Refused, TryLater
from onetake.core.names import InputKind
from onetake.core.ports import Admission, Generations, InputInspector

MOST_LOOKS: Final = 3  # at inputs whose host fails quickly; then the generation is refused


class Looks(Message):
    """How many looks found a host that does not answer. An attempt that was not its request's turn is none."""

    number: int = 0


class Inspect:
    """Looks at a request's media, and pins the plan with what they are. Repeatable."""

    def __init__(self, admission: Admission, generations: Generations, inspector: InputInspector) -> None:
        self._admission = admission
        self._generations = generations
        self._inspector = inspector

    @activity.defn(name=names.INSPECT)
    async def inspect(self, order: InspectInput) -> Validated:
        """The generation with its pinned plan, or why its media are refused. A host that fails is looked at again."""
        try:
            kinds = await self._reference_kinds(order)
            seen = order.plan.model_copy(update={"reference_kinds": kinds})
            pinned = await self._generations.pin(order.generation_id, seen)  # refused when it is one too many
        except Refused as refusal:
            return Validated(generation_id=order.generation_id, error=ErrorInfo.from_error(refusal))
        return Validated(generation_id=order.generation_id, plan=pinned)

    async def _reference_kinds(self, order: InspectInput) -> tuple[InputKind, ...]:
        """What the references' bytes showed, in their order."""
        memory, rules = Memory(), self._admission.media_rules(order.request)
        looks = (memory.recall(Looks) or Looks()).number + 1
        try:
            kinds = await self._inspector.inspect(rules, last_look=looks >= MOST_LOOKS)
        except TryLater as error:
            if error.code == "input_not_usable":
                memory.keep(Looks(number=looks))
            raise
        return tuple(kinds[f"/references/{number}"] for number in range(len(order.request.references)))
