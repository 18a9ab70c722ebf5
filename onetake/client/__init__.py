"""The Python client for services: starts, watches, cancels and replays generations, and downloads their clips.

    async with Onetake.connect() as onetake:
        started = await onetake.start(route="apixo/wan-2.6/text-to-video", prompt="a harbour at dawn")
        result = await onetake.result(started.id)

`Onetake` is the client; `BlockingOnetake` is the same one for code without an event loop.
"""

from onetake.client.answers import Quote, Started
from onetake.client.blocking import BlockingOnetake
from onetake.client.client import Onetake
from onetake.client.requests import request_of

__all__ = ["BlockingOnetake", "Onetake", "Quote", "Started", "request_of"]
