"""One pass over the bucket, begun by the reconciler once a day: the activity does it, this only bounds and shows it."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from onetake.core.contracts import SweepInput, Swept
    from onetake.core.names import SWEEP_WORKFLOW
    from workflows import steps
    from workflows.details import swept_details_of


@workflow.defn(name=SWEEP_WORKFLOW)
class Sweep:
    """Runs one pass. The argument is a `SweepInput`, the result a `Swept`."""

    @workflow.run
    async def run(self, order: SweepInput) -> Swept:
        swept = await steps.sweep(order)
        workflow.set_current_details(swept_details_of(swept))
        return swept
