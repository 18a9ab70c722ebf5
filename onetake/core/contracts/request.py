"""What a service asks for. It refuses unknown fields: a dropped field would be a different, billed job."""

from decimal import Decimal
from typing import Annotated, Any, Final

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    StrictBool,
    StrictInt,
    StrictStr,
    model_serializer,
)

from onetake.core.errors import Refused
from onetake.core.money import MICROS_PER_USD, format_usd
from onetake.core.names import DEFAULT_TENANT

Tenant = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
Label = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
MOST_LABELS: Final = 64
# What a run may be started with, as JSON. Naming every broken rule of a payload of 2 MB, the most that Temporal takes,
# would need longer than the 2 s that a workflow task may think.
MOST_START_BYTES: Final = 256 * 1024


class GenerationRequest(BaseModel):
    """What a service asks for: one shape over all routes, and the argument of the workflow `Generation`.

    A field the route does not know is refused by admission, never dropped. `None` leaves a choice to the route's own
    default, which Onetake always sends explicitly where it decides the price.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    route: StrictStr
    prompt: StrictStr
    negative_prompt: StrictStr | None = None
    duration_s: StrictInt | None = None
    resolution: StrictStr | None = None
    aspect_ratio: StrictStr | None = None
    image: StrictStr | None = None
    videos: tuple[StrictStr, ...] = ()
    references: tuple[StrictStr, ...] = ()
    audio_url: StrictStr | None = None
    sound: StrictBool | None = None
    shot_type: StrictStr | None = None
    prompt_extend: StrictBool | None = None
    seed: StrictInt | None = None
    watermark: StrictBool | None = None

    tenant: Tenant = DEFAULT_TENANT
    user: Label | None = None
    feature: Label | None = None

    max_cost_usd: Annotated[Decimal, Field(ge=0, allow_inf_nan=False)] | None = None
    deadline_s: Annotated[StrictInt, Field(ge=1, le=86_400)] | None = None
    idempotency_key: Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")] | None = None
    quote_id: Annotated[str, Field(pattern=r"^quo_[0-9a-f-]{36}$")] | None = None
    labels: Annotated[dict[Label, Label], Field(max_length=MOST_LABELS)] = Field(default_factory=dict[str, str])

    @property
    def names_media(self) -> bool:
        """Whether something has to be fetched and looked at before the request can be accepted."""
        return any((self.image, self.videos, self.references, self.audio_url))

    def afford(self, amount_micros: int) -> None:
        """Raises Refused(`max_cost_exceeded`) when this amount is more than the request allows."""
        # Compared and not converted: a comparison rounds nothing and has no largest number.
        limit = self.max_cost_usd
        if limit is not None and Decimal(amount_micros) / MICROS_PER_USD > limit:
            allowed = format_usd(int(limit * MICROS_PER_USD))
            raise Refused("max_cost_exceeded", f"It costs {format_usd(amount_micros)}; max_cost_usd is {allowed}.")

    @model_serializer(mode="wrap")
    def _only_what_was_given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A field that a newer version adds does not trouble an older one while nobody uses it.
        return {name: value for name, value in handler(self).items() if value not in (None, (), [], {})}
