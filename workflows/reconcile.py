"""One pass over all open generations and all amounts in suspense, started by a schedule: the activity does it, this
only bounds and shows it."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from onetake.core.contracts import Reconciled, ReconcileInput
    from onetake.core.names import RECONCILE_WORKFLOW
    from workflows import steps
    from workflows.details import reconciled_details_of


@workflow.defn(name=RECONCILE_WORKFLOW)
class Reconcile:
    """Runs one pass. The argument is a `ReconcileInput`, the result a `Reconciled`."""

    @workflow.run
    async def run(self, order: ReconcileInput) -> Reconciled:
        reconciled = await steps.reconcile(order)
        workflow.set_current_details(reconciled_details_of(reconciled))
        return reconciled
