"""What a generation's workflow orders of its activities, made of its request and of what it knows."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from onetake.core.contracts import (
        GenerationRequest,
        InspectInput,
        PersistInput,
        Plan,
        ReadInput,
        RecordInput,
        ReserveInput,
        ResolveInput,
        RestoreInput,
        SettleInput,
        Submission,
        SubmitInput,
    )
    from onetake.core.names import FIRST_ATTEMPT, EndStatus, Resolution
    from workflows.outcomes import charge_of
    from workflows.state import GenerationState


def age_s() -> float:
    """Seconds since the run began."""
    return (workflow.now() - workflow.info().start_time).total_seconds()


def inspect(state: GenerationState, request: GenerationRequest, plan: Plan) -> InspectInput:
    return InspectInput(generation_id=state.generation_id, request=request, plan=plan)


def reserve(state: GenerationState, request: GenerationRequest, plan: Plan) -> ReserveInput:
    return ReserveInput(
        generation_id=state.generation_id,
        attempt=FIRST_ATTEMPT,
        tenant=request.tenant,
        user=request.user,
        feature=request.feature,
        route=plan.route,
        vendor=plan.vendor,
        price=plan.price,
        gap_s=plan.cadence.interval_s,
        deadline_s=plan.deadline_s,
        age_s=age_s(),
        parks=request.deadline_s is not None,
    )


def submit(state: GenerationState, request: GenerationRequest, plan: Plan) -> SubmitInput:
    return SubmitInput(
        generation_id=state.generation_id,
        attempt=FIRST_ATTEMPT,
        workflow_id=workflow.info().workflow_id,
        plan=plan,
        request=request,
        epoch=state.epoch,
        may_be_sent=_was_reset(),
        age_s=age_s(),
    )


def _was_reset() -> bool:
    """Whether this run repeats another one, which may have gone further."""
    info = workflow.info()
    return info.run_id != info.original_execution_run_id


def resolve(state: GenerationState, plan: Plan) -> ResolveInput:
    return ResolveInput(generation_id=state.generation_id, attempt=FIRST_ATTEMPT, plan=plan, epoch=state.epoch)


def record(state: GenerationState, learned: Submission) -> RecordInput:
    return RecordInput(generation_id=state.generation_id, attempt=FIRST_ATTEMPT, submission=learned)


def reconsider(state: GenerationState, plan: Plan) -> ResolveInput:
    return resolve(state, plan).model_copy(update={"doubted": True, "last_look": True})


def read(state: GenerationState, plan: Plan, task_id: str, *, elapsed_s: float = 0.0) -> ReadInput:
    return ReadInput(
        generation_id=state.generation_id,
        attempt=FIRST_ATTEMPT,
        plan=plan,
        vendor_task_id=task_id,
        elapsed_s=elapsed_s,
    )


def persist(state: GenerationState, request: GenerationRequest, plan: Plan, task_id: str) -> PersistInput:
    return PersistInput(
        generation_id=state.generation_id,
        attempt=FIRST_ATTEMPT,
        tenant=request.tenant,
        plan=plan,
        vendor_task_id=task_id,
    )


def settle(
    state: GenerationState, request: GenerationRequest, status: EndStatus, resolution: Resolution
) -> SettleInput:
    assets = state.persisted.assets if state.persisted else ()
    charge = charge_of(state.plan, state.billed_micros, assets if resolution == "post" else ())
    return SettleInput(
        generation_id=state.generation_id,
        attempt=FIRST_ATTEMPT,
        tenant=request.tenant,
        status=status,
        resolution=resolution,
        actual_micros=charge.micros if resolution == "post" else None,
        basis=charge.basis,
        error=state.error,
        assets=assets,
        warnings=(*(state.persisted.warnings if state.persisted else ()), *charge.notices),
        vendor_task_id=state.task_id,
        epoch=state.epoch,
        submission=state.sent,
    )


def restore(state: GenerationState, request: GenerationRequest, plan: Plan) -> RestoreInput:
    return RestoreInput(
        generation_id=state.generation_id,
        attempt=FIRST_ATTEMPT,
        workflow_id=workflow.info().workflow_id,
        plan=plan,
        request=request,
        epoch=state.epoch,
        submission=state.sent,
        vendor_task_id=state.task_id,
    )
