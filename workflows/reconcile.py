"""The reconciler's run: a pass over all open generations and all amounts in suspense, again and again on a timer.

One run makes hundreds of passes and then continues as a new one, so that the list of runs is the operators' and not
ours. The schedule starts it, and again within a minute when somebody has ended it. It carries nothing from pass to pass
that is needed, and takes no argument: what it is started with can be read whatever becomes of the codec's key.
"""

from datetime import timedelta
from typing import Final

from temporalio import workflow
from temporalio.exceptions import ActivityError, CancelledError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from onetake.core.contracts import ErrorInfo, ReconcileInput
    from onetake.core.names import RECONCILE_WORKFLOW
    from workflows import steps
    from workflows.details import reconciled_details_of
    from workflows.outcomes import failure_of, last_try_of
    from workflows.state import PassesState

MOST_PASSES: Final = 300  # 11 events each
LONGEST: Final = timedelta(hours=6)


@workflow.defn(name=RECONCILE_WORKFLOW)
class Reconcile:
    """Makes passes until it is canceled. A pass that fails is shown, and the next one is made all the same."""

    def __init__(self) -> None:
        self._state = PassesState()

    @workflow.run
    async def run(self) -> None:
        """Pass, wait, pass; after enough of them go on as a new run."""
        began = workflow.now()
        while self._state.passes < MOST_PASSES and workflow.now() - began < LONGEST:
            await self._pass()
            await workflow.sleep(self._state.every_s, summary="until the next pass")
        workflow.continue_as_new()

    async def _pass(self) -> None:
        try:
            self._state.made(await steps.reconcile(ReconcileInput()), workflow.now())
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            # A pass whose worker has died ends by its time, and says nothing of the cancellation that it was told of.
            if workflow.cancellation_reason() is not None:
                raise CancelledError("The run was canceled.") from None
            said = failure_of(error) or last_try_of(error) or ErrorInfo.of("internal_error")
            self._state.failed(said, workflow.now())
        workflow.set_current_details(reconciled_details_of(self._state))
