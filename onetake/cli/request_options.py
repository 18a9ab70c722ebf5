"""How each field of a request is given to `onetake generate`: one row a field.

`GenerationRequest` itself takes too long to import for `--help`. A test holds the rows to its fields: each field has
one, with the same type and default.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import typer

from onetake.cli.answer import Answer
from onetake.cli.options import presented
from onetake.core.names import DEFAULT_TENANT

# What Typer reads for each type of a field; a list is an option that repeats. The request reads the decimal itself.
_READ_AS: Final[dict[type, Any]] = {
    int: int,
    str: str,
    bool: bool,
    Decimal: str,
    tuple: list[str],
    dict: list[str],
}


@dataclass(frozen=True)
class RequestOption:
    """One field of a request: its name and type there, the option's name, and what `--help` says."""

    field: str
    type: type
    name: str
    metavar: str | None
    help: str
    default: Any = None
    is_argument: bool = False

    @property
    def key(self) -> str:
        """The parameter's name in Python."""
        return self.name.replace("-", "_")

    @property
    def parameter(self) -> inspect.Parameter:
        """The field as a parameter for Typer to read."""
        read_as = _READ_AS[self.type]
        if self.is_argument:
            argument = typer.Argument(help=self.help, metavar=self.metavar)
            return inspect.Parameter(self.key, inspect.Parameter.KEYWORD_ONLY, default=argument, annotation=read_as)
        flags = f"--{self.name}/--no-{self.name}" if self.type is bool else f"--{self.name}"
        option = typer.Option(self.default, flags, help=self.help, metavar=self.metavar)
        return inspect.Parameter(self.key, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=read_as | None)

    def value_of(self, given: Any) -> Any:
        """What the request takes for what was given."""
        return _pairs(given) if self.type is dict else given


REQUEST_OPTIONS: Final = (
    RequestOption("route", str, "route", "ROUTE", "vendor/model/mode; `onetake routes` lists them.", is_argument=True),
    RequestOption("prompt", str, "prompt", "PROMPT", "What the clip shows; `-` reads it from stdin.", is_argument=True),
    RequestOption("duration_s", int, "duration", "N", "Seconds."),
    RequestOption("resolution", str, "resolution", "R", "720p or 1080p."),
    RequestOption("aspect_ratio", str, "aspect-ratio", "A", "16:9, 9:16, 1:1, 4:3 or 3:4."),
    RequestOption("image", str, "image", "URL", "Address of the first frame."),
    RequestOption("videos", tuple, "video", "URL", "Address of a clip to change; repeat."),
    RequestOption(
        "references", tuple, "reference", "URL", "Address of a reference; repeat, in the order of character1..n."
    ),
    RequestOption("audio_url", str, "audio", "URL", "Address of the audio track."),
    RequestOption("sound", bool, "sound", None, "Make sound."),
    RequestOption("shot_type", str, "shot-type", "T", "single or multi."),
    RequestOption("prompt_extend", bool, "prompt-extend", None, "Let the vendor enrich the prompt."),
    RequestOption("watermark", bool, "watermark", None, "The vendor's mark."),
    RequestOption("seed", int, "seed", "N", "The same seed repeats a render."),
    RequestOption("negative_prompt", str, "negative-prompt", "T", "What to keep out."),
    RequestOption("tenant", str, "tenant", "T", "Who pays.", default=DEFAULT_TENANT),
    RequestOption("user", str, "user", "U", "Whose budget also applies."),
    RequestOption("feature", str, "feature", "F", "Which feature's budget also applies."),
    RequestOption("max_cost_usd", Decimal, "max-cost", "USD", "Refuse when it would cost more."),
    RequestOption("idempotency_key", str, "idempotency-key", "K", "A repeat with the same key starts nothing new."),
    RequestOption("quote_id", str, "quote", "ID", "Start at the price of this quote, quo_..."),
    RequestOption("deadline_s", int, "deadline", "S", "Seconds to wait for room, and for the clip."),
    RequestOption("labels", dict, "label", "KEY=VALUE", "Kept with the generation; repeat."),
)


def takes_request(verb: Callable[..., Answer]) -> Callable[..., Answer]:
    """Give a verb the options of a request, before its own; its first parameter gets the fields that were given."""
    parameters = list(inspect.signature(verb).parameters.values())[1:]
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]

    def requesting(**given: Any) -> Answer:
        return verb(fields_of(given), **{parameter.name: given[parameter.name] for parameter in own})

    return presented(requesting, verb, [*(option.parameter for option in REQUEST_OPTIONS), *own])


def fields_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request by their own names, out of a verb's parameters; without those that were not given."""
    values = ((option, given[option.key]) for option in REQUEST_OPTIONS)
    return {option.field: option.value_of(value) for option, value in values if value not in (None, [])}


def _pairs(given: Sequence[str]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or key in pairs:
            raise typer.BadParameter("--label is KEY=VALUE, and each key is given once.")
        pairs[key] = value
    return pairs
