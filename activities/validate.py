"""Phase one: the generation's row, and the request against the catalogue."""

from temporalio import activity

from onetake.core import names
from onetake.core.contracts import ErrorInfo, GenerationRequest, Plan, Validated, ValidateInput
from onetake.core.errors import Refused
from onetake.core.ports import Admission, Generations, TermsReader


class Validate:
    """Accepts the generation with its plan. Repeatable: the plan that was stored first is the one that is returned."""

    def __init__(self, admission: Admission, generations: Generations, terms: TermsReader) -> None:
        self._admission = admission
        self._generations = generations
        self._terms = terms

    @activity.defn(name=names.VALIDATE)
    async def validate(self, order: ValidateInput) -> Validated:
        """Find or write the row, and pin its plan or say why the request is refused.

        The plan of a request that names media is pinned when these have been looked at (`activities.inspect`): nothing
        is fetched for a request that is refused anyway.
        """
        request = order.request
        accepted = await self._generations.accept(request, workflow_id=order.workflow_id, run_id=order.run_id)
        try:
            plan = await self._admitted(request, accepted.plan)
            if not request.names_media:
                plan = await self._generations.pin(accepted.generation_id, plan)  # refused when it is one too many
        except Refused as refusal:
            return Validated(generation_id=accepted.generation_id, error=ErrorInfo.from_error(refusal))
        return Validated(generation_id=accepted.generation_id, plan=plan)

    async def _admitted(self, request: GenerationRequest, stored: Plan | None) -> Plan:
        """The plan that is stored, unless this worker's catalogue forbids the request; else a plan of this worker's."""
        if stored is None:
            terms = await self._terms.of(request)
            return self._admission.plan(request, terms, base_queue=activity.info().task_queue)
        self._admission.check(request)
        request.afford(stored.price.amount_micros)
        return stored
