"""Phase one: the request against the catalogue, and the generation's row."""

from temporalio import activity

from onetake.contracts import ErrorInfo, Validated, ValidateInput
from onetake.crashpoints import crashpoint
from onetake.errors import Refused
from onetake.ports import Admission, Generations


class Validate:
    """Pins the plan. Repeatable: the same request gives the same verdict and the same row."""

    def __init__(self, admission: Admission, generations: Generations) -> None:
        self._admission = admission
        self._generations = generations

    @activity.defn(name="validate")
    async def validate(self, order: ValidateInput) -> Validated:
        """Accept the generation with its plan, or with the reason why it is refused."""
        plan, error = None, None
        try:
            plan = self._admission.plan(order.request, base_queue=activity.info().task_queue)
        except Refused as refusal:
            error = ErrorInfo(code=refusal.code, message=str(refusal), hint=refusal.hint)
        generation_id = await self._generations.accept(
            order.request, workflow_id=order.workflow_id, run_id=order.run_id, plan=plan
        )
        crashpoint("accept.after_commit")
        return Validated(generation_id=generation_id, plan=plan, error=error)
