"""The adapter of each vendor of `onetake.core.names.VENDOR_NAMES`."""

from collections.abc import Mapping
from typing import Final

from providers import aivideoapi, apixo, gmi, gptimage2, wan26ai
from providers.vendor import VendorAdapter

VENDORS: Final[Mapping[str, VendorAdapter]] = {
    "apixo": apixo,
    "gptimage2": gptimage2,
    "wan26ai": wan26ai,
    "aivideoapi": aivideoapi,
    "gmi": gmi,
}
