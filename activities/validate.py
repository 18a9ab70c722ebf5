"""Phase one: the request against the catalogue, its input media, and the generation's row."""

from typing import Final

from temporalio import activity

from onetake.core.contracts import ErrorInfo, GenerationRequest, Plan, Validated, ValidateInput
from onetake.core.errors import Refused
from onetake.core.ports import Admission, Generations, InputInspector

MOST_LOOKS: Final = 3  # at inputs whose host fails quickly; then the generation is refused


class Validate:
    """Pins the plan. Repeatable: the same request gives the same verdict and the same row."""

    def __init__(self, admission: Admission, generations: Generations, inspector: InputInspector) -> None:
        self._admission = admission
        self._generations = generations
        self._inspector = inspector

    @activity.defn(name="validate")
    async def validate(self, order: ValidateInput) -> Validated:
        """Accept the generation with its plan, or with the reason why it is refused.

        Rules, price and key come first, so that nothing is fetched for a request that is refused anyway.
        """
        plan, error = None, None
        try:
            plan = await self._plan(order.request)
        except Refused as refusal:
            error = ErrorInfo.from_error(refusal)
        generation_id = await self._generations.accept(
            order.request, workflow_id=order.workflow_id, run_id=order.run_id, plan=plan
        )
        return Validated(generation_id=generation_id, plan=plan, error=error)

    async def _plan(self, request: GenerationRequest) -> Plan:
        """The pinned plan, with the kinds of references that their bytes showed."""
        info = activity.info()
        plan = self._admission.plan(request, base_queue=info.task_queue)
        rules = self._admission.media_rules(request)
        kinds = await self._inspector.inspect(rules, last_look=info.attempt >= MOST_LOOKS)
        references = tuple(kinds[f"/references/{number}"] for number in range(len(request.references)))
        return plan.model_copy(update={"reference_kinds": references})
