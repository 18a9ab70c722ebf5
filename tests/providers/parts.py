"""What the tests of the vendors are made of: the catalogue with a key, plans, orders and drivers."""

from pathlib import Path
from typing import Any, Protocol

import httpx
from pydantic import SecretStr

from onetake.core.contracts import GenerationRequest, Plan
from onetake.core.names import VENDOR_NAMES
from onetake.core.ports import SubmitOrder
from onetake.core.secrets import Secret
from onetake.core.settings import Settings
from providers.admission import RouteAdmission
from providers.driver import Driver

BASE_URL = "https://api.apixo.ai/api/v1"
API_KEY = "canary-key-8f31c0"
PROMPT = "canary prompt: a fox in neon rain"
MODEL = "apixo/wan-2.6"
CALLBACK_URL = "https://onetake.example/callbacks/apixo/canary-token"
# `read` bounds the whole exchange. Each short one ends a test that hangs there, and no other: a busy machine is slow.
PATIENT = httpx.Timeout(600)
SHORT_CONNECT = httpx.Timeout(600, connect=0.2)
SHORT_READ = httpx.Timeout(600, read=0.4)
SHORT_WRITE = httpx.Timeout(600, write=0.3)

# What each mode needs beside its prompt.
MEDIA: dict[str, dict[str, Any]] = {
    "text-to-video": {},
    "image-to-video": {"image": "https://example.com/hero.png"},
    "image-to-video-flash": {"image": "https://example.com/hero.png"},
    "reference-to-video": {"references": ("https://example.com/one.png",)},
    "reference-to-video-flash": {"references": ("https://example.com/one.png",)},
}
MODES = tuple(MEDIA)
VENDORS = tuple(sorted(VENDOR_NAMES))
PRICES = Path(__file__).with_name("prices.toml")
# The same for any vendor: every route that takes references takes a video.
NEEDED: dict[str, dict[str, Any]] = {
    "text-to-video": {},
    "image-to-video": {"image": "https://example.com/hero.png"},
    "video-to-video": {"videos": ("https://example.com/one.mp4",)},
    "reference-to-video": {"references": ("https://example.com/one.mp4",)},
}
FLASH = tuple(mode for mode in MODES if mode.endswith("flash"))


def settings(**named: Any) -> Settings:
    """Settings of these names, every vendor's key, the prices that no document names, and the vendors' defaults, which
    are compared with the documents; no look at the environment."""
    keys = {f"{vendor}_api_key": SecretStr(API_KEY) for vendor in VENDORS}
    return Settings.model_validate({**keys, "prices": str(PRICES), "defaults": "vendor", **named})


def request_on(route: str, /, **fields: Any) -> GenerationRequest:
    """A request on any vendor's route, with the inputs that its mode needs."""
    media = NEEDED[route.rpartition("/")[2].removesuffix("-flash")]
    return GenerationRequest.model_validate({"route": route, "prompt": PROMPT, **media, **fields})


def request_for(mode: str = "text-to-video", /, **fields: Any) -> GenerationRequest:
    return GenerationRequest.model_validate({"route": f"{MODEL}/{mode}", "prompt": PROMPT, **MEDIA[mode], **fields})


def plan_of(request: GenerationRequest, **named: Any) -> Plan:
    return RouteAdmission(settings(**named)).plan(request, base_queue="onetake")


def order_for(request: GenerationRequest, *, callback_url: str | None = None, seed: int | None = None) -> SubmitOrder:
    return SubmitOrder(plan_of(request), request, callback_url, seed)


def submission(mode: str = "text-to-video", /, *, callback_url: str | None = None, **fields: Any) -> SubmitOrder:
    request = request_for(mode, **fields)
    return SubmitOrder(plan_of(request), request, callback_url, request.seed)


class Connect(Protocol):
    """Makes a driver for an address; drivers with the same times share a client."""

    def __call__(
        self, base_url: str, timeout: httpx.Timeout = PATIENT, *, api_key: Secret | str = API_KEY
    ) -> Driver: ...
