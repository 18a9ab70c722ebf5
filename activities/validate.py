"""Phase one: the generation's row, the request against the catalogue, and its input media."""

from typing import Final

from temporalio import activity

from onetake.core import names
from onetake.core.contracts import ErrorInfo, GenerationRequest, Plan, Validated, ValidateInput
from onetake.core.errors import Refused
from onetake.core.names import InputKind
from onetake.core.ports import Admission, Generations, InputInspector

MOST_LOOKS: Final = 3  # at inputs whose host fails quickly; then the generation is refused


class Validate:
    """Accepts the generation with its plan. Repeatable: the plan that was stored first is the one that is returned."""

    def __init__(self, admission: Admission, generations: Generations, inspector: InputInspector) -> None:
        self._admission = admission
        self._generations = generations
        self._inspector = inspector

    @activity.defn(name=names.VALIDATE)
    async def validate(self, order: ValidateInput) -> Validated:
        """Find or write the row, and pin its plan or say why the request is refused.

        Rules, price and key come before the inputs, so that nothing is fetched for a request that is refused anyway.
        """
        request = order.request
        accepted = await self._generations.accept(request, workflow_id=order.workflow_id, run_id=order.run_id)
        try:
            plan = self._admitted(request, accepted.plan)
            kinds = await self._reference_kinds(request)
        except Refused as refusal:
            return Validated(generation_id=accepted.generation_id, error=ErrorInfo.from_error(refusal))
        pinned = await self._generations.pin(accepted.generation_id, plan.model_copy(update={"reference_kinds": kinds}))
        return Validated(generation_id=accepted.generation_id, plan=pinned)

    def _admitted(self, request: GenerationRequest, stored: Plan | None) -> Plan:
        """The plan that is stored, unless this worker's catalogue forbids the request; else a plan of this worker's."""
        if stored is None:
            return self._admission.plan(request, base_queue=activity.info().task_queue)
        self._admission.check(request)
        request.afford(stored.price.amount_micros)
        return stored

    async def _reference_kinds(self, request: GenerationRequest) -> tuple[InputKind, ...]:
        """What the references' bytes showed, in their order."""
        rules = self._admission.media_rules(request)
        kinds = await self._inspector.inspect(rules, last_look=activity.info().attempt >= MOST_LOOKS)
        return tuple(kinds[f"/references/{number}"] for number in range(len(request.references)))
